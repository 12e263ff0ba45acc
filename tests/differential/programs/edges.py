# SPDX-License-Identifier: Apache-2.0 OR MIT
"""epoll(7), poll(2) and select(2) themselves: edges, one shot, exclusive, nested, closed descriptors, errors."""

import ctypes
import os
import select
import socket
import struct
import threading
import time

from steps import program

IN, OUT, ET, ONESHOT, EXCLUSIVE, RDHUP = 1, 4, 1 << 31, 1 << 30, 1 << 28, 0x2000


def seen(e, limit=0.1):
    return [mask for _, mask in e.poll(limit)]


@program(apart=True)
def edge_partial(t):
    """Reading a part makes no new edge; new data does."""
    client, server = t.pair()
    with select.epoll() as e:
        e.register(client, IN | ET)
        server.send(b"0123456789")
        t.note("data", seen(e, 2))
        t.do("part", client.recv, 4)
        t.note("no edge", seen(e))
        server.send(b"more")
        t.note("edge", seen(e, 2))
        t.do("all", client.recv, 100)
        t.note("drained", seen(e))
        e.modify(client, IN | ET)
        t.note("modified, empty", seen(e))
        server.send(b"x")
        t.until(client, "IN")
        e.modify(client, IN | ET)
        t.note("modified, full", seen(e))


@program(apart=True)
def edge_ends(t):
    """FIN and RST as edges, for those who ask for RDHUP and those who do not."""
    for flags in (IN | ET, IN | RDHUP | ET, RDHUP | ET, OUT | ET, ET):
        client, server = t.pair()
        with select.epoll() as e:
            e.register(client, flags)
            seen(e)
            server.shutdown(1)
            t.note("FIN %#x" % flags, seen(e, 0.3))
            client.close()
        client, server = t.pair()
        with select.epoll() as e:
            e.register(client, flags)
            seen(e)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.close()
            t.note("RST %#x" % flags, seen(e, 0.3))


@program(apart=True)
def edge_writable(t):
    """A full socket becomes writable once."""
    client, server = t.pair()
    client.setblocking(False)
    with select.epoll() as e:
        e.register(client, OUT | ET)
        t.note("at once", seen(e))
        t.note("once", seen(e))
        total, quiet = 0, 0
        while quiet < 5:
            try:
                total += client.send(b"w" * 65536)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.05)
        seen(e)
        t.note("full", seen(e))
        t.drain(server, total)
        t.note("room", seen(e, 2))


@program(apart=True)
def edge_one_shot(t):
    client, server = t.pair()
    with select.epoll() as e:
        e.register(client, IN | ET | ONESHOT)
        server.send(b"a")
        t.note("first", seen(e, 2))
        server.send(b"b")
        t.note("disarmed", seen(e, 0.2))
        server.close()
        t.note("nor the end", seen(e, 0.2))
        e.modify(client, IN | ET | ONESHOT)
        t.note("armed", seen(e, 2))
        e.modify(client, OUT | ONESHOT)
        t.note("for writing", seen(e, 2))
        e.modify(client, ONESHOT)
        t.note("for nothing", seen(e, 0.1))


@program()
def edge_exclusive(t):
    """EPOLLEXCLUSIVE: of several instances one is told."""
    listener = t.listener()
    instances = [select.epoll() for _ in range(3)]
    for e in instances:
        e.register(listener, IN | EXCLUSIVE)
    told, lock = [], threading.Lock()

    def wait(e):
        ready = e.poll(0.7)
        with lock:
            told.append(bool(ready))

    threads = [threading.Thread(target=wait, args=(e,)) for e in instances]
    for thread in threads:
        thread.start()
    time.sleep(0.15)
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    for thread in threads:
        thread.join(5)
    t.note("told", sum(told))
    t.do("modify", instances[0].modify, listener, IN)
    fresh = select.epoll()
    t.do("with one shot", fresh.register, listener, IN | EXCLUSIVE | ONESHOT)
    t.do("with priority", fresh.register, listener, 2 | EXCLUSIVE)
    t.do("modify to it", lambda: (fresh.register(listener, IN), fresh.modify(listener, IN | EXCLUSIVE)))
    t.do("on an instance", fresh.register, instances[0].fileno(), IN | EXCLUSIVE)


@program()
def edge_nested(t):
    """An instance in an instance; a ring of them."""
    client, server = t.pair()
    inner, outer = select.epoll(), select.epoll()
    inner.register(client, IN)
    outer.register(inner.fileno(), IN)
    t.note("idle", seen(outer))
    server.send(b"x")
    t.note("outer", seen(outer, 2))
    t.note("inner", seen(inner, 2))
    client.recv(1)
    t.note("none", seen(outer))
    t.do("ring", inner.register, outer.fileno(), IN)
    t.do("itself", inner.register, inner.fileno(), IN)
    edge = select.epoll()
    edge.register(inner.fileno(), IN | ET)
    server.send(b"y")
    t.note("edge", seen(edge, 2))
    t.note("once", seen(edge))


@program()
def edge_closed(t):
    """Registrations end with the last descriptor of a file, not before."""
    client, server = t.pair()
    e = select.epoll()
    e.register(client, IN)
    copy = os.dup(client.fileno())
    number = client.fileno()
    client.close()
    server.send(b"x")
    t.note("its number is reported", [fd == number for fd, _ in e.poll(2)])
    t.do("modify", e.modify, number, IN)
    t.do("unregister", e.unregister, number)
    t.note("still", [fd == number for fd, _ in e.poll(0.1)])
    os.close(copy)
    t.note("over", e.poll(0.1))
    client, server = t.pair()
    t.do("the number is new", e.register, client, IN)
    server.send(b"y")
    t.note("told", seen(e, 2))


@program()
def edge_errors(t):
    client, _ = t.pair()
    e = select.epoll()
    event = struct.pack("=IQ", IN, 5)
    for label, arguments in (
        ("add", (e.fileno(), 1, client.fileno(), event)),
        ("add twice", (e.fileno(), 1, client.fileno(), event)),
        ("unknown operation", (e.fileno(), 9, client.fileno(), event)),
        ("closed instance", (999, 1, client.fileno(), event)),
        ("closed socket", (e.fileno(), 1, 999, event)),
        ("itself", (e.fileno(), 1, e.fileno(), event)),
        ("no instance", (client.fileno(), 1, e.fileno(), event)),
        ("null", (e.fileno(), 3, client.fileno(), None)),
        ("remove", (e.fileno(), 2, client.fileno(), None)),
        ("remove again", (e.fileno(), 2, client.fileno(), None)),
        ("modify what is not there", (e.fileno(), 3, client.fileno(), event)),
    ):
        t.raw(label, "epoll_ctl", *arguments)
    with open("/dev/null") as file, open("/etc/passwd") as regular:
        t.raw("null device", "epoll_ctl", e.fileno(), 1, file.fileno(), event)
        t.raw("regular file", "epoll_ctl", e.fileno(), 1, regular.fileno(), event)
    buffer = ctypes.create_string_buffer(64)
    for count in (0, -1, 2**31 - 1):
        t.raw("wait for %d" % count, "epoll_wait", e.fileno(), buffer, count, 0)
    t.raw("wait on a socket", "epoll_wait", client.fileno(), buffer, 1, 0)
    t.raw("wait on nothing", "epoll_wait", 999, buffer, 1, 0)
    t.raw("create 0", "epoll_create", 0)
    t.raw("create with flags", "epoll_create1", 1)
    e.register(client, OUT)
    t.raw("into nothing", "epoll_wait", e.fileno(), None, 1, 0)
    t.raw("into a bad place", "epoll_wait", e.fileno(), ctypes.c_void_p(8), 1, 0)


@program()
def edge_turns(t):
    """With room for one event each ready socket gets its turn."""
    pairs = [t.pair() for _ in range(3)]
    e = select.epoll()
    for client, server in pairs:
        e.register(client, IN)
        server.send(b"x")
        t.until(client, "IN")
    found = [e.poll(1, 1)[0][0] for _ in range(6)]
    t.note("turns", len(set(found[:3])) == 3 and found[:3] == found[3:])


@program()
def poll_many(t):
    """poll(2) with closed, negative and repeated descriptors."""
    client, server = t.pair()
    server.send(b"x")
    t.until(client, "IN")
    fd = client.fileno()
    asked = ((fd, IN), (fd, OUT), (-1, IN), (999, IN), (fd, 0), (fd, IN | OUT), (-fd, OUT))
    table = ctypes.create_string_buffer(b"".join(struct.pack("ihh", *pair, -1) for pair in asked))
    t.raw("poll", "poll", table, ctypes.c_ulong(len(asked)), 0)
    t.note("events", [struct.unpack("ihh", table.raw[8 * i : 8 * i + 8])[2] for i in range(len(asked))])
    t.raw("none", "poll", None, ctypes.c_ulong(0), 0)
    t.raw("too many", "poll", None, ctypes.c_ulong(2**40), 0)
    t.raw("time below zero", "ppoll", table, ctypes.c_ulong(1), struct.pack("ll", -1, 0), None)
    t.raw("too many nanoseconds", "ppoll", table, ctypes.c_ulong(1), struct.pack("ll", 0, 10**9), None)
    for bits in (0x40, 0x80, 0x100, 0x200, 0x400):
        p = select.poll()
        p.register(client, bits)
        t.note("asked for %#x" % bits, [mask for _, mask in p.poll(0)])
    server.close()
    time.sleep(0.1)
    p = select.poll()
    p.register(client, 0)
    t.note("the end, nothing asked", p.poll(0))


@program()
def select_errors(t):
    client, _ = t.pair()
    zero = struct.pack("ll", 0, 0)
    bits = ctypes.create_string_buffer(128)

    def mask(*fds):
        value = bytearray(128)
        for fd in fds:
            value[fd // 8] |= 1 << fd % 8
        return ctypes.create_string_buffer(bytes(value), 128)

    closed = os.dup(client.fileno())
    os.close(closed)
    t.raw("closed", "syscall", 23, 1000, mask(closed), None, None, zero)
    t.raw("negative count", "syscall", 23, -1, bits, None, None, zero)
    t.raw("negative time", "syscall", 23, 1, None, None, None, struct.pack("ll", -1, 0))
    t.raw("bad pointer", "syscall", 23, 64, ctypes.c_void_p(8), None, None, zero)
    t.raw("bad time", "syscall", 23, 1, None, None, None, ctypes.c_void_p(8))
    found = mask(client.fileno())
    t.raw("writable", "syscall", 23, client.fileno() + 1, None, found, None, zero)
    t.raw("readable", "syscall", 23, client.fileno() + 1, mask(client.fileno()), None, None, zero)
    t.raw("all three", "syscall", 23, client.fileno() + 1, mask(client.fileno()), mask(client.fileno()), mask(client.fileno()), zero)
    t.raw("beyond the count", "syscall", 23, 0, mask(client.fileno()), mask(client.fileno()), None, zero)


@program()
def waiting_threads(t):
    """Several threads wait for one socket, each in its own way; one event wakes them all."""
    client, server = t.pair()
    woken, lock = [], threading.Lock()

    def note(name, ready):
        with lock:
            woken.append((name, bool(ready)))

    def by_poll():
        p = select.poll()
        p.register(client, IN)
        note("poll", p.poll(3000))

    def by_epoll():
        with select.epoll() as e:
            e.register(client, IN | ET)
            note("epoll", e.poll(3))

    threads = [threading.Thread(target=f) for f in (by_poll, by_epoll, lambda: note("select", select.select([client], [], [], 3)[0]))]
    for thread in threads:
        thread.start()
    time.sleep(0.15)
    server.send(b"x")
    for thread in threads:
        thread.join(5)
    t.note("woken", sorted(woken))


@program()
def edge_connecting(t):
    """A registration made before connect(2): one edge when it is established, one when it fails."""
    with t.listener() as listener:
        s = socket.socket(t.family, socket.SOCK_STREAM)
        s.setblocking(False)
        with select.epoll() as e:
            e.register(s, IN | OUT | RDHUP | ET)
            t.note("fresh", seen(e))
            s.connect_ex(listener.getsockname())
            t.note("established", seen(e, 2))
            t.note("once", seen(e))
    s = socket.socket(t.family, socket.SOCK_STREAM)
    s.setblocking(False)
    port = t.free_port()
    with select.epoll() as e:
        e.register(s, OUT | ET | ONESHOT)
        e.poll(0.1)
        s.connect_ex((t.local, port))
        e.modify(s, OUT | ET | ONESHOT)
        t.note("refused", seen(e, 2))
        t.error("SO_ERROR", s)
