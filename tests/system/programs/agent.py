# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Does what the test says: one JSON string of Python code per line in, one JSON answer per line out."""

import ctypes
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
MASKS = (("IN", 1), ("PRI", 2), ("OUT", 4), ("ERR", 8), ("HUP", 16), ("NVAL", 32), ("RDHUP", 0x2000))


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listener(address, backlog=128, port=0, **options):
    """A listening socket at the address; REUSEADDR as servers do."""
    s = socket.socket(family_of(address), socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.listen(backlog)
    return s


def stream(address):
    return socket.socket(family_of(address), socket.SOCK_STREAM)


def datagram(address, port=None):
    s = socket.socket(family_of(address), socket.SOCK_DGRAM)
    if port is not None:
        s.bind((address, port))
    return s


def connected(address, port):
    s = stream(address)
    s.connect((address, port))
    return s


def port(s):
    return s.getsockname()[1]


def names(mask):
    return " ".join(name for name, bit in MASKS if mask & bit) or "0"


def events(s, timeout=0):
    """The poll mask of a socket, after at most `timeout` milliseconds; asks for everything."""
    p = select.poll()
    p.register(s, 0x2007)
    ready = p.poll(timeout)
    return names(ready[0][1]) if ready else "0"


def readable(s, timeout):
    """Whether there is something to read within that many milliseconds."""
    p = select.poll()
    p.register(s, select.POLLIN)
    return bool(p.poll(timeout))


def settled(s, wanted, timeout=5.0):
    """The poll mask once it is `wanted`, or whatever it is when the time is over."""
    end = time.monotonic() + timeout
    while True:
        mask = events(s)
        if mask == wanted or time.monotonic() > end:
            return mask
        time.sleep(0.01)


def receive(s, count):
    """Exactly that many bytes, or what came before the end."""
    data = b""
    while len(data) < count:
        block = s.recv(count - len(data))
        if not block:
            break
        data += block
    return data


def pending(s):
    """SO_ERROR as a name."""
    number = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode.get(number, number) if number else 0


def linger(s, seconds):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))


def raw(name, *arguments):
    """Calls a C function without Python's own retry on EINTR: (result, errno's name)."""
    ctypes.set_errno(0)
    result = getattr(LIBC, name)(*arguments)
    return (result, errno.errorcode.get(ctypes.get_errno(), ctypes.get_errno()) if result < 0 else 0)


def sockaddr(address, number):
    if ":" in address:
        return struct.pack("<H", socket.AF_INET6) + struct.pack("!HI", number, 0) + socket.inet_pton(socket.AF_INET6, address) + bytes(4)
    return struct.pack("<H", socket.AF_INET) + struct.pack("!H", number) + socket.inet_pton(socket.AF_INET, address) + bytes(8)


hits = []


def handle(number, restart):
    """Counts the signal in `hits`; the call it interrupts is restarted or not."""
    signal.signal(number, lambda *_: hits.append(number))
    signal.siginterrupt(number, not restart)


def main():
    out = os.fdopen(os.dup(1), "w")
    scope = globals()
    for line in sys.stdin:
        code = json.loads(line)
        try:
            try:
                compiled = compile(code, "test", "eval")
            except SyntaxError:
                exec(compile(code, "test", "exec"), scope)
                value = None
            else:
                value = eval(compiled, scope)
            if isinstance(value, (socket.socket, type)):
                value = None
            answer = {"value": repr(value)}
        except OSError as failure:
            name = errno.errorcode.get(failure.errno, str(failure.errno or failure))
            answer = {"error": "%s: %s" % (type(failure).__name__, failure), "errno": name}
        except Exception as failure:
            answer = {"error": "%s: %s" % (type(failure).__name__, failure), "errno": None}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
