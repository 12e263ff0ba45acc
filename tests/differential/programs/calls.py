# SPDX-License-Identifier: Apache-2.0 OR MIT
"""getsockopt(2) and setsockopt(2) as calls: pointers, lengths, levels."""

import ctypes
import socket

from steps import program


@program()
def option_pointers(t):
    s = socket.socket(t.family, socket.SOCK_STREAM)
    value = ctypes.create_string_buffer(64)
    for label, pointer in (("null", None), ("bad", 8)):
        t.raw("set %s" % label, "setsockopt", s.fileno(), 1, 2, pointer, 4)
        t.raw("get value %s" % label, "getsockopt", s.fileno(), 1, 2, pointer, ctypes.byref(ctypes.c_int(4)))
        t.raw("get length %s" % label, "getsockopt", s.fileno(), 1, 2, value, pointer)
    for length in (-1, 0, 1, 2, 3, 4, 5, 8, 64):
        t.raw("set length %d" % length, "setsockopt", s.fileno(), 1, 2, value, length)
        room = ctypes.c_int(length)
        t.raw("get length %d" % length, "getsockopt", s.fileno(), 1, 2, value, ctypes.byref(room))
        t.note("reported", room.value)
    for level in (-1, 0, 1, 2, 6, 17, 41, 58, 132, 255, 270, 282, 284, 999):
        t.raw("set level %d" % level, "setsockopt", s.fileno(), level, 9999, value, 4)
        t.raw("get level %d" % level, "getsockopt", s.fileno(), level, 9999, value, ctypes.byref(ctypes.c_int(4)))


@program(apart=True)
def option_states(t):
    """What shows the state of a socket."""
    client, server = t.pair()
    listener, fresh, datagram = t.listener(), t.socket(), t.socket(socket.SOCK_DGRAM)
    for label, s in (("fresh", fresh), ("listener", listener), ("client", client), ("server", server), ("datagram", datagram)):
        for name, number in (("TYPE", 3), ("DOMAIN", 39), ("PROTOCOL", 38), ("ACCEPTCONN", 30), ("ERROR", 4), ("PEERCRED", 17)):
            t.do("%s %s" % (label, name), s.getsockopt, 1, number, 12)
        if s is not datagram:
            t.do("%s TCP_INFO state" % label, lambda: s.getsockopt(6, 11, 1))
            t.do("%s TCP_INFO length" % label, lambda: len(s.getsockopt(6, 11, 104)))
    server.close()
    t.until(client, "IN")
    t.do("CLOSE_WAIT", lambda: client.getsockopt(6, 11, 1))
    client.shutdown(1)
