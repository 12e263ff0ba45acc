# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Bytes between sockets, files and pipes; many parts in one call; bad pointers in every argument."""

import ctypes
import os
import socket
import struct
import tempfile
import threading
import time

from steps import MODES, name_of, program, sockaddr

SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE, SPLICE_F_GIFT = 1, 2, 4, 8
BAD = 8  # an address that nothing is at


@program(modes=MODES, apart=True)
def sendfile_forms(t):
    client, server = t.pair()
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(100)) * 10)
        file.flush()
        for label, offset, count in (("all", 0, 1000), ("part", 100, 50), ("nothing", 0, 0), ("over the end", 990, 100), ("behind the end", 5000, 10)):
            t.do(label, os.sendfile, client.fileno(), file.fileno(), offset, count)
        t.note("arrived", len(t.drain(server, 1060)))
        file.seek(10)
        t.do("from the position", os.sendfile, client.fileno(), file.fileno(), None, 20)
        t.note("moved", file.tell())
        t.note("these", t.drain(server, 20))
        t.do("before the start", os.sendfile, client.fileno(), file.fileno(), -1, 20)
        t.raw("bad pointer", "sendfile", client.fileno(), file.fileno(), ctypes.c_void_p(BAD), ctypes.c_size_t(1))
        server.send(b"to a file")
        t.until(client, "IN")
        t.do("out of a socket", os.sendfile, file.fileno(), client.fileno(), None, 9)
        t.do("between sockets", os.sendfile, client.fileno(), client.fileno(), None, 9)
        fresh, listener = t.socket(), socket.socket(t.family, socket.SOCK_STREAM)
        listener.bind((t.local, 0))
        listener.listen(1)
        datagram = t.socket(socket.SOCK_DGRAM)
        t.do("to a datagram socket without a peer", lambda: os.sendfile(datagram.fileno(), file.fileno(), 0, 9) and 0)
        t.do("to a closed one", os.sendfile, 999, file.fileno(), 0, 9)
        client.shutdown(1)
        t.do("after shutdown", os.sendfile, client.fileno(), file.fileno(), 0, 9)
        assert fresh


@program(modes=MODES, apart=True)
def splice_forms(t):
    client, server = t.pair()
    reading, writing = os.pipe()
    splice = os.splice
    os.write(writing, b"0123456789")
    t.do("into the socket", splice, reading, client.fileno(), 4)
    t.do("the rest", splice, reading, client.fileno(), 100, None, None, SPLICE_F_MOVE | SPLICE_F_MORE)
    t.note("arrived", t.drain(server, 10))
    t.do("empty pipe", splice, reading, client.fileno(), 100, None, None, SPLICE_F_NONBLOCK)
    server.send(b"abcdef")
    t.until(client, "IN")
    t.do("into the pipe", splice, client.fileno(), writing, 3)
    t.do("the rest of it", splice, client.fileno(), writing, 100, None, None, SPLICE_F_NONBLOCK)
    t.do("nothing there", splice, client.fileno(), writing, 100, None, None, SPLICE_F_NONBLOCK)
    t.do("piped", os.read, reading, 100)
    t.do("no pipe", splice, client.fileno(), client.fileno(), 10)
    t.do("offset of a socket", splice, reading, client.fileno(), 10, None, 5)
    t.do("offset of a pipe", splice, reading, client.fileno(), 10, 5)
    t.do("wrong end", splice, writing, client.fileno(), 10)
    t.do("nothing asked", splice, client.fileno(), writing, 0)
    t.do("flags", splice, client.fileno(), writing, 10, None, None, 0x100)
    server.close()
    t.until(client, "IN")
    t.do("the end", splice, client.fileno(), writing, 100)
    listener = socket.socket(t.family, socket.SOCK_STREAM)
    listener.bind((t.local, 0))
    listener.listen(1)
    os.write(writing, b"x")
    client.shutdown(1)
    t.do("after shutdown", splice, reading, client.fileno(), 100)


@program()
def tee_and_vmsplice(t):
    client, server = t.pair()
    one, two = os.pipe(), os.pipe()
    os.write(one[1], b"both ways")
    t.raw("tee", "tee", one[0], two[1], ctypes.c_size_t(100), 0)
    t.do("one", os.splice, one[0], client.fileno(), 100)
    t.do("two", os.splice, two[0], client.fileno(), 100)
    t.note("arrived", t.drain(server, 18))
    t.raw("tee into a socket", "tee", one[0], client.fileno(), ctypes.c_size_t(10), 0)
    t.raw("tee out of a socket", "tee", client.fileno(), one[1], ctypes.c_size_t(10), 0)
    text = ctypes.create_string_buffer(b"mapped")
    part = struct.pack("QQ", ctypes.addressof(text), 6)
    t.raw("vmsplice", "vmsplice", one[1], part, ctypes.c_size_t(1), 0)
    t.do("into the socket", os.splice, one[0], client.fileno(), 6)
    t.note("arrived", t.drain(server, 6))
    t.raw("vmsplice on a socket", "vmsplice", client.fileno(), part, ctypes.c_size_t(1), 0)


def parts(*pieces):
    """An array of struct iovec; a piece is (address, length)."""
    return b"".join(struct.pack("Qq", at, length) for at, length in pieces)


def header(name=0, namelen=0, iov=0, count=0, control=0, controllen=0, flags=0):
    """A struct msghdr."""
    return struct.pack("QI4xQQQQi4x", name, namelen, iov, count, control, controllen, flags)


@program(apart=True)
def vector_limits(t):
    """How many parts a call may have (IOV_MAX), how long they may be."""
    client, server = t.pair()
    byte = ctypes.create_string_buffer(b"v", 8)
    at = ctypes.addressof(byte)
    for count in (0, 1, 1023, 1024, 1025, -1, 2**31 - 1):
        vector = parts(*[(at, 1)] * max(0, min(count, 1025)))
        t.raw("writev %d" % count, "writev", client.fileno(), vector, count)
    t.note("arrived", len(t.drain(server, 2048)))
    hold = ctypes.create_string_buffer(parts(*[(at, 1)] * 1025))
    for count in (0, 1, 1024, 1025, 2**40):
        t.raw("sendmsg %d" % count, "sendmsg", client.fileno(), header(iov=ctypes.addressof(hold), count=count), 0)
    t.note("arrived", len(t.drain(server, 1025)))
    server.send(b"0123456789")
    t.until(client, "IN")
    for count in (0, 1, 1024, 1025):
        t.raw("readv %d" % count, "readv", client.fileno(), hold, count)
        if count in (0, 1025):
            t.raw("recvmsg %d" % count, "recvmsg", client.fileno(), header(iov=ctypes.addressof(hold), count=count), socket.MSG_DONTWAIT)
    for label, vector in (("negative", ((at, -1),)), ("too much together", ((at, 2**62), (at, 2**62))), ("bad pointer", ((BAD, 1),)), ("bad second", ((at, 1), (BAD, 1))), ("bad but empty", ((BAD, 0), (at, 1)))):
        hold = ctypes.create_string_buffer(parts(*vector))
        t.raw("writev %s" % label, "writev", client.fileno(), hold, len(vector))
        t.raw("sendmsg %s" % label, "sendmsg", client.fileno(), header(iov=ctypes.addressof(hold), count=len(vector)), 0)
    t.note("behind them", len(t.drain(server, 2)))
    t.raw("writev null", "writev", client.fileno(), None, 1)
    t.raw("readv null", "readv", client.fileno(), None, 1)
    t.raw("sendmsg parts null", "sendmsg", client.fileno(), header(iov=0, count=1), 0)
    t.raw("recvmsg parts null", "recvmsg", client.fileno(), header(iov=0, count=1), socket.MSG_DONTWAIT)


@program()
def pointers_of_streams(t):
    """EFAULT: every pointer of every call on a connection."""
    client, server = t.pair()
    fd = client.fileno()
    good, length = ctypes.create_string_buffer(128), ctypes.c_int(28)
    for label, at in (("null", 0), ("bad", BAD), ("kernel", 0xFFFF_8000_0000_0000)):
        p = ctypes.c_void_p(at)
        t.raw("bind %s" % label, "bind", fd, p, 28)
        t.raw("connect %s" % label, "connect", fd, p, 28)
        t.raw("getsockname %s" % label, "getsockname", fd, p, ctypes.byref(ctypes.c_int(28)))
        t.raw("getsockname length %s" % label, "getsockname", fd, good, p)
        t.raw("getpeername %s" % label, "getpeername", fd, p, ctypes.byref(ctypes.c_int(28)))
        t.raw("getpeername length %s" % label, "getpeername", fd, good, p)
        t.raw("getsockopt %s" % label, "getsockopt", fd, 6, 1, p, ctypes.byref(ctypes.c_int(4)))
        t.raw("getsockopt length %s" % label, "getsockopt", fd, 6, 1, good, p)
        t.raw("setsockopt %s" % label, "setsockopt", fd, 6, 1, p, 4)
        t.raw("socketpair %s" % label, "socketpair", 1, 1, 0, p)
        t.raw("write %s" % label, "write", fd, p, ctypes.c_size_t(1))
        t.raw("sendto address %s" % label, "sendto", fd, good, ctypes.c_size_t(1), 0, p, 28)
        t.raw("sendmsg %s" % label, "sendmsg", fd, p, 0)
        t.raw("recvmsg %s" % label, "recvmsg", fd, p, socket.MSG_DONTWAIT)
        t.raw("sendmmsg %s" % label, "sendmmsg", fd, p, 1, 0)
        t.raw("recvmmsg %s" % label, "recvmmsg", fd, p, 1, socket.MSG_DONTWAIT, None)
        t.raw("FIONREAD %s" % label, "ioctl", fd, ctypes.c_ulong(0x541B), p)
        t.raw("poll %s" % label, "poll", p, ctypes.c_ulong(1), 0)
        t.raw("epoll_ctl %s" % label, "epoll_ctl", 999, 1, fd, p)
        with t.listener() as listener:
            for number in range(2):
                other = socket.socket(t.family, socket.SOCK_STREAM)
                other.connect(listener.getsockname())
            t.raw("accept %s" % label, "accept", listener.fileno(), p, ctypes.byref(length)) if at else None
            fd2 = t.libc("accept", listener.fileno(), good, p)
            t.note("accept length %s" % label, name_of(-fd2) if fd2 < 0 else "accepted")
    t.note("arrived", len(t.drain(server, 1)))


@program()
def pointers_of_datagrams(t):
    one, two = t.socket(socket.SOCK_DGRAM), t.socket(socket.SOCK_DGRAM)
    two.bind((t.local, 0))
    name = sockaddr(t.family, t.local, two.getsockname()[1])
    good = ctypes.create_string_buffer(64)
    for label, at in (("null", 0), ("bad", BAD), ("kernel", 0xFFFF_8000_0000_0000)):
        p = ctypes.c_void_p(at)
        t.raw("sendto %s" % label, "sendto", one.fileno(), p, ctypes.c_size_t(1), 0, name, len(name))
        t.raw("sendto nothing %s" % label, "sendto", one.fileno(), p, ctypes.c_size_t(0), 0, name, len(name))
        t.raw("sendto address %s" % label, "sendto", one.fileno(), good, ctypes.c_size_t(1), 0, p, len(name))
        t.raw("sendmsg %s" % label, "sendmsg", one.fileno(), p, 0)
        hold = ctypes.create_string_buffer(name)
        data = ctypes.create_string_buffer(parts((at, 1)))
        t.raw("sendmsg data %s" % label, "sendmsg", one.fileno(), header(ctypes.addressof(hold), len(name), ctypes.addressof(data), 1), 0)
        if at:
            t.raw("sendmsg address %s" % label, "sendmsg", one.fileno(), header(at, len(name)), 0)
            t.raw("sendmsg control %s" % label, "sendmsg", one.fileno(), header(ctypes.addressof(hold), len(name), control=at, controllen=24), 0)
        t.raw("sendmmsg %s" % label, "sendmmsg", one.fileno(), p, 1, 0)
        two.setblocking(False)
        while t.libc("recv", two.fileno(), good, ctypes.c_size_t(64), 0) >= 0:
            pass
        for number in range(4):
            one.sendto(b"datagram", two.getsockname())
            t.until(two, "IN")
            if number == 0:
                t.raw("recvfrom %s" % label, "recvfrom", two.fileno(), p, ctypes.c_size_t(8), 0, None, None)
            elif number == 1:
                t.raw("recvfrom address %s" % label, "recvfrom", two.fileno(), good, ctypes.c_size_t(8), 0, p, ctypes.byref(ctypes.c_int(28)))
            elif number == 2 and at:
                t.raw("recvfrom length %s" % label, "recvfrom", two.fileno(), good, ctypes.c_size_t(8), 0, ctypes.create_string_buffer(28), p)
            elif number == 3:
                t.raw("recvmsg %s" % label, "recvmsg", two.fileno(), p, 0)
            time.sleep(0.03)
            while t.libc("recv", two.fileno(), good, ctypes.c_size_t(64), 0) >= 0:
                pass


@program()
def message_shapes(t):
    """struct msghdr: lengths of the name, the control data and the flags that come back."""
    client, server = t.pair()
    byte = ctypes.create_string_buffer(b"m", 8)
    vector = ctypes.create_string_buffer(parts((ctypes.addressof(byte), 1)))
    name, control = ctypes.create_string_buffer(256), ctypes.create_string_buffer(256)
    at = ctypes.addressof
    for length in (0, 1, 16, 28, 128, 129, 0x7FFFFFFF, 0xFFFFFFFF):
        t.raw("sendmsg name of %d" % length, "sendmsg", client.fileno(), header(at(name), length, at(vector), 1), 0)
    for length in (1, 8, 15, 16, 24, 256):
        t.raw("sendmsg control of %d" % length, "sendmsg", client.fileno(), header(0, 0, at(vector), 1, at(control), length), 0)
    for label, level, kind, size in (("credentials", 1, 2, 12), ("rights", 1, 1, 0), ("unknown", 1, 999, 4), ("of IP", 0, 2, 4), ("of TCP", 6, 1, 4), ("short", 1, 1, -10)):
        message = struct.pack("Qii", 16 + size, level, kind) + bytes(max(0, size) + 8)
        ctypes.memmove(control, message, len(message))
        t.raw("sendmsg %s" % label, "sendmsg", client.fileno(), header(0, 0, at(vector), 1, at(control), 16 + max(size, 0)), 0)
    server.send(b"abc")
    t.until(client, "IN")
    for length in (0, 16, 128):
        message = ctypes.create_string_buffer(header(at(name), length, at(vector), 1, at(control), 100, 0x7777))
        t.raw("recvmsg name of %d" % length, "recvmsg", client.fileno(), message, 0)
        t.note("left", struct.unpack("QI4xQQQQi4x", message.raw[:56])[1::4])
    message = ctypes.create_string_buffer(header(at(name), 0xFFFFFFFF, at(vector), 1))
    t.raw("recvmsg name below nothing", "recvmsg", client.fileno(), message, socket.MSG_DONTWAIT)


@program(modes=MODES, apart=True)
def many_messages(t):
    """sendmmsg(2) and recvmmsg(2) on a connection."""
    client, server = t.pair()
    size = 64

    def batch(*texts):
        keep = [ctypes.create_string_buffer(text, len(text) or 1) for text in texts]
        vectors = [ctypes.create_string_buffer(parts((ctypes.addressof(k), len(text)))) for k, text in zip(keep, texts)]
        raw = b"".join(header(iov=ctypes.addressof(v), count=1) + bytes(8) for v in vectors)
        return ctypes.create_string_buffer(raw), keep, vectors

    messages, keep, vectors = batch(b"one", b"", b"three")
    t.raw("send three", "sendmmsg", client.fileno(), messages, 3, 0)
    t.note("lengths", [struct.unpack("I", messages.raw[size * i + 56 : size * i + 60])[0] for i in range(3)])
    t.note("arrived", t.drain(server, 8))
    t.raw("send none", "sendmmsg", client.fileno(), messages, 0, 0)
    server.send(b"abcdefgh")
    t.until(client, "IN")
    messages, keep, vectors = batch(b"..", b"...", b"....")
    t.raw("receive", "recvmmsg", client.fileno(), messages, 3, 0x10000, None)
    t.note("them", [k.raw for k in keep])
    t.raw("receive none", "recvmmsg", client.fileno(), messages, 0, 0, None)
    t.raw("nothing there", "recvmmsg", client.fileno(), messages, 3, socket.MSG_DONTWAIT, None)
    for label, limit in (("bad", (0, 1_000_000_000)), ("negative", (-1, 0))):
        t.raw("time limit %s" % label, "recvmmsg", client.fileno(), messages, 1, 0, struct.pack("qq", *limit))
    server.close()
    t.until(client, "IN")
    t.raw("at the end", "recvmmsg", client.fileno(), messages, 2, 0, None)


@program(apart=True)
def pipe_to_socket_threads(t):
    """A pump of splice(2): pipe in one thread, socket in the other."""
    client, server = t.pair()
    for s in (client, server):
        s.settimeout(20)
    client.setblocking(True)
    reading, writing = os.pipe()
    size = 400_000

    def fill():
        left = size
        while left:
            left -= os.write(writing, b"s" * min(left, 30_000))
        os.close(writing)

    def pump():
        while os.splice(reading, client.fileno(), 1 << 20):
            pass
        client.shutdown(1)

    threads = [threading.Thread(target=f) for f in (fill, pump)]
    for thread in threads:
        thread.start()
    t.note("all", len(t.drain(server, size + 1)) == size)
    for thread in threads:
        thread.join(10)
