# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Bytes of an established connection: flags, shapes, urgent data, queues."""

import array
import ctypes
import fcntl
import os
import select
import socket
import struct
import tempfile
import threading
import time

from steps import LIBC, MODES, POLLERS, program


@program(modes=MODES, pollers=POLLERS, apart=True)
def stream_masks(t):
    client, server = t.pair()
    t.mask("idle", client)
    server.send(b"x")
    t.mask("data", client)
    t.do("peek", client.recv, 1, socket.MSG_PEEK)
    t.mask("still", client)
    t.do("read", client.recv, 10)
    t.mask("read", client)
    t.do("nothing", client.recv, 10)


@program(modes=MODES, apart=True)
def stream_flags(t):
    client, server = t.pair()
    server.send(b"0123456789")
    t.until(client, "IN")
    t.do("peek", client.recv, 4, socket.MSG_PEEK)
    t.do("peek again", client.recv, 20, socket.MSG_PEEK)
    t.do("trunc", client.recv_into, bytearray(3), 3, socket.MSG_TRUNC)
    t.do("wait", client.recv, 4, socket.MSG_WAITALL)
    t.do("rest", client.recv, 100)
    t.do("dontwait", client.recv, 1, socket.MSG_DONTWAIT)
    t.do("error queue", client.recv, 1, socket.MSG_ERRQUEUE)
    t.do("wait for all, not there", client.recv, 4, socket.MSG_WAITALL)
    server.send(b"ab")
    t.until(client, "IN")
    t.do("wait for all, half there", client.recv, 4, socket.MSG_WAITALL)
    for flag in (socket.MSG_MORE, socket.MSG_CONFIRM, socket.MSG_DONTROUTE, socket.MSG_EOR, 0x40000000):
        t.do("send flag %#x" % flag, client.send, b"x", flag | socket.MSG_NOSIGNAL)
    client.shutdown(1)
    t.note("arrived", len(t.drain(server, 10)))


@program(modes=MODES, apart=True)
def stream_empty(t):
    """Nothing to send, no room to receive."""
    client, server = t.pair()
    t.do("send nothing", client.send, b"")
    t.do("sendmsg nothing", client.sendmsg, [])
    t.do("no room, no data", client.recv, 0)
    server.send(b"x")
    t.until(client, "IN")
    t.do("no room", client.recv, 0)
    t.do("data", client.recv, 1)
    server.close()
    time.sleep(0.1)
    t.do("no room, end", client.recv, 0)


@program(modes=MODES, apart=True)
def stream_messages(t):
    client, server = t.pair()
    t.do("sendmsg", client.sendmsg, [b"ab", b"", b"cd"])
    t.until(server, "IN")
    t.do("recvmsg", lambda: server.recvmsg(3, 100))
    t.do("recvmsg rest", lambda: server.recvmsg(100))
    t.do("sendmsg with an address", client.sendmsg, [b"x"], [], 0, (t.there, 9))
    t.do("sendto with an address", client.sendto, b"y", (t.there, 9))
    t.until(server, "IN")
    time.sleep(0.1)
    t.do("recvfrom", lambda: server.recvfrom(10))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
    t.do("with a descriptor", client.sendmsg, [b"z"], rights)
    t.until(server, "IN")
    t.do("no descriptor", lambda: server.recvmsg(10, 100))
    buffers = [bytearray(2), bytearray(3)]
    client.send(b"12345")
    t.until(server, "IN")
    t.do("recvmsg_into", lambda: server.recvmsg_into(buffers)[0])
    t.note("buffers", buffers)


@program(apart=True)
def stream_pointers(t):
    """Bad pointers and lengths of the transferring calls."""
    client, server = t.pair()
    server.send(b"0123456789")
    t.until(client, "IN")
    t.raw("recv null", "recv", client.fileno(), None, 4, 0)
    t.raw("recv bad", "recv", client.fileno(), 8, 4, 0)
    t.raw("recv trunc null", "recv", client.fileno(), None, 4, socket.MSG_TRUNC)
    t.raw("recvfrom bad length", "recvfrom", client.fileno(), ctypes.create_string_buffer(4), 2, 0, ctypes.create_string_buffer(28), 8)
    t.do("rest", client.recv, 100)
    t.raw("send null", "send", client.fileno(), None, 4, 0)
    t.raw("send null, nothing", "send", client.fileno(), None, 0, 0)
    t.raw("sendmsg null", "sendmsg", client.fileno(), None, 0)
    t.raw("recvmsg null", "recvmsg", client.fileno(), None, 0)
    t.raw("sendmsg bad", "sendmsg", client.fileno(), 8, 0)
    header = struct.pack("QQQQQQi4x", 0, 0, 0, 2000, 0, 0, 0)
    t.raw("too many parts", "sendmsg", client.fileno(), header, 0)


@program(modes=MODES, pollers=POLLERS, apart=True)
def stream_urgent(t):
    client, server = t.pair()
    t.do("nothing urgent", client.recv, 1, socket.MSG_OOB)
    server.send(b"abc")
    t.do("send", server.send, b"X", socket.MSG_OOB)
    time.sleep(0.1)
    server.send(b"def")
    t.mask("urgent", client)
    t.do("take", client.recv, 1, socket.MSG_OOB)
    t.do("take again", client.recv, 1, socket.MSG_OOB)
    t.mask("taken", client)
    t.do("before the mark", client.recv, 100)
    t.note("at the mark", t.ioctl(client, 0x8905, b"0000"))
    t.do("behind it", client.recv, 100)


@program(pollers=POLLERS, apart=True)
def stream_urgent_alone(t):
    client, server = t.pair()
    server.send(b"X", socket.MSG_OOB)
    t.mask("urgent", client)
    t.do("take", client.recv, 1, socket.MSG_OOB)
    t.mask("taken", client)


@program(modes=MODES, apart=True)
def stream_urgent_inline(t):
    client, server = t.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    server.send(b"abc")
    server.send(b"X", socket.MSG_OOB)
    time.sleep(0.1)
    server.send(b"def")
    time.sleep(0.1)
    t.do("take", client.recv, 1, socket.MSG_OOB)
    t.do("before the mark", client.recv, 100)
    t.note("at the mark", t.ioctl(client, 0x8905, b"0000"))
    t.do("from the mark", client.recv, 100)


@program(apart=True)
def stream_ioctls(t):
    client, server = t.pair()
    server.send(b"12345")
    t.until(client, "IN")
    t.note("FIONREAD", t.ioctl(client, 0x541B, b"0000"))
    time.sleep(0.1)
    t.note("SIOCOUTQ", t.ioctl(server, 0x5411, b"0000"))
    t.note("SIOCATMARK", t.ioctl(client, 0x8905, b"0000"))
    t.do("FIONBIO", t.ioctl, client, 0x5421, struct.pack("i", 1))
    t.note("blocking", os.get_blocking(client.fileno()))
    fresh, listener = t.socket(), t.listener()
    for label, s in (("fresh", fresh), ("listener", listener)):
        for name, number in (("FIONREAD", 0x541B), ("SIOCOUTQ", 0x5411), ("SIOCATMARK", 0x8905), ("SIOCOUTQNSD", 0x894B)):
            t.do("%s %s" % (label, name), t.ioctl, s, number, b"0000")


@program(modes=MODES, apart=True)
def stream_full(t):
    """A peer that does not read stops the sender; room comes back when it reads."""
    client, server = t.pair()
    client.setblocking(False)
    total, quiet = 0, 0
    while quiet < 5:
        try:
            total += client.send(b"x" * 65536)
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.05)
    t.note("bounded", 0 < total < 64 << 20)
    t.mask("full", client)
    t.note("all of it", len(t.drain(server, total)) == total)
    t.mask("room", client)


@program(apart=True)
def stream_time_limits(t):
    """SO_RCVTIMEO and SO_SNDTIMEO on the calls that are looked at and on those that are not."""
    client, server = t.pair()
    limit = struct.pack("ll", 0, 150_000)
    t.do("set", client.setsockopt, socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    t.note("get", client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))
    start = time.monotonic()
    t.do("recv", client.recv, 1)
    t.do("recvfrom", lambda: client.recvfrom(1))
    t.do("recvmsg", lambda: client.recvmsg(1))
    t.do("read", os.read, client.fileno(), 1)
    t.note("in time", 0.5 < time.monotonic() - start < 2.5)
    for bad in (struct.pack("ll", 0, 1_000_000), struct.pack("ll", 0, -1), struct.pack("ll", -1, 0), b"1234"):
        t.do("bad %d" % len(bad), client.setsockopt, socket.SOL_SOCKET, socket.SO_RCVTIMEO, bad)


@program(modes=MODES, apart=True)
def stream_low_water(t):
    """SO_RCVLOWAT bounds a blocking read from below."""
    client, server = t.pair()
    t.do("set", client.setsockopt, socket.SOL_SOCKET, socket.SO_RCVLOWAT, 4)
    server.send(b"ab")
    time.sleep(0.1)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(client.recv(10)))
    thread.start()
    time.sleep(0.1)
    server.send(b"cd")
    thread.join(5)
    t.note("read", seen if t.mode == "blocking" else len(seen))


@program()
def stream_files(t):
    """sendfile, splice, readv, writev, dup."""
    client, server = t.pair()
    with tempfile.TemporaryFile() as file:
        file.write(b"z" * 50_000)
        file.flush()
        t.do("sendfile", os.sendfile, client.fileno(), file.fileno(), 0, 50_000)
    t.note("its bytes", len(t.drain(server, 50_000)))
    t.do("writev", os.writev, client.fileno(), [b"one", b"two"])
    t.until(server, "IN")
    parts = [bytearray(4), bytearray(4)]
    t.do("readv", os.readv, server.fileno(), parts)
    t.note("parts", parts)
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    t.do("splice in", os.splice, reading, client.fileno(), 100)
    t.until(server, "IN")
    t.do("splice out", os.splice, server.fileno(), writing, 100)
    t.do("piped", os.read, reading, 100)
    t.do("pread", os.pread, client.fileno(), 1, 0)
    t.do("lseek", os.lseek, client.fileno(), 0, 0)
    copy = os.dup(client.fileno())
    os.write(copy, b"copy")
    t.note("from a copy", t.drain(server, 4))
    client.close()
    time.sleep(0.1)
    server.setblocking(False)
    t.do("still open", server.recv, 1)
    os.close(copy)
    t.until(server, "IN")
    t.do("closed", server.recv, 1)
    assert LIBC


@program(modes=MODES, apart=True)
def stream_epoll(t):
    """Registrations: one-shot, edge, modification, a descriptor that is closed."""
    client, server = t.pair()
    with select.epoll() as e:
        e.register(client, select.EPOLLIN | select.EPOLLONESHOT)
        server.send(b"a")
        t.note("first", [mask for _, mask in e.poll(2)])
        server.send(b"b")
        t.note("disarmed", e.poll(0.15))
        e.modify(client, select.EPOLLIN | select.EPOLLONESHOT)
        t.note("armed", [mask for _, mask in e.poll(2)])
        client.recv(10)
        e.modify(client, select.EPOLLIN | select.EPOLLET)
        t.note("empty", e.poll(0.1))
        server.send(b"c")
        t.note("edge", [mask for _, mask in e.poll(2)])
        t.note("no edge", e.poll(0.1))
        server.send(b"d")
        t.note("new edge", [mask for _, mask in e.poll(2)])
        t.do("registered twice", e.register, client, select.EPOLLIN)
        server.close()
        t.note("end", [mask for _, mask in e.poll(2)])
        client.close()
        t.note("closed", e.poll(0.1))


@program(apart=True)
def stream_large(t):
    """Both directions at once, in odd sizes."""
    client, server = t.pair()
    for s in (client, server):
        s.settimeout(20)
    size = 3_000_001
    seen = {}

    def pour(s):
        s.sendall(b"q" * size)

    def drink(name, s):
        seen[name] = len(t.drain(s, size))

    threads = [threading.Thread(target=pour, args=(s,)) for s in (client, server)]
    threads += [threading.Thread(target=drink, args=pair) for pair in (("client", client), ("server", server))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(25)
    t.note("client", seen.get("client") == size)
    t.note("server", seen.get("server") == size)


@program(modes=MODES, apart=True)
def stream_fastopen(t):
    """TCP_FASTOPEN on both sides: correct, whether or not data travels with the SYN."""
    listener = t.listener()
    t.do("listener", listener.setsockopt, socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
    s = t.socket()
    t.do("option", s.setsockopt, socket.IPPROTO_TCP, 30, 1)
    t.do("connect", s.connect, listener.getsockname())
    s.settimeout(3)
    t.do("send", s.send, b"early")
    server, _ = listener.accept()
    t.note("arrived", t.drain(server, 5))


@program()
def udp_basic(t):
    one, two = t.socket(socket.SOCK_DGRAM), t.socket(socket.SOCK_DGRAM)
    one.bind((t.local, 0))
    two.bind((t.local, 0))
    t.do("sendto", one.sendto, b"hello", two.getsockname())
    t.do("sendto nothing", one.sendto, b"", two.getsockname())
    t.until(two, "IN")
    t.note("from", two.recvfrom(3)[0])
    t.do("empty", two.recv, 10)
    t.do("connect", one.connect, two.getsockname())
    t.do("peer", lambda: one.getpeername()[0])
    t.do("send", one.send, b"connected")
    t.until(two, "IN")
    buffer = bytearray(3)
    t.do("trunc", two.recv_into, buffer, 3, socket.MSG_TRUNC)
    t.note("its part", buffer)
    size = 65_508 if t.version == 4 else 65_528
    t.do("too large", one.sendmsg, [b"x" * size])
    t.do("sendto elsewhere", one.sendto, b"x", (t.local, 9))
    t.raw("dissolve", "connect", one.fileno(), bytes(16), 16)
    t.do("peer gone", one.getpeername)


@program()
def udp_native_too_large(t):
    """send without an address cannot be refused at once on a stand-in: the next call hears of it."""
    s, peer = t.socket(socket.SOCK_DGRAM), t.socket(socket.SOCK_DGRAM)
    peer.bind((t.local, 0))
    s.connect(peer.getsockname())
    t.do("too large", s.send, b"x" * (65_508 if t.version == 4 else 65_528))
    t.settle(s)
    t.do("next", s.sendmsg, [b"x"])


@program(modes=MODES)
def udp_refused(t):
    s = t.socket(socket.SOCK_DGRAM)
    s.connect((t.local, t.free_port()))
    s.send(b"x")
    t.until(s, "IN")
    time.sleep(0.1)
    t.mask("refused", s)
    t.error("SO_ERROR", s)
    t.do("recv", s.recv, 1)
