# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every option number of every level, in every state of a socket: read and set with several lengths and values."""

import ctypes
import socket
import struct

from steps import name_of, program

# Every level is a run of its own: its name is the mode.
LEVELS = {"socket": {1: range(88)}, "ip": {0: range(64)}, "tcp": {6: range(50)}, "ipv6": {41: range(84)}, "other": {17: (*range(14), *range(100, 107)), 136: range(14), 255: range(4), 58: range(4), 132: range(4), 263: range(3)}}
VALUES = (-2, -1, 0, 1, 2, 3, 5, 7, 64, 255, 256, 1000, 32767, 32768, 65536, 2**31 - 1, -(2**31))
LENGTHS = (4, 0, 1, 2, 3, 5, 8, 12, 16, 20, 64, 136, 264)
# What the machine decides: modules of the packet filter, algorithms of congestion control, memory of devices, the CPUs.
MACHINE = {0: range(64, 100), 41: (64, 65, 68, 69, 80, 81), 1: (49, 50, 51, 52, 71, 78, 79, 80), 6: (13, 26)}
# What is read says more than its length only on this machine, at this time.
OPAQUE = {(1, 7), (1, 8), (1, 28), (1, 55), (1, 56), (1, 57), (6, 2), (6, 10), (6, 11), (6, 24), (6, 28), (0, 14), (0, 52), (41, 24), (41, 61)}
# Set in bytes per second or memory: options_buffers.
UNITS = {(1, 7), (1, 8)}


class Swept:
    """One socket in one state, whose answers are written in one line for every option and length."""

    def __init__(self, t, label, make):
        self.t, self.label, self.make = t, label, make
        # In the other states only whether it may be read and set is asked.
        whole = label in ("stream", "datagram")
        self.lengths = LENGTHS if whole else (4,)
        self.values = VALUES if whole else (0, 2, 1000)

    def get(self, s, level, name, length):
        value = ctypes.create_string_buffer(b"\xee" * 320, 320)
        size = ctypes.c_int(length)
        done = self.t.libc("getsockopt", s.fileno(), level, name, value, ctypes.byref(size))
        if done < 0:
            return name_of(-done)
        if (level, name) in OPAQUE:
            return "%d bytes" % size.value
        return value.raw[: max(0, min(size.value, 64))].hex() or "%d bytes" % size.value

    def set(self, s, level, name, value, length=None):
        done = self.t.libc("setsockopt", s.fileno(), level, name, value, len(value) if length is None else length)
        return "ok" if done == 0 else name_of(-done)

    def line(self, level, name, what, outcomes):
        self.t.lines.append("%s %d/%d %s: %s" % (self.label, level, name, what, " ".join(outcomes)))

    def option(self, level, name):
        """Always three lines, so that what follows stays beside its counterpart."""
        s = self.make()
        read = [self.get(s, level, name, length) for length in (4, -1, 0, 1, 2, 3, 8, 16, 300)]
        self.line(level, name, "get", read)
        written = [self.set(s, level, name, b"\1\0\0\0", -1), self.set(s, level, name, None, 4), self.set(s, level, name, b"\xff" * 300)]
        for length in self.lengths:
            done = self.set(s, level, name, (struct.pack("i", 1) + bytes(316))[:length])
            written.append("%d:%s" % (length, done if done != "ok" else self.get(s, level, name, 16)))
            if length == 4 and done == read[0] == "ENOPROTOOPT":
                break
        self.line(level, name, "set lengths", written)
        values = []
        if not written[-1].endswith("ENOPROTOOPT") and (level, name) not in UNITS:
            for value in self.values:
                done = self.set(s, level, name, struct.pack("i", value))
                values.append("%d:%s" % (value, done if done != "ok" else self.get(s, level, name, 16)))
        self.line(level, name, "set values", values)
        s.close()


def sweep(t, label, make):
    swept = Swept(t, label, make)
    for level, names in LEVELS[t.mode].items():
        for name in names:
            if name not in MACHINE.get(level, ()):
                swept.option(level, name)


@program(modes=tuple(LEVELS))
def sweep_stream(t):
    sweep(t, "stream", lambda: socket.socket(t.family, socket.SOCK_STREAM))


@program(modes=tuple(LEVELS))
def sweep_datagram(t):
    sweep(t, "datagram", lambda: socket.socket(t.family, socket.SOCK_DGRAM))


@program(modes=tuple(LEVELS))
def sweep_listener(t):
    sweep(t, "listener", t.listener)


@program(modes=tuple(LEVELS))
def sweep_connected(t):
    keep = []

    def make():
        client, server = t.pair()
        keep[:] = [server]
        return client

    sweep(t, "connected", make)


@program(modes=tuple(LEVELS))
def sweep_reset(t):
    def make():
        client, server = t.pair()
        server.setsockopt(1, 13, struct.pack("ii", 1, 0))
        server.close()
        t.until(client, "IN")
        client.getsockopt(1, 4)
        return client

    sweep(t, "reset", make)
