# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What random sequences found (ci/differential), each as small as it was when it was found."""

import ctypes
import socket
import struct

from steps import MODES, program


@program()
def found_udp_receive_urgent(t):
    """recv(2) on a datagram socket does not look at MSG_OOB, with or without a datagram."""
    s, sender = t.socket(socket.SOCK_DGRAM), t.socket(socket.SOCK_DGRAM)
    s.bind((t.local, 0))
    t.do("nothing", s.recv, 10, socket.MSG_OOB | socket.MSG_DONTWAIT)
    sender.sendto(b"abc", s.getsockname())
    t.until(s, "IN")
    t.do("a datagram", s.recv, 10, socket.MSG_OOB | socket.MSG_DONTWAIT)


@program()
def found_bind_listener_strange(t):
    """bind(2) a second time: IPv6 looks at the socket first, IPv4 at the address."""
    with t.listener() as listener:
        t.do("foreign", listener.bind, ("2001:db8::7" if t.version == 6 else "203.0.113.7", 0))
        t.do("own", listener.bind, (t.local, 0))


@program(modes=("nonblocking",), apart=True)
def found_connect_after_shutdown(t):
    """shutdown(2) takes the answer of an attempt that nobody has asked for again."""
    with t.listener() as listener:
        s = t.socket()
        s.connect_ex(listener.getsockname())
        t.until(s, "OUT")
        t.do("shutdown", s.shutdown, socket.SHUT_WR)
        t.do("second", s.connect, listener.getsockname())


@program(modes=MODES)
def found_listener_sends_nothing(t):
    """sendmsg(2) of no bytes to an address, on sockets without a connection."""
    with t.listener() as listener:
        t.do("listener", listener.sendmsg, [b""], [], 0, listener.getsockname())
        s = t.socket()
        t.do("fresh", s.sendmsg, [b""], [], 0, listener.getsockname())
        client, server = t.pair()
        t.do("connected", client.sendmsg, [b""], [], 0, listener.getsockname())
        server.close()


@program()
def found_connect_again_strange(t):
    """connect(2) of a socket that is taken looks at its state before the address, but for one without a family."""
    listener = t.listener()
    client, server = t.pair()
    for name, s in (("listener", listener), ("client", client), ("fresh", t.socket())):
        for kind, address in (("unix", struct.pack("=H", 1) + bytes(26)), ("short", bytes((2, 0, 0, 80))), ("none", b"x")):
            t.raw("%s, %s" % (name, kind), "connect", s.fileno(), address, len(address))
    server.close()


@program()
def found_udp_refused_elsewhere(t):
    """A connected socket sends somewhere else, where nobody is: that is no error of its own."""
    there, s = t.socket(socket.SOCK_DGRAM), t.socket(socket.SOCK_DGRAM)
    there.bind((t.local, 0))
    s.connect(there.getsockname())
    t.do("elsewhere", s.sendto, b"abc", (t.local, t.free_port()))
    t.mask("sender", s)
    t.error("SO_ERROR", s)
    t.do("to the peer", s.send, b"abc")


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Header(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("name_len", ctypes.c_uint),
        ("vector", ctypes.POINTER(Vector)),
        ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_len", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("len", ctypes.c_uint),
    ]


@program(modes=("nonblocking",), apart=True)
def found_stream_recvmmsg_names(t):
    """recvmmsg(2) on a connection names nobody, whatever room there is for a name."""
    client, server = t.pair()
    server.sendall(b"abcdef")
    t.until(client, "IN")
    buffers = [(ctypes.create_string_buffer(3), ctypes.create_string_buffer(128)) for _ in range(3)]
    vectors = [Vector(ctypes.cast(data, ctypes.c_char_p), 3) for data, _ in buffers]
    headers = (Header * 3)(
        *(
            Header(ctypes.cast(name, ctypes.c_char_p), 128, ctypes.pointer(vector), 1)
            for (_, name), vector in zip(buffers, vectors)
        )
    )
    t.raw("messages", "recvmmsg", client.fileno(), headers, 3, 0, None)
    for header, (data, name) in zip(headers, buffers):
        t.note("message", (header.len, header.name_len, header.flags, data.raw, any(name.raw)))


@program(modes=MODES)
def found_connect_after_listening(t):
    """A listener that was shut down is a socket like any other: it can connect."""
    with t.listener() as there:
        s = t.moded(t.listener())
        s.shutdown(socket.SHUT_RDWR)
        s.connect_ex(there.getsockname())
        t.until(s, "OUT")
        t.mask("connected", s)
        t.do("peer is there", lambda: s.getpeername() == there.getsockname())


@program(bare=True)
def found_udp_loopback_source_without_route(t):
    """From a loopback address to where no route leads: that there is none comes first."""
    s = t.socket(socket.SOCK_DGRAM)
    s.bind((t.local, 0))
    t.do("foreign", s.sendto, b"abc", ("2001:db8::7" if t.version == 6 else "203.0.113.7", 9))
