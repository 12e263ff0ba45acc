# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What any descriptor can be asked, asked of sockets: fstat(2), fcntl(2), ioctl(2), positions, locks, limits."""

import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import stat
import struct
import tempfile

from steps import LIBC, name_of, program

FIOASYNC, SIOCSPGRP, SIOCGPGRP = 0x5452, 0x8902, 0x8904
F_SETOWN_EX, F_GETOWN_EX = 15, 16
F_OFD_GETLK, F_OFD_SETLK = 36, 37


def kinds(t):
    """A socket of every kind and state, with what keeps it in that state."""
    client, server = t.pair()
    return {
        "fresh": t.socket(),
        "listener": t.listener(),
        "client": client,
        "server": server,
        "datagram": t.socket(socket.SOCK_DGRAM),
    }


@program()
def fstat_sockets(t):
    found = kinds(t)
    for label, s in found.items():
        seen = os.fstat(s.fileno())
        t.note("%s mode" % label, (stat.S_ISSOCK(seen.st_mode), oct(seen.st_mode)))
        t.note("%s links, size, blocks, owner" % label, [seen.st_nlink, seen.st_size, seen.st_blocks, seen.st_uid == os.getuid()])
        link = os.readlink("/proc/self/fd/%d" % s.fileno())
        t.note("%s link" % label, link == "socket:[%d]" % seen.st_ino)
        t.do("%s opened again" % label, os.open, "/proc/self/fd/%d" % s.fileno(), os.O_RDWR)
        copy = os.dup(s.fileno())
        t.note("%s copy is the same file" % label, os.fstat(copy).st_ino == seen.st_ino)
        os.close(copy)
    t.note("all different", len({os.fstat(s.fileno()).st_ino for s in found.values()}) == len(found))


def mapped(fd, protection):
    """What mmap(2) of a page, shared, comes to."""
    ctypes.set_errno(0)
    LIBC.mmap.restype = ctypes.c_void_p
    at = LIBC.mmap(None, ctypes.c_size_t(4096), protection, 1, fd, ctypes.c_long(0))
    return name_of(ctypes.get_errno()) if at == ctypes.c_void_p(-1).value else "mapped"


@program()
def files_only(t):
    """Calls that only files understand."""
    for label, s in kinds(t).items():
        fd = s.fileno()
        for whence in (0, 1, 2, 3, 99):
            t.do("%s lseek %d" % (label, whence), os.lseek, fd, 0, whence)
        t.do("%s pread" % label, os.pread, fd, 1, 0)
        t.do("%s pwrite" % label, os.pwrite, fd, b"x", 0)
        t.do("%s preadv" % label, os.preadv, fd, [bytearray(1)], 0)
        t.do("%s pwritev" % label, os.pwritev, fd, [b"x"], 0)
        t.do("%s ftruncate" % label, os.ftruncate, fd, 0)
        t.do("%s posix_fallocate" % label, os.posix_fallocate, fd, 0, 10)
        t.raw("%s fallocate" % label, "fallocate", fd, 0, 0, 10)
        t.do("%s fsync" % label, os.fsync, fd)
        t.do("%s fdatasync" % label, os.fdatasync, fd)
        t.raw("%s sync_file_range" % label, "sync_file_range", fd, ctypes.c_long(0), ctypes.c_long(1), 0)
        t.raw("%s syncfs" % label, "syncfs", fd)
        t.do("%s posix_fadvise" % label, os.posix_fadvise, fd, 0, 0, 0)
        t.raw("%s readahead" % label, "readahead", fd, ctypes.c_long(0), ctypes.c_long(1))
        t.do("%s fchdir" % label, os.fchdir, fd)
        t.do("%s listdir" % label, os.listdir, fd)
        t.do("%s getxattr" % label, os.getxattr, fd, "user.x")
        t.do("%s isatty" % label, os.isatty, fd)
        for protection in (1, 2, 3):
            t.note("%s mmap %d" % (label, protection), mapped(fd, protection))
        with tempfile.TemporaryFile() as file:
            file.write(b"x" * 10)
            file.flush()
            t.do("%s copy_file_range to it" % label, os.copy_file_range, file.fileno(), fd, 5, 0)
            t.do("%s copy_file_range from it" % label, os.copy_file_range, fd, file.fileno(), 5)


@program()
def locks_on_sockets(t):
    for label, s in kinds(t).items():
        for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK):
            lock = struct.pack("hhqqi4x", kind, 0, 0, 0, 0)
            for name, command in (("GETLK", fcntl.F_GETLK), ("SETLK", fcntl.F_SETLK), ("OFD_GETLK", F_OFD_GETLK), ("OFD_SETLK", F_OFD_SETLK)):
                t.do("%s %s %d" % (label, name, kind), lambda: fcntl.fcntl(s, command, lock)[:2])
        t.do("%s flock" % label, fcntl.flock, s, fcntl.LOCK_EX | fcntl.LOCK_NB)
        t.do("%s flock shared" % label, fcntl.flock, s, fcntl.LOCK_SH | fcntl.LOCK_NB)
        t.do("%s unlock" % label, fcntl.flock, s, fcntl.LOCK_UN)
        t.do("%s lease" % label, fcntl.fcntl, s, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        t.do("%s notify" % label, fcntl.fcntl, s, fcntl.F_NOTIFY, 1)


@program()
def fcntl_flags(t):
    for label, s in kinds(t).items():
        base = fcntl.fcntl(s, fcntl.F_GETFL)
        t.note("%s flags" % label, oct(base & ~os.O_NONBLOCK))
        for name in ("O_NONBLOCK", "O_APPEND", "O_ASYNC", "O_DIRECT", "O_NOATIME", "O_SYNC", "O_CREAT", "O_RDONLY"):
            t.do("%s set %s" % (label, name), fcntl.fcntl, s, fcntl.F_SETFL, getattr(os, name))
            t.note("now", oct(fcntl.fcntl(s, fcntl.F_GETFL)))
        fcntl.fcntl(s, fcntl.F_SETFL, base)
        t.note("%s descriptor flags" % label, fcntl.fcntl(s, fcntl.F_GETFD))
        fcntl.fcntl(s, fcntl.F_SETFD, 0)
        t.note("cleared", fcntl.fcntl(s, fcntl.F_GETFD))
        copy = fcntl.fcntl(s, fcntl.F_DUPFD, 200)
        t.note("copy", (copy, fcntl.fcntl(copy, fcntl.F_GETFD)))
        os.close(copy)
        copy = fcntl.fcntl(s, fcntl.F_DUPFD_CLOEXEC, 200)
        t.note("copy that is closed at exec", (copy, fcntl.fcntl(copy, fcntl.F_GETFD)))
        os.close(copy)
        for name, command in (("F_GETPIPE_SZ", 1032), ("F_SETPIPE_SZ", 1031), ("F_GET_SEALS", 1034), ("F_GETLEASE", 1025), ("F_GET_RW_HINT", 1035), ("nonsense", 4321)):
            t.do("%s %s" % (label, name), fcntl.fcntl, s, command, 0)
        t.do("%s duplicate beyond" % label, fcntl.fcntl, s, fcntl.F_DUPFD, 1 << 30)


@program()
def owner_of_signals(t):
    """F_SETOWN and its kin say who hears SIGIO and SIGURG."""
    me = os.getpid()
    for label, s in kinds(t).items():
        t.note("%s nobody" % label, fcntl.fcntl(s, fcntl.F_GETOWN))
        t.do("%s own" % label, fcntl.fcntl, s, fcntl.F_SETOWN, me)
        t.note("owner", fcntl.fcntl(s, fcntl.F_GETOWN) == me)
        t.note("SIOCGPGRP", struct.unpack("i", fcntl.ioctl(s, SIOCGPGRP, b"0000"))[0] == me)
        t.do("group", fcntl.fcntl, s, fcntl.F_SETOWN, -os.getpgrp())
        kind, owner = struct.unpack("ii", fcntl.fcntl(s, F_GETOWN_EX, bytes(8)))
        t.note("is the group", (kind, owner == os.getpgrp()))
        t.do("SIOCSPGRP", lambda: len(fcntl.ioctl(s, SIOCSPGRP, struct.pack("i", me))))
        t.note("is the owner again", fcntl.fcntl(s, fcntl.F_GETOWN) == me)
        t.do("extended", lambda: struct.unpack("ii", fcntl.fcntl(s, F_GETOWN_EX, bytes(8)))[0])
        t.do("a thread", lambda: len(fcntl.fcntl(s, F_SETOWN_EX, struct.pack("ii", 0, me))))
        t.do("no such kind", fcntl.fcntl, s, F_SETOWN_EX, struct.pack("ii", 7, me))
        t.do("nobody there", fcntl.fcntl, s, fcntl.F_SETOWN, 0x3FFFFFFF)
        t.do("signal", fcntl.fcntl, s, fcntl.F_SETSIG, signal.SIGUSR1)
        t.note("F_GETSIG", fcntl.fcntl(s, fcntl.F_GETSIG))
        t.do("no signal", fcntl.fcntl, s, fcntl.F_SETSIG, 0)
        t.do("too high", fcntl.fcntl, s, fcntl.F_SETSIG, 65)
        t.do("FIOASYNC", fcntl.ioctl, s, FIOASYNC, struct.pack("i", 1))
        t.note("flag", bool(fcntl.fcntl(s, fcntl.F_GETFL) & os.O_ASYNC))
        t.do("FIOASYNC off", fcntl.ioctl, s, FIOASYNC, struct.pack("i", 0))
        t.note("flag", bool(fcntl.fcntl(s, fcntl.F_GETFL) & os.O_ASYNC))
        fcntl.fcntl(s, fcntl.F_SETOWN, 0)


def waits_for(number, seconds=2.0):
    """The next signal of that number, blocked before: its code and whether a descriptor is told; None after that time."""
    found = signal.sigtimedwait({number}, seconds)
    return found and found.si_code > 0


@program(apart=True)
def sigio_data(t):
    """O_ASYNC: a signal when data comes, with F_SETSIG one that says so."""
    for number in (0, signal.SIGUSR1, signal.SIGRTMIN + 3):
        client, server = t.pair()
        heard = number or signal.SIGIO
        signal.pthread_sigmask(signal.SIG_BLOCK, {heard})
        fcntl.fcntl(client, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(client, fcntl.F_SETSIG, number)
        fcntl.fcntl(client, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        while signal.sigtimedwait({heard}, 0.1):
            pass
        server.send(b"data")
        t.note("data %d" % number, waits_for(heard) is not None)
        t.note("read", t.drain(client, 4))
        while signal.sigtimedwait({heard}, 0.1):
            pass
        server.close()
        t.note("end %d" % number, waits_for(heard) is not None)
        client.close()


@program()
def sigio_listener(t):
    listener = t.listener()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    fcntl.ioctl(listener, SIOCSPGRP, struct.pack("i", os.getpid()))
    fcntl.ioctl(listener, FIOASYNC, struct.pack("i", 1))
    while signal.sigtimedwait({signal.SIGIO}, 0.1):
        pass
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    t.note("somebody comes", waits_for(signal.SIGIO) is not None)
    server, _ = listener.accept()
    t.note("accepted is not so", bool(fcntl.fcntl(server, fcntl.F_GETFL) & os.O_ASYNC))
    t.note("nor owned", fcntl.fcntl(server, fcntl.F_GETOWN))


@program()
def sigio_datagram(t):
    s = t.socket(socket.SOCK_DGRAM)
    s.bind((t.local, 0))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    fcntl.fcntl(s, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(s, fcntl.F_SETFL, os.O_ASYNC)
    while signal.sigtimedwait({signal.SIGIO}, 0.1):
        pass
    t.socket(socket.SOCK_DGRAM).sendto(b"x", s.getsockname())
    t.note("a datagram", waits_for(signal.SIGIO) is not None)


@program(apart=True)
def sigurg_owner(t):
    """SIGURG for urgent data goes to the owner, without O_ASYNC."""
    client, server = t.pair()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
    server.send(b"X", socket.MSG_OOB)
    t.note("no owner", waits_for(signal.SIGURG, 0.2))
    fcntl.fcntl(client, fcntl.F_SETOWN, os.getpid())
    server.send(b"Y", socket.MSG_OOB)
    t.note("owner", waits_for(signal.SIGURG) is not None)


@program()
def ioctl_states(t):
    numbers = {
        "FIONREAD": 0x541B, "TIOCOUTQ": 0x5411, "SIOCATMARK": 0x8905, "SIOCOUTQNSD": 0x894B, "SIOCGSTAMP": 0x8906,
        "SIOCGSTAMPNS": 0x8907, "TCGETS": 0x5401, "TIOCGWINSZ": 0x5413, "FIOQSIZE": 0x5460, "FIGETBSZ": 2, "FIBMAP": 1, "nonsense": 0x1234,
        "nonsense of sockets": 0x89FF, "SIOCADDRT": 0x890B, "SIOCSIFADDR": 0x8916, "SIOCETHTOOL": 0x8946,
    }  # fmt: skip
    for label, s in kinds(t).items():
        for name, number in numbers.items():
            t.raw("%s %s" % (label, name), "ioctl", s.fileno(), ctypes.c_ulong(number), ctypes.create_string_buffer(256))
        for name in ("FIONREAD", "TIOCOUTQ", "SIOCATMARK"):
            t.raw("%s %s null" % (label, name), "ioctl", s.fileno(), ctypes.c_ulong(numbers[name]), None)
        t.raw("%s FIONBIO null" % label, "ioctl", s.fileno(), ctypes.c_ulong(0x5421), None)
        t.raw("%s FIOASYNC bad" % label, "ioctl", s.fileno(), ctypes.c_ulong(FIOASYNC), ctypes.c_void_p(8))
        t.raw("%s FIOCLEX" % label, "ioctl", s.fileno(), ctypes.c_ulong(0x5451), None)
        t.note("closed at exec", fcntl.fcntl(s, fcntl.F_GETFD))
        t.raw("%s FIONCLEX" % label, "ioctl", s.fileno(), ctypes.c_ulong(0x5450), None)
        t.note("not closed at exec", fcntl.fcntl(s, fcntl.F_GETFD))


@program(bare=True)
def ioctl_interfaces(t):
    """netdevice(7): the interfaces of a machine that has loopback and one network."""
    numbers = {
        "INDEX": 0x8933, "FLAGS": 0x8913, "ADDR": 0x8915, "NETMASK": 0x891B, "BRDADDR": 0x8919, "DSTADDR": 0x8917, "MTU": 0x8921, "METRIC": 0x891D,
    }  # fmt: skip
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(t.family, kind)
        for name in ("lo", "nonsense0", "", "lo:1"):
            for label, number in numbers.items():
                request = struct.pack("16s24x", name.encode())
                if name == "lo" and label in ("INDEX", "ADDR", "NETMASK", "MTU", "METRIC"):
                    t.do("%s %s" % (name, label), lambda: fcntl.ioctl(s, number, request)[16:24])
                else:
                    t.do("%s %s" % (name, label), lambda: len(fcntl.ioctl(s, number, request)))
        for label, wanted in () if t.version == 6 else (("ADDR", b"\x02\0\0\0\x0a\x4d\0\x02"), ("MTU", struct.pack("i4x", 1420)), ("NETMASK", b"\x02\0\0\0\xff\xff\xff\0")):
            t.note("netcon0 %s" % label, fcntl.ioctl(s, numbers[label], struct.pack("16s24x", b"netcon0"))[16:24] == wanted)
        t.do("name of 1", lambda: fcntl.ioctl(s, 0x8910, struct.pack("16si20x", b"", 1))[:3])
        t.do("name of 99", lambda: fcntl.ioctl(s, 0x8910, struct.pack("16si20x", b"", 99))[:3])
        t.raw("null", "ioctl", s.fileno(), ctypes.c_ulong(0x8913), None)
        t.do("set flags", fcntl.ioctl, s, 0x8914, struct.pack("16sh22x", b"lo", 0x41))
        t.do("set address", fcntl.ioctl, s, 0x8916, struct.pack("16sHH4s16x", b"lo", 2, 0, b"\x7f\0\0\1"))
        buffer = ctypes.create_string_buffer(400)
        request = struct.pack("iiQ", 400, 0, ctypes.addressof(buffer))
        found = fcntl.ioctl(s, 0x8912, request)
        length = struct.unpack("i", found[:4])[0]
        t.note("list", [buffer.raw[at : at + 16].rstrip(b"\0") for at in range(0, length, 40)])
        t.note("length wanted", struct.unpack("i", fcntl.ioctl(s, 0x8912, struct.pack("iiQ", 0, 0, 0))[:4])[0])
    t.note("names", sorted(name for _, name in socket.if_nameindex()))


@program(families=(0,))
def wrong_files(t):
    """What is a descriptor but no socket."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as file, select.epoll() as e:
        path = os.open("/dev/null", os.O_PATH)
        buffer, length = ctypes.create_string_buffer(64), ctypes.c_int(64)
        for label, fd in (("file", file.fileno()), ("pipe", reading), ("epoll", e.fileno()), ("path", path), ("none", 999), ("negative", -5)):
            for name, arguments in (
                ("getsockopt", (1, 2, buffer, ctypes.byref(length))),
                ("getsockopt", (6, 1, buffer, ctypes.byref(length))),
                ("getsockopt", (99, 1, None, None)),
                ("setsockopt", (1, 2, buffer, 4)),
                ("setsockopt", (41, 26, None, -1)),
                ("getsockname", (buffer, ctypes.byref(length))),
                ("getpeername", (None, None)),
                ("bind", (buffer, 16)),
                ("connect", (None, 16)),
                ("listen", (-1,)),
                ("accept4", (None, None, -1)),
                ("shutdown", (9,)),
                ("send", (buffer, 1, 0)),
                ("sendto", (buffer, 1, 0, None, 500)),
                ("recv", (buffer, 1, 0)),
                ("recvmsg", (None, 0)),
                ("sendmsg", (None, 0)),
                ("sendmmsg", (None, 1, 0)),
                ("recvmmsg", (None, 1, 0, None)),
            ):
                t.raw("%s %s" % (label, name), name, fd, *arguments)
    os.close(writing)


@program()
def descriptor_numbers(t):
    """The lowest free number, and what happens when there is none left."""
    listener = t.listener()
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    free = os.dup(0)
    os.close(free)
    fd = t.libc("socket", t.family, 1, 0)
    t.note("socket takes the lowest", fd == free)
    os.close(fd)
    fd = t.libc("accept", listener.fileno(), None, None)
    t.note("accept takes the lowest", fd == free)
    os.close(fd)
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    highest = os.dup(0)
    os.close(highest)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, before[1]))
    t.raw("socket", "socket", t.family, 1, 0)
    t.raw("datagram", "socket", t.family, 2, 0)
    t.raw("pair", "socketpair", 1, 1, 0, ctypes.create_string_buffer(8))
    t.raw("accept", "accept", listener.fileno(), None, None)
    t.raw("netlink", "socket", 16, 3, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    client.send(b"waited")
    server, _ = listener.accept()
    t.do("the connection is still there", server.recv, 10)


@program()
def dup_shares(t):
    """What copies of a descriptor have in common."""
    client, server = t.pair()
    copy = socket.socket(fileno=os.dup(client.fileno()))
    client.setblocking(False)
    t.note("blocking", os.get_blocking(copy.fileno()))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    t.note("option", copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
    t.note("closed at exec", (os.get_inheritable(copy.fileno()), os.get_inheritable(client.fileno())))
    t.note("name", copy.getsockname() == client.getsockname())
    copy.shutdown(socket.SHUT_WR)
    t.do("shut through the copy", client.send, b"x", socket.MSG_NOSIGNAL)
    t.do("the other side", lambda: t.drain(server, 1))
    fresh = socket.socket(t.family, socket.SOCK_STREAM)
    twin = socket.socket(fileno=os.dup(fresh.fileno()))
    fresh.bind((t.local, 0))
    t.note("bound for both", twin.getsockname() == fresh.getsockname())
    twin.listen(2)
    t.note("listens for both", fresh.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    third = socket.socket(t.family, socket.SOCK_STREAM)
    other = os.dup(third.fileno())
    third.connect(twin.getsockname())
    os.write(other, b"by the copy")
    t.do("arrives", lambda: t.drain(fresh.accept()[0], 11))
