# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every option of socket(7), ip(7), ipv6(7), tcp(7) and udp(7): default, values, lengths."""

import socket
import struct

from steps import program

LEVELS = {1: range(1, 84), 0: range(1, 53), 6: range(1, 46), 41: range(1, 83), 17: (1, 100, 101, 102, 103, 104)}
VALUES = (-2, -1, 0, 1, 2, 3, 5, 7, 64, 255, 256, 1000, 32767, 32768, 65536, 2**31 - 1, -(2**31))
# Left out: what is asked of the machine (rights, interfaces, CPUs, queues), memberships, filters, time stamps of the clock, and the
# buffers' and pacing's own units (7 and 8: options_buffers).
MACHINE = {
    1: {5, 7, 8, 49, 17, 25, 26, 27, 28, 31, 34, 40, 47, 48, 50, 51, 52, 53, 54, 55, 56, 57, 59, 60, 61, 62, 71, 72, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 29, 35, 37, 63, 64, 65, 13, 20, 21, 66, 67},
    0: {4, 9, 16, 17, 19, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 50, 51, 52, 3, 5, 18},
    6: {10, 11, 13, 14, 19, 20, 21, 22, 24, 26, 28, 29, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45},
    41: {1, 2, 17, 18, 20, 21, 22, 24, 27, 28, 31, 32, 33, 34, 35, 36, 42, 43, 44, 45, 46, 47, 48, 52, 53, 57, 59, 60, 61, 62, 63, 64, 65, 68, 69, 71, 76, 77, 80, 81, 82},
    17: {100},
}  # fmt: skip


def sweep(t, make, label):
    for level, names in LEVELS.items():
        for name in names:
            if name in MACHINE[level]:
                continue
            s = make()
            here = "%s %d/%d" % (label, level, name)
            t.do("%s default" % here, lambda: s.getsockopt(level, name, 8))
            for value in VALUES:
                t.do("%s set %d" % (here, value), s.setsockopt, level, name, struct.pack("i", value))
                t.do("%s get" % here, lambda: s.getsockopt(level, name, 8))
            for length in (0, 1, 2, 3, 8):
                t.do("%s set length %d" % (here, length), s.setsockopt, level, name, struct.pack("ii", 1, 1)[:length])
                t.do("%s get length %d" % (here, length), lambda: s.getsockopt(level, name, max(1, length)))
            s.close()


@program()
def options_stream(t):
    sweep(t, lambda: socket.socket(t.family, socket.SOCK_STREAM), "stream")


@program()
def options_datagram(t):
    sweep(t, lambda: socket.socket(t.family, socket.SOCK_DGRAM), "datagram")


@program()
def options_listener(t):
    sweep(t, t.listener, "listener")


@program()
def options_connected(t):
    keep = []

    def make():
        client, server = t.pair()
        keep[:] = [server]
        return client

    sweep(t, make, "connected")


@program()
def options_buffers(t):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for name in (7, 8):
            s = socket.socket(t.family, kind)
            for value in (0, 1, 1000, 2304, 4608, 65536, 200_000):
                t.do("%d %d set %d" % (kind, name, value), s.setsockopt, 1, name, value)
                t.note("get", s.getsockopt(1, name))


@program()
def options_strings(t):
    s = socket.socket(t.family, socket.SOCK_STREAM)
    for name in (b"", b"nonsense", b"x" * 40):
        t.do("TCP_CONGESTION %r" % name, s.setsockopt, 6, 13, name)
    for name in (b"", b"nonsense"):
        t.do("TCP_ULP %r" % name, s.setsockopt, 6, 31, name)
    t.do("TCP_ULP get", s.getsockopt, 6, 31, 16)
    for name in (b"lo", b"lo\0", b"", b"nonsense0", b"x" * 40):
        t.do("SO_BINDTODEVICE %r" % name, s.setsockopt, 1, 25, name)
        t.do("get", s.getsockopt, 1, 25, 16)
    for value in (struct.pack("ii", 0, 0), struct.pack("ii", 1, 5), struct.pack("i", 1), b""):
        t.do("SO_LINGER %d" % len(value), s.setsockopt, 1, 13, value)
        t.do("get", s.getsockopt, 1, 13, 8)
    t.do("SO_LINGER short", s.getsockopt, 1, 13, 4)
    t.do("TCP_MD5SIG short", s.setsockopt, 6, 14, b"x" * 10)
    t.do("TCP_REPAIR", s.setsockopt, 6, 19, 1)
    t.do("SO_MARK", s.setsockopt, 1, 36, 1)
    t.do("SO_PRIORITY", s.setsockopt, 1, 12, 6)
    t.do("SO_PRIORITY high", s.setsockopt, 1, 12, 7)
    t.do("IP_TRANSPARENT", s.setsockopt, 0, 19, 1)
    t.do("SO_DETACH_FILTER", s.setsockopt, 1, 27, 0)
    t.do("SO_LOCK_FILTER", s.setsockopt, 1, 44, 1)
