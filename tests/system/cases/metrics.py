# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Figures for Prometheus: promtool has no complaint, and every counter is moved by something."""

import http.client
import json
import re
import socket
import subprocess

from harness import Failed, equal, eventually, test, true
from harness.agent import agents

KEY = "EQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="


class Api(http.client.HTTPConnection):
    """The control API over the unix socket, as root when the test is: the token says that it may."""

    def __init__(self, side, token):
        super().__init__("netcon", timeout=20)
        self.path, self.token = str(side.socket), token

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)

    def ask(self, method, target, body=None):
        headers = {"Authorization": "Bearer " + self.token}
        self.request(method, target, json.dumps(body) if body is not None else None, headers)
        return self.getresponse()


def api(side):
    return Api(side, side.netcon("token").ok().text.strip())


def figures(side):
    """Text of /metrics, and the sum of each counter and histogram."""
    text = api(side).ask("GET", "/metrics").read().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    sums = {name: 0.0 for name, kind in kinds.items() if kind in ("counter", "histogram")}
    for name, value in re.findall(r"^([a-z_]+)(?:\{.*\})? (\S+)$", text, re.M):
        name = re.sub("_(bucket|sum|count)$", "", name) if name not in kinds else name
        if name in sums:
            sums[name] += float(value)
    return text, sums


@test("metrics/promtool", needs=("promtool",))
def promtool(w):
    """`promtool check metrics` accepts what a supervisor with programs, peers and traffic says."""
    with agents(w.a, w.b) as (server, client):
        server.do("l = listener(%r)" % w.a.addresses[4])
        client.do("s = stream(%r); s.connect((%r, %d))" % (w.a.addresses[4], w.a.addresses[4], server.do("port(l)")))
        for side in (w.a, w.b):
            text, _ = figures(side)
            checked = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, timeout=30)
            equal((checked.returncode, checked.stdout + checked.stderr), (0, b""), "what promtool says")
            for sample in ('netcon_sockets{network="%s",state="ESTAB"}' % side.network, 'netcon_peer_last_handshake_age_seconds{network="'):
                true(sample in text, "%s in the figures" % sample)


@test("metrics/every-counter", world="own", timeout=150)
def every_counter(w):
    """Every counter that is declared grows when what it counts happens. One that no step moves fails the test."""
    a, b = w.a, w.b
    token = api(a)
    # A program that is seen to start and end, with calls of every common kind, over the overlay and at home.
    with agents(a, b) as (server, client):
        server.do("l = listener(%r, backlog=1)" % a.addresses[4])
        port = server.do("port(l)")
        client.do("s = stream(%r); s.connect((%r, %d)); s.sendall(b'x' * 100000)" % (a.addresses[4], a.addresses[4], port))
        server.do("c, _ = l.accept()")
        server.do("t = stream(%r); t.connect((%r, %d))" % (a.addresses[4], a.addresses[4], port))
        # A datagram socket that nobody reads: the newest are dropped.
        server.do("u = datagram(%r, 0)" % a.addresses[4])
        udp = server.do("u.getsockname()[1]")
        client.do(
            "d = datagram(%r, 0)\nfor _ in range(400): d.sendto(b'x' * 1300, (%r, %d))" % (b.addresses[4], a.addresses[4], udp)
        )
        # A capture and a stream of events that nobody reads.
        capture, events = api(a), api(a)
        stuck = [capture.ask("GET", "/networks/%s/capture" % a.network), events.ask("GET", "/events")]
        server.do(
            "import threading\nm, _ = l.accept()\n"
            "threading.Thread(target=lambda: [m.recv(65536) for _ in range(2000)], daemon=True).start()\n"
            "for _ in range(400): t.sendall(b'y' * 65536)",
            timeout=60,
        )
        for mtu in [1300, 1420] * 500:
            true(token.ask("PATCH", "/networks/%s" % a.network, {"mtu": mtu}).read(), "an answer")
    # No packet of ours, and a peer to whom the kernel does not let us send.
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.sendto(b"nonsense", ("127.0.0.1", a.udp_port))
    stranger.close()
    a.netcon(
        "peer", "add", a.network, "none", "--public-key", KEY, "--allowed-ips", "10.78.0.9/32", "--endpoint", "255.255.255.255:9"
    ).ok()
    a.netcon("peer", "add", a.network, "lost", "--public-key", "I" + KEY[1:], "--allowed-ips", "10.78.0.8/32").ok()
    for address in ("10.78.0.9", "10.78.0.8"):
        a.netcon("ping", address, "-c", "1", "-W", "0.1")
    def unmoved():
        _, sums = figures(a)
        return [name for name, value in sums.items() if value <= 0]

    # More than waits for a handshake.
    with agents(a) as (program,):
        program.do("d = datagram(%r, 0)\nfor _ in range(300): d.sendto(b'x', ('10.78.0.9', 9))" % a.addresses[4])
        try:
            eventually(lambda: not unmoved(), 20, "all counters are moved", interval=0.5)
        except Failed as failure:
            raise Failed("%s; not %s" % (failure, " ".join(unmoved()))) from None
        text, _ = figures(a)
    families = re.findall(r"^# TYPE (\S+) \S+$", text, re.M)
    shown = set(re.findall(r"^([a-z_]+)", text, re.M))
    shown |= {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    equal([name for name in families if name not in shown], [], "declared without a figure")
    for answer in stuck:
        answer.close()
