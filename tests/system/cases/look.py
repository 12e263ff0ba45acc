# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Looking at what runs: sockets, containers, whois, ping, capture, events."""

import json
import os
import re
import signal
import subprocess

from harness import contains, equal, eventually, test, true
from harness.agent import agents
from harness.context import free_port

V6 = {4: "%s", 6: "[%s]"}


def asked(side, *argv):
    """What the control command of a side answers, as a value."""
    return json.loads(side.netcon("--json", *argv).ok().text)


def web(side, family, port):
    """A web server on a side; its URL."""
    address = side.addresses[family]
    server = side.start("/usr/bin/python3", "-m", "http.server", port, "--bind", address, cwd=side.context.folder("www-look"))
    return server, "http://%s:%d/" % (V6[family] % address, port)


def capture(side, name, *arguments):
    """Begins to capture a side's network; returns the process and its file once that has begun."""
    path = side.context.folder("captures") / name
    process = side.context.start(
        [side.context.bin / "netcon", "capture", side.network, "-w", path, *arguments], env=side.environment(), name="capture"
    )
    eventually(lambda: path.exists() and path.stat().st_size > 0, 10, "the capture begins")
    return process, path


def tshark(w, path, wanted, *fields):
    """Rows of a capture: tshark's fields of the packets that fit a display filter. Complaints are failures."""
    arguments = [argument for field in fields for argument in ("-e", field)]
    checks = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
    result = w.context.run(["tshark", "-n", "-r", path, *checks, "-Y", wanted, "-T", "fields", *arguments], timeout=60).ok()
    equal(result.errors, "", "what tshark says of the file")
    return [line.split("\t") for line in result.text.splitlines()]


@test("look/capture-curl", both=True, needs=("curl", "tcpdump", "tshark"), timeout=120)
def capture_curl(w, family):
    """A capture of a running curl, read by tcpdump and tshark without complaint: the request in clear, the program's name."""
    server, url = web(w.a, family, 8090)
    w.b.wait_port(family, 8090)
    process, path = capture(w.b, "curl%d.pcapng" % family)
    w.b.run("curl", "-sS", "--max-time", "10", "-o", "/dev/null", "-A", "seen-in-clear", url).ok()
    # The last packet is that of the end; the capture is flushed at once.
    finished = lambda: tshark(w, path, "tcp.port == 8090 && tcp.flags.fin == 1 && tcp.dstport == 8090", "frame.number")
    eventually(finished, 20, "curl's FIN in the capture", interval=0.5)
    process.signal(signal.SIGINT)
    process.wait(10)
    requests = tshark(w, path, "http.request", "http.user_agent", "frame.comment", "frame.interface_name", "frame.packet_flags_direction")
    equal(len(requests), 1, "requests in the capture")
    agent, comment, interface, direction = requests[0]
    equal((agent, interface), ("seen-in-clear", "netcon0"), "the request")
    true(re.fullmatch(r"curl\[\d+\]", comment), "the program's name on its packet: %r" % comment)
    true(direction in ("2", "0x00000002"), "the request goes out: %r" % direction)
    comments = {row[0] for row in tshark(w, path, "tcp.port == 8090", "frame.comment")}
    equal(comments, {comment}, "names on all packets of the connection")
    equal(tshark(w, path, "tcp.checksum.status == 0 || ip.checksum.status == 0", "frame.number"), [], "wrong checksums")
    dump = w.context.run(["tcpdump", "-nn", "-A", "-r", path], timeout=30).ok()
    contains(dump.text, "User-Agent: seen-in-clear", "tcpdump -A")
    complaints = [line for line in dump.errors.splitlines() if not line.startswith("reading from file")]
    equal(complaints, [], "what tcpdump says of the file")
    server.stop()


@test("look/capture-pipe", needs=("tcpdump",))
def capture_pipe(w):
    """`netcon capture demo -c 4 | tcpdump -r -`: the packets are there when the capture has ended by itself."""
    capturing = subprocess.Popen(
        [str(w.b.context.bin / "netcon"), "capture", w.b.network, "-c", "4"],
        stdout=subprocess.PIPE,
        env=w.context.environment(w.b.environment()),
        **w.context.identity(),
    )
    reader = subprocess.Popen(["tcpdump", "-nn", "-r", "-"], stdin=capturing.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    capturing.stdout.close()
    # tcpdump has read the head of the file: the capture runs.
    contains(reader.stderr.readline().decode(), "reading from file -", "what tcpdump says first")
    w.b.netcon("ping", w.a.addresses[4], "-c", "2", "-i", "0.05").ok()
    out, errors = reader.communicate(timeout=20)
    equal((capturing.wait(10), reader.returncode), (0, 0), "both programs end well: %s" % errors)
    lines = out.decode().splitlines()
    equal(len(lines), 4, "packets")
    contains(lines[0], "ICMP echo request", "the first packet")
    contains(lines[1], "ICMP echo reply", "the second packet")


@test("look/capture-local", needs=("curl", "tshark"), timeout=120)
def capture_local(w):
    """Packets between two programs of one host: each once, both ways, with both names and whole checksums."""
    server, url = web(w.a, 4, 8091)
    w.b.wait_port(4, 8091)
    process, path = capture(w.a, "local.pcapng")
    w.a.run("curl", "-sS", "--max-time", "10", "-o", "/dev/null", url).ok()
    rows = lambda wanted, *fields: tshark(w, path, "tcp.port == 8091 && " + wanted, *fields)
    eventually(lambda: len(rows("tcp.flags.fin == 1", "frame.number")) >= 2, 20, "both FINs", interval=0.5)
    process.signal(signal.SIGINT)
    process.wait(10)
    flags = rows("tcp.flags.syn == 1", "tcp.flags.ack", "frame.packet_flags_direction")
    equal([row[0] for row in flags], ["0", "1"], "SYN and its answer")
    true(all(int(row[1] or "0", 0) == 0 for row in flags), "a local packet has no direction: %r" % flags)
    equal(rows("tcp.analysis.retransmission || tcp.analysis.duplicate_ack", "frame.number"), [], "packets seen twice")
    equal(rows("tcp.checksum.status == 0 || ip.checksum.status == 0", "frame.number"), [], "wrong checksums")
    (comment,) = rows("http.request", "frame.comment")[0]
    true(re.fullmatch(r"curl\[\d+\] to python3\[\d+\]", comment), "both names: %r" % comment)
    (comment,) = rows("http.response", "frame.comment")[0]
    true(re.fullmatch(r"python3\[\d+\] to curl\[\d+\]", comment), "both names, the other way: %r" % comment)
    server.stop()


@test("look/capture-terminal")
def capture_terminal(w):
    """A terminal is refused with a sentence; so is a network that does not exist."""
    master, slave = os.openpty()
    refused = subprocess.run(
        [str(w.context.bin / "netcon"), "capture", w.a.network],
        env=w.context.environment(w.a.environment()),
        stdout=slave,
        stderr=subprocess.PIPE,
        timeout=20,
        **w.context.identity(),
    )
    os.close(master)
    os.close(slave)
    equal(refused.returncode, 2, "exit status")
    contains(refused.stderr.decode(), "| tcpdump -r -", "the sentence")
    equal(w.a.netcon("capture", "nowhere").code, 5, "exit status for an unknown network")


@test("look/sockets", both=True)
def sockets(w, family):
    """A connection in `netcon sockets`, `ps` and `whois`: addresses, state, bytes, program; and gone when it is closed."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("l = listener(%r)" % address)
        port = server.do("port(l)")
        client.do("s = stream(%r); s.connect((%r, %d)); s.sendall(b'x' * 1000)" % (address, address, port))
        server.do("c, _ = l.accept(); receive(c, 1000); c.sendall(b'y' * 300)")
        client.do("receive(s, 300)")
        there = "%s:%d" % (V6[family] % address, port)
        rows = [row for row in asked(w.b, "sockets", w.b.network)["sockets"] if row.get("remote") == there]
        equal(len(rows), 1, "sockets connected to %s" % there)
        row = rows[0]
        equal((row["state"], row["rxBytes"], row["txBytes"]), ("ESTAB", 300, 1000), "state and bytes")
        contains(row["program"], "python3", "the program")
        listeners = [row for row in asked(w.a, "sockets", w.a.network)["sockets"] if row["local"] == there and row["state"] == "LISTEN"]
        equal(len(listeners), 1, "the listener")
        container = [one for one in asked(w.b, "ps") if one["id"] == row["container"]]
        equal((container[0]["rxBytes"], container[0]["txBytes"]), (300, 1000), "bytes of the container")
        equal(asked(w.b, "sockets", w.b.network, "--container", str(row["container"] + 1000))["sockets"], [], "of another container")

        found = asked(w.b, "whois", there, "--network", w.b.network)
        equal((found["kind"], found["sockets"][0]["pid"]), ("peer", row["pid"]), "whois of the other end")
        text = w.b.netcon("whois", there).ok().text
        contains(text, "python3[%d]" % row["pid"], "whois for people")
        contains(text, "handshake   ", "whois for people")
        equal(asked(w.b, "whois", w.b.addresses[family], "-n", w.b.network)["kind"], "own", "an own address")
        equal(w.b.netcon("whois", "192.0.2.77").code, 5, "exit status for nobody")
        equal(w.b.netcon("whois", "not-an-address").code, 4, "exit status for what is no address")
        text = w.b.netcon("sockets").ok().text
        contains(text, there, "sockets of all networks, for people")

        client.do("s.close()")
        gone = lambda: not [r for r in asked(w.b, "sockets", w.b.network)["sockets"] if r.get("remote") == there and r["state"] == "ESTAB"]
        eventually(gone, 10, "the closed socket is no longer listed")
        # What it moved still counts for its container.
        kept = [one for one in asked(w.b, "ps") if one["id"] == row["container"]]
        equal((kept[0]["rxBytes"], kept[0]["txBytes"]), (300, 1000), "bytes of the container afterwards")


@test("look/sockets-many", timeout=120)
def sockets_many(w):
    """3000 sockets come in pages, each once."""
    with agents(w.b) as (many,):
        many.do("all = [datagram(%r) for _ in range(3000)]; len(all)" % w.b.addresses[4], timeout=60)
        listed = asked(w.b, "sockets", w.b.network)["sockets"]
        ids = [row["id"] for row in listed]
        true(len(ids) >= 3000, "at least 3000 sockets are listed, not %d" % len(ids))
        equal(ids, sorted(set(ids)), "each once and in order")
        page = json.loads(fetch(w.b, "/networks/%s/sockets?limit=10" % w.b.network))
        equal((len(page["sockets"]), page["next"]), (10, page["sockets"][-1]["id"]), "a page of ten")
        contains(fetch(w.b, "/networks/%s/sockets?limit=1001" % w.b.network), "1000", "a limit that is too large")
        many.do("[s.close() for s in all]; 0")


def fetch(side, target):
    """The body of an answer of a side's supervisor."""
    return side.context.run(
        ["curl", "-sS", "--unix-socket", side.socket, "http://netcon" + target], env=side.environment(), timeout=20
    ).ok().text


@test("look/ping", both=True)
def ping(w, family):
    """Echo over the overlay and at home, as ping(8) prints it, with its exit statuses."""
    for address in (w.a.addresses[family], w.b.addresses[family]):
        text = w.b.netcon("ping", address, "-c", "3", "-i", "0.05", "-s", "100").ok().text
        lines = text.splitlines()
        contains(lines[0], "PING %s 100 data bytes" % address, "first line")
        for number, line in enumerate(lines[1:4], 1):
            true(
                re.fullmatch(r"108 bytes from %s: icmp_seq=%d ttl=64 time=\d+\.\d{3} ms" % (re.escape(address), number), line),
                "a reply: %r" % line,
            )
        contains(text, "3 packets transmitted, 3 received, 0% packet loss", "the sum")
        true(re.search(r"^rtt min/avg/max/mdev = ", text, re.M), "times: %r" % text)
    nobody = w.b.netcon("ping", {4: "192.0.2.9", 6: "2001:db8::9"}[family], "-c", "1")
    equal(nobody.code, 5, "exit status without a route")
    contains(nobody.errors, "no peer of network", "the sentence without a route")


@test("look/ping-silence", world="own")
def ping_silence(w):
    """A peer that never called and one that is not there: exit status 1, and why."""
    w.b.netcon("peer", "add", w.b.network, "ghost", "--public-key", KEY % "A", "--allowed-ips", "10.78.0.1/32").ok()
    result = w.b.netcon("ping", "10.78.0.1", "-c", "1", "-W", "0.2")
    equal(result.code, 1, "exit status of silence")
    contains(result.text, "not known where peer ghost is", "the reason")
    contains(result.text, "1 packets transmitted, 0 received, 100% packet loss", "the sum")
    w.b.netcon(
        "peer", "add", w.b.network, "dead", "--public-key", KEY % "E", "--allowed-ips", "10.78.0.2/32", "--endpoint", "127.0.0.1:9"
    ).ok()
    result = w.b.netcon("ping", "10.78.0.2", "-c", "1", "-W", "0.2")
    contains(result.text, "no handshake with peer dead at 127.0.0.1:9 yet", "the reason")
    process = w.context.start(
        [w.context.bin / "netcon", "ping", w.a.addresses[4], "-i", "0.05"], env=w.b.environment(), name="ping-on"
    )
    eventually(lambda: "icmp_seq=3" in process.output(), 10, "three replies")
    process.signal(signal.SIGINT)
    equal(process.wait(10), 0, "exit status after Ctrl-C")
    contains(process.output(), "0% packet loss", "the sum after Ctrl-C")


KEY = "%sQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="


@test("look/events", world="own", timeout=90)
def events(w):
    """What happens is told as it happens: networks, peers, handshakes, containers, listeners."""
    follower = w.context.start([w.context.bin / "netcon", "--json", "events"], env=w.a.environment(), name="events")
    told = lambda: [json.loads(line) for line in follower.output().splitlines() if line.startswith("{")]

    def heard(kind, **what):
        fits = lambda event: event["type"] == kind and all(event.get(k) == v for k, v in what.items())
        return eventually(lambda: [event for event in told() if fits(event)], 15, "event %s %s" % (kind, what))[0]

    def until_heard():
        w.a.netcon("network", "create", "probe").ok()
        w.a.netcon("network", "delete", "probe").ok()
        return any(event["type"] == "network_deleted" for event in told())

    eventually(until_heard, 10, "the follower hears something", interval=0.2)
    heard("network_created", network="probe")
    w.a.netcon("peer", "add", "demo", "ghost", "--public-key", KEY % "A").ok()
    heard("peer_added", network="demo", peer="ghost")
    w.a.netcon("peer", "remove", "demo", "ghost").ok()
    heard("peer_removed", network="demo", peer="ghost")
    # Another port, as after a change of network.
    w.b.supervisor.signal(signal.SIGTERM)
    w.b.supervisor.wait(10)
    w.b.udp_port = free_port()
    w.b.launch()
    w.b.netcon("ping", w.a.addresses[4], "-c", "1", "-W", "10").ok()
    heard("handshake_completed", network="demo", peer="b")
    heard("endpoint_changed", network="demo", peer="b")
    agent = w.a.agent()
    agent.do("l = listener(%r)" % w.a.addresses[4])
    started = heard("container_started", network="demo", pid=agent.pid)
    contains(started["program"], "python3", "the program")
    opened = heard("listener_opened", container=started["container"])
    agent.do("l.close()")
    heard("listener_closed", local=opened["local"])
    agent.close()
    heard("container_ended", container=started["container"])
    ids = [event["id"] for event in told()]
    equal(ids, sorted(set(ids)), "numbers of the events")
    people = w.context.start([w.context.bin / "netcon", "events"], env=w.a.environment(), name="events-people")
    eventually(lambda: until_heard() and "network_deleted network=probe" in people.output(), 10, "events for people", interval=0.2)
    w.a.supervisor.signal(signal.SIGTERM)
    equal(follower.wait(10), 1, "exit status when the supervisor ends")
    w.a.launch()
