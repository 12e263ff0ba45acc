# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Sockets that were made and nothing else: socket(2) itself, and every call that wants more."""

import socket

from steps import MODES, POLLERS, program


@program(families=(0,))
def socket_arguments(t):
    kinds = [1, 2, 3, 4, 5, 6, 10, 11, -1]
    protocols = [0, 1, 2, 6, 17, 41, 58, 132, 255, 263, 999, -1]
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in kinds:
            for protocol in protocols:
                if kind in (2, 3) and protocol in (1, 58) or kind == 3:
                    continue  # rights that depend on the machine
                s = t.do("socket %d %d %d" % (family, kind, protocol), socket.socket, family, kind, protocol)
                if s:
                    s.close()


@program(families=(0,))
def socket_flags(t):
    for flags in (0, 0o4000, 0o2000000, 0o2004000, 0x10, 0x100000):
        fd = t.raw("flags %#x" % flags, "socket", 2, 1 | flags, 0) if flags in (0x10, 0x100000) else None
        if fd is None:
            with socket.socket(2, 1 | flags) as s:
                t.note("flags %#x" % flags, (s.get_inheritable(), s.getblocking()))


@program(families=(0,))
def socket_pair(t):
    for family in (2, 10):
        for kind in (1, 2):
            t.do("pair %d %d" % (family, kind), socket.socketpair, family, kind)


@program(pollers=POLLERS)
def fresh_masks(t):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = t.socket(kind)
        t.mask("fresh %d" % kind, s)
        s.bind((t.local, 0))
        t.mask("bound %d" % kind, s)


@program(modes=MODES)
def fresh_calls(t):
    s = t.socket()
    t.do("getsockname", s.getsockname)
    t.do("getpeername", s.getpeername)
    t.do("recvfrom with an address", lambda: s.recvfrom(10))
    t.do("recv out of band", s.recv, 1, socket.MSG_OOB)
    t.do("recv error queue", s.recv, 1, socket.MSG_ERRQUEUE)
    t.do("accept", s.accept)
    for how in (0, 1, 2):
        t.do("shutdown %d" % how, s.shutdown, how)
    t.raw("shutdown 3", "shutdown", s.fileno(), 3)
    t.raw("shutdown -1", "shutdown", s.fileno(), -1)
    t.error("SO_ERROR", s)


@program(modes=MODES)
def fresh_transfer(t):
    s = t.socket()
    t.do("recv", s.recv, 10)
    t.do("send", s.send, b"x", socket.MSG_NOSIGNAL)
    t.do("sendto", s.sendto, b"x", socket.MSG_NOSIGNAL, (t.local, 9))
    t.do("recvmsg", s.recvmsg, 10)
    t.do("sendmsg", s.sendmsg, [b"x"], [], socket.MSG_NOSIGNAL)
    t.error("SO_ERROR", s)


@program()
def bad_descriptors(t):
    buffer = bytes(128)
    for name, arguments in (
        ("bind", (buffer, 16)),
        ("connect", (buffer, 16)),
        ("listen", (1,)),
        ("accept", (None, None)),
        ("getsockname", (buffer, buffer)),
        ("getpeername", (buffer, buffer)),
        ("shutdown", (0,)),
        ("getsockopt", (1, 1, buffer, buffer)),
        ("setsockopt", (1, 1, buffer, 4)),
        ("sendto", (buffer, 1, 0, buffer, 16)),
        ("recvfrom", (buffer, 1, 0, buffer, buffer)),
        ("sendmsg", (buffer, 0)),
        ("recvmsg", (buffer, 0)),
    ):
        t.raw("%s -1" % name, name, -1, *arguments)
        t.raw("%s 999" % name, name, 999, *arguments)
        with open("/dev/null") as file:
            t.raw("%s file" % name, name, file.fileno(), *arguments)
