# SPDX-License-Identifier: Apache-2.0 OR MIT
"""listen(2), accept(2), and listeners that are polled, shut down or closed."""

import ctypes
import os
import select
import socket
import struct
import threading
import time

from steps import MODES, POLLERS, program


@program(modes=MODES, pollers=POLLERS)
def accept_ready(t):
    s = t.socket()
    s.bind((t.local, 0))
    t.do("listen", s.listen, 4)
    t.mask("idle", s)
    t.do("nobody", s.accept)
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(s.getsockname())
    t.mask("pending", s)
    server, peer = s.accept()
    t.note("peer", peer == client.getsockname())
    t.note("name", server.getsockname() == s.getsockname())
    t.mask("idle again", s)
    t.note("blocking", os.get_blocking(server.fileno()))


@program()
def listen_states(t):
    s = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("not bound", s.listen, 1)
    t.note("has a port", s.getsockname()[1] != 0)
    for backlog in (0, 1, -1, 100_000, 2**31 - 1, 5):
        t.do("again %d" % backlog, s.listen, backlog)
    t.note("SO_ACCEPTCONN", s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    client, server = t.pair()
    t.do("connected", client.listen, 1)
    t.do("accepted", server.listen, 1)
    t.do("datagram", socket.socket(t.family, socket.SOCK_DGRAM).listen, 1)
    t.do("accept on connected", client.accept)
    t.do("accept on datagram", socket.socket(t.family, socket.SOCK_DGRAM).accept)


@program(modes=MODES)
def listener_transfer(t):
    """What a listener says to everything that wants a connection."""
    s = t.moded(t.listener())
    t.do("send", s.send, b"x", socket.MSG_NOSIGNAL)
    t.do("recv", s.recv, 1)
    t.do("recvfrom", lambda: s.recvfrom(1))
    t.do("peer", s.getpeername)
    t.do("shutdown write", s.shutdown, 1)
    t.do("connect", s.connect, s.getsockname())
    t.error("SO_ERROR", s)


@program(modes=MODES, pollers=POLLERS)
def listener_shut(t):
    s = t.moded(t.listener())
    waiting = socket.socket(t.family, socket.SOCK_STREAM)
    waiting.connect(s.getsockname())
    t.do("shutdown", s.shutdown, 0)
    t.mask("shut", s)
    t.do("accept", s.accept)
    t.mask("who waited", waiting)
    t.do("reads", waiting.recv, 1)
    late = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("late", late.connect, s.getsockname())
    t.do("listen again", s.listen, 2)
    t.mask("listens again", s)
    third = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("connect", third.connect, s.getsockname())
    t.until(s, "IN")
    t.note("accepted", s.accept()[0] is not None)


@program(pollers=POLLERS, apart=True)
def listener_closed(t):
    s = t.listener()
    name = s.getsockname()
    waiting = socket.socket(t.family, socket.SOCK_STREAM)
    waiting.connect(name)
    s.close()
    t.mask("who waited", waiting)
    t.do("reads", waiting.recv, 1)
    late = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("late", late.connect, name)


@program()
def accept_arguments(t):
    listener = t.listener()
    for room in (0, 1, 2, 8, 16, 28, 128):
        client = socket.socket(t.family, socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        buffer, length = ctypes.create_string_buffer(b"\xaa" * 128, 128), ctypes.c_int(room)
        fd = t.libc("accept", listener.fileno(), buffer, ctypes.byref(length))
        t.note("room %d" % room, (fd >= 0, length.value, buffer.raw[:1], buffer.raw[room : room + 1]))
        os.close(fd)
    for label, address, length in (("null address", None, ctypes.byref(ctypes.c_int(5))), ("negative", buffer, ctypes.byref(ctypes.c_int(-1)))):
        client = socket.socket(t.family, socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        t.note(label, t.libc("accept", listener.fileno(), address, length) >= 0)
    for flags in (1, 0o4000, 0o2000000, 0o2004000, 0x10000, -1):
        client = socket.socket(t.family, socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        fd = t.libc("accept4", listener.fileno(), None, None, flags)
        t.note("flags %#x" % flags, (os.get_blocking(fd), os.get_inheritable(fd)) if fd >= 0 else fd)


@program(pollers=POLLERS, apart=True)
def accept_gone(t):
    """A connection whose other side has gone is still accepted: with FIN, with data and FIN, with RST."""
    for how in ("fin", "data", "reset"):
        with t.listener() as listener:
            client = socket.socket(t.family, socket.SOCK_STREAM)
            client.connect(listener.getsockname())
            if how == "data":
                client.send(b"data")
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            time.sleep(0.15)
            server, _ = listener.accept()
            t.mask(how, server)
            t.do("reads", server.recv, 10)
            t.do("reads again", server.recv, 10)
            t.do("peer", lambda: server.getpeername()[0])


@program(apart=True)
def accept_data_first(t):
    with t.listener() as listener:
        client = socket.socket(t.family, socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        client.send(b"before accept")
        time.sleep(0.05)
        server, _ = listener.accept()
        t.do("reads", server.recv, 100)


@program()
def accept_inherits(t):
    """What an accepted socket takes over from its listener, set before or after listen(2)."""
    options = [
        (1, 9, 1), (1, 2, 1), (1, 15, 1), (1, 10, 1), (1, 8, 8192), (1, 7, 8192), (1, 12, 5), (1, 18, 4), (1, 13, None),
        (6, 1, 1), (6, 3, 1), (6, 4, 100), (6, 5, 20), (6, 6, 3), (6, 18, 5000), (6, 8, 30),
    ]  # fmt: skip
    if t.version == 4:
        options += [(0, 1, 0x10), (0, 2, 33), (0, 10, 2)]
    else:
        options += [(41, 16, 33), (41, 67, 0x10), (41, 26, 1)]
    for late in (False, True):
        for level, name, value in options:
            listener = socket.socket(t.family, socket.SOCK_STREAM)
            listener.bind((t.local, 0))
            setting = struct.pack("ii", 1, 7) if value is None else struct.pack("i", value)
            if late:
                listener.listen(1)
            label = "%d %d late %d" % (level, name, late)
            t.do(label, listener.setsockopt, level, name, setting)
            if not late:
                listener.listen(1)
            client = socket.socket(t.family, socket.SOCK_STREAM)
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            t.do("listener", lambda: listener.getsockopt(level, name, 8))
            t.do("accepted", lambda: server.getsockopt(level, name, 8))
            for s in (listener, client, server):
                s.close()


@program()
def accept_woken(t):
    """A thread that waits in accept(2): a connection, shutdown(2), a time limit."""
    listener = t.listener()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(listener.accept()[0] is not None))
    thread.start()
    time.sleep(0.1)
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    thread.join(5)
    t.note("connection", seen)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(t.libc("accept", listener.fileno(), None, None)))
    thread.start()
    time.sleep(0.1)
    listener.shutdown(0)
    thread.join(5)
    t.note("shutdown", seen)
    limited = t.listener()
    limited.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    t.do("time limit", limited.accept)


@program()
def accept_edges(t):
    """Edge-triggered epoll on a listener: one event for each connection that comes while none is taken."""
    listener = t.listener()
    with select.epoll() as e:
        e.register(listener, select.EPOLLIN | select.EPOLLET)
        t.note("idle", e.poll(0.05))
        clients = []
        for number in range(3):
            client = socket.socket(t.family, socket.SOCK_STREAM)
            client.connect(listener.getsockname())
            clients.append(client)
            t.note("connection", [mask for _, mask in e.poll(2)])
            t.note("once", e.poll(0.1))
        for _ in clients:
            listener.accept()
        t.note("taken", e.poll(0.05))


@program()
def accept_shared(t):
    """SO_REUSEPORT: two listeners on one port share what comes."""
    one = socket.socket(t.family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind((t.local, 0))
    one.listen(64)
    two = socket.socket(t.family, socket.SOCK_STREAM)
    two.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    two.bind(one.getsockname())
    two.listen(64)
    clients = [socket.create_connection(one.getsockname()[:2]) for _ in range(40)]
    time.sleep(0.1)
    counts = []
    for s in (one, two):
        s.setblocking(False)
        count = 0
        try:
            while True:
                s.accept()
                count += 1
        except BlockingIOError:
            counts.append(count)
    t.note("all", sum(counts) == len(clients))
    t.note("both", min(counts) > 0)


@program(apart=True)
def defer_accept(t):
    """TCP_DEFER_ACCEPT: the listener wakes when data has come."""
    listener = t.listener()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    client = socket.socket(t.family, socket.SOCK_STREAM)
    t.do("connect", client.connect, listener.getsockname())
    client.send(b"data")
    t.until(listener, "IN")
    server = listener.accept()[0]
    t.do("data", server.recv, 10)
