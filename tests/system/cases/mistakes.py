# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Bad input: every mistake gives one clear sentence and its exit status, and loses nothing."""

import os
import random
import re
import signal
import socket
import time

from harness import Skip, contains, equal, eventually, shorten, test, true
from harness.context import free_port


def sentence(result, code, *words):
    """One line on standard error, with that exit status, naming these words."""
    text = result.errors.strip()
    equal(result.code, code, "exit status (it said %r)" % shorten(text))
    true(1 <= len(text.splitlines()) <= 3, "one clear sentence, not %r" % text)
    true("panicked" not in text and "Err(" not in text and "Os {" not in text, "words for people, not %r" % text)
    for word in words:
        contains(text.lower(), word.lower(), "the sentence")


def shim(w, *argv, socket_path=None, **more):
    env = {"NETCON_SOCKET": str(socket_path or w.a.socket)}
    return w.context.run([w.context.bin / "netcon-shim", *argv], env=env, **more)


@test("mistake-network")
def unknown_network(w):
    """An unknown network: 125, and the ones that exist are named."""
    sentence(shim(w, "--net", "nowhere", "--", "/bin/true"), 125, "nowhere", w.a.network)


@test("mistake-no-supervisor")
def no_supervisor(w):
    """No supervisor: 125, and what to start."""
    sentence(shim(w, "--net", "demo", "--", "/bin/true", socket_path=w.context.home / "none.sock"), 125, "supervisor")
    stale = w.context.home / "stale.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(stale))
        os.chmod(stale, 0o777)
    sentence(shim(w, "--net", "demo", "--", "/bin/true", socket_path=stale), 125, "supervisor")
    env = {"NETCON_SOCKET": str(w.context.home / "none.sock")}
    result = w.context.run([w.context.bin / "netcon", "network", "list"], env=env)
    equal(result.code, 3, "netcon without a supervisor")
    contains(result.errors.lower(), "supervisor", "netcon's sentence")


@test("mistake-usage")
def usage(w):
    """Wrong command lines: 125 and a hint; --help and --version work without a supervisor."""
    for argv in ((), ("--net",), ("--bogus", "x"), ("--net", "demo"), ("--net", "demo", "--")):
        result = shim(w, *argv)
        equal(result.code, 125, "netcon-shim %s: %s" % (" ".join(argv), result.errors))
        true(result.errors.strip(), "a sentence for netcon-shim %s" % (argv,))
    for flag in ("--help", "--version"):
        result = shim(w, flag, socket_path=w.context.home / "none.sock")
        equal(result.code, 0, flag + ": " + result.errors)
        contains(result.text, "netcon-shim", flag)


@test("mistake-program")
def programs(w):
    """A program that does not exist: 127; one that cannot be run or read: 126."""
    sentence(shim(w, "--net", w.a.network, "--", "no-such-program"), 127, "no-such-program")
    sentence(shim(w, "--net", w.a.network, "--", "/no/such/program"), 127, "/no/such/program")
    plain = w.context.write(w.context.home / "plain.txt", "text", 0o644)
    sentence(shim(w, "--net", w.a.network, "--", plain), 126, "plain.txt")
    sentence(shim(w, "--net", w.a.network, "--", "/tmp"), 126, "/tmp")


@test("mistake-unreadable")
def unreadable(w):
    """A program that may be run and not read (0711): 126, because nothing could serve it."""
    target = w.context.bin / "unreadable"
    target.write_bytes(open("/bin/true", "rb").read())
    target.chmod(0o711 if w.context.root else 0o111)  # the owner's own rights count, not the others'
    equal(w.context.run([target]).code, 0, "natively it runs")
    sentence(shim(w, "--net", w.a.network, "--", target), 126, "unreadable")


@test("mistake-version")
def version(w):
    """A supervisor that speaks something else, says nothing, or hangs up: 125, soon."""
    path = w.context.home / "fake.sock"
    fake = w.context.start(["/usr/bin/python3", w.context.programs / "fake.py", path], name="fake")
    eventually(lambda: "listening" in fake.output(), 5, "the false supervisor")
    for turn in range(int(fake.output().split()[1])):
        start = time.monotonic()
        result = shim(w, "--net", "demo", "--", "/bin/echo", "ran", socket_path=path, timeout=20)
        sentence(result, 125)
        equal(result.text, "", "the program does not run (answer %d)" % turn)
        true(time.monotonic() - start < 12, "it does not wait for ever")


@test("mistake-hello")
def hello(w):
    """Garbage on the supervisor's socket, half messages, many idle connections: it goes on serving."""
    rude = w.context.start(["/usr/bin/python3", w.context.programs / "rude.py", w.a.socket], name="rude")
    eventually(lambda: "held" in rude.output(), 10, "the rude client")
    equal(w.a.run("/bin/echo", "served").ok().text, "served\n", "beside 150 bad connections")
    contains(w.a.netcon("network", "list").ok().text, w.a.network, "netcon beside them")
    rude.wait(10)
    equal(w.a.run("/bin/echo", "served").ok().text, "served\n", "afterwards")


@test("mistake-second-listener")
def second_listener(w):
    """The shim under somebody's seccomp listener: 125, and why."""
    program = w.context.compile("holder.c")
    command = [program, *w.a.command(["/bin/true"])]
    sentence(w.context.run(command, env=w.a.environment()), 125, "seccomp")


@test("mistake-garbage", both=True)
def garbage(w, family):
    """Garbage datagrams at the overlay's port while data flows: the network goes on."""
    noise = random.Random(7)
    server, client = w.a.agent(), w.b.agent()
    server.do("l=listener(%r)" % w.a.addresses[family])
    client.do("c=connected(%r,%d)" % (w.a.addresses[family], server.do("port(l)")))
    server.do("s,p=l.accept()")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for turn in range(3000):
            kind = noise.choice((0, 1, 2, 3, 4, 5, 255))
            size = noise.choice((0, 1, 4, 16, 31, 32, 60, 64, 92, 148, 149, 1452, 9000))
            data = bytes((kind, 0, 0, 0))[: min(4, size)] + noise.randbytes(max(0, size - 4))
            s.sendto(data, ("127.0.0.1", w.a.udp_port if turn % 2 else w.b.udp_port))
            if turn % 100 == 0:
                client.do("c.sendall(b'%04d')" % turn)
                equal(server.do("receive(s,4)"), b"%04d" % turn, "data between the garbage")
    server.close()
    client.close()


@test("mistake-state", world="own")
def corrupt_state(w):
    """A corrupt state file: it is kept and named, nothing else is lost, the supervisor tells."""
    w.a.netcon("network", "create", "second", "--address", "10.79.0.1/24").ok()
    w.a.supervisor.stop()
    files = [p for p in w.a.state.rglob("*") if p.is_file() and p.suffix not in (".sock", ".lock")]
    true(files, "no state files under %s" % w.a.state)
    for path in files:
        equal(path.stat().st_mode & 0o077, 0, "mode of %s: nobody else may read it" % path.name)
    victims = [p for p in files if "second" in p.name or "second" in p.read_text("utf-8", "replace")]
    true(len(victims) >= 1, "a file that holds the second network: %s" % [p.name for p in files])
    content = b"this is { not a state file \xff\xfe"
    victims[0].write_bytes(content)
    w.a.launch(wait=False)
    eventually(lambda: not w.a.supervisor.alive() or w.a.ready(), 10, "the supervisor starts or says why not")
    said = w.a.supervisor.output()
    contains(said, victims[0].name.split(".")[0], "the supervisor names the file")
    kept = [p for p in w.a.state.rglob("*") if p.is_file() and p.read_bytes() == content]
    true(kept, "the corrupt file's bytes are kept")
    if not w.a.supervisor.alive():
        true(w.a.supervisor.popen.returncode not in (0, 101), "exit status %d" % w.a.supervisor.popen.returncode)
        true("panicked" not in said, shorten(said))
        for path in kept:
            path.unlink()
        w.a.launch()
    if victims[0].name != "demo":
        contains(w.a.netcon("network", "list").ok().text, "demo", "the other network is there")


@test("mistake-restart", world="own", timeout=200)
def restart(w):
    """Networks, peers and addresses are there after a restart, and after SIGKILL in the middle of work."""
    before = w.a.netcon("--json", "network", "list").ok().text
    for number in (signal.SIGTERM, signal.SIGKILL):
        w.a.supervisor.signal(number)
        code = w.a.supervisor.wait(10)
        if number != signal.SIGKILL:
            equal(code in (0, -number, 128 + number), True, "exit status after %s: %d" % (number.name, code))
        w.a.launch()
        equal(stable(w.a.netcon("--json", "network", "list").ok().text), stable(before), "networks after " + number.name)
        server, client = w.a.agent(), w.b.agent()
        server.do("l=listener(%r)" % w.a.addresses[4])
        port = server.do("port(l)")
        # B's session is gone with the old supervisor: WireGuard notices after some seconds of silence.
        client.do("c=stream(%r);c.settimeout(60);c.connect((%r,%d));c.sendall(b'x')" % (w.a.addresses[4], w.a.addresses[4], port), 65)
        server.do("s,p=l.accept()")
        equal(server.do("s.recv(1)"), b"x", "data after a restart")
        server.close()
        client.close()


def stable(text):
    """The answer without counters and clocks."""
    return re.sub(r'"(\w*(bytes|handshake|since|uptime|containers|endpoint|sockets)\w*)"\s*:\s*[^,}\]]+', r'"\1":0', text)


@test("mistake-supervisor-dies", world="own")
def supervisor_dies(w):
    """When the supervisor is killed, programs do not hang: their calls end with an error."""
    agent = w.a.agent()
    agent.do("l=listener(%r)" % w.a.addresses[4])
    agent.begin("l.accept()")
    equal(agent.finished(0.3), False, "accept waits")
    w.a.supervisor.signal(signal.SIGKILL)
    w.a.supervisor.wait(5)
    got = agent.outcome(5)
    true(isinstance(got, str), "the waiting call ends: %r" % (got,))
    true(not agent.errno("stream('127.0.0.1')").startswith("none"), "a new socket is refused")
    agent.close()
    w.a.launch()


@test("mistake-port", world="own")
def port_busy(w):
    """The UDP or HTTP port is taken: the supervisor serves all the same and one line says what it took."""
    w.a.supervisor.stop()
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as taken:
            port = free_port()
            taken.bind(("127.0.0.1", port) if kind == socket.SOCK_STREAM else ("0.0.0.0", port))
            if kind == socket.SOCK_STREAM:
                taken.listen(1)
            w.a.udp_port = port
            w.a.launch()
            said = w.a.supervisor.output()
            contains(said, str(port), "the line about the port")
            equal(w.a.run("/bin/echo", "served").ok().text, "served\n", "the unix socket serves")
            w.a.supervisor.stop()
    w.a.udp_port = free_port()
    w.a.launch()


@test("mistake-second-supervisor")
def second_supervisor(w):
    """A second supervisor on the same folder and socket: a sentence, and the first goes on."""
    result = w.context.run(
        [w.context.bin / "netcon-supervisor", "--state-dir", w.a.state, "--port", free_port()],
        env=w.a.environment(), timeout=10,
    )  # fmt: skip
    true(result.code not in (0, 101), "exit status %d: %s" % (result.code, result.errors))
    contains((result.text + result.errors).lower(), "another", "the sentence")
    equal(w.a.run("/bin/echo", "served").ok().text, "served\n", "the first one serves")


@test("mistake-arguments")
def arguments(w):
    """Wrong addresses, names and files for netcon: refused with a sentence, nothing is made."""
    before = w.a.netcon("network", "list").ok().text
    bad = w.context.write(w.context.home / "bad.conf", "[Interface]\nPrivateKey = notakey\nAddress = 10.1.2.3/99\n")
    for argv in (
        ("network", "create", "demo"),
        ("network", "create", "x", "--address", "10.77.0.300/24"),
        ("network", "create", "x", "--address", "10.77.0.1/40"),
        ("network", "create", "../x"),
        ("network", "create", ""),
        ("network", "import", bad),
        ("network", "import", w.context.home / "missing.conf"),
        ("network", "show", "nowhere"),
        ("peer", "add", "nowhere", "x", "--export"),
        ("peer", "add", w.a.network, "b", "--export"),
        ("peer", "add", w.a.network, "x", "--public-key", "notakey"),
        ("peer", "add", w.a.network, "x", "--export", "--allowed-ips", "10.77.0.1/32"),
        ("peer", "remove", w.a.network, "nobody"),
        ("network", "delete", "nowhere"),
    ):
        result = w.a.netcon(*argv)
        true(result.code not in (0, 101), "netcon %s: exit status %d" % (" ".join(map(str, argv)), result.code))
        true(result.errors.strip() and "panicked" not in result.errors, "netcon %s: %s" % (argv, result.errors))
    equal(w.a.netcon("network", "list").ok().text, before, "networks afterwards")


@test("http", needs=("curl",))
def http(w):
    """curl localhost:PORT/networks works for the owner; Host and Origin from elsewhere, and other users, are refused."""
    url = "http://localhost:%d/networks" % w.a.udp_port
    own = w.context.run(["curl", "-sS", "--max-time", "5", url])
    contains(own.text, w.a.network, "the owner's answer %s" % own.errors)
    status = ["curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}"]
    for header in ("Host: evil.example", "Origin: http://evil.example"):
        code = w.context.run([*status, "-H", header, url]).text
        true(code.startswith("4"), "%s is answered with %s" % (header, code))
    equal(w.context.run([*status, url + "/nowhere"]).text, "404", "a network that does not exist")
    if w.context.root:
        other = w.context.run(["setpriv", "--reuid", "23457", "--regid", "23457", "--clear-groups", *status, url], privileged=True)
        true(other.text[:1] != "2", "another user is answered with %s" % other.text)
        stranger = w.context.run(
            ["setpriv", "--reuid", "23457", "--regid", "23457", "--clear-groups", *w.a.command(["/bin/true"])],
            privileged=True, env=w.a.environment(),
        )  # fmt: skip
        equal(stranger.code, 125, "another user's shim: %s" % stranger.errors)


@test("netcon-ps")
def ps(w):
    """netcon ps lists the programs of the network."""
    agent = w.a.agent()
    agent.do("s=stream('127.0.0.1')")
    text = w.a.netcon("ps").ok().text
    contains(text, "python3", "the list")
    agent.close()
    if not text.strip():
        raise Skip("empty")
