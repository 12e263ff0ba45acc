# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a program of this folder sees: every step is a label and an outcome, written down the same way on both sides.

Ports that the kernel chose are named in the order in which they appear; times and identities are never written down.
"""

import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import time

from far import SERVER, Remote

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.recv.restype = LIBC.send.restype = LIBC.recvfrom.restype = LIBC.sendto.restype = ctypes.c_ssize_t
MASKS = (("IN", 1), ("PRI", 2), ("OUT", 4), ("ERR", 8), ("HUP", 16), ("NVAL", 32), ("RDHUP", 0x2000))
ASKED = 1 | 2 | 4 | 0x2000
# A state is settled when it has not changed for so long, seconds; a loaded machine is given up on after LIMIT.
CALM, LIMIT = 0.12, 4.0
# How long a call waits that has nothing to wait for, seconds.
PATIENCE = 0.25

PROGRAMS = []


class Program:
    """One variant of a program."""

    def __init__(self, function, family, mode, poller, apart, bare):
        self.function, self.family, self.mode, self.poller = function, family, mode, poller
        # The server's side is on another machine; the machine has no route but those of its network.
        self.apart, self.bare = apart, bare
        parts = [function.__name__, "v%d" % family if family else "", mode, poller, "apart" if apart else ""]
        self.name = "/".join(part for part in parts if part)


def program(families=(4, 6), modes=("",), pollers=("",), apart=False, bare=False):
    """Declares a program and the variants it is run in. `apart`: also with its server's side on another machine, with the first
    poller over IPv4 and the last over IPv6. `bare`: only where the kernel's side has no routes of the machine's."""

    def declare(function):
        for family in families:
            for mode in modes:
                for poller in pollers:
                    PROGRAMS.append(Program(function, family, mode, poller, False, bare))
                if apart:
                    poller = pollers[-1 if family == 6 else 0]
                    PROGRAMS.append(Program(function, family, mode, poller, True, True))
        return function

    return declare


MODES = ("blocking", "nonblocking")
POLLERS = ("poll", "select", "epoll", "edge")


def name_of(number):
    return errno.errorcode.get(number, str(number))


def mask_names(mask):
    return " ".join(name for name, bit in MASKS if mask & bit) or "0"


class Trace:
    """One run of one program."""

    def __init__(self, family, mode, poller, far=None):
        self.version, self.mode, self.poller, self.far = family, mode, poller, far
        self.family = socket.AF_INET6 if family == 6 else socket.AF_INET
        self.local = "::1" if family == 6 else "127.0.0.1"
        self.any = "::" if family == 6 else "0.0.0.0"
        # Where servers are: on the other machine if there is one.
        self.there = SERVER[family or 4] if far else self.local
        self.lines, self.ports, self.edges = [], {}, {}

    # Writing down -------------------------------------------------------------------------------

    def note(self, label, value):
        self.lines.append("%s: %s" % (label, self.plain(value)))

    def plain(self, value):
        if isinstance(value, tuple) and len(value) in (2, 4) and isinstance(value[0], str) and isinstance(value[1], int):
            return "(%s, %s)" % (value[0], self.port(value[1]))
        if isinstance(value, (tuple, list)):
            return "[" + ", ".join(self.plain(item) for item in value) + "]"
        if isinstance(value, (socket.socket, Remote)):
            return "socket"
        if isinstance(value, bytes) and len(value) > 40:
            return "%d bytes" % len(value)
        return repr(value)

    def port(self, number):
        if number < 1024:
            return str(number)
        return self.ports.setdefault(number, "port%d" % (len(self.ports) + 1))

    def do(self, label, function, *arguments):
        """Calls and writes down the result, or the name of the errno. Returns the result, None after an error."""
        try:
            value = function(*arguments)
        except OSError as failure:
            if isinstance(failure, socket.timeout) and failure.errno is None:
                self.note(label, "timed out")  # Python's own
                return None
            self.lines.append("%s: %s" % (label, name_of(failure.errno)))
            return None
        self.note(label, value)
        return value

    def raw(self, label, name, *arguments):
        """Calls a function of libc by name."""
        ctypes.set_errno(0)
        result = getattr(LIBC, name)(*arguments)
        self.lines.append("%s: %s" % (label, result if result >= 0 else name_of(ctypes.get_errno())))
        return result

    def libc(self, name, *arguments):
        """The same without a line: the result, or minus the errno."""
        ctypes.set_errno(0)
        result = getattr(LIBC, name)(*arguments)
        return result if result >= 0 else -ctypes.get_errno()

    # Sockets ------------------------------------------------------------------------------------

    def socket(self, kind=socket.SOCK_STREAM, family=None, protocol=0):
        """In the mode of this run: blocking with a time limit of the kernel's, or non-blocking."""
        return self.moded(socket.socket(family or self.family, kind, protocol))

    def moded(self, s):
        if self.mode == "nonblocking":
            s.setblocking(False)
        else:
            limit = struct.pack("ll", int(PATIENCE), int(PATIENCE % 1 * 1_000_000))
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        return s

    def listener(self, backlog=8, address=None, port=0):
        if self.far:
            return self.far.trace("listener", backlog, address or self.there, port)
        s = socket.socket(self.family, socket.SOCK_STREAM)
        s.bind((address or self.local, port))
        s.listen(backlog)
        return s

    def pair(self):
        """A connection: client, server, both in the mode of this run."""
        with self.listener() as listener:
            client = socket.socket(self.family, socket.SOCK_STREAM)
            client.connect(listener.getsockname())
            server, _ = listener.accept()
        return self.moded(client), self.moded(server)

    def free_port(self):
        """A port of this family that nobody has, where servers are."""
        if self.far:
            return self.far.trace("free_port")
        with socket.socket(self.family, socket.SOCK_STREAM) as s:
            s.bind((self.local, 0))
            return s.getsockname()[1]

    def ioctl(self, s, request, argument=b"0000"):
        """ioctl(2) on a socket of either side."""
        if isinstance(s, Remote):
            return self.far.trace("ioctl", s, request, argument)
        return fcntl.ioctl(s, request, argument)

    def error(self, label, s):
        self.note(label, name_of(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))

    # Readiness ----------------------------------------------------------------------------------

    def now(self, s):
        """What the poller of this run says now."""
        if isinstance(s, Remote):
            return self.far.trace("now", s)
        if self.poller in ("", "poll"):
            p = select.poll()
            p.register(s, ASKED)
            ready = p.poll(0)
            return mask_names(ready[0][1]) if ready else "0"
        if self.poller == "select":
            ready = select.select([s], [s], [s], 0)
            return "".join(letter for letter, found in zip("rwx", ready) if found) or "0"
        with select.epoll() as e:
            # Edge: what a new registration is told at once.
            e.register(s, ASKED | (select.EPOLLET if self.poller == "edge" else 0))
            ready = e.poll(0)
            return mask_names(ready[0][1]) if ready else "0"

    def settle(self, s):
        """The mask once it does not change any more."""
        if isinstance(s, Remote):
            return self.far.trace("settle", s)
        end = time.monotonic() + LIMIT
        last, since = self.now(s), time.monotonic()
        while time.monotonic() < end and time.monotonic() - since < CALM:
            time.sleep(0.005)
            mask = self.now(s)
            if mask != last:
                last, since = mask, time.monotonic()
        return last

    def mask(self, label, s):
        self.note(label, self.settle(s))

    def until(self, s, letter, limit=LIMIT):
        """Waits until poll says IN or OUT, without writing anything down."""
        if isinstance(s, Remote):
            return self.far.trace("until", s, letter, limit)
        p = select.poll()
        p.register(s, {"IN": 1, "OUT": 4}[letter])
        p.poll(limit * 1000)

    def drain(self, s, count):
        """Reads that many bytes, or to the end."""
        if isinstance(s, Remote):
            return self.far.trace("drain", s, count)
        data = b""
        while len(data) < count:
            self.until(s, "IN")
            block = s.recv(count - len(data))
            if not block:
                break
            data += block
        return data


def sockaddr(family, address, port):
    if family == socket.AF_INET6:
        return struct.pack("=H", family) + struct.pack("!HI", port, 0) + socket.inet_pton(family, address) + bytes(4)
    return struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_pton(family, address) + bytes(8)


def reap():
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return
