# SPDX-License-Identifier: Apache-2.0 OR MIT
"""bind(2): addresses, conflicts, what sharing allows."""

import itertools
import socket

from steps import LIBC, program, sockaddr

KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


@program()
def bind_addresses(t):
    addresses = {
        4: ("127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "203.0.113.7", "240.0.0.1", "255.255.255.255", "224.0.0.1"),
        6: ("::1", "::", "2001:db8::7", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:203.0.113.7", "ff02::1", "fe80::1"),
    }[t.version]
    for kind in KINDS:
        for address in addresses:
            with socket.socket(t.family, kind) as s:
                t.do("bind %d %s" % (kind, address), s.bind, (address, 0))
                t.do("name", s.getsockname)


@program()
def bind_twice(t):
    for kind in KINDS:
        s = t.socket(kind)
        t.do("first", s.bind, (t.local, 0))
        t.do("second", s.bind, (t.local, 0))
        t.do("other address", s.bind, (t.any, 0))
        t.do("name", s.getsockname)


@program()
def bind_shapes(t):
    """Lengths and families of the address."""
    good = sockaddr(t.family, t.local, 0)
    for kind in KINDS:
        for length in (0, 1, 2, 4, 8, 15, 16, 20, 24, 27, 28, 64, 128, 129, -1):
            with socket.socket(t.family, kind) as s:
                t.raw("length %d" % length, "bind", s.fileno(), good + bytes(128), length)
        for family in (0, 1, 2, 10, 16, 99):
            with socket.socket(t.family, kind) as s:
                t.raw("family %d" % family, "bind", s.fileno(), bytes([family, 0]) + bytes(26), 28)
        with socket.socket(t.family, kind) as s:
            t.raw("unspecified with an address", "bind", s.fileno(), bytes([0, 0, 0, 0, 127, 0, 0, 1]) + bytes(20), 28)
            t.raw("null", "bind", s.fileno(), None, 16)
            t.raw("bad pointer", "bind", s.fileno(), 8, 16)


@program()
def bind_conflicts(t):
    """Two sockets, every combination of SO_REUSEADDR, listening and wildcard."""
    for kind in KINDS:
        for first, second, listens, one, two in itertools.product((0, 1), (0, 1), (0, 1), (0, 1), (0, 1)):
            if listens and kind != socket.SOCK_STREAM:
                continue
            a, b = socket.socket(t.family, kind), socket.socket(t.family, kind)
            with a, b:
                a.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, first)
                b.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, second)
                a.bind((t.any if one else t.local, 0))
                if listens:
                    a.listen(1)
                label = "%d reuse %d %d listens %d any %d %d" % (kind, first, second, listens, one, two)
                t.do(label, b.bind, (t.any if two else t.local, a.getsockname()[1]))
                if kind == socket.SOCK_STREAM:
                    t.do("then listen", b.listen, 1)


@program()
def bind_reuseport(t):
    for kind in KINDS:
        for first, second, reuse in itertools.product((0, 1), (0, 1), (0, 1)):
            a, b = socket.socket(t.family, kind), socket.socket(t.family, kind)
            with a, b:
                a.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, first)
                b.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, second)
                if reuse:
                    a.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                a.bind((t.local, 0))
                if kind == socket.SOCK_STREAM:
                    a.listen(1)
                t.do("%d port %d %d reuse %d" % (kind, first, second, reuse), b.bind, a.getsockname())
                if kind == socket.SOCK_STREAM:
                    t.do("listen", b.listen, 1)


@program(families=(0,))
def bind_two_families(t):
    """The IPv6 wildcard against IPv4, with and without IPV6_V6ONLY, in both orders."""
    for kind, only, order, reuse in itertools.product(KINDS, (0, 1), (0, 1), (0, 1)):
        six, four = socket.socket(10, kind), socket.socket(2, kind)
        with six, four:
            six.setsockopt(41, 26, only)
            for s in (six, four):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            first, second = ((six, "::"), (four, "0.0.0.0"))[:: 1 if order == 0 else -1]
            first[0].bind((first[1], 0))
            label = "%d only %d order %d reuse %d" % (kind, only, order, reuse)
            t.do(label, second[0].bind, (second[1], first[0].getsockname()[1]))


@program(families=(6,))
def v6only_states(t):
    s = t.socket()
    t.note("default", s.getsockopt(41, 26))
    t.do("set", s.setsockopt, 41, 26, 1)
    t.do("mapped", s.bind, ("::ffff:127.0.0.1", 0))
    t.do("unset", s.setsockopt, 41, 26, 0)
    t.do("mapped again", s.bind, ("::ffff:127.0.0.1", 0))
    t.do("name", s.getsockname)
    t.do("set when bound", s.setsockopt, 41, 26, 1)
    s = t.socket()
    s.bind(("::1", 0))
    t.note("bound to an address", s.getsockopt(41, 26))
    s = t.socket()
    s.bind(("::", 0))
    t.note("bound to any", s.getsockopt(41, 26))
    t.do("set when bound to any", s.setsockopt, 41, 26, 1)


@program(families=(4,))
def bind_no_port(t):
    listener = t.listener()
    s = t.socket()
    s.setsockopt(socket.SOL_IP, 24, 1)
    t.do("bind", s.bind, (t.local, 0))
    t.note("has a port", s.getsockname()[1] != 0)
    t.do("connect", lambda: socket.socket.connect(s, listener.getsockname()))
    t.note("has one now", s.getsockname()[1] != 0)
    t.do("again", s.bind, (t.local, 0))


@program(families=(4,))
def bind_port_range(t):
    s = t.socket()
    for low, high in ((40000, 40010), (0, 40010), (40010, 40000), (0, 0)):
        t.do("range %d %d" % (low, high), s.setsockopt, socket.SOL_IP, 51, (high << 16 | low).to_bytes(4, "little"))
    s.setsockopt(socket.SOL_IP, 51, (40300 << 16 | 40200).to_bytes(4, "little"))
    s.bind((t.local, 0))
    t.note("within", 40200 <= s.getsockname()[1] <= 40300)


@program()
def bind_after_use(t):
    client, server = t.pair()
    t.do("connected", client.bind, (t.local, 0))
    t.do("accepted", server.bind, (t.local, 0))
    listener = t.listener()
    t.do("listening", listener.bind, (t.local, 0))
    client.shutdown(2)
    t.do("shut", client.bind, (t.local, 0))


@program()
def bind_after_close(t):
    """The port of a closed listener is free at once; one with connections is not, without SO_REUSEADDR."""
    listener = t.listener()
    name = listener.getsockname()
    listener.close()
    again = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("free at once", again.bind, name)
    again.listen(1)
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(name)
    server, _ = again.accept()
    again.close()
    third = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("with a connection", third.bind, name)
    third.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    t.do("reused on one side only", third.bind, name)


@program()
def getsockname_room(t):
    """What is written for each length of the buffer."""
    import ctypes

    s = socket.socket(t.family, socket.SOCK_STREAM)
    for call in ("getsockname", "getpeername"):
        target = s
        if call == "getpeername":
            target, keep = t.pair()
        for room in (0, 1, 2, 8, 16, 28, 100, -1):
            buffer, length = ctypes.create_string_buffer(b"\xaa" * 128, 128), ctypes.c_int(room)
            t.raw("%s %d" % (call, room), call, target.fileno(), buffer, ctypes.byref(length))
            t.note("length", length.value)
            t.note("family", buffer.raw[:1])
            t.note("behind", buffer.raw[max(0, min(room, length.value)) :][:1] == b"\xaa")
        t.raw("null buffer", call, target.fileno(), None, ctypes.byref(ctypes.c_int(16)))
        t.raw("null length", call, target.fileno(), buffer, None)
    assert LIBC
