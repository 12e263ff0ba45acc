# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Our supervisor and a standard WireGuard endpoint (wireguard-go). Needs root; everything lives in namespaces of the run."""

import re

from harness import equal, eventually, test, true

from .programs import V6, web_folder


@test("interop-rekey", world="tunnel", root=True, timeout=60, needs=("wireguard-go", "wg"))
def rekey(w):
    """Data flows for 130 s in both families while the session is renewed; nothing is lost or held up."""
    program = w.context.compile("echo.c")
    flows = []
    for family, address in w.a.addresses.items():
        server = w.a.start(program, "threads", address, "0", name="echo-rekey")
        flow = w.start("/usr/bin/python3", w.context.programs / "flow.py", address, server.port(), "130", name="flow")
        flows.append(flow)
        w.background += [server.pid, flow.pid]
    eventually(lambda: handshake(w) > 0, 10, "a first handshake")
    first = handshake(w)
    yield 128
    for flow in flows:
        equal(flow.wait(30), 0, "the flow: %s" % flow.output())
        gap = float(re.search(r"longest ([\d.]+)", flow.output())[1])
        true(gap < 2, "an answer took %.1f s" % gap)
    true(handshake(w) >= first + 110, "handshakes at %d and %d" % (first, handshake(w)))


def handshake(w):
    """Time of wireguard-go's latest handshake, in seconds of the epoch."""
    text = w.command("wg", "show", "wg0", "latest-handshakes").ok().text
    return int(text.split()[1]) if text.split() else 0


@test("interop-ping", world="tunnel", root=True, both=True)
def ping(w, family):
    """Our address answers ping of every usual size from the other side."""
    address = w.a.addresses[family]
    for size in ("0", "56", "1372" if family == 4 else "1352", "4000"):
        result = w.command("ping", "-c", "3", "-i", "0.2", "-W", "3", "-s", size, address)
        if size == "4000":
            continue  # fragments: answered or not, the next pings must work
        true(" 0% packet loss" in result.text, "ping of %s bytes: %s" % (size, result.text + result.errors))
    result = w.command("ping", "-c", "2", "-i", "0.2", "-W", "3", address)
    true(" 0% packet loss" in result.text, "ping after fragments: " + result.text)


@test("interop-curl", world="tunnel", root=True, both=True, needs=("curl", "nginx"))
def curl(w, family):
    """curl from wireguard-go's side to a server of ours, and from ours to a server there."""
    folder, data = web_folder(w, 3_000_000)
    ours, theirs = w.a.addresses[family], w.addresses[family]
    server = w.a.start("/usr/bin/python3", "-m", "http.server", "--bind", ours, "80", "--directory", folder)
    url = "http://%s:80/data.bin" % (V6[family] % ours)
    eventually(lambda: w.command("curl", "-sS", "--max-time", "5", url).out == data, 15, "curl from the standard endpoint")
    server.stop()
    w.start("/usr/bin/python3", "-m", "http.server", "--bind", theirs, "8000", "--directory", folder)
    url = "http://%s:8000/data.bin" % (V6[family] % theirs)
    eventually(lambda: w.a.run("curl", "-sS", "--max-time", "5", url).out == data, 15, "curl to the standard endpoint")


@test("interop-transfer", world="tunnel", root=True, both=True, timeout=1200)
def transfer(w, family):
    """2 GB both ways in all (both families together; 64 MiB each way without --full), sha256 compared."""
    megabytes = 1024 if w.context.full else 32
    script = w.context.programs / "transfer.py"
    server = w.a.start("/usr/bin/python3", script, "serve", w.a.addresses[family], megabytes, name="transfer")
    result = w.command("/usr/bin/python3", script, "call", w.a.addresses[family], server.port(), megabytes, timeout=1100).ok()
    server.wait(30)
    said = dict(re.findall(r"(sent|got) (\w+)", result.text)), dict(re.findall(r"(sent|got) (\w+)", server.output()))
    equal((said[1].get("got"), said[0].get("got")), (said[0]["sent"], said[1]["sent"]), "sha256")


@test("interop-udp", world="tunnel", root=True, both=True)
def udp(w, family):
    """Datagrams and a refused port across the tunnel."""
    agent = w.a.agent()
    agent.do("u=datagram(%r,0)" % w.a.addresses[family])
    port = agent.do("port(u)")
    code = (
        "import socket,sys\ns=socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET,socket.SOCK_DGRAM)\n"
        "s.settimeout(5);s.connect((sys.argv[1],int(sys.argv[2])));s.send(b'across');print(s.recv(100))\n"
        "s.connect((sys.argv[1],9));s.send(b'x')\ntry: s.recv(1)\nexcept ConnectionRefusedError: print('refused')"
    )
    agent.begin("d,a=u.recvfrom(100);u.sendto(d.upper(),a)")
    result = w.command("/usr/bin/python3", "-c", code, w.a.addresses[family], port).ok()
    equal(agent.result(), None, "the echo")
    equal(result.text.split("\n")[:2], ["b'ACROSS'", "refused"], "the client")
    agent.close()


@test("interop-invisible", world="tunnel", root=True)
def invisible(w):
    """Nothing new on the host: links, addresses, routes, listening sockets."""
    agent = w.a.agent()
    agent.do("l=listener('10.77.0.1',5,80);m=listener('fd77::1',5,80);u=datagram('10.77.0.1',53)")
    equal(w.host_view(), w.before, "addresses, links and routes")
    listening = w.context.run(w.inside(w.host, "ss", "-Hltun"), privileged=True).ok().text
    ports = set(re.findall(r":(\d+)\s", " ".join(" ".join(line.split()[4:5]) + " " for line in listening.splitlines())))
    equal(ports, {str(w.a.udp_port)}, "ports in `ss -ltun`: %s" % listening)
    agent.close()
