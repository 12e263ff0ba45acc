# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Sockets of many processes and threads: every way to make a process, shared and separate tables of descriptors, descriptors that
change hands, calls that block while another thread acts."""

import array
import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from steps import LIBC, name_of, program, sockaddr

CLONE_FILES, CLONE_VFORK = 0x400, 0x4000
SYS_CLONE3, SYS_CLOSE_RANGE = 435, 436
CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4


def clone(flags):
    """A process as fork(2) makes it, with flags of clone(2)."""
    arguments = struct.pack("QQQQQQQQ", flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    return LIBC.syscall(SYS_CLONE3, arguments, ctypes.c_size_t(len(arguments)))


def send_rights(over, fd):
    over.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


def take_rights(over):
    _, control, _, _ = over.recvmsg(1, 100)
    return socket.socket(fileno=array.array("i", control[0][2][:4])[0])


@program(apart=True)
def spawned(t):
    """posix_spawn(3) with actions, and a program started by vfork(2)."""
    client, server = t.pair()
    server.settimeout(10)
    fd = client.fileno()
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "printf spawned >&7"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, fd, 7)])
    t.note("spawn", os.waitpid(pid, 0)[1])
    t.note("arrived", t.drain(server, 7))
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "printf closed >&7"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, fd, 7), (os.POSIX_SPAWN_CLOSE, 7), (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)])
    t.note("closed", os.waitpid(pid, 0)[1] != 0)
    done = subprocess.run(["/bin/sh", "-c", "printf output; head -c 5 >&2"], stdin=fd, stdout=fd, stderr=fd, close_fds=True) if server.send(b"input") else None
    t.note("by vfork", done.returncode)
    t.note("arrived", t.drain(server, 11))


@program()
def clone_shares_table(t):
    """CLONE_FILES: one table for two processes; what one opens or closes the other has or has not."""
    client, server = t.pair()
    server.settimeout(5)
    listener = t.listener()
    pid = clone(CLONE_FILES)
    if pid == 0:
        fd = LIBC.socket(t.family, 1, 0)
        LIBC.dup2(fd, 150)
        s = socket.socket(fileno=150)
        s.connect(listener.getsockname())
        s.send(b"by the child")
        s.detach()
        LIBC.close(client.fileno())
        os._exit(0)
    t.note("child", os.waitpid(pid, 0)[1])
    s = socket.socket(fileno=150)
    accepted, _ = listener.accept()
    t.note("arrived", t.drain(accepted, 12))
    t.do("its socket is here", s.send, b"by the parent")
    t.note("arrived", t.drain(accepted, 13))
    t.note("peer", s.getpeername() == listener.getsockname())
    t.raw("closed there", "getsockname", client.fileno(), ctypes.create_string_buffer(28), ctypes.byref(ctypes.c_int(28)))
    t.do("the other side", server.recv, 1)
    client.detach()


@program()
def clone_waits(t):
    """A child with the same table blocks in accept(2) on a descriptor that the parent makes."""
    listener = t.listener()
    pid = clone(CLONE_FILES)
    if pid == 0:
        fd = LIBC.accept(listener.fileno(), None, None)
        LIBC.send(fd, b"hello", ctypes.c_size_t(5), 0)
        os._exit(0 if fd >= 0 else 1)
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    t.note("greeted", t.drain(client, 5))
    t.note("child", os.waitpid(pid, 0)[1])


@program()
def table_of_its_own(t):
    """unshare(CLONE_FILES): one number, two sockets, in two threads of a process."""
    client, server = t.pair()
    other, there = t.pair()
    seen, step, done = [], threading.Event(), threading.Event()
    fd = client.fileno()

    def work():
        seen.append(LIBC.unshare(CLONE_FILES))
        LIBC.dup2(other.fileno(), fd)
        LIBC.send(fd, b"thread", ctypes.c_size_t(6), 0)
        name = ctypes.create_string_buffer(28)
        seen.append(LIBC.getpeername(fd, name, ctypes.byref(ctypes.c_int(28))))
        seen.append(int.from_bytes(name.raw[2:4], "big") == there.getsockname()[1])
        step.set()
        done.wait(5)

    thread = threading.Thread(target=work)
    thread.start()
    step.wait(5)
    client.send(b"main")
    t.note("thread", seen)
    t.note("to one", t.drain(server, 4))
    t.note("to the other", t.drain(there, 6))
    t.note("peer", client.getpeername() == server.getsockname())
    client.close()
    t.do("closed by all", server.recv, 1)
    done.set()
    thread.join(5)


@program(apart=True)
def close_range_sockets(t):
    client, server = t.pair()
    server.settimeout(5)
    fd = os.dup2(client.fileno(), 300, inheritable=True)
    client.close()
    t.raw("mark", "syscall", SYS_CLOSE_RANGE, 300, 300, CLOSE_RANGE_CLOEXEC)
    t.note("is closed at exec", not os.get_inheritable(fd))
    os.write(fd, b"open")
    t.note("still open", t.drain(server, 4))
    t.raw("unshare", "syscall", SYS_CLOSE_RANGE, 301, 400, CLOSE_RANGE_UNSHARE)
    t.raw("close", "syscall", SYS_CLOSE_RANGE, 300, 310, 0)
    t.do("the other side", server.recv, 1)
    t.raw("backwards", "syscall", SYS_CLOSE_RANGE, 310, 300, 0)
    t.raw("flags", "syscall", SYS_CLOSE_RANGE, 300, 310, 0x100)


@program()
def rights_of_all(t):
    """A listener, a datagram socket and a connection go to another process, whose maker goes on or ends."""
    listener = t.listener()
    datagram = t.socket(socket.SOCK_DGRAM)
    datagram.bind((t.local, 0))
    name, port = listener.getsockname(), datagram.getsockname()
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        passed = [take_rights(theirs) for _ in range(2)]
        theirs.send(b"x")
        s, _ = passed[0].accept()
        s.send(b"served by another")
        data, source = passed[1].recvfrom(100)
        passed[1].sendto(data[::-1], source)
        own = socket.socket(t.family, socket.SOCK_STREAM)
        own.connect(name)
        send_rights(theirs, own.fileno())
        os._exit(0)
    for s in (listener, datagram):
        send_rights(ours, s.fileno())
    ours.recv(1)
    datagram.close()
    client = socket.socket(t.family, socket.SOCK_STREAM)
    client.connect(name)
    t.note("served", t.drain(client, 17))
    s = socket.socket(t.family, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.sendto(b"abc", port)
    t.do("answered", s.recv, 10)
    made = take_rights(ours)
    os.waitpid(pid, 0)
    accepted, _ = listener.accept()
    t.do("its maker has ended", made.send, b"alive")
    t.note("arrived", t.drain(accepted, 5))
    t.note("peer", made.getpeername() == accepted.getsockname())


@program()
def daemon_outlives(t):
    """A server that has left its parent, its session and its terminal."""
    listener = t.listener()
    name = listener.getsockname()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            for _ in range(2):
                s, _ = listener.accept()
                s.send(b"daemon")
                s.close()
            os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
    listener.close()
    for _ in range(2):
        client = socket.socket(t.family, socket.SOCK_STREAM)
        t.do("connect", client.connect, name)
        t.note("served", t.drain(client, 7))
        client.close()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        client = socket.socket(t.family, socket.SOCK_STREAM)
        outcome = client.connect_ex(name)
        client.close()
        if outcome:
            break
    t.note("ended with it", outcome)


@program(families=(4,))
def short_processes(t):
    """Processes that make a socket, use it and end."""
    listener = t.listener(backlog=128)
    name = listener.getsockname()
    count, heard = 400, 0
    for _ in range(count // 50):
        pids = []
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                s = socket.socket(t.family, socket.SOCK_STREAM)
                os._exit(0 if s.connect_ex(name) == 0 and s.send(b"1") else 1)
            pids.append(pid)
        for _ in pids:
            s, _ = listener.accept()
            heard += len(t.drain(s, 2))
            s.close()
        t.note("ended well", sum(os.waitpid(pid, 0)[1] == 0 for pid in pids))
    t.note("heard", heard)


@program(apart=True)
def exec_closes(t):
    """exec(2) closes what is marked so, and the other side hears of it while the process goes on."""
    client, server = t.pair()
    kept, there = t.pair()
    for s in (server, there):
        s.settimeout(10)
    pid = os.fork()
    if pid == 0:
        os.dup2(os.dup2(kept.fileno(), 200), 9, inheritable=True)
        os.execv("/bin/sh", ["sh", "-c", "read line <&9; printf done >&9"])
    client.close()
    kept.close()
    t.do("marked", server.recv, 1)
    there.send(b"line\n")
    t.note("kept", t.drain(there, 4))
    t.note("ended", os.waitpid(pid, 0)[1])
    t.do("closed", there.recv, 1)


@program()
def threads_accept(t):
    """Several threads wait in accept(2) on one listener."""
    listener = t.listener()
    served = []

    def work():
        s, _ = listener.accept()
        served.append(s.recv(10))
        s.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(4):
        with socket.create_connection(listener.getsockname()[:2], 5) as s:
            s.send(b"%d" % number)
            s.recv(1)
    for thread in threads:
        thread.join(5)
    t.note("all", sorted(served))


def outcome_of(function, *arguments):
    """Starts a thread and gives a list that will hold what the call came to, and the thread."""
    seen = []

    def work():
        ctypes.set_errno(0)
        result = function(*arguments)
        seen.append(result if result >= 0 else name_of(ctypes.get_errno()))

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.15)
    return seen, thread


@program(apart=True)
def threads_and_shutdown(t):
    """What wakes calls that block: shutdown(2) of another thread, in each direction."""
    buffer = ctypes.create_string_buffer(1 << 20)
    for how in (0, 1, 2):
        client, server = t.pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
        for label, call in (
            ("recv", lambda fd: LIBC.recv(fd, buffer, ctypes.c_size_t(1), 0)),
            ("recvfrom", lambda fd: LIBC.recvfrom(fd, buffer, ctypes.c_size_t(1), 0, buffer, ctypes.byref(ctypes.c_int(28)))),
        ):
            seen, thread = outcome_of(call, client.fileno())
            t.do("%s, shutdown %d" % (label, how), client.shutdown, how)
            thread.join(5)
            t.note("%s, woken by %d" % (label, how), seen)
    client, server = t.pair()
    client.setblocking(True)
    large = ctypes.create_string_buffer(32 << 20)
    seen, thread = outcome_of(LIBC.send, client.fileno(), large, ctypes.c_size_t(len(large)), socket.MSG_NOSIGNAL)
    t.settle(client)
    t.note("send blocks", seen)
    client.shutdown(1)
    thread.join(5)
    t.note("send, woken", [0 < n < len(large) if isinstance(n, int) else n for n in seen])


@program(apart=True)
def threads_and_connect(t):
    """A connect(2) that blocks, and what another thread does to its socket."""
    for how in ("shutdown", "close", "name"):
        with t.listener(backlog=0) as listener:
            first = socket.socket(t.family, socket.SOCK_STREAM)
            first.connect(listener.getsockname())
            s = socket.socket(t.family, socket.SOCK_STREAM)
            s.settimeout(None)
            name = sockaddr(t.family, *listener.getsockname()[:2])
            fd = s.fileno()
            seen, thread = outcome_of(LIBC.connect, fd, name, len(name))
            t.note("%s: blocks" % how, seen)
            if how == "shutdown":
                t.do("shutdown", s.shutdown, 2)
                thread.join(5)
                t.note("woken", seen)
            elif how == "close":
                t.note("close", LIBC.close(s.detach()))
                time.sleep(0.1)
                t.note("still blocks", seen)
                listener.accept()
                thread.join(10)
                t.note("then connects", seen)
            else:
                t.note("has a name", s.getsockname()[1] != 0)
                t.do("no peer", s.getpeername)
                listener.accept()
                thread.join(10)
                t.note("connects", seen)


@program()
def threads_and_datagrams(t):
    """A recvfrom(2) that blocks: shutdown(2), a close, a datagram."""
    buffer = ctypes.create_string_buffer(64)

    def wait(fd):
        return LIBC.recvfrom(fd, buffer, ctypes.c_size_t(64), 0, ctypes.create_string_buffer(28), ctypes.byref(ctypes.c_int(28)))

    s = socket.socket(t.family, socket.SOCK_DGRAM)
    s.bind((t.local, 0))
    other = socket.socket(t.family, socket.SOCK_DGRAM)
    seen, thread = outcome_of(wait, s.fileno())
    other.sendto(b"four", s.getsockname())
    thread.join(5)
    t.note("datagram", seen)
    seen, thread = outcome_of(wait, s.fileno())
    t.do("shutdown without a peer", s.shutdown, 0)
    thread.join(0.5)
    t.note("is it woken", seen)
    other.sendto(b"again", s.getsockname())
    thread.join(5)
    t.note("in the end", len(seen))
    one = socket.socket(t.family, socket.SOCK_DGRAM)
    one.connect(s.getsockname())
    seen, thread = outcome_of(wait, one.fileno())
    t.do("shutdown with a peer", one.shutdown, 2)
    thread.join(5)
    t.note("woken", seen)


@program(apart=True)
def dup_over_waiting(t):
    """dup2(2) over a descriptor on which another thread waits: the call stays with its socket."""
    client, server = t.pair()
    other, there = t.pair()
    client.setblocking(True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
    fd = client.detach()
    buffer = ctypes.create_string_buffer(10)
    seen, thread = outcome_of(lambda: LIBC.recvfrom(fd, buffer, ctypes.c_size_t(10), 0, None, None))
    os.dup2(other.fileno(), fd)
    there.send(b"new socket")
    time.sleep(0.1)
    t.note("still waits", seen)
    server.send(b"old")
    thread.join(5)
    t.note("woken", seen)
    t.do("the new one", os.read, fd, 10)


@program()
def epoll_over_fork(t):
    """An epoll instance and its registrations in a child."""
    client, server = t.pair()
    with select.epoll() as e:
        e.register(client, select.EPOLLIN)
        pid = os.fork()
        if pid == 0:
            ready = e.poll(5)
            os._exit(7 if ready and client.recv(10) == b"for any" else 1)
        server.send(b"for any")
        t.note("child", os.waitpid(pid, 0)[1] >> 8)
        t.note("taken", e.poll(0.1))
        client.close()
        t.note("gone", e.poll(0.1))


@program()
def nested_children(t):
    """A chain of processes, each of which passes its connection on."""
    client, server = t.pair()
    server.settimeout(10)
    code = (
        "import os,socket,subprocess,sys\nn,fd=int(sys.argv[1]),int(sys.argv[2])\ns=socket.socket(fileno=fd)\ns.send(b'%d' % n)\n"
        "s.detach()\nif n: subprocess.run([sys.executable,'-S','-c',sys.argv[3],str(n-1),str(fd),sys.argv[3]],pass_fds=[fd])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code, "3", str(client.fileno()), code], pass_fds=[client.fileno()])
    t.note("status", done.returncode)
    t.note("each in turn", t.drain(server, 4))
