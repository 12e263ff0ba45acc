# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Signals while calls block: interrupted, restarted, stopped and continued; SIGPIPE; masks."""

import ctypes
import os
import select
import signal
import socket
import struct
import threading
import time

from steps import LIBC, name_of, program, sockaddr

BUFFER = ctypes.create_string_buffer(4096)
LARGE = ctypes.create_string_buffer(32 << 20)
size_t = ctypes.c_size_t


def full_listener(t):
    """A listener that takes no more connections, and what fills it."""
    listener = t.listener(backlog=0)
    first = socket.socket(t.family, socket.SOCK_STREAM)
    first.connect(listener.getsockname())
    return listener, first


def blocking_calls(t):
    """Label, call that would block for ever, and what it needs to be kept."""
    client, server = t.pair()
    for s in (client,):
        s.setblocking(True)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
    listener, keep = full_listener(t)
    quiet = t.listener()
    bound = socket.socket(t.family, socket.SOCK_DGRAM)
    bound.bind((t.local, 0))
    name = sockaddr(t.family, *listener.getsockname()[:2])
    room = ctypes.byref(ctypes.c_int(28))
    vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(BUFFER), 10))
    message = struct.pack("QI4xQQQQi4x", 0, 0, ctypes.addressof(vector), 1, 0, 0, 0)
    e = select.epoll()
    e.register(client, select.EPOLLIN)
    asked = struct.pack("ihh", client.fileno(), 1, 0)
    fresh = socket.socket(t.family, socket.SOCK_STREAM)
    fd = client.fileno()
    return (client, server, listener, keep, quiet, bound, e, fresh), (
        ("recv", lambda: t.libc("recv", fd, BUFFER, size_t(10), 0)),
        ("read", lambda: t.libc("read", fd, BUFFER, size_t(10))),
        ("recvfrom", lambda: t.libc("recvfrom", fd, BUFFER, size_t(10), 0, BUFFER, room)),
        ("recvmsg", lambda: t.libc("recvmsg", fd, message, 0)),
        ("wait for all", lambda: t.libc("recv", fd, BUFFER, size_t(10), socket.MSG_WAITALL)),
        ("accept", lambda: t.libc("accept", quiet.fileno(), None, None)),
        ("accept4", lambda: t.libc("accept4", quiet.fileno(), BUFFER, ctypes.byref(ctypes.c_int(28)), 0)),
        ("datagram recv", lambda: t.libc("recv", bound.fileno(), BUFFER, size_t(10), 0)),
        ("datagram recvfrom", lambda: t.libc("recvfrom", bound.fileno(), BUFFER, size_t(10), 0, BUFFER, ctypes.byref(ctypes.c_int(28)))),
        ("datagram recvmsg", lambda: t.libc("recvmsg", bound.fileno(), message, 0)),
        ("poll", lambda: t.libc("poll", asked, ctypes.c_ulong(1), 3000)),
        ("epoll_wait", lambda: t.libc("epoll_wait", e.fileno(), BUFFER, 1, 3000)),
        ("connect", lambda: t.libc("connect", fresh.fileno(), name, len(name))),
    )


def interrupted(t, call):
    """Runs the call with an alarm: its result, how often the handler ran, whether the time is right."""
    hits = []
    signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    start = time.monotonic()
    result = call()
    took = time.monotonic() - start
    signal.setitimer(signal.ITIMER_REAL, 0)
    return name_of(-result) if result < 0 else result, len(hits) > 0, 0.15 < took < 2.5


@program()
def signal_interrupts(t):
    """A handler without SA_RESTART: EINTR from every call that blocks."""
    keep, calls = blocking_calls(t)
    for label, call in calls:
        t.note(label, interrupted(t, call))
    client, server = t.pair()
    t.note("send", interrupted(t, lambda: 0 < t.libc("send", client.fileno(), LARGE, size_t(len(LARGE)), 0) < len(LARGE)))
    assert keep


@program()
def signal_time_limits(t):
    """A call with a time limit of its own (SO_RCVTIMEO) is not restarted whatever the handler says (signal(7))."""
    client, server = t.pair()
    for s in (client,):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 3, 0))
    bound = socket.socket(t.family, socket.SOCK_DGRAM)
    bound.bind((t.local, 0))
    listener = t.listener()
    for s in (bound, listener):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 3, 0))
    room = ctypes.byref(ctypes.c_int(28))
    for label, call in (
        ("recv", lambda: t.libc("recv", client.fileno(), BUFFER, size_t(10), 0)),
        ("recvfrom", lambda: t.libc("recvfrom", client.fileno(), BUFFER, size_t(10), 0, BUFFER, room)),
        ("accept", lambda: t.libc("accept", listener.fileno(), None, None)),
        ("datagram recvfrom", lambda: t.libc("recvfrom", bound.fileno(), BUFFER, size_t(10), 0, BUFFER, room)),
        ("poll", lambda: t.libc("poll", struct.pack("ihh", client.fileno(), 1, 0), ctypes.c_ulong(1), 3000)),
    ):
        hits = []
        signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
        result = call()
        t.note(label, [name_of(-result) if result < 0 else result, len(hits) > 0])
        signal.setitimer(signal.ITIMER_REAL, 0)


@program()
def signal_restarts(t):
    """With SA_RESTART the call goes on, and ends with what it waits for."""
    client, server = t.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
    bound = socket.socket(t.family, socket.SOCK_DGRAM)
    bound.bind((t.local, 0))
    listener = t.listener()
    name = listener.getsockname()
    to = socket.socket(t.family, socket.SOCK_DGRAM)
    fd = client.fileno()

    def caller():
        s = socket.socket(t.family, socket.SOCK_STREAM)
        s.connect(name)

    for label, call, act in (
        ("recv", lambda: t.libc("recv", fd, BUFFER, size_t(4), 0), lambda: server.send(b"data")),
        ("recvfrom", lambda: t.libc("recvfrom", fd, BUFFER, size_t(4), 0, BUFFER, ctypes.byref(ctypes.c_int(28))), lambda: server.send(b"data")),
        ("datagram", lambda: t.libc("recvfrom", bound.fileno(), BUFFER, size_t(10), 0, BUFFER, ctypes.byref(ctypes.c_int(28))), lambda: to.sendto(b"data", bound.getsockname())),
        ("accept", lambda: t.libc("accept", listener.fileno(), None, None) >= 0, caller),
    ):
        hits = []
        signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        thread = threading.Thread(target=lambda: (time.sleep(0.55), act()))
        thread.start()
        t.note(label, call())
        signal.setitimer(signal.ITIMER_REAL, 0)
        thread.join(5)
        t.note("%s signals" % label, len(hits) > 0)


@program()
def signal_in_connect(t):
    """connect(2) that a signal interrupts goes on in the background (connect(2): EALREADY, then EISCONN)."""
    listener, first = full_listener(t)
    s = socket.socket(t.family, socket.SOCK_STREAM)
    name = sockaddr(t.family, *listener.getsockname()[:2])
    t.note("interrupted", interrupted(t, lambda: t.libc("connect", s.fileno(), name, len(name))))
    t.note("poll", t.settle(s))
    s.setblocking(False)
    t.raw("again", "connect", s.fileno(), name, len(name))
    listener.accept()
    t.until(s, "OUT", 10)
    t.error("SO_ERROR", s)
    t.raw("and again", "connect", s.fileno(), name, len(name))
    t.raw("once more", "connect", s.fileno(), name, len(name))
    t.do("peer", lambda: s.getpeername() == listener.getsockname())


@program(apart=True)
def signal_stop(t):
    """A process that is stopped and continued while it waits."""
    client, server = t.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
    for label, call in (
        ("recv", lambda: LIBC.recv(client.fileno(), BUFFER, size_t(4), 0)),
        ("recvfrom", lambda: LIBC.recvfrom(client.fileno(), BUFFER, size_t(4), 0, BUFFER, ctypes.byref(ctypes.c_int(28)))),
    ):
        pid = os.fork()
        if pid == 0:
            os._exit(call() & 255)
        time.sleep(0.1)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        time.sleep(0.05)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.1)
        t.note("%s goes on" % label, os.waitpid(pid, os.WNOHANG))
        server.send(b"data")
        t.note(label, os.waitpid(pid, 0)[1] >> 8)


@program(apart=True)
def signal_pipe_default(t):
    """SIGPIPE ends a process that does not care; not with MSG_NOSIGNAL; not when ignored."""
    client, server = t.pair()
    client.shutdown(1)
    data = b"x"
    for label, disposition, call in (
        ("send", signal.SIG_DFL, lambda: client.send(data)),
        ("write", signal.SIG_DFL, lambda: os.write(client.fileno(), data)),
        ("sendmsg", signal.SIG_DFL, lambda: client.sendmsg([data])),
        ("writev", signal.SIG_DFL, lambda: os.writev(client.fileno(), [data])),
        ("quiet", signal.SIG_DFL, lambda: client.send(data, socket.MSG_NOSIGNAL)),
        ("ignored", signal.SIG_IGN, lambda: client.send(data)),
        ("sendto", signal.SIG_DFL, lambda: client.sendto(data, (t.there, 9))),
    ):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGPIPE, disposition)
            try:
                call()
                os._exit(1)
            except OSError as failure:
                os._exit(failure.errno)
        t.note(label, os.waitpid(pid, 0)[1])


@program()
def signal_kills(t):
    """SIGKILL and SIGTERM end a process that waits in any call; its sockets close."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        listener = t.listener()
        for what in ("accept", "recvfrom", "datagram"):
            client, server = t.pair()
            server.settimeout(5)
            pid = os.fork()
            if pid == 0:
                server.close()
                room = ctypes.byref(ctypes.c_int(28))
                if what == "accept":
                    LIBC.accept(listener.fileno(), BUFFER, room)
                elif what == "recvfrom":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
                    LIBC.recvfrom(client.fileno(), BUFFER, size_t(1), 0, BUFFER, room)
                else:
                    s = socket.socket(t.family, socket.SOCK_DGRAM)
                    s.bind((t.local, 0))
                    LIBC.recvfrom(s.fileno(), BUFFER, size_t(1), 0, BUFFER, room)
                os._exit(0)
            client.close()
            time.sleep(0.1)
            os.kill(pid, number)
            t.note("%s ended by" % what, os.waitpid(pid, 0)[1])
            t.do("its connection", server.recv, 1)


@program()
def signal_masks(t):
    """ppoll(2), pselect(2), epoll_pwait(2) let a blocked signal in while they wait."""
    client, server = t.pair()
    e = select.epoll()
    e.register(client, select.EPOLLIN)
    hits = []
    signal.signal(signal.SIGUSR2, lambda *_: hits.append(1))
    signal.siginterrupt(signal.SIGUSR2, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    empty = bytes(128)
    limit = struct.pack("ll", 2, 0)
    asked = struct.pack("ihh", client.fileno(), 1, 0)
    for label, call in (
        ("ppoll", lambda: t.libc("ppoll", asked, ctypes.c_ulong(1), limit, empty)),
        ("epoll_pwait", lambda: t.libc("epoll_pwait", e.fileno(), BUFFER, 1, 2000, empty)),
    ):
        os.kill(os.getpid(), signal.SIGUSR2)
        before = len(hits)
        result = call()
        t.note(label, [before, name_of(-result) if result < 0 else result, len(hits)])
        hits.clear()
        server.send(b"x")
        t.until(client, "IN")
        t.note("%s ready" % label, call())
        client.recv(1)


@program()
def signal_storm(t):
    """Handled signals, one every few milliseconds, while a connection carries data: nothing is lost."""
    client, server = t.pair()
    for s in (client, server):
        s.settimeout(20)
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    seen = []

    def drink():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        seen.append(len(t.drain(server, 200_000)))

    thread = threading.Thread(target=drink)
    thread.start()
    for _ in range(200):
        client.sendall(b"s" * 1000)
        client.getpeername()
        time.sleep(0.001)
    thread.join(20)
    signal.setitimer(signal.ITIMER_REAL, 0)
    t.note("all", seen)
