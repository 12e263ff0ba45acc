# SPDX-License-Identifier: Apache-2.0 OR MIT
"""connect(2): success, refusal, repetition, dissolution, strange addresses."""

import socket
import struct
import threading
import time

from steps import MODES, POLLERS, program, sockaddr


@program(modes=MODES, pollers=POLLERS, apart=True)
def connect_success(t):
    with t.listener() as listener:
        s = t.socket()
        t.do("connect", s.connect, listener.getsockname())
        t.mask("connected", s)
        t.error("SO_ERROR", s)
        t.do("second", s.connect, listener.getsockname())
        t.do("third", s.connect, listener.getsockname())
        t.do("peer", s.getpeername)
        server, peer = listener.accept()
        t.note("names agree", peer == s.getsockname())
        t.mask("accepted", server)


@program(modes=MODES, pollers=POLLERS, apart=True)
def connect_refused(t):
    port = t.free_port()
    s = t.socket()
    t.do("connect", s.connect, (t.there, port))
    t.mask("refused", s)
    t.error("SO_ERROR", s)
    t.mask("after SO_ERROR", s)
    t.do("name", s.getpeername)


@program(modes=MODES, apart=True)
def connect_refused_again(t):
    """A refused socket tries again, to a port where somebody listens now."""
    port = t.free_port()
    s = t.socket()
    t.do("connect", s.connect, (t.there, port))
    t.until(s, "OUT")
    time.sleep(0.1)
    t.do("second", s.connect, (t.there, port))
    time.sleep(0.1)
    with t.listener(port=port):
        for attempt in range(3):
            s.connect_ex((t.there, port))
            time.sleep(0.1)
        t.do("peer", s.getpeername)


@program(modes=MODES, apart=True)
def connect_refused_unread(t):
    """The error of a refused attempt is reported once, by whatever comes first."""
    port = t.free_port()
    s = t.socket()
    s.connect_ex((t.there, port))
    t.until(s, "OUT")
    time.sleep(0.1)
    t.do("getpeername", s.getpeername)
    t.do("shutdown", s.shutdown, 2)
    t.error("SO_ERROR", s)
    t.error("again", s)


@program(modes=MODES)
def connect_strange(t):
    addresses = {
        4: ("0.0.0.0", "127.0.0.2", "255.255.255.255", "224.0.0.1"),
        6: ("::", "ff02::1", "::ffff:127.0.0.1", "fe80::1"),
    }[t.version]
    with t.listener(address=t.any) as listener:
        port = listener.getsockname()[1]
        for address in addresses:
            s = t.socket()
            t.do("connect %s" % address, s.connect, (address, port))
            if t.mode == "nonblocking":
                time.sleep(0.1)
            t.do("peer", s.getpeername)
        s = t.socket()
        t.do("port 0", s.connect, (t.local, 0))


@program()
def connect_shapes(t):
    with t.listener() as listener:
        good = sockaddr(t.family, t.local, listener.getsockname()[1])
        for length in (0, 1, 2, 4, 8, 15, 16, 20, 24, 27, 28, 64, 128, 129, -1):
            with socket.socket(t.family, socket.SOCK_STREAM) as s:
                t.raw("length %d" % length, "connect", s.fileno(), good + bytes(128), length)
        for family in (0, 1, 2, 10, 16, 99):
            with socket.socket(t.family, socket.SOCK_STREAM) as s:
                t.raw("family %d" % family, "connect", s.fileno(), bytes([family, 0]) + bytes(26), 28)
        with socket.socket(t.family, socket.SOCK_STREAM) as s:
            t.raw("null", "connect", s.fileno(), None, 16)
            t.raw("bad pointer", "connect", s.fileno(), 8, 16)


@program(modes=MODES, apart=True)
def connect_unspecified(t):
    """AF_UNSPEC dissolves a connection; the socket is fresh again."""
    with t.listener() as listener:
        s = t.socket()
        s.connect_ex(listener.getsockname())
        t.until(s, "OUT")
        server, _ = listener.accept()
        t.raw("dissolve", "connect", s.fileno(), bytes(16), 16)
        t.do("peer", s.getpeername)
        t.do("name", lambda: s.getsockname()[0])
        t.mask("the other side", server)
        t.do("it reads", server.recv, 1)
        t.raw("again", "connect", s.fileno(), bytes(16), 16)
        t.do("new connection", s.connect, listener.getsockname())
        t.until(s, "OUT")
        t.do("new peer", lambda: s.getpeername()[0])


@program(modes=MODES)
def connect_listener(t):
    with t.listener() as listener, t.listener() as other:
        t.do("connect", listener.connect, other.getsockname())
        t.do("self", listener.connect, listener.getsockname())


@program()
def connect_self(t):
    """Simultaneous open with itself."""
    s = socket.socket(t.family, socket.SOCK_STREAM)
    s.settimeout(3)
    s.bind((t.local, 0))
    name = s.getsockname()
    t.do("connect", s.connect, name)
    t.note("itself", s.getsockname() == s.getpeername())
    t.do("send", s.send, b"echo")
    t.do("receive", s.recv, 10)
    t.do("shutdown", s.shutdown, 1)
    t.do("end", s.recv, 10)


@program(families=(6,))
def connect_mapped(t):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(2)
        port = listener.getsockname()[1]
        s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        t.do("connect", s.connect, ("::ffff:127.0.0.1", port))
        t.do("peer", s.getpeername)
        t.note("name", s.getsockname()[0])
        s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        s.setsockopt(41, 26, 1)
        t.do("v6 only", s.connect, ("::ffff:127.0.0.1", port))
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener:
        listener.bind(("::", 0))
        listener.listen(2)
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        t.do("from IPv4", s.connect, ("127.0.0.1", listener.getsockname()[1]))
        server, peer = listener.accept()
        t.note("accepted", peer[0])
        t.note("its name", server.getsockname()[0])


@program(pollers=POLLERS, apart=True)
def connect_queue_full(t):
    """A backlog of 0 takes one connection; the next attempt hangs until it is given up."""
    with t.listener(backlog=0) as listener:
        first = socket.socket(t.family, socket.SOCK_STREAM)
        t.do("first", first.connect, listener.getsockname())
        second = socket.socket(t.family, socket.SOCK_STREAM)
        second.setblocking(False)
        t.do("second", second.connect, listener.getsockname())
        t.mask("waits", second)
        t.do("third", second.connect, listener.getsockname())
        t.do("peer", second.getpeername)
        t.do("send", second.send, b"x")
        t.do("recv", second.recv, 1)
        t.do("shutdown", second.shutdown, 2)
        t.mask("given up", second)


@program(apart=True)
def connect_time_limit(t):
    """SO_SNDTIMEO bounds a blocking attempt: EINPROGRESS, then EALREADY."""
    with t.listener(backlog=0) as listener:
        first = socket.socket(t.family, socket.SOCK_STREAM)
        first.connect(listener.getsockname())
        second = socket.socket(t.family, socket.SOCK_STREAM)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 200_000))
        start = time.monotonic()
        t.do("connect", second.connect, listener.getsockname())
        t.note("in time", 0.15 < time.monotonic() - start < 1.5)
        t.do("again", second.connect, listener.getsockname())


@program()
def connect_bound(t):
    """The bound address is the source."""
    with t.listener(address=t.any) as listener:
        s = socket.socket(t.family, socket.SOCK_STREAM)
        address = "127.0.0.9" if t.version == 4 else "::1"
        s.bind((address, 0))
        port = s.getsockname()[1]
        t.do("connect", s.connect, (t.local, listener.getsockname()[1]))
        server, peer = listener.accept()
        t.note("source", peer[0])
        t.note("port", peer[1] == port)
        other = socket.socket(t.family, socket.SOCK_STREAM)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        t.do("the same port", other.bind, (address, port))


@program(apart=True)
def connect_while_connecting(t):
    """Another thread connects while one waits."""
    with t.listener(backlog=0) as listener:
        first = socket.socket(t.family, socket.SOCK_STREAM)
        first.connect(listener.getsockname())
        second = socket.socket(t.family, socket.SOCK_STREAM)
        outcome = []
        thread = threading.Thread(target=lambda: outcome.append(second.connect_ex(listener.getsockname())))
        thread.start()
        time.sleep(0.2)
        listener.accept()
        thread.join(10)
        t.note("outcome", outcome)


@program(apart=True)
def connect_given_up(t):
    """An attempt that is shut down or dissolved leaves an error behind; the socket tries again."""
    for how in ("shutdown 0", "shutdown 1", "shutdown 2", "dissolved"):
        with t.listener(backlog=0) as listener:
            first = socket.socket(t.family, socket.SOCK_STREAM)
            first.connect(listener.getsockname())
            s = socket.socket(t.family, socket.SOCK_STREAM)
            s.setblocking(False)
            t.do("attempt", s.connect, listener.getsockname())
            if how == "dissolved":
                t.raw(how, "connect", s.fileno(), bytes(16), 16)
            else:
                t.do(how, s.shutdown, int(how[-1]))
            t.error("SO_ERROR", s)
            t.error("SO_ERROR again", s)
            listener.accept()
        with t.listener() as listener:
            t.do("another", s.connect, listener.getsockname())
            t.until(s, "OUT")
            t.error("SO_ERROR then", s)
            t.do("peer", lambda: s.getpeername() == listener.getsockname())
