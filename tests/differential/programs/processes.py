# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Sockets across fork, exec, descriptor passing and threads."""

import array
import os
import socket
import subprocess
import sys
import threading
import time

from steps import program


@program(apart=True)
def fork_shares(t):
    client, server = t.pair()
    server.settimeout(5)
    pid = os.fork()
    if pid == 0:
        client.send(b"child")
        os._exit(0)
    os.waitpid(pid, 0)
    t.do("child", server.recv, 10)
    client.send(b"parent")
    t.do("parent", server.recv, 10)
    client.close()
    t.do("closed by the last", server.recv, 10)


@program()
def fork_accepts(t):
    """Two processes wait on one listener."""
    listener = t.listener()
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            s, _ = listener.accept()
            s.send(b"served")
            os._exit(0)
        pids.append(pid)
    for _ in pids:
        with socket.create_connection(listener.getsockname()[:2], 5) as s:
            t.note("served", t.drain(s, 6))
    for pid in pids:
        t.note("ended", os.waitpid(pid, 0)[1])


@program(apart=True)
def exec_keeps(t):
    """A socket that is inherited over exec, and one that is not."""
    client, server = t.pair()
    server.settimeout(10)
    code = "import socket,sys;s=socket.socket(fileno=int(sys.argv[1]));s.send(b'after exec');print(s.family,s.type)"
    done = subprocess.run([sys.executable, "-c", code, str(client.fileno())], pass_fds=[client.fileno()], capture_output=True)
    t.note("status", done.returncode)
    t.note("sees", done.stdout)
    t.do("sent", server.recv, 20)
    done = subprocess.run([sys.executable, "-c", code, str(client.fileno())], capture_output=True)
    t.note("not inherited", done.returncode != 0)


@program(apart=True)
def rights_carry(t):
    """A connection passed over a unix socket."""
    client, server = t.pair()
    server.settimeout(5)
    one, two = socket.socketpair()
    one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.fileno()]))])
    client.close()
    _, control, _, _ = two.recvmsg(1, 100)
    passed = socket.socket(fileno=array.array("i", control[0][2][:4])[0])
    t.do("send", passed.send, b"passed")
    t.do("arrived", server.recv, 10)
    t.note("peer", passed.getpeername() == server.getsockname())
    passed.close()
    one.close()
    two.close()
    t.do("closed", server.recv, 10)


@program(apart=True)
def dup_over(t):
    """dup2 over a connected socket closes it."""
    client, server = t.pair()
    other, _ = t.pair()
    server.settimeout(5)
    os.dup2(other.fileno(), client.fileno())
    t.do("closed", server.recv, 1)


@program(apart=True)
def close_while_waiting(t):
    """close(2) does not wake a thread that waits in recv(2): the data that comes later still does."""
    client, server = t.pair()
    client.setblocking(True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
    seen = []
    fd = client.detach()

    def wait():
        seen.append(os.read(fd, 10))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    os.close(fd)
    time.sleep(0.1)
    t.note("still waits", seen)
    server.send(b"late")
    thread.join(5)
    t.note("woken by data", seen)


@program()
def close_listener_while_accepting(t):
    listener = t.listener()
    fd = os.dup(listener.fileno())
    name = listener.getsockname()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(t.libc("accept", fd, None, None) >= 0))
    thread.start()
    time.sleep(0.1)
    listener.close()
    client = socket.create_connection(name[:2], 5)
    thread.join(5)
    t.note("accepted through the other descriptor", seen)
    assert client


@program(apart=True)
def many_short(t):
    """A connection for each of many requests."""
    listener = t.listener(backlog=64)
    count = 60

    def serve():
        for _ in range(count):
            s, _ = listener.accept()
            with s:
                s.sendall(s.recv(10))

    thread = threading.Thread(target=serve)
    thread.start()
    good = 0
    for number in range(count):
        with socket.create_connection(listener.getsockname()[:2], 5) as s:
            s.sendall(b"%d" % number)
            good += s.recv(10) == b"%d" % number
    thread.join(10)
    t.note("echoed", good)
