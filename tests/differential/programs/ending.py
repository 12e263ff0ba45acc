# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How connections end: half-close, FIN, RST, linger, and what each side is told."""

import signal
import socket
import struct
import threading
import time

from steps import MODES, POLLERS, program


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


@program(modes=MODES, pollers=POLLERS, apart=True)
def end_fin(t):
    client, server = t.pair()
    server.close()
    t.mask("FIN", client)
    t.do("reads", client.recv, 10)
    t.do("reads again", client.recv, 10)
    t.do("writes", client.send, b"x", socket.MSG_NOSIGNAL)
    t.mask("RST", client)
    t.do("writes again", client.send, b"x", socket.MSG_NOSIGNAL)


@program(modes=MODES, pollers=POLLERS, apart=True)
def end_data_and_fin(t):
    client, server = t.pair()
    server.send(b"last")
    server.close()
    t.mask("both", client)
    t.do("reads", client.recv, 10)
    t.mask("the end", client)
    t.do("the end", client.recv, 10)


@program(modes=MODES, pollers=POLLERS, apart=True)
def end_half(t):
    """shutdown(SHUT_WR) on one side, then on the other."""
    client, server = t.pair()
    t.do("shut", client.shutdown, 1)
    t.mask("own", client)
    t.mask("other", server)
    t.do("own write", client.send, b"x", socket.MSG_NOSIGNAL)
    t.do("other reads", server.recv, 1)
    t.do("other writes", server.send, b"answer")
    t.note("own reads", t.drain(client, 6))
    t.do("other shuts", server.shutdown, 1)
    t.mask("own, over", client)
    t.mask("other, over", server)
    t.do("own reads the end", client.recv, 1)
    t.do("own peer", client.getpeername)
    t.do("other peer", server.getpeername)
    t.do("own shut again", client.shutdown, 2)


@program(modes=MODES, pollers=POLLERS, apart=True)
def end_shut_read(t):
    client, server = t.pair()
    t.do("shut", client.shutdown, 0)
    t.mask("own", client)
    t.mask("other", server)
    t.do("reads", client.recv, 1)
    t.do("other writes", server.send, b"data")
    time.sleep(0.1)
    t.do("other writes again", server.send, b"data")
    t.do("own writes", client.send, b"back")
    t.note("other reads", t.drain(server, 4))


@program(modes=MODES, pollers=POLLERS, apart=True)
def end_shut_both(t):
    client, server = t.pair()
    t.do("shut", client.shutdown, 2)
    t.mask("own", client)
    t.mask("other", server)
    t.do("reads", client.recv, 1)
    t.do("writes", client.send, b"x", socket.MSG_NOSIGNAL)
    t.do("other reads", server.recv, 1)
    t.do("again", client.shutdown, 2)


@program(modes=MODES, pollers=POLLERS, apart=True)
def end_reset(t):
    client, server = t.pair()
    reset(server)
    t.mask("RST", client)
    t.do("reads", client.recv, 1)
    t.do("reads again", client.recv, 1)
    t.error("SO_ERROR", client)
    t.mask("after", client)
    t.do("peer", client.getpeername)
    t.do("writes", client.send, b"x", socket.MSG_NOSIGNAL)


@program(modes=MODES, pollers=POLLERS, apart=True)
def end_reset_error_first(t):
    client, server = t.pair()
    reset(server)
    t.until(client, "IN")
    time.sleep(0.05)
    t.error("SO_ERROR", client)
    t.mask("after", client)
    t.do("reads", client.recv, 1)
    t.error("again", client)


@program(modes=MODES, pollers=POLLERS, apart=True)
def end_reset_with_data(t):
    client, server = t.pair()
    server.send(b"before")
    reset(server)
    t.mask("RST", client)
    t.do("reads", client.recv, 10)
    t.do("reads again", client.recv, 10)
    t.do("and again", client.recv, 10)


@program(modes=MODES, pollers=POLLERS, apart=True)
def end_unread(t):
    """close(2) with unread data is an RST."""
    client, server = t.pair()
    client.send(b"never read")
    t.until(server, "IN")
    server.close()
    t.mask("RST", client)
    t.do("reads", client.recv, 1)


@program(pollers=POLLERS, apart=True)
def end_reset_after_fin(t):
    client, server = t.pair()
    server.shutdown(1)
    t.mask("FIN", client)
    client.send(b"unread")
    time.sleep(0.1)
    server.close()
    t.mask("RST", client)
    t.do("reads", client.recv, 1)
    t.do("writes", client.send, b"x", socket.MSG_NOSIGNAL)


@program(pollers=POLLERS, apart=True)
def end_reset_half_closed(t):
    client, server = t.pair()
    client.shutdown(1)
    time.sleep(0.05)
    reset(server)
    t.mask("RST", client)
    t.do("reads", client.recv, 1)
    t.do("reads again", client.recv, 1)


@program(modes=MODES, apart=True)
def end_signal(t):
    """SIGPIPE for writes that cannot go out; MSG_NOSIGNAL is quiet."""
    seen = []
    signal.signal(signal.SIGPIPE, lambda *_: seen.append(1))
    client, server = t.pair()
    client.shutdown(1)
    t.do("write", client.send, b"x")
    t.note("signals", len(seen))
    t.do("quiet", client.send, b"x", socket.MSG_NOSIGNAL)
    t.note("signals after", len(seen))
    t.do("sendmsg", client.sendmsg, [b"x"])
    t.note("signals after sendmsg", len(seen))


@program(apart=True)
def end_linger(t):
    """SO_LINGER with a time waits for the peer; without data it does not."""
    client, server = t.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2))
    start = time.monotonic()
    client.close()
    t.note("at once", time.monotonic() - start < 1)
    t.do("the end", server.recv, 1)


@program(apart=True)
def end_woken(t):
    """Threads that wait in recv(2): FIN, RST and shutdown(2) by another thread end it."""
    for how in ("fin", "reset", "own shutdown", "time limit"):
        client, server = t.pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 300_000 if how == "time limit" else 0))
        seen = []

        def wait():
            try:
                seen.append(client.recv(1))
            except OSError as failure:
                seen.append(failure.errno)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        if how == "fin":
            server.close()
        elif how == "reset":
            reset(server)
        elif how == "own shutdown":
            client.shutdown(0)
        thread.join(5)
        t.note(how, seen)


@program(modes=MODES, apart=True)
def end_shutdown_states(t):
    with t.listener(backlog=0) as listener:
        client = socket.socket(t.family, socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        for how in (0, 1, 2, 0):
            t.do("client %d" % how, client.shutdown, how)
        server.close()
        time.sleep(0.1)
        t.do("over", client.shutdown, 2)
        t.do("name", lambda: client.getsockname()[0])
        t.do("peer", client.getpeername)
