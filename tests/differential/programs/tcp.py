# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Options of tcp(7) that show in other calls: fast open, deferred accepts, what is left in a queue, TCP_INFO."""

import ctypes
import fcntl
import socket
import struct
import threading
import time

from steps import MODES, program

FASTOPEN = 0x20000000
TCP_DEFER_ACCEPT, TCP_INFO, TCP_FASTOPEN_CONNECT, TCP_INQ = 9, 11, 30, 36


def taken(t, listener):
    t.until(listener, "IN")
    return t.moded(listener.accept()[0])


@program(modes=MODES)
def fastopen_send(t):
    listener = t.listener()
    there = listener.getsockname()
    s = t.socket()
    t.do("first", s.sendto, b"hello", FASTOPEN, there)
    server = taken(t, listener)
    t.until(s, "OUT")
    t.error("error", s)
    t.do("second", s.sendto, b"again", FASTOPEN, there)
    t.do("without address", s.send, b"x", FASTOPEN)
    t.do("plain", s.send, b"plain")
    t.do("connect", s.connect, there)
    # Non-blocking, the first call sends nothing and the second finds the connection made.
    t.note("received", t.drain(server, 10))


@program()
def fastopen_does_not_wait(t):
    listener = t.listener()
    s = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("first", s.sendto, b"hello", FASTOPEN | socket.MSG_DONTWAIT, listener.getsockname())
    t.until(s, "OUT")
    t.do("send", s.send, b"abc")
    t.note("received", t.drain(taken(t, listener), 3))


@program(modes=MODES)
def fastopen_refused(t):
    s = t.socket()
    t.do("send", s.sendto, b"hello", FASTOPEN, (t.local, t.free_port()))
    if t.mode == "nonblocking":
        t.until(s, "IN")
    t.error("error", s)
    listener = t.listener()
    if t.mode == "blocking":
        t.do("again", s.sendto, b"hello", FASTOPEN, listener.getsockname())
        t.note("received", t.drain(taken(t, listener), 5))


@program()
def fastopen_strange(t):
    listener = t.listener()
    there = listener.getsockname()
    make = lambda: socket.socket(t.family, socket.SOCK_STREAM)  # noqa: E731
    t.do("without address", make().send, b"x", FASTOPEN)
    s = make()
    t.do("nothing", s.sendto, b"", FASTOPEN, there)
    t.do("peer", s.getpeername)
    t.do("sendmsg", make().sendmsg, [b"he", b"llo"], [], FASTOPEN, there)
    t.do("sendmsg without address", make().sendmsg, [b"he", b"llo"], [], FASTOPEN)
    t.do("listener", t.listener().sendto, b"x", FASTOPEN, there)
    for family, length in ((0, 28), (1, 28), (t.family, 4)):
        s = make()
        address = struct.pack("=H", family) + bytes(26)
        t.raw("family %d length %d" % (family, length), "sendto", s.fileno(), b"abc", 3, FASTOPEN, address, length)
    s = make()
    s.setsockopt(6, TCP_FASTOPEN_CONNECT, 1)
    t.do("TCP_FASTOPEN_CONNECT", s.connect, there)
    t.do("send", s.send, b"abc")


@program()
def tcp_inq(t):
    client, server = t.pair()
    server.setsockopt(6, TCP_INQ, 1)
    client.send(b"0123456789")
    t.until(server, "IN")

    def read(label, count, room=100, flags=0):
        data, control, shown, _ = server.recvmsg(count, room, flags)
        t.note(label, (data, [(a, b, c.hex()) for a, b, c in control], shown))

    read("four", 4)
    read("peeked", 4, flags=socket.MSG_PEEK)
    read("without room", 1, room=0)
    read("too little room", 1, room=10)
    client.shutdown(1)
    t.settle(server)
    read("the rest", 9)
    read("the end", 9)
    server.setsockopt(6, TCP_INQ, 0)
    read("switched off", 9)


@program()
def tcp_defer_accept(t):
    listener = t.listener()
    listener.setsockopt(6, TCP_DEFER_ACCEPT, 1)
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    t.mask("connected", listener)
    client.send(b"x")
    t.until(listener, "IN")
    t.mask("data", listener)
    server = listener.accept()[0]
    t.note("data", server.recv(9))
    silent = socket.socket(t.family, socket.SOCK_STREAM)
    silent.connect(listener.getsockname())
    t.mask("silent", listener)
    t.until(listener, "IN", 6)
    t.mask("after the time", listener)
    listener.accept()


def word(info, at, form="I"):
    return struct.unpack_from(form, info, at)[0]


@program()
def tcp_info_of_a_connection(t):
    s = socket.socket(t.family, socket.SOCK_STREAM)
    info = s.getsockopt(6, TCP_INFO, 280)
    t.note("fresh", [info[0], len(info), word(info, 8), word(info, 16), word(info, 80), word(info, 76), word(info, 148)])
    listener = t.listener(backlog=5)
    for waiting in range(3):
        info = listener.getsockopt(6, TCP_INFO, 280)
        t.note("listener", [info[0], word(info, 24), word(info, 28)])
        client = socket.socket(t.family, socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        t.until(listener, "IN")
        t.settle(listener)
    server = listener.accept()[0]
    other = t.listener()
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(other.getsockname())
    server = other.accept()[0]
    client.send(b"x" * 1000)
    t.drain(server, 1000)
    server.send(b"y" * 500)
    t.drain(client, 500)
    t.settle(client)
    for label, s in (("client", client), ("server", server)):
        info = s.getsockopt(6, TCP_INFO, 280)
        t.note("%s state, ca, retransmits, probes, backoff" % label, list(info[:5]))
        t.note("%s unacked, lost, retransmitted" % label, [word(info, 24), word(info, 32), word(info, 36), word(info, 100)])
        t.note("%s bytes acked, received, sent, again" % label, [word(info, at, "Q") for at in (120, 128, 200, 208)])
        t.note("%s data segments in, out, not sent" % label, [word(info, at) for at in (152, 156, 144)])
        t.note("%s knows the round trip" % label, 0 < word(info, 68) < 1_000_000 and word(info, 148) <= word(info, 68))
        t.note("%s heard and spoke lately" % label, all(word(info, at) < 20_000 for at in (44, 52, 56)))
        for request in (0x5411, 0x894B, 0x541B):
            t.note("%s queue %x" % (label, request), fcntl.ioctl(s, request, bytes(4)))
    client.shutdown(1)
    t.settle(server)
    t.note("after FIN", [word(client.getsockopt(6, TCP_INFO, 280), 120, "Q"), word(server.getsockopt(6, TCP_INFO, 280), 128, "Q")])
    for length in (0, 1, 7, 104, 232, 280, 300):
        t.do("length %d" % length, lambda: len(client.getsockopt(6, TCP_INFO, length)) if length else None)


@program(families=(6,))
def tcp_addrform(t):
    """IPV6_ADDRFORM takes one value, on one kind of connection."""
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.bind(("::", 0))
    listener.listen(4)
    there = ("::ffff:127.0.0.1", listener.getsockname()[1])
    for value in (2, 10, 0):
        s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        t.do("fresh %d" % value, s.setsockopt, 41, 1, value)
        s.connect(there)
        t.do("get", s.getsockopt, 41, 1)
        t.do("set %d" % value, s.setsockopt, 41, 1, value)
        t.note("domain", s.getsockopt(1, 39))
        t.do("get", s.getsockopt, 41, 1)

@program()
def tcp_waitall_with_address(t):
    """recvfrom with room for an address waits for all, as recv does."""
    client, server = t.pair()
    received = []

    def read():
        buffer = ctypes.create_string_buffer(8)
        address = ctypes.create_string_buffer(28)
        size = ctypes.c_int(28)
        server.settimeout(None)
        got = t.libc("recvfrom", server.fileno(), buffer, 8, socket.MSG_WAITALL, address, ctypes.byref(size))
        received.append((got, buffer.raw, size.value))

    for parts, end in (((b"abcd", b"efgh"), False), ((b"ab",), True)):
        thread = threading.Thread(target=read)
        thread.start()
        for part in parts:
            client.send(part)
            time.sleep(0.15)
        if end:
            client.shutdown(1)
        thread.join(8)
    t.note("received", received)
