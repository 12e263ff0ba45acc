# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Errors of datagram sockets: pending errors, the error queue (IP_RECVERR), what poll says of them."""

import errno
import select
import socket
import struct
import threading
import time

from steps import MODES, POLLERS, program

IP_RECVERR, IPV6_RECVERR, IP_RECVTTL, IP_TTL, IP_PKTINFO = 11, 25, 12, 2, 8
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT, IPV6_RECVPKTINFO = 10, 23, 51, 52, 49
SO_SELECT_ERR_QUEUE = 45
# A port that is never bound (tcpmux).
NOBODY = 1
MSG_ERRQUEUE, MSG_TRUNC, MSG_CTRUNC, MSG_PEEK, MSG_DONTWAIT = 0x2000, 0x20, 0x8, 0x2, 0x40


def level(t):
    return (socket.IPPROTO_IPV6, IPV6_RECVERR) if t.version == 6 else (socket.IPPROTO_IP, IP_RECVERR)


def sender(t, connected, recverr, bound=False):
    """A socket and the address of a port where nobody listens."""
    s = t.socket(socket.SOCK_DGRAM)
    to = (t.local, NOBODY)
    if bound:
        s.bind((t.local, 0))
    if recverr:
        s.setsockopt(*level(t), 1)
    if connected:
        s.connect(to)
    return s, to


def address(family, data):
    """A sockaddr in a control message."""
    kind = struct.unpack_from("=H", data)[0]
    if kind == socket.AF_INET:
        return "v4", socket.inet_ntop(socket.AF_INET, data[4:8]), struct.unpack_from("!H", data, 2)[0]
    if kind == socket.AF_INET6 and len(data) >= 24:
        return "v6", socket.inet_ntop(socket.AF_INET6, data[8:24]), struct.unpack_from("!H", data, 2)[0]
    return kind, data.hex()


def told(control):
    """Control messages in words."""
    lines = []
    for kind in control:
        name, data = kind[:2], kind[2]
        if name in ((0, IP_RECVERR), (41, IPV6_RECVERR)) and len(data) >= 16:
            number, origin, etype, code, _, info, more = struct.unpack_from("=IBBBBII", data)
            lines.append("error %s: %s origin %d type %d code %d info %d data %d offender %s" % (name, errno.errorcode.get(number), origin, etype, code, info, more, address(name, data[16:])))
        elif name in ((0, IP_PKTINFO), (41, 50)):
            lines.append("%s: %d bytes, addresses %s" % (name, len(data), (data).hex()))
        else:
            lines.append("%s: %d bytes %s" % (name, len(data), data.hex() if len(data) <= 8 else ""))
    return lines


def queue(t, label, s, size=2000, room=512, flags=0, names=True):
    """One look at the error queue."""
    try:
        data, control, flags, name = s.recvmsg(size, room, MSG_ERRQUEUE | flags)
    except OSError as failure:
        t.lines.append("%s: %s" % (label, errno.errorcode[failure.errno]))
        return False
    t.note(label, (len(data), data[:8], hex(flags), "to" if names else ""))
    t.note(label + " name", t.plain(name) if name and len(name) > 1 else name)
    t.note(label + " control", " | ".join(told(control)))
    return True


def native(t, label, s, name, *arguments):
    """recv, send, read, write without an address. A stand-in knows ECONNRESET only."""
    result = t.libc(name, s.fileno(), *arguments)
    if result in (-errno.ECONNREFUSED, -errno.ECONNRESET):
        t.note(label, "refused")
    else:
        t.note(label, result if result >= 0 else errno.errorcode[-result])


@program(modes=MODES, pollers=POLLERS)
def udp_error_poll(t):
    """A connected socket: every poller, and SO_ERROR."""
    s, _ = sender(t, True, False)
    t.mask("before", s)
    s.sendmsg([b"x"])
    t.note("at once", t.now(s))
    t.mask("refused", s)
    t.error("SO_ERROR", s)
    t.mask("taken", s)
    t.error("again", s)


@program(modes=MODES)
def udp_error_native(t):
    """send, recv, read and write without an address report the error, once."""
    for name, call in (
        ("recv", ("recv", bytes(16), 16, MSG_DONTWAIT)),
        ("read", ("read", bytes(16), 16)),
        ("send", ("send", b"abc", 3, 0)),
        ("write", ("write", b"abc", 3)),
    ):
        s, _ = sender(t, True, False)
        native(t, "first", s, "send", b"abc", 3, 0)
        t.mask("waits", s)
        native(t, name, s, *call)
        if name in ("recv", "read"):
            t.mask("taken", s)
            native(t, "nothing more", s, "recv", bytes(16), 16, MSG_DONTWAIT)
        t.error("SO_ERROR", s)
        s.close()


@program(modes=MODES)
def udp_error_trapped(t):
    """The same by calls with an address or a header."""
    calls = (
        ("recvfrom", lambda s, to: s.recvfrom(10, MSG_DONTWAIT)),
        ("recvmsg", lambda s, to: s.recvmsg(10, 0, MSG_DONTWAIT)),
        ("peek", lambda s, to: s.recvfrom(10, MSG_DONTWAIT | MSG_PEEK)),
        ("sendto", lambda s, to: s.sendto(b"y", to)),
        ("sendmsg", lambda s, to: s.sendmsg([b"y"])),
    )
    for name, call in calls:
        s, to = sender(t, True, False)
        s.sendto(b"x", to)
        t.note("mask", t.now(s))
        t.do(name, call, s, to)
        t.do("then", s.recvfrom, 10, MSG_DONTWAIT)
        t.do("and", s.recvfrom, 10, MSG_DONTWAIT)
        t.mask("mask", s)
        s.close()


@program(modes=MODES)
def udp_error_unconnected(t):
    """Without a peer and without IP_RECVERR nothing is heard."""
    s, to = sender(t, False, False)
    t.do("send", s.sendto, b"x", to)
    t.mask("mask", s)
    t.error("SO_ERROR", s)
    queue(t, "queue", s)
    t.do("send again", s.sendto, b"x", to)
    t.do("recv", s.recvfrom, 10, MSG_DONTWAIT)


@program(modes=MODES)
def udp_error_data_behind(t):
    """Data that waits and an error: the error comes first, the data stays."""
    s = t.socket(socket.SOCK_DGRAM)
    peer = socket.socket(t.family, socket.SOCK_DGRAM)
    peer.bind((t.local, 0))
    to = peer.getsockname()
    s.connect(to)
    peer.connect(s.getsockname())
    peer.send(b"one")
    peer.send(b"two")
    t.until(s, "IN")
    peer.close()
    s.sendto(b"x", to)
    t.mask("mask", s)
    t.do("error", s.recvfrom, 10)
    t.mask("mask", s)
    t.do("one", s.recv, 10)
    s.sendto(b"x", to)
    t.mask("mask", s)
    native(t, "error", s, "recv", bytes(16), 16, MSG_DONTWAIT)
    t.do("two", s.recv, 10)


@program(modes=("connected", "unconnected"))
def udp_queue_one(t):
    """One error in the queue: mask, contents, SO_ERROR, emptiness."""
    s, to = sender(t, t.mode == "connected", True)
    s.setblocking(False)
    queue(t, "empty", s)
    t.do("send", s.sendto, b"hello world", to)
    t.note("mask", t.now(s))
    queue(t, "queue", s)
    t.note("mask", t.now(s))
    t.error("SO_ERROR", s)
    queue(t, "again", s)
    t.do("recv", s.recvfrom, 10)


@program(modes=("connected", "unconnected"))
def udp_queue_several(t):
    """Several errors, taken in different ways: which of them is pending when."""
    s, to = sender(t, t.mode == "connected", True)
    s.setblocking(False)
    for index in range(4):
        t.do("send", s.sendto, b"number %d" % index, to)
        t.note("pending", t.now(s))
    t.error("SO_ERROR", s)
    t.note("mask", t.now(s))
    t.do("recv", s.recvfrom, 10)
    queue(t, "one", s)
    t.do("recv", s.recvfrom, 10)
    t.do("recv", s.recvfrom, 10)
    queue(t, "two", s)
    t.do("send", s.sendto, b"more", to)
    while queue(t, "rest", s):
        t.note("mask", t.now(s))
    t.error("SO_ERROR", s)
    t.do("recv", s.recvfrom, 10)


@program()
def udp_queue_room(t):
    """Small buffers, small control buffers, peeking, no name."""
    s, to = sender(t, False, True)
    s.setblocking(False)
    for size, room, flags in ((4, 512, 0), (100, 0, 0), (100, 20, 0), (100, 40, 0), (0, 512, 0), (100, 512, MSG_PEEK), (100, 512, MSG_TRUNC), (4, 512, MSG_TRUNC), (100, 512, MSG_DONTWAIT)):
        t.do("send", s.sendto, b"hello world", to)
        queue(t, "size %d room %d flags %x" % (size, room, flags), s, size, room, flags)
        while queue(t, "rest", s):
            pass
        s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    t.do("send", s.sendto, b"hello world", to)
    t.do("recvfrom", s.recvfrom, 100, MSG_ERRQUEUE)
    t.do("send", s.sendto, b"hello world", to)
    s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    t.do("send", s.sendto, b"hello world", to)
    s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    t.do("recv", s.recv, 100, MSG_ERRQUEUE)
    for size in (519, 520, 521, 1183, 1184, 1185, 5000):
        s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        t.do("send", s.sendto, b"x" * size, to)
        queue(t, "large", s, 9000)


@program()
def udp_queue_beside(t):
    """What else is told with an error: hop limit, addresses, class."""
    s, to = sender(t, False, True, bound=True)
    s.setblocking(False)
    for option in (IP_RECVTTL, IP_PKTINFO, 13):
        s.setsockopt(socket.IPPROTO_IP, option, 1)
    if t.version == 6:
        for option in (IPV6_RECVHOPLIMIT, IPV6_RECVPKTINFO, 66):
            s.setsockopt(socket.IPPROTO_IPV6, option, 1)
    t.do("send", s.sendto, b"hello world", to)
    queue(t, "queue", s)


@program(families=(6,))
def udp_queue_mapped(t):
    """An IPv6 socket that speaks IPv4: which option counts, how it is told."""
    for options in (((41, IPV6_RECVERR),), ((0, IP_RECVERR),), ((41, IPV6_RECVERR), (0, IP_RECVERR))):
        for connected in (False, True):
            s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            s.setblocking(False)
            for option in options:
                s.setsockopt(*option, 1)
            s.setsockopt(0, IP_RECVTTL, 1)
            to = ("::ffff:127.0.0.1", NOBODY)
            if connected:
                s.connect(to)
            t.do("send", s.sendto, b"hello world", to)
            t.note("mask", t.now(s))
            queue(t, "queue %d" % len(options), s)
            t.error("SO_ERROR", s)
            s.close()


@program()
def udp_queue_off(t):
    """Turning the option off empties the queue; an error that is pending stays."""
    s, to = sender(t, False, True)
    s.setblocking(False)
    t.do("send", s.sendto, b"x", to)
    t.do("off", s.setsockopt, *level(t), 0)
    t.note("mask", t.now(s))
    queue(t, "queue", s)
    t.error("SO_ERROR", s)
    t.note("mask", t.now(s))
    t.do("send", s.sendto, b"x", to)
    t.note("mask", t.now(s))
    for value in (1, 2, -1, 0):
        t.do("set", s.setsockopt, *level(t), value)
        t.note("get", s.getsockopt(*level(t)))


@program()
def udp_queue_select(t):
    """SO_SELECT_ERR_QUEUE adds PRI."""
    s, to = sender(t, False, True)
    s.setblocking(False)
    t.do("option", s.setsockopt, socket.SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1)
    t.do("send", s.sendto, b"x", to)
    t.note("mask", t.now(s))
    queue(t, "queue", s)
    t.note("mask", t.now(s))


@program()
def udp_queue_bounded(t):
    """A queue that nobody reads has an end."""
    s, to = sender(t, False, True)
    s.setblocking(False)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    for _ in range(400):
        try:
            s.sendto(b"x", to)
        except OSError:
            pass
        s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    count = 0
    while True:
        try:
            s.recvmsg(10, 0, MSG_ERRQUEUE)
        except BlockingIOError:
            break
        count += 1
    t.note("errors", count)


@program(modes=("recv", "recvfrom", "poll", "epoll", "errors only"))
def udp_error_wakes(t):
    """An error ends what waits: native and trapped calls, poll and epoll."""
    s, to = sender(t, True, False)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 10, 0))

    def later():
        time.sleep(0.2)
        socket.socket.sendto(s, b"x", to)

    thread = threading.Thread(target=later)
    thread.start()
    if t.mode == "recv":
        native(t, "recv", s, "recv", bytes(16), 16, 0)
    elif t.mode == "recvfrom":
        t.do("recvfrom", s.recvfrom, 10)
    elif t.mode == "poll":
        p = select.poll()
        p.register(s, select.POLLIN)
        t.note("mask", [mask for _, mask in p.poll(3000)])
    else:
        with select.epoll() as e:
            e.register(s, (0 if t.mode == "errors only" else select.EPOLLIN) | select.EPOLLET)
            t.note("mask", [mask for _, mask in e.poll(3)])
            t.note("no new edge", e.poll(0.1))
    thread.join()


@program()
def udp_error_connect_again(t):
    """A pending error, and connect to somebody else, and to nobody."""
    s, to = sender(t, True, False)
    with socket.socket(t.family, socket.SOCK_DGRAM) as peer:
        peer.bind((t.local, 0))
        s.sendto(b"x", to)
        t.do("connect", s.connect, peer.getsockname())
        t.note("mask", t.now(s))
        t.error("SO_ERROR", s)
    s.connect(to)
    s.sendto(b"x", to)
    t.raw("dissolve", "connect", s.fileno(), bytes(16), 16)
    t.note("mask", t.now(s))
    t.error("SO_ERROR", s)


@program()
def udp_error_port_zero(t):
    """Connected to port 0: sent, and refused."""
    s = t.socket(socket.SOCK_DGRAM)
    t.do("connect", s.connect, (t.local, 0))
    native(t, "send", s, "send", b"abc", 3, 0)
    t.mask("mask", s)
    t.error("SO_ERROR", s)
    t.do("sendmsg", s.sendmsg, [b"abc"])
    t.note("mask", t.now(s))
    t.error("SO_ERROR", s)


@program()
def udp_error_burst(t):
    """Every other call of a burst is refused."""
    s, to = sender(t, True, False)
    s.setblocking(False)
    outcome = []
    for _ in range(6):
        try:
            outcome.append(s.sendto(b"abc", to))
        except OSError as failure:
            outcome.append(errno.errorcode[failure.errno])
    t.note("burst", outcome)


@program(modes=("connected", "unconnected"))
def udp_queue_local(t):
    """What this host itself refuses: EMSGSIZE goes to the queue, and is not pending."""
    for discover in (1, 2):
        for size in (65_507, 65_508, 65_527, 65_528, 65_535, 65_536, 70_000):
            s, to = sender(t, t.mode == "connected", True)
            s.setblocking(False)
            s.setsockopt(level(t)[0], IPV6_MTU_DISCOVER if t.version == 6 else IP_MTU_DISCOVER, discover)
            t.do("send %d" % size, s.sendto, b"x" * size, to)
            t.note("mask", t.now(s))
            queue(t, "queue", s)
            t.error("SO_ERROR", s)
            s.close()


@program(modes=("dgram", "stream"))
def queue_empty(t):
    """MSG_ERRQUEUE with nothing there, on every kind of socket."""
    kind = socket.SOCK_DGRAM if t.mode == "dgram" else socket.SOCK_STREAM
    s = t.socket(kind)
    queue(t, "fresh", s)
    t.do("option", s.setsockopt, *level(t), 1)
    queue(t, "with the option", s)
    t.do("recv", s.recv, 10, MSG_ERRQUEUE)
    t.do("recvfrom", s.recvfrom, 10, MSG_ERRQUEUE)
