# SPDX-License-Identifier: Apache-2.0 OR MIT
"""UDP: who receives what from whom, lengths, flags, control data, many messages in one call."""

import ctypes
import fcntl
import os
import select
import socket
import struct
import threading
import time

from steps import MODES, POLLERS, program, sockaddr

DGRAM = socket.SOCK_DGRAM


def bound(t, address=None):
    """A datagram socket in the mode of the run, with a port."""
    s = t.socket(DGRAM)
    s.bind((address or t.local, 0))
    return s


def waiting(s):
    """Takes what waits and tells how many there were."""
    count = 0
    try:
        while True:
            s.recvfrom(1)
            count += 1
    except BlockingIOError:
        return count


@program(modes=MODES)
def datagram_sources(t):
    """Neither side is connected: the source tells who it was."""
    server = bound(t)
    clients = [bound(t) for _ in range(3)]
    for number, client in enumerate(clients):
        t.do("sendto %d" % number, client.sendto, b"%d" % number, server.getsockname())
    names = [client.getsockname() for client in clients]
    for _ in clients:
        t.until(server, "IN")
        data, source = server.recvfrom(100)
        t.note("from", (names.index(source), data))
        t.do("answer", server.sendto, data * 2, source)
    for client in clients:
        t.until(client, "IN")
        t.do("answered", lambda: client.recvfrom(100)[0])
    t.do("nothing more", server.recvfrom, 100)


@program(modes=MODES)
def datagram_filter(t):
    """A connected socket hears its peer alone; what came before it connected stays."""
    one, two, three = bound(t), bound(t), bound(t)
    three.sendto(b"early", one.getsockname())
    t.until(one, "IN")
    t.do("connect", one.connect, two.getsockname())
    three.sendto(b"stranger", one.getsockname())
    two.sendto(b"peer", one.getsockname())
    time.sleep(0.1)
    t.do("first", one.recv, 100)
    t.until(one, "IN")
    t.do("second", one.recv, 100)
    t.do("third", one.recv, 100)
    t.do("send", one.send, b"to the peer")
    t.until(two, "IN")
    t.note("from", two.recvfrom(100)[1] == one.getsockname())
    t.do("elsewhere", one.sendto, b"to the third", three.getsockname())
    t.until(three, "IN")
    t.do("arrived there", three.recv, 100)
    t.raw("dissolve", "connect", one.fileno(), bytes(16), 16)
    t.do("the port has gone with the peer", three.sendto, b"x", one.getsockname())
    t.do("a new one", one.bind, (t.local, 0))
    t.do("to it", three.sendto, b"now heard", one.getsockname())
    t.until(one, "IN")
    t.do("heard", one.recv, 100)


@program(modes=MODES, pollers=POLLERS)
def datagram_masks(t):
    s, other = bound(t), bound(t)
    t.mask("idle", s)
    other.sendto(b"a", s.getsockname())
    other.sendto(b"", s.getsockname())
    t.mask("two", s)
    t.do("first", s.recv, 10)
    t.mask("an empty one", s)
    t.do("second", s.recv, 10)
    t.mask("none", s)
    s.connect(other.getsockname())
    t.mask("connected", s)
    other.close()
    t.mask("peer closed", s)
    t.do("shutdown", s.shutdown, 0)
    t.mask("shut for reading", s)
    s.shutdown(1)
    t.mask("shut for both", s)


@program(modes=MODES)
def datagram_empty(t):
    """Datagrams of no length are datagrams."""
    s, other = bound(t), bound(t)
    for number in range(3):
        t.do("send", other.sendto, b"", s.getsockname())
    t.until(s, "IN")
    time.sleep(0.05)
    t.do("recv", s.recv, 10)
    t.do("recvfrom", lambda: s.recvfrom(10)[0])
    t.do("recvmsg", lambda: s.recvmsg(10)[0::2])
    t.do("none", s.recv, 10)
    other.connect(s.getsockname())
    t.do("send connected", other.send, b"")
    t.do("write", os.write, other.fileno(), b"")
    t.do("writev", os.writev, other.fileno(), [b"", b""])
    t.do("sendmsg", other.sendmsg, [])
    time.sleep(0.1)
    count = 0
    s.setblocking(False)
    while t.libc("recv", s.fileno(), ctypes.create_string_buffer(1), ctypes.c_size_t(1), 0) == 0:
        count += 1
    t.note("arrived", count)
    s.setblocking(True)
    other.send(b"full")
    t.until(s, "IN")
    t.do("no room", s.recv, 0)
    s.setblocking(False)
    t.do("it is gone", s.recv, 10)


@program(modes=MODES)
def datagram_truncation(t):
    s, other = bound(t), bound(t)
    for flags in (0, socket.MSG_TRUNC):
        for how in ("recv", "recvfrom", "recvmsg", "read"):
            other.sendto(b"0123456789", s.getsockname())
            t.until(s, "IN")
            if how == "recv":
                t.do("recv %d" % flags, s.recv_into, bytearray(4), 4, flags)
            elif how == "recvfrom":
                t.do("recvfrom %d" % flags, lambda: s.recvfrom_into(bytearray(4), 4, flags)[0])
            elif how == "recvmsg":
                t.do("recvmsg %d" % flags, lambda: s.recvmsg(4, 0, flags)[0::2])
            else:
                t.do("read", os.read, s.fileno(), 4)
            time.sleep(0.02)
            t.do("the rest is gone", s.recv, 10, socket.MSG_DONTWAIT)


@program(modes=MODES)
def datagram_peek(t):
    s, other = bound(t), bound(t)
    other.sendto(b"first", s.getsockname())
    other.sendto(b"second one", s.getsockname())
    t.until(s, "IN")
    time.sleep(0.05)
    t.do("peek", s.recv, 3, socket.MSG_PEEK)
    t.do("peek all", s.recv, 100, socket.MSG_PEEK)
    t.do("peek length", s.recv_into, bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC)
    t.do("peek source", lambda: s.recvfrom(10, socket.MSG_PEEK)[1] == other.getsockname())
    t.do("peek message", lambda: s.recvmsg(2, 0, socket.MSG_PEEK)[0::2])
    t.note("FIONREAD", fcntl.ioctl(s, 0x541B, b"0000"))
    t.do("take", s.recv, 100)
    time.sleep(0.05)
    t.note("FIONREAD of the next", fcntl.ioctl(s, 0x541B, b"0000"))
    t.do("take", s.recvfrom, 100) and None
    t.note("FIONREAD of none", fcntl.ioctl(s, 0x541B, b"0000"))
    t.do("peek at none", s.recv, 1, socket.MSG_PEEK)
    t.do("wait for all", s.recv, 10, socket.MSG_WAITALL | socket.MSG_DONTWAIT)
    t.do("urgent", s.recv, 10, socket.MSG_OOB)
    t.do("send urgent", other.sendto, b"x", socket.MSG_OOB, s.getsockname())


def message(name, data):
    """A struct mmsghdr and what it points to."""
    keep = [ctypes.create_string_buffer(data, max(1, len(data)))]
    keep.append(ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(keep[0]), len(data))))
    keep.append(ctypes.create_string_buffer(name, 28))
    raw = struct.pack("QI4xQQQQi4xI4x", ctypes.addressof(keep[2]) if name else 0, len(name), ctypes.addressof(keep[1]), 1, 0, 0, 0, 0)
    return raw, keep


def lengths(buffer, count):
    return [struct.unpack("I", buffer.raw[64 * i + 56 : 64 * i + 60])[0] for i in range(count)]


@program(modes=MODES)
def datagram_batches(t):
    """sendmmsg(2) and recvmmsg(2)."""
    s, other = bound(t), bound(t)
    name = sockaddr(t.family, *s.getsockname()[:2])
    made = [message(name, b"x" * n) for n in (1, 0, 5, 300)]
    batch = ctypes.create_string_buffer(b"".join(raw for raw, _ in made))
    t.raw("send", "sendmmsg", other.fileno(), batch, 4, 0)
    t.note("lengths", lengths(batch, 4))
    time.sleep(0.1)
    room = [message(b"", b"." * 100) for _ in range(6)]
    into = ctypes.create_string_buffer(b"".join(raw for raw, _ in room))
    t.raw("receive", "recvmmsg", s.fileno(), into, 6, 0x10000, None)
    got = lengths(into, 6)
    t.note("lengths", got)
    t.note("truncated", [struct.unpack("i", into.raw[64 * i + 48 : 64 * i + 52])[0] for i in range(4)])
    t.raw("none", "recvmmsg", s.fileno(), into, 6, socket.MSG_DONTWAIT, None)
    other.sendto(b"one", s.getsockname())
    t.until(s, "IN")
    t.raw("one of two, until a time", "recvmmsg", s.fileno(), into, 2, 0x10000, struct.pack("qq", 0, 100_000_000))
    made = [message(name, b"good"), message(name, b"x" * 65_535), message(name, b"never")]
    batch = ctypes.create_string_buffer(b"".join(raw for raw, _ in made))
    t.raw("second too long", "sendmmsg", other.fileno(), batch, 3, 0)
    batch = ctypes.create_string_buffer(batch.raw[64:])
    t.raw("first too long", "sendmmsg", other.fileno(), batch, 2, 0)
    t.until(s, "IN")
    t.do("the good one", s.recv, 10)


@program()
def datagram_sizes(t):
    s, other = bound(t), bound(t)
    s.settimeout(3)
    most = 65_507 if t.version == 4 else 65_527
    for size in (1, 1372, 1392, 1393, 1472, 1473, 9000, 65_000, most - 8, most, most + 1, 65_535, 65_536, 100_000):
        if t.do("send %d" % size, other.sendto, b"s" * size, s.getsockname()):
            t.note("arrived", len(s.recv(200_000)))
    other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    t.do("more than the send buffer", other.sendto, b"s" * 60_000, s.getsockname())


@program()
def datagram_control(t):
    """Control data: what is asked for comes with each datagram, what is said goes with it."""
    s, other = bound(t), bound(t)
    s.settimeout(3)
    if t.version == 4:
        asked = [(0, 8), (0, 12), (0, 13)]
        said = [(0, 2, struct.pack("i", 33)), (0, 1, struct.pack("i", 0x10)), (0, 8, struct.pack("i4s4s", 0, socket.inet_aton("127.0.0.1"), bytes(4)))]
        wrong = [(0, 2, struct.pack("i", 0)), (0, 2, struct.pack("i", 256)), (0, 1, struct.pack("i", 256)), (0, 2, b"x"), (0, 99, b"1234"), (0, 8, struct.pack("i4s4s", 0, socket.inet_aton("203.0.113.9"), bytes(4)))]
    else:
        asked = [(41, 49), (41, 51), (41, 66)]
        said = [(41, 52, struct.pack("i", 33)), (41, 67, struct.pack("i", 0x10)), (41, 50, socket.inet_pton(10, "::1") + struct.pack("i", 0))]
        wrong = [(41, 52, struct.pack("i", 256)), (41, 52, struct.pack("i", -2)), (41, 67, struct.pack("i", 256)), (41, 52, b"x"), (41, 99, b"1234"), (41, 50, socket.inet_pton(10, "2001:db8::9") + struct.pack("i", 0))]
    for option in asked:
        t.do("ask %d %d" % option, s.setsockopt, *option, 1)
    to = s.getsockname()

    def taken(label):
        data, control, flags, source = s.recvmsg(100, 500)
        # The interface's number is the machine's.
        t.note(label, (data, flags, sorted((level, kind, value[4:] if (level, kind) == (0, 8) else value[:16]) for level, kind, value in control)))

    other.sendto(b"plain", to)
    taken("plain")
    for one in said:
        t.do("say %d %d" % one[:2], other.sendmsg, [b"said"], [one], 0, to)
        taken("said")
    t.do("say all", other.sendmsg, [b"all"], said, 0, to)
    taken("all")
    for one in wrong:
        t.do("wrong %d %d %r" % one, other.sendmsg, [b"wrong"], [one], 0, to)
        s.settimeout(0.05)
        while True:
            try:
                s.recv(10)
            except TimeoutError:
                break
        s.settimeout(3)
    other.sendto(b"cut", to)
    t.until(s, "IN")
    t.do("no room for control data", lambda: (lambda m: (m[0], m[2], len(m[1])))(s.recvmsg(100, 8)))
    for option in asked:
        s.setsockopt(*option, 0)
    other.sendto(b"quiet", to)
    taken("not asked")


@program(families=(6,), modes=MODES)
def datagram_mapped(t):
    """A socket of both families, and one of IPv6 alone."""
    both = t.socket(DGRAM)
    both.bind(("::", 0))
    port = both.getsockname()[1]
    four = t.moded(socket.socket(socket.AF_INET, DGRAM))
    t.do("from IPv4", four.sendto, b"four", ("127.0.0.1", port))
    t.until(both, "IN")
    data, source = both.recvfrom(10)
    t.note("source", source[0])
    t.do("answer", both.sendto, b"answer", source)
    t.until(four, "IN")
    t.do("answered", lambda: four.recvfrom(10)[0])
    t.do("from IPv6", both.sendto, b"six", ("::1", port))
    t.until(both, "IN")
    t.do("itself", lambda: both.recvfrom(10)[1][0])
    t.do("connect", both.connect, ("::ffff:127.0.0.1", four.getsockname()[1]))
    t.do("name", lambda: both.getsockname()[0])
    t.do("peer", lambda: both.getpeername()[0])
    only = t.socket(DGRAM)
    only.setsockopt(41, 26, 1)
    t.do("IPv6 alone", only.sendto, b"x", ("::ffff:127.0.0.1", port))
    t.do("connects", only.connect, ("::ffff:127.0.0.1", port))
    t.raw("other family", "sendto", four.fileno(), b"x", ctypes.c_size_t(1), 0, struct.pack("=H26x", 10), 28)


@program()
def datagram_shapes(t):
    """Lengths and families of a destination."""
    s, other = bound(t), bound(t)
    good = sockaddr(t.family, *s.getsockname()[:2]) + bytes(100)
    for length in (0, 1, 2, 4, 8, 15, 16, 23, 24, 27, 28, 64, 128, 129, -1):
        t.raw("sendto %d" % length, "sendto", other.fileno(), b"x", ctypes.c_size_t(1), 0, good, length)
        t.raw("connect %d" % length, "connect", socket.socket(t.family, DGRAM).detach(), good, length)
    for family in (0, 1, 2, 10, 16, 99):
        t.raw("family %d" % family, "sendto", other.fileno(), b"x", ctypes.c_size_t(1), 0, bytes([family, 0]) + good[2:], 28)
        t.raw("connect to family %d" % family, "connect", socket.socket(t.family, DGRAM).detach(), bytes([family, 0]) + good[2:], 28)
    t.do("port 0", other.sendto, b"x", (t.local, 0))
    t.do("connect to port 0", other.connect, (t.local, 0))
    t.do("then send", other.send, b"x")


@program(modes=MODES)
def datagram_shutdown(t):
    s, other = bound(t), bound(t)
    t.do("not connected", bound(t).shutdown, 2)
    s.connect(other.getsockname())
    other.connect(s.getsockname())
    other.send(b"before")
    t.until(s, "IN")
    t.do("reading", s.shutdown, 0)
    t.do("what came before", s.recv, 10)
    t.do("the end", s.recv, 10)
    t.do("the end with a source", lambda: s.recvfrom(10)[0])
    other.send(b"after")
    time.sleep(0.1)
    t.do("what came after", s.recv, 10)
    t.do("send", s.send, b"still")
    t.until(other, "IN")
    t.do("arrived", other.recv, 10)
    t.do("writing", s.shutdown, 1)
    t.do("sendto", s.sendto, b"x", other.getsockname())
    t.do("sendmsg", s.sendmsg, [b"x"], [], socket.MSG_NOSIGNAL)
    t.do("again", s.shutdown, 2)


@program()
def datagram_names(t):
    """What bind, connect and sending do to the names."""
    other = bound(t)
    s = t.socket(DGRAM)
    t.note("fresh", s.getsockname())
    t.do("no peer", s.getpeername)
    s.sendto(b"x", other.getsockname())
    t.note("sent", (s.getsockname()[0], s.getsockname()[1] != 0))
    port = s.getsockname()[1]
    s.connect(other.getsockname())
    t.note("connected", (s.getsockname()[0], s.getsockname()[1] == port))
    third = bound(t)
    t.do("another peer", s.connect, third.getsockname())
    t.note("is it", s.getpeername() == third.getsockname())
    t.raw("dissolve", "connect", s.fileno(), bytes(16), 16)
    t.note("name", s.getsockname()[0])
    t.note("port", s.getsockname()[1] == port)
    t.do("bind", s.bind, (t.local, 0))
    b = bound(t, t.any)
    t.note("any", b.getsockname()[0])
    b.connect(other.getsockname())
    t.note("any, connected", b.getsockname()[0])
    t.raw("dissolve", "connect", b.fileno(), bytes(16), 16)
    t.note("any, again", b.getsockname()[0])
    c = t.socket(DGRAM)
    c.connect(other.getsockname())
    t.raw("dissolve", "connect", c.fileno(), bytes(16), 16)
    t.note("never bound, again", (c.getsockname()[0], c.getsockname()[1]))


@program()
def datagram_sharing(t):
    """SO_REUSEADDR: the last one bound receives; SO_REUSEPORT: spread by source."""
    one, two = socket.socket(t.family, DGRAM), socket.socket(t.family, DGRAM)
    for s in (one, two):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((t.local, 0))
    two.bind(one.getsockname())
    other = bound(t)
    other.sendto(b"x", one.getsockname())
    time.sleep(0.1)
    for label, s in (("first", one), ("second", two)):
        s.setblocking(False)
        t.do(label, s.recv, 10)
    exact, wide = bound(t), socket.socket(t.family, DGRAM)
    exact.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    wide.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    wide.bind((t.any, exact.getsockname()[1]))
    other.sendto(b"y", exact.getsockname())
    t.until(exact, "IN")
    wide.setblocking(False)
    t.do("exact", exact.recv, 10)
    t.do("wide", wide.recv, 10)
    group = [socket.socket(t.family, DGRAM) for _ in range(2)]
    for s in group:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    group[0].bind((t.local, 0))
    group[1].bind(group[0].getsockname())
    for _ in range(40):
        bound(t).sendto(b"z", group[0].getsockname())
    time.sleep(0.2)
    counts = []
    for s in group:
        s.setblocking(False)
        counts.append(waiting(s))
    t.note("all", sum(counts))
    t.note("both", min(counts) > 0)


@program()
def datagram_overflow(t):
    """A receiver that does not read loses datagrams; the sender goes on."""
    s, other = bound(t), bound(t)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sent = sum(other.sendto(b"o" * 1000, s.getsockname()) for _ in range(200))
    t.note("sent", sent)
    time.sleep(0.2)
    s.setblocking(False)
    t.note("some are lost", 0 < waiting(s) < 200)
    other.sendto(b"later", s.getsockname())
    t.until(s, "IN")
    t.do("room again", s.recv, 10)


@program()
def datagram_limits_of_time(t):
    s = socket.socket(t.family, DGRAM)
    s.bind((t.local, 0))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    start = time.monotonic()
    t.do("recv", s.recv, 1)
    t.do("recvfrom", s.recvfrom, 1)
    t.do("recvmsg", s.recvmsg, 1)
    t.do("read", os.read, s.fileno(), 1)
    t.note("in time", 0.35 < time.monotonic() - start < 2)
    t.note("poll", select.select([s], [], [], 0.05)[0])
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
    thread = threading.Timer(0.2, lambda: socket.socket(t.family, DGRAM).sendto(b"late", s.getsockname()))
    thread.start()
    t.do("late", s.recv, 10)
    thread.join()


@program(pollers=("epoll",))
def datagram_edges(t):
    """Edge-triggered: an event for each datagram."""
    s, other = bound(t), bound(t)
    with select.epoll() as e:
        e.register(s, select.EPOLLIN | select.EPOLLET)
        t.note("idle", e.poll(0.05))
        for number in range(3):
            other.sendto(b"%d" % number, s.getsockname())
            t.note("event", [mask for _, mask in e.poll(2)])
            t.note("once", e.poll(0.1))
            if number != 1:
                t.do("take", s.recv, 10)
        t.do("the other", s.recv, 10)
        t.do("none", s.recv, 10, socket.MSG_DONTWAIT)


@program(families=(6,))
def scope_numbers(t):
    """Link-local addresses and the interface they belong to."""
    for kind in (socket.SOCK_STREAM, DGRAM):
        for scope in (0, 1, 99):
            s = socket.socket(t.family, kind)
            t.do("bind %d %d" % (kind, scope), s.bind, ("fe80::1", 0, 0, scope))
            s = socket.socket(t.family, kind)
            t.do("connect %d %d" % (kind, scope), s.connect, ("fe80::1", 9, 0, scope))
            s = socket.socket(t.family, kind)
            t.do("loopback %d %d" % (kind, scope), s.bind, ("::1", 0, 0, scope))
            t.do("name", s.getsockname)
        s = socket.socket(t.family, kind)
        t.do("flow %d" % kind, s.bind, ("::1", 0, 0x12345, 0))
        t.do("name", s.getsockname)
    s = socket.socket(t.family, DGRAM)
    for scope in (0, 1, 99):
        t.do("sendto %d" % scope, s.sendto, b"x", ("fe80::1", 9, 0, scope))
