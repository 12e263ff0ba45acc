# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Datagrams and calls: several calls that make one (UDP_CORK, MSG_MORE), one that makes several (UDP_SEGMENT, sendmmsg)."""

import ctypes
import errno
import os
import socket
import struct
import threading
import time

from steps import MODES, program

SOL_UDP, UDP_CORK, UDP_SEGMENT = 17, 1, 103
MSG_MORE, MSG_WAITFORONE, MSG_DONTWAIT, MSG_ERRQUEUE = 0x8000, 0x10000, 0x40, 0x2000


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Message(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32), ("vector", ctypes.c_void_p), ("segments", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t), ("flags", ctypes.c_int),
        ("length", ctypes.c_uint), ("pad", ctypes.c_uint),
    ]  # fmt: skip


class Messages:
    """An array of struct mmsghdr with one buffer each."""

    def __init__(self, count, size=64, data=None):
        self.buffers = [ctypes.create_string_buffer(data or b"", size) for _ in range(count)]
        self.vectors = (Vector * count)(*[(ctypes.addressof(b), len(data) if data is not None else size) for b in self.buffers])
        self.array = (Message * count)()
        for index in range(count):
            self.array[index].vector = ctypes.addressof(self.vectors) + index * ctypes.sizeof(Vector)
            self.array[index].segments = 1

    def call(self, t, name, s, flags, count=None, timeout=None):
        spec = struct.pack("ll", int(timeout), int(timeout % 1 * 1e9)) if timeout is not None else None
        self.spec = ctypes.create_string_buffer(spec, 16) if spec else None
        more = (self.spec,) if name == "recvmmsg" else ()
        result = t.libc(name, s.fileno(), self.array, len(self.array) if count is None else count, flags, *more)
        return result if result >= 0 else errno.errorcode[-result]

    def data(self, count):
        return [self.buffers[i].raw[: self.array[i].length] for i in range(count)]


def ends(t):
    """Somebody who sends, who receives, and where."""
    receiver = socket.socket(t.family, socket.SOCK_DGRAM)
    receiver.bind((t.local, 0))
    # The kernel's limit: with one of Python's own every call waits for it first.
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
    return t.socket(socket.SOCK_DGRAM), receiver, receiver.getsockname()


def arrived(t, label, s):
    """What lies there: lengths and control messages."""
    found = []
    while True:
        try:
            data, control, flags, _ = s.recvmsg(70_000, 100, MSG_DONTWAIT)
        except BlockingIOError:
            break
        found.append((len(data), control, flags))
    t.note(label, "%d: %s" % (len(found), found[:4]))


@program()
def udp_more(t):
    """MSG_MORE: the first call says where it goes."""
    one, two, to = ends(t)
    other = socket.socket(t.family, socket.SOCK_DGRAM)
    other.bind((t.local, 0))
    t.do("part", one.sendto, b"abc", MSG_MORE, to)
    t.do("part", one.sendto, b"", MSG_MORE, to)
    arrived(t, "not yet", two)
    t.do("last", one.sendto, b"de", to)
    arrived(t, "whole", two)
    t.do("part", one.sendto, b"abc", MSG_MORE, to)
    t.do("last elsewhere", one.sendto, b"de", other.getsockname())
    arrived(t, "there", two)
    arrived(t, "elsewhere", other)
    t.do("part", one.sendmsg, [b"ab", b"c"], [], MSG_MORE, to)
    t.do("last to port 0", one.sendto, b"de", (t.local, 0))
    arrived(t, "whole", two)
    t.do("alone", one.sendto, b"", to)
    arrived(t, "empty", two)
    t.do("no destination", one.sendmsg, [b"x"], [], MSG_MORE)
    t.do("port 0", one.sendto, b"x", MSG_MORE, (t.local, 0))
    t.do("large", one.sendto, b"x" * 40_000, MSG_MORE, to)
    t.do("too large", one.sendto, b"x" * 40_000, to)
    arrived(t, "nothing", two)
    t.do("afterwards", one.sendto, b"x", to)
    arrived(t, "one", two)
    t.do("part", one.sendto, b"abc", MSG_MORE, to)
    one.close()
    arrived(t, "closed", two)


@program()
def udp_cork(t):
    one, two, to = ends(t)
    t.do("default", one.getsockopt, SOL_UDP, UDP_CORK)
    t.do("cork", one.setsockopt, SOL_UDP, UDP_CORK, 7)
    t.do("shown", one.getsockopt, SOL_UDP, UDP_CORK)
    for part in (b"abc", b"", b"de"):
        t.do("part", one.sendto, part, to)
    arrived(t, "not yet", two)
    t.do("again", one.setsockopt, SOL_UDP, UDP_CORK, 1)
    arrived(t, "not yet", two)
    t.do("uncork", one.setsockopt, SOL_UDP, UDP_CORK, 0)
    arrived(t, "whole", two)
    t.do("cork", one.setsockopt, SOL_UDP, UDP_CORK, 1)
    t.do("uncork", one.setsockopt, SOL_UDP, UDP_CORK, 0)
    arrived(t, "nothing", two)
    t.do("cork", one.setsockopt, SOL_UDP, UDP_CORK, 1)
    t.do("empty part", one.sendto, b"", to)
    t.do("uncork", one.setsockopt, SOL_UDP, UDP_CORK, 0)
    arrived(t, "empty", two)
    one.connect(to)
    t.do("cork", one.setsockopt, SOL_UDP, UDP_CORK, 1)
    t.do("native part", one.send, b"abc")
    t.do("native part", os.write, one.fileno(), b"de")
    time.sleep(0.1)
    arrived(t, "not yet", two)
    t.do("uncork", one.setsockopt, SOL_UDP, UDP_CORK, 0)
    t.until(two, "IN")
    arrived(t, "whole", two)


@program()
def udp_segment(t):
    """Lengths against sizes, by the option and by control message."""
    one, two, to = ends(t)

    def word(size):
        return struct.pack("=H", size)

    for option, asked in ((0, 1000), (1000, None), (0, 0), (0, 3), (1000, 0), (0, 65_507), (0, 65_535)):
        one.setsockopt(SOL_UDP, UDP_SEGMENT, option)
        for size in (0, 1, 384, 385, 999, 1000, 1001, 3500, 60_000, 65_507, 65_508, 65_527):
            control = [] if asked is None else [(SOL_UDP, UDP_SEGMENT, word(asked))]
            label = "option %d message %s size %d" % (option, asked, size)
            t.do(label, one.sendmsg, [b"x" * size], control, 0, to)
            arrived(t, label, two)
    one.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    for data in (b"", b"a", b"abc", b"abcd", bytes(8)):
        t.do("length %d" % len(data), one.sendmsg, [b"x"], [(SOL_UDP, UDP_SEGMENT, data)], 0, to)
    for kind in (0, 1, 100, 101, 102, 104):
        t.do("kind %d" % kind, one.sendmsg, [b"x"], [(SOL_UDP, kind, b"ab")], 0, to)
    arrived(t, "one", two)
    t.do("part", one.sendmsg, [b"x" * 10], [(SOL_UDP, UDP_SEGMENT, word(3))], MSG_MORE, to)
    t.do("last", one.sendto, b"y" * 4, to)
    arrived(t, "the first call's size", two)
    one.connect(to)
    one.setsockopt(SOL_UDP, UDP_SEGMENT, 4)
    t.do("native", one.send, b"0123456789")
    t.do("datagrams", lambda: [two.recv(100) for _ in range(3)])


@program(modes=MODES)
def udp_sendmmsg(t):
    one, two, to = ends(t)
    two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    one.connect(to)
    for count in (0, 1, 63, 64, 65):
        messages = Messages(count, data=b"hello")
        t.note("send %d" % count, messages.call(t, "sendmmsg", one, 0))
        t.note("lengths", {messages.array[i].length for i in range(count)})
        t.do("received", lambda: {two.recv(100) for _ in range(count)})
    messages = Messages(200, data=b"x")
    t.note("send 200", messages.call(t, "sendmmsg", one, 0))
    t.do("received", lambda: len([two.recv(100) for _ in range(200)]))
    messages = Messages(4, data=b"abc")
    messages.array[2].vector = 8
    t.note("bad third", messages.call(t, "sendmmsg", one, 0))
    t.do("received", lambda: len([two.recv(100) for _ in range(2)]))
    messages.array[0].vector = 8
    t.note("bad first", messages.call(t, "sendmmsg", one, 0))
    t.note("out of band", Messages(2, data=b"abc").call(t, "sendmmsg", one, socket.MSG_OOB))
    t.note("more", Messages(3, data=b"abc").call(t, "sendmmsg", one, MSG_MORE))
    t.do("last", one.sendmsg, [b"d"])
    t.do("whole", two.recv, 100)


@program(modes=MODES)
def udp_recvmmsg(t):
    """How many are waited for."""
    two, one, to = ends(t)
    two.bind((t.local, 0))
    target = two.getsockname()

    def give(count):
        for index in range(count):
            one.sendto(b"number %d" % index, target)

    for flags in (0, MSG_DONTWAIT, MSG_WAITFORONE):
        for there, room in ((0, 2), (2, 2), (3, 2), (1, 3), (70, 100)):
            give(there)
            t.until(two, "IN", 0.05)
            messages = Messages(room)
            got = messages.call(t, "recvmmsg", two, flags)
            t.note("%d waiting, room %d, flags %x" % (there, room, flags), got)
            if isinstance(got, int):
                t.note("data", messages.data(min(got, 3)))
            while True:
                try:
                    two.recvfrom(100, MSG_DONTWAIT)
                except BlockingIOError:
                    break
    t.note("none asked", Messages(1).call(t, "recvmmsg", two, 0, count=0))
    give(3)
    messages = Messages(3)
    messages.array[1].vector = 8
    t.note("bad second", messages.call(t, "recvmmsg", two, MSG_DONTWAIT))
    t.do("stays", two.recvfrom, 100, MSG_DONTWAIT)
    for timeout in (0, 0.5):
        give(3)
        messages = Messages(3)
        t.note("time %s" % timeout, messages.call(t, "recvmmsg", two, MSG_DONTWAIT, timeout=timeout))
        t.note("left", 0 <= struct.unpack("ll", messages.spec.raw)[1] < 500_000_000)
        while True:
            try:
                two.recvfrom(100, MSG_DONTWAIT)
            except BlockingIOError:
                break
    for timeout in (-1,):
        t.note("negative time", Messages(1).call(t, "recvmmsg", two, MSG_DONTWAIT, timeout=timeout))
    t.note("errors", Messages(2).call(t, "recvmmsg", two, MSG_ERRQUEUE))


@program()
def udp_recvmmsg_waits(t):
    """Without MSG_WAITFORONE a blocking call comes back with all."""
    two, one, to = ends(t)
    two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
    two.bind((t.local, 0))

    def later():
        for index in range(4):
            time.sleep(0.1)
            one.sendto(b"number %d" % index, two.getsockname())

    for flags, count in ((0, 4), (MSG_WAITFORONE, 4)):
        thread = threading.Thread(target=later)
        thread.start()
        messages = Messages(count)
        got = messages.call(t, "recvmmsg", two, flags)
        t.note("flags %x" % flags, got)
        t.note("data", messages.data(got))
        thread.join()
        while True:
            try:
                two.recvfrom(100, MSG_DONTWAIT)
            except BlockingIOError:
                break


@program()
def udp_out_of_band(t):
    one, two, to = ends(t)
    t.do("sendto", one.sendto, b"x", socket.MSG_OOB, to)
    t.do("sendmsg", one.sendmsg, [b"x"], [], socket.MSG_OOB, to)
    t.do("recvfrom", two.recvfrom, 10, socket.MSG_OOB)


@program(modes=("own", "mapped"))
def udp_control(t):
    """Every control message of sendmsg, in many lengths: taken, skipped or refused."""
    local = "::ffff:127.0.0.1" if t.mode == "mapped" and t.version == 6 else t.local
    receiver, sender = (socket.socket(t.family, socket.SOCK_DGRAM) for _ in range(2))
    receiver.bind((local, 0))
    receiver.setblocking(False)
    numbers = [struct.pack("i", value) for value in (-1, 0, 1, 255, 256)]
    for level, kinds in ((0, range(26)), (41, range(82)), (1, range(84)), (6, range(3))):
        for kind in kinds:
            outcome = []
            for data in (b"", b"\1", b"\1\0", *numbers, bytes(8), bytes(12), bytes(16), bytes(20), bytes(24)):
                try:
                    sender.sendmsg([b"x"], [(level, kind, data)], 0, receiver.getsockname())
                    outcome.append("ok")
                except OSError as failure:
                    outcome.append(errno.errorcode[failure.errno])
                try:
                    receiver.recv(10)
                except BlockingIOError:
                    pass
            t.note("%d/%d" % (level, kind), " ".join(outcome))


@program()
def udp_dropped(t):
    """SO_RXQ_OVFL and SO_MEMINFO: what was not received was dropped, and counted."""
    one, two, to = ends(t)
    two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    two.setsockopt(socket.SOL_SOCKET, 40, 1)
    for _ in range(1500):
        one.sendto(b"x" * 500, to)
    received = 0
    while True:
        try:
            two.recvfrom(1000, MSG_DONTWAIT)
        except BlockingIOError:
            break
        received += 1
    t.note("some, not all", 0 < received < 1400)
    one.sendto(b"x", to)
    t.until(two, "IN")
    _, control, _, _ = two.recvmsg(100, 100)
    t.note("messages", [(level, kind, len(data)) for level, kind, data in control])
    dropped = struct.unpack("I", control[0][2])[0]
    t.note("dropped", dropped == 1500 - received)
    memory = two.getsockopt(socket.SOL_SOCKET, 55, 100)
    t.note("counted", (len(memory), struct.unpack_from("I", memory, 32)[0] == dropped))


@program(modes=("connected", "hears errors"))
def udp_dissolve(t):
    """connect to nobody: what waits stays, with its source; others are heard again."""
    one, two, to = ends(t)
    one.bind((t.local, 0))
    # A port that bind names outlives the peer; one that it chose does not.
    two.close()
    two = socket.socket(t.family, socket.SOCK_DGRAM)
    two.settimeout(1)
    two.bind(to)
    if t.mode != "connected":
        two.setsockopt(*((41, 25) if t.version == 6 else (0, 11)), 1)
    two.connect(one.getsockname())
    for index in range(3):
        one.sendto(b"number %d" % index, to)
    t.until(two, "IN")
    t.do("first", two.recv, 100)
    t.raw("dissolve", "connect", two.fileno(), bytes(16), 16)
    with socket.socket(t.family, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"stranger", to)
    for label in ("second", "third", "stranger"):
        t.do(label, lambda: two.recvfrom(100)[0])
    t.do("peer", two.getpeername)
    two.connect(one.getsockname())
    for text in (b"again", b"and again"):
        one.sendto(text, to)
    t.until(two, "IN")
    t.raw("dissolve", "connect", two.fileno(), bytes(16), 16)
    t.do("source", lambda: two.recvfrom(100)[1] == one.getsockname())
    t.do("native", two.recv, 100)


@program(modes=("own", "mapped"))
def udp_told(t):
    """Every option that makes recvmsg tell something, one at a time and all together."""
    local = "::ffff:127.0.0.1" if t.mode == "mapped" and t.version == 6 else t.local
    options = [(0, name) for name in (6, 7, 8, 12, 13, 18, 20, 23, 25)] + [(1, name) for name in (29, 35, 63, 64, 40, 41)]
    if t.version == 6:
        options += [(41, name) for name in (2, 3, 4, 5, 8, 11, 49, 51, 53, 56, 58, 60, 66, 74, 77)]
    stamps = {29, 35, 63, 64}
    for chosen in [[option] for option in options] + [options, list(reversed(options))]:
        receiver, sender = (socket.socket(t.family, socket.SOCK_DGRAM) for _ in range(2))
        receiver.bind((local, 0))
        receiver.settimeout(1)
        for level, name in chosen:
            t.do("set %d/%d" % (level, name), receiver.setsockopt, level, name, 1)
        sender.setsockopt(0, 1, 0x10)
        if t.version == 6:
            sender.setsockopt(41, 67, 0x20)
        to = receiver.getsockname()
        sender.sendto(b"hello", to)
        data, control, flags, _ = receiver.recvmsg(100, 1000)
        words = []
        for level, kind, value in control:
            if (level, kind) in ((0, 20), (41, 74)):
                value = value.replace(struct.pack("!H", to[1]), b"PP")
            # Times differ, and so do flow labels, which the kernel makes by chance.
            words.append((level, kind, len(value) if (level, kind) == (41, 11) or level == 1 and kind in stamps else value))
        t.note("told %s" % (chosen if len(chosen) == 1 else "all"), words)


@program()
def udp_peek_offset(t):
    """SO_PEEK_OFF moves with what is peeked and read, natively and with an address."""
    one, two, to = ends(t)
    t.do("default", two.getsockopt, 1, 42)
    t.do("set", two.setsockopt, 1, 42, 2)
    one.sendto(b"0123456789", to)
    one.sendto(b"abcdefghij", to)
    t.until(two, "IN")
    t.do("peek", two.recv, 3, socket.MSG_PEEK)
    t.do("shown", two.getsockopt, 1, 42)
    t.do("peek", two.recvfrom, 3, socket.MSG_PEEK)
    t.do("shown", two.getsockopt, 1, 42)
    t.do("read", two.recv, 3)
    t.do("shown", two.getsockopt, 1, 42)
    t.do("off", two.setsockopt, 1, 42, -1)
    t.do("peek", two.recv, 3, socket.MSG_PEEK)
    t.do("negative", two.setsockopt, 1, 42, -2)
    t.do("shown", two.getsockopt, 1, 42)


@program()
def udp_lengths(t):
    """What recv, recvfrom and recvmsg say of a datagram that does not fit."""
    one, two, to = ends(t)
    for flags in (0, socket.MSG_TRUNC, socket.MSG_PEEK, socket.MSG_PEEK | socket.MSG_TRUNC):
        for size in (0, 3, 5, 10):
            for name in ("recv", "recvfrom"):
                one.sendto(b"hello", to)
                t.until(two, "IN")
                buffer = ctypes.create_string_buffer(16)
                arguments = (None, None) if name == "recvfrom" else ()
                t.note("%s %d flags %x" % (name, size, flags), t.libc(name, two.fileno(), buffer, size, flags, *arguments))
                t.note("buffer", buffer.raw)
                if flags & socket.MSG_PEEK:
                    two.recv(10)
            one.sendto(b"hello", to)
            t.do("recvmsg %d flags %x" % (size, flags), lambda: two.recvmsg(size, 0, flags)[:3])
            if flags & socket.MSG_PEEK:
                two.recv(10)


@program(families=(6,))
def udp_path_mtu(t):
    """IPV6_PATHMTU, IPV6_MTU and IP_MTU with and without a peer."""
    one, two, to = ends(t)
    for option in ((41, 61), (41, 24), (0, 14)):
        t.do("no peer %s" % (option,), one.getsockopt, *option, 40)
    one.connect(to)
    for option in ((41, 61), (41, 24), (0, 14)):
        for length in (40, 31, 4):
            t.do("peer %s %d" % (option, length), one.getsockopt, *option, length)
