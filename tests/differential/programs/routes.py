# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Addresses on a machine that has loopback and one network: its own, its neighbours', and those without a route."""

import socket
import struct
import time

from steps import MODES, program

OUTSIDE = {4: ("203.0.113.1", "198.51.100.7", "169.254.1.1"), 6: ("2001:db8::1", "fd00:dead::1", "fc00::1")}
OWN = {4: "10.77.0.2", 6: "fd77::2"}
OTHER = {4: "10.77.0.1", 6: "fd77::1"}


@program(modes=MODES, bare=True)
def no_route(t):
    """ENETUNREACH at once, from every call that would send."""
    for address in OUTSIDE[t.version]:
        s = t.socket()
        start = time.monotonic()
        t.do("connect %s" % address, s.connect, (address, 80))
        t.error("SO_ERROR", s)
        t.do("peer", s.getpeername)
        t.do("name", s.getsockname)
        d = t.socket(socket.SOCK_DGRAM)
        t.do("sendto", d.sendto, b"x", (address, 80))
        t.do("sendmsg", d.sendmsg, [b"x"], [], 0, (address, 80))
        t.do("connect a datagram socket", d.connect, (address, 80))
        t.do("its peer", d.getpeername)
        t.do("bind", t.socket().bind, (address, 0))
        t.note("at once", time.monotonic() - start < 1)
    t.mask("still fresh", s)


@program(modes=MODES, bare=True)
def no_route_bound(t):
    """From an address of loopback, or of the network, outwards."""
    for source in (t.local, OWN[t.version]):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            s = t.socket(kind)
            s.bind((source, 0))
            t.do("connect %d from %s" % (kind, source), s.connect, (OUTSIDE[t.version][0], 80))


@program(bare=True)
def resolver_at_once(t):
    """A question to a resolver that there is no way to: an error or an answer, and at once."""
    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"
    start = time.monotonic()
    for connected in (False, True):
        s = socket.socket(t.family, socket.SOCK_DGRAM)
        s.settimeout(5)
        to = (OUTSIDE[t.version][0], 53)
        if connected:
            t.do("connect", s.connect, to)
            t.do("send", s.send, question)
        else:
            t.do("sendto", s.sendto, question, to)
        t.do("recv", lambda: s.recv(512)[:4])
    t.note("at once", time.monotonic() - start < 2)


@program(bare=True)
def own_addresses(t):
    own, other = OWN[t.version], OTHER[t.version]
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for address in (own, other, "10.77.0.99" if t.version == 4 else "fd77::99"):
            s = socket.socket(t.family, kind)
            t.do("bind %d %s" % (kind, address), s.bind, (address, 0))
    listener = t.listener(address=own)
    name = listener.getsockname()
    s = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("to itself", s.connect, name)
    t.note("source", s.getsockname()[0])
    server, peer = listener.accept()
    t.note("peer", peer[0])
    s = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("loopback does not reach it", s.connect, (t.local, name[1]))
    wide = t.listener(address=t.any)
    for address in (own, t.local, t.any):
        s = socket.socket(t.family, socket.SOCK_STREAM)
        t.do("wide by %s" % address, s.connect, (address, wide.getsockname()[1]))
        server, _ = wide.accept()
        t.note("from and to", [s.getsockname()[0], server.getsockname()[0]])
    d = socket.socket(t.family, socket.SOCK_DGRAM)
    d.bind((t.any, 0))
    for address in (own, t.local):
        d.settimeout(3)
        d.sendto(b"x", (address, d.getsockname()[1]))
        t.note("datagram from", d.recvfrom(10)[1][0])
    mixed = socket.socket(t.family, socket.SOCK_DGRAM)
    mixed.bind((t.local, 0))
    t.do("loopback source to the network", mixed.sendto, b"x", (other, 9))


@program(bare=True)
def across_datagrams(t):
    """Datagrams to the other machine: refused, and what the errors look like."""
    s = socket.socket(t.family, socket.SOCK_DGRAM)
    s.settimeout(3)
    s.connect((OTHER[t.version], 9))
    t.note("name", s.getsockname()[0])
    t.do("send", s.send, b"x")
    t.do("refused", s.recv, 10)
    u = socket.socket(t.family, socket.SOCK_DGRAM)
    u.settimeout(0.3)
    t.do("sendto", u.sendto, b"x", (OTHER[t.version], 9))
    t.do("nobody tells", u.recv, 10)


@program(families=(6,), modes=MODES, bare=True)
def mapped_addresses(t):
    """IPv4 in IPv6 sockets: reachable, unreachable, alone."""
    for address in ("::ffff:127.0.0.1", "::ffff:10.77.0.2", "::ffff:203.0.113.1", "::ffff:0.0.0.0"):
        for only in (0, 1):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                s = t.socket(kind)
                s.setsockopt(41, 26, only)
                t.do("bind %s %d %d" % (address, only, kind), s.bind, (address, 0))
                if kind == socket.SOCK_DGRAM:
                    s = t.socket(kind)
                    s.setsockopt(41, 26, only)
                    t.do("connect", s.connect, (address, 9))
                    t.do("name", lambda: s.getsockname()[0])
                    s = t.socket(kind)
                    s.setsockopt(41, 26, only)
                    t.do("sendto", s.sendto, b"x", (address, 9))
    s = t.socket()
    s.bind(("::ffff:127.0.0.1", 0))
    t.do("IPv4 source, IPv6 destination", s.connect, ("::1", 9))
    s = t.socket()
    s.bind(("::1", 0))
    t.do("IPv6 source, IPv4 destination", s.connect, ("::ffff:127.0.0.1", 9))


@program(bare=True)
def options_of_routes(t):
    """SO_BINDTODEVICE, IP_UNICAST_IF and the like, where there is one network."""
    for name in (b"lo", b"netcon0"):
        s = socket.socket(t.family, socket.SOCK_DGRAM)
        t.do("bind to %r" % name, s.setsockopt, socket.SOL_SOCKET, 25, name)
        t.do("get", lambda: s.getsockopt(socket.SOL_SOCKET, 25, 16))
        t.do("to loopback", s.connect, (t.local, 9))
    s = socket.socket(t.family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
    t.do("not routed, inside", s.connect, (OTHER[t.version], 9))
    s = socket.socket(t.family, socket.SOCK_DGRAM)
    s.connect((OTHER[t.version], 9))
    t.do("MTU", s.getsockopt, *((0, 14) if t.version == 4 else (41, 24)))
    tcp = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("MTU of what is not connected", tcp.getsockopt, *((0, 14) if t.version == 4 else (41, 24)))
    assert struct
