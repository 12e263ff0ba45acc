# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The errors of the manual pages that no other program comes by: every transferring call in every state that it refuses."""

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import struct
import time

from steps import name_of, program, sockaddr

size_t = ctypes.c_size_t
BAD = 8
DGRAM = socket.SOCK_DGRAM
QUIET = socket.MSG_NOSIGNAL


class Calls:
    """The sending and receiving calls in one shape: a descriptor, a buffer, flags, perhaps an address."""

    SENDS = ("write", "writev", "send", "sendto", "sendmsg", "sendmmsg")
    RECEIVES = ("read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg")

    def __init__(self, t):
        self.t = t
        self.buffer = ctypes.create_string_buffer(1 << 17)
        self.name = ctypes.create_string_buffer(128)

    def run(self, call, fd, length=1, flags=0, to=None, data=None):
        """The result, or minus the errno."""
        t, at = self.t, ctypes.addressof(self.buffer) if data is None else data
        vector = ctypes.create_string_buffer(struct.pack("QQ", at, length))
        if to is not None:
            self.name.raw = to + bytes(128 - len(to))
        taking = call in ("recvmsg", "recvmmsg")
        named = ctypes.addressof(self.name) if to is not None or taking else 0
        header = struct.pack("QI4xQQQQi4xI4x", named, len(to or b"") or (128 if taking else 0), ctypes.addressof(vector), 1, 0, 0, 0, 0)
        message = ctypes.create_string_buffer(header)
        p = ctypes.c_void_p(at)
        if call in ("write", "read"):
            return t.libc(call, fd, p, size_t(length))
        if call in ("writev", "readv"):
            return t.libc(call, fd, vector, 1)
        if call in ("send", "recv"):
            return t.libc(call, fd, p, size_t(length), flags)
        if call == "sendto":
            return t.libc(call, fd, p, size_t(length), flags, to, len(to or b""))
        if call == "recvfrom":
            return t.libc(call, fd, p, size_t(length), flags, self.name, ctypes.byref(ctypes.c_int(128)))
        if call in ("sendmsg", "recvmsg"):
            return t.libc(call, fd, message, flags)
        if call == "sendmmsg":
            return t.libc(call, fd, message, 1, flags)
        return t.libc(call, fd, message, 1, flags, None)

    def note(self, situation, call, result):
        self.t.lines.append("%s: %s" % (("%s %s" % (call, situation)).strip(), result if result >= 0 else name_of(-result)))

    def all(self, calls, situation, fd, **more):
        for call in calls:
            self.note(situation, call, self.run(call, fd() if callable(fd) else fd, **more))


ADDRESSED = ("sendto", "sendmsg", "sendmmsg")
FLAGGED = ("send", "sendto", "sendmsg", "sendmmsg")


@program()
def refused_sending(t):
    """Every sending call on a stream socket that cannot send."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    c = Calls(t)
    c.all(c.SENDS, "on nothing", 999)
    with open("/dev/null", "rb+") as file:
        c.all(FLAGGED, "on a file", file.fileno())
    client, server = t.pair()
    c.all(c.SENDS, "from nowhere", client.fileno(), data=BAD)
    client.shutdown(1)
    c.all(c.SENDS, "after shutdown", client.fileno())
    c.all(FLAGGED, "after shutdown, quietly", client.fileno(), flags=QUIET)
    fresh = socket.socket(t.family, socket.SOCK_STREAM)
    c.all(c.SENDS, "unconnected", fresh.fileno())
    c.all(ADDRESSED, "unconnected, with an address", fresh.fileno(), to=sockaddr(t.family, t.local, 9))
    listener = t.listener()
    c.all(c.SENDS, "listening", listener.fileno())


@program()
def refused_sending_full(t):
    """Every sending call on a stream whose peer does not read."""
    c = Calls(t)
    client, server = t.pair()
    client.setblocking(False)
    quiet = 0
    while quiet < 6:
        try:
            client.send(b"x" * 65536)
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.05)
    c.all(c.SENDS, "full", client.fileno(), length=100_000)
    client.setblocking(True)
    c.all(FLAGGED, "full, MSG_DONTWAIT", client.fileno(), length=100_000, flags=socket.MSG_DONTWAIT)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 60_000))
    c.all(c.SENDS, "full, SO_SNDTIMEO", client.fileno(), length=100_000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bytes(16))
    for call in c.SENDS:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, True)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        c.note("full, a signal", call, c.run(call, client.fileno(), length=100_000))
        signal.setitimer(signal.ITIMER_REAL, 0)


@program()
def refused_receiving(t):
    """Every receiving call on a stream socket that has nothing to give."""
    c = Calls(t)
    flagged = ("recv", "recvfrom", "recvmsg", "recvmmsg")
    c.all(c.RECEIVES, "on nothing", 999)
    with open("/dev/null") as file:
        c.all(flagged, "on a file", file.fileno())
    client, server = t.pair()
    client.setblocking(False)
    c.all(c.RECEIVES, "empty", client.fileno())
    client.setblocking(True)
    c.all(flagged, "empty, MSG_DONTWAIT", client.fileno(), flags=socket.MSG_DONTWAIT)
    c.all(flagged, "no urgent data", client.fileno(), flags=socket.MSG_OOB)
    c.all(flagged, "error queue", client.fileno(), flags=socket.MSG_ERRQUEUE)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 60_000))
    c.all(c.RECEIVES, "empty, SO_RCVTIMEO", client.fileno())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
    for call in c.RECEIVES:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, True)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        c.note("empty, a signal", call, c.run(call, client.fileno()))
        signal.setitimer(signal.ITIMER_REAL, 0)
    server.send(b"data")
    t.until(client, "IN")
    c.all(c.RECEIVES, "into nowhere", client.fileno(), data=BAD)
    for call in c.RECEIVES:
        one, other = t.pair()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        t.until(one, "IN")
        time.sleep(0.02)
        c.note("after a reset", call, c.run(call, one.fileno()))
    for call in c.RECEIVES:
        fresh = socket.socket(t.family, socket.SOCK_STREAM)
        c.note("unconnected", call, c.run(call, fresh.fileno()))
    t.raw("recvmmsg with a bad time", "recvmmsg", client.fileno(), c.buffer, 1, 0, struct.pack("qq", 0, 10**9))


@program()
def refused_after_reset(t):
    """Every sending call as the first one after the peer's reset."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    c = Calls(t)
    for call in c.SENDS:
        one, other = t.pair()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        t.until(one, "IN")
        time.sleep(0.02)
        c.note("after a reset", call, c.run(call, one.fileno()))
        c.note("after that", call, c.run(call, one.fileno()))


@program()
def refused_datagrams(t):
    """Every call on a datagram socket that cannot send or has nothing to give."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    c = Calls(t)
    s = socket.socket(t.family, DGRAM)
    s.bind((t.local, 0))
    other = socket.socket(t.family, DGRAM)
    other.bind((t.local, 0))
    name = sockaddr(t.family, *other.getsockname()[:2])
    c.all(c.SENDS, "datagram without a peer", s.fileno())
    c.all(ADDRESSED, "datagram too long", s.fileno(), length=70_000, to=name)
    c.all(ADDRESSED, "datagram from nowhere", s.fileno(), data=BAD, to=name)
    c.all(ADDRESSED, "datagram to port 0", s.fileno(), to=sockaddr(t.family, t.local, 0))
    c.all(ADDRESSED, "datagram to a short address", s.fileno(), to=name[:10])
    c.all(ADDRESSED, "datagram to another family", s.fileno(), to=b"\x63\0" + name[2:])
    s.setblocking(False)
    flagged = ("recv", "recvfrom", "recvmsg", "recvmmsg")
    c.all(c.RECEIVES, "no datagram", s.fileno())
    s.setblocking(True)
    c.all(flagged, "no datagram, MSG_DONTWAIT", s.fileno(), flags=socket.MSG_DONTWAIT)
    c.all(flagged, "no datagram, error queue", s.fileno(), flags=socket.MSG_ERRQUEUE)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 60_000))
    c.all(c.RECEIVES, "no datagram, SO_RCVTIMEO", s.fileno())
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
    for call in c.RECEIVES:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, True)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        c.note("no datagram, a signal", call, c.run(call, s.fileno()))
        signal.setitimer(signal.ITIMER_REAL, 0)
    for call in c.RECEIVES:
        gone = socket.socket(t.family, DGRAM)
        gone.bind((t.local, 0))
        peer = gone.getsockname()
        gone.close()
        one = socket.socket(t.family, DGRAM)
        one.settimeout(2)
        one.connect(peer)
        one.send(b"x")
        t.until(one, "IN", 2)
        time.sleep(0.05)
        c.note("datagram refused", call, c.run(call, one.fileno()))
    s.connect(other.getsockname())
    s.shutdown(1)
    c.all(ADDRESSED, "datagram after shutdown", s.fileno(), flags=QUIET)


@program(bare=True)
def refused_routes(t):
    """Addresses that cannot be sent to or taken."""
    c = Calls(t)
    outside = "203.0.113.1" if t.version == 4 else "2001:db8::1"
    for kind in (socket.SOCK_STREAM, DGRAM):
        s = socket.socket(t.family, kind)
        t.do("connect %d without a route" % kind, s.connect, (outside, 80))
        t.do("bind %d to a port of the machine's" % kind, s.bind, (t.local, 80))
        t.do("bind %d to a stranger's address" % kind, socket.socket(t.family, kind).bind, (outside, 0))
    s = socket.socket(t.family, DGRAM)
    c.all(ADDRESSED, "datagram without a route", s.fileno(), to=sockaddr(t.family, outside, 80))
    s = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("connect to many", s.connect, ("224.0.0.1" if t.version == 4 else "ff02::1", 80))


@program(families=(0,))
def refused_sockets(t):
    """socket(2) and socketpair(2)."""
    pair = ctypes.create_string_buffer(8)
    for label, arguments in (
        ("unknown family", (45, 1, 0)),
        ("family out of range", (99, 1, 0)),
        ("family below zero", (-1, 1, 0)),
        ("type out of range", (2, 11, 0)),
        ("type below zero", (2, -1, 0)),
        ("type of another family", (2, 5, 0)),
        ("protocol of another type", (2, 1, 17)),
        ("protocol of another family", (10, 2, 1)),
        ("protocol out of range", (2, 1, 999)),
        ("protocol below zero", (2, 1, -1)),
        ("raw", (2, 3, 255)),
        ("flags", (2, 1 | 0x100000, 0)),
    ):
        t.raw("socket, %s" % label, "socket", *arguments)
        t.raw("socketpair, %s" % label, "socketpair", *arguments, pair)
    for kind in (1, 2):
        t.raw("socketpair of the Internet, %d" % kind, "socketpair", 2, kind, 0, pair)
        t.raw("socketpair of IPv6, %d" % kind, "socketpair", 10, kind, 0, pair)
    t.raw("socketpair to nowhere", "socketpair", 1, 1, 0, ctypes.c_void_p(BAD))
    t.raw("socketpair of the Internet to nowhere", "socketpair", 2, 1, 0, ctypes.c_void_p(BAD))


@program(families=(4,))
def refused_ports(t):
    """IP_LOCAL_PORT_RANGE of two ports that are taken."""
    for kind in (socket.SOCK_STREAM, DGRAM):
        low = 41_000 + kind * 10
        keep = [socket.socket(t.family, kind) for _ in range(2)]
        for number, s in enumerate(keep):
            with contextlib.suppress(OSError):  # another program has it
                s.bind((t.any, low + number))

        def fresh():
            s = socket.socket(t.family, kind)
            s.setsockopt(socket.SOL_IP, 51, ((low + 1) << 16 | low).to_bytes(4, "little"))
            return s

        t.do("bind %d" % kind, fresh().bind, (t.local, 0))
        if kind == socket.SOCK_STREAM:
            t.do("listen without a port", fresh().listen, 1)
        else:
            t.do("sendto without a port", fresh().sendto, b"x", (t.local, 9))
            t.do("connect a datagram socket without a port", fresh().connect, (t.local, 9))


@program()
def refused_connecting(t):
    """connect(2): the same pair of addresses twice, an error that was read before, a peer that does not answer."""
    with t.listener() as listener:
        one = socket.socket(t.family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((t.local, 0))
        one.connect(listener.getsockname())
        two = socket.socket(t.family, socket.SOCK_STREAM)
        two.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        t.do("bind to the same", two.bind, one.getsockname())
        t.do("connect, the pair exists", two.connect, listener.getsockname())
    three, four = socket.socket(t.family, socket.SOCK_STREAM), socket.socket(t.family, socket.SOCK_STREAM)
    for s in (three, four):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    three.bind((t.local, 0))
    four.bind(three.getsockname())
    t.do("listen", three.listen, 1)
    t.do("listen, another listens", four.listen, 1)
    s = socket.socket(t.family, socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex((t.local, t.free_port()))
    t.until(s, "OUT")
    t.error("SO_ERROR", s)
    t.do("connect, its error was read", s.connect, (t.local, t.free_port()))
    with t.listener(backlog=0) as listener:
        first = socket.socket(t.family, socket.SOCK_STREAM)
        first.connect(listener.getsockname())
        s = socket.socket(t.family, socket.SOCK_STREAM)
        s.setsockopt(socket.IPPROTO_TCP, 18, 700)
        start = time.monotonic()
        t.do("connect, no answer within TCP_USER_TIMEOUT", s.connect, listener.getsockname())
        t.note("soon", time.monotonic() - start < 4)


@program(families=(4,))
def refused_waiting(t):
    """poll(2), select(2) and epoll(7): limits and nesting."""
    s = socket.socket(t.family, socket.SOCK_STREAM)
    table = ctypes.create_string_buffer(struct.pack("ihh", s.fileno(), 1, 0) * 100)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, before[1]))
    t.raw("poll, more than RLIMIT_NOFILE", "poll", table, ctypes.c_ulong(100), 0)
    highest = os.dup(0)
    os.close(highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, before[1]))
    t.raw("epoll_create1, no descriptor left", "epoll_create1", 0)
    t.raw("dup, no descriptor left", "dup", s.fileno())
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    instances = [select.epoll() for _ in range(7)]
    for number in range(6):
        t.do("epoll_ctl, depth %d" % number, instances[number + 1].register, instances[number].fileno(), 1)


@program()
def accept_calls(t):
    """accept4(2) in every state that it refuses."""
    listener = t.listener()
    buffer = ctypes.create_string_buffer(128)

    def accept(label, fd, address=None, length=None, flags=0):
        t.raw("accept4 " + label, "accept4", fd, address, length, flags)

    def caller():
        s = socket.socket(t.family, socket.SOCK_STREAM)
        s.connect(listener.getsockname())
        return s

    listener.setblocking(False)
    accept("nobody", listener.fileno())
    keep = [caller()]
    t.until(listener, "IN")
    accept("into nowhere", listener.fileno(), buffer, ctypes.c_void_p(BAD))
    accept("flags", listener.fileno(), flags=1)
    accept("not listening", socket.socket(t.family, socket.SOCK_STREAM).detach())
    accept("on datagram", socket.socket(t.family, DGRAM).detach())
    with open("/dev/null") as file:
        accept("on a file", file.fileno())
    keep.append(caller())
    t.until(listener, "IN")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.dup(0)
    os.close(highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, before[1]))
    accept("no descriptor left", listener.fileno())
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@program(families=(4,), bare=True)
def options_broadcast(t):
    """SO_BROADCAST: without it a broadcast address is refused."""
    c = Calls(t)
    s = socket.socket(t.family, DGRAM)
    s.bind(("127.0.0.1", 0))
    to = sockaddr(t.family, "127.255.255.255", 9)
    c.all(ADDRESSED, "", s.fileno(), to=to)
    t.do("connect", s.connect, ("127.255.255.255", 9))


@program()
def ioctl_errors(t):
    """ioctl(2) on what is no socket, or nothing."""
    buffer = ctypes.create_string_buffer(64)
    for name, number in (("FIONREAD", 0x541B), ("SIOCOUTQ", 0x5411), ("SIOCATMARK", 0x8905), ("SIOCGIFINDEX", 0x8933), ("SIOCGIFCONF", 0x8912)):
        t.raw("closed", "ioctl", 999, ctypes.c_ulong(number), buffer)
        with open("/dev/null") as file:
            t.raw("%s of a device" % name, "ioctl", file.fileno(), ctypes.c_ulong(number), buffer)
        pair = socket.socketpair()
        t.raw("%s of a unix socket" % name, "ioctl", pair[0].fileno(), ctypes.c_ulong(number), buffer)


@program()
def select_signal(t):
    client, _ = t.pair()
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    mask = bytearray(128)
    mask[client.fileno() // 8] |= 1 << client.fileno() % 8
    t.raw("select", "select", client.fileno() + 1, ctypes.create_string_buffer(bytes(mask), 128), None, None, struct.pack("ll", 3, 0))
