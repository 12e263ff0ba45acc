# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Errors of UDP sockets that come from the other machine, and the programs that live on them."""

import re

from harness import contains, equal, test, true
from harness.agent import agents

CLOSED = 9


@test("udp-errors", both=True, native=True)
def errors(w, family):
    """A connected socket is told of a closed port: poll wakes, a blocking native recv ends, SO_ERROR has Linux' number."""
    address = w.b.addresses[family]
    with agents(w.a) as (client,):
        client.do("c=datagram(%r);c.connect((%r,%d));c.settimeout(5)" % (address, address, CLOSED))
        equal(client.do("c.send(b'x')"), 1, "send")
        equal(client.do("settled(c,'OUT ERR')"), "OUT ERR", "poll")
        equal(client.do("c.getsockopt(1,4)"), 111, "SO_ERROR")
        equal(client.do("settled(c,'OUT')"), "OUT", "taken")
        client.do("c.setblocking(True);c.send(b'x')")
        # What the stand-in says is another number (docs/differences.md).
        true(client.errno("c.recv(10)") in ("ECONNREFUSED", "ECONNRESET"), "a blocking recv ends")
        equal(client.do("c.send(b'y')"), 1, "once")
        equal(client.errno("c.recvfrom(10)"), "ECONNREFUSED", "recvfrom")


@test("udp-error-queue", both=True, native=True)
def queue(w, family):
    """IP_RECVERR without a peer: payload, destination, origin and offender of an error from the other machine."""
    address = w.b.addresses[family]
    level, name = ("41", "25") if family == 6 else ("0", "11")
    with agents(w.a) as (client,):
        client.do("u=datagram(%r);u.setsockopt(%s,%s,1)" % (address, level, name))
        client.do("u.sendto(b'hello',(%r,%d))" % (address, CLOSED))
        equal(client.do("settled(u,'OUT ERR')"), "OUT ERR", "poll")
        data, control, flags, to = client.do("u.recvmsg(100,200,0x2000)")
        equal((data, flags, to[:2]), (b"hello", 0x2000, (address, CLOSED)), "payload, MSG_ERRQUEUE, destination")
        ((_, _, error),) = control
        equal(error[4:7], b"\x03\x01\x04" if family == 6 else b"\x02\x03\x03", "origin, type, code")
        client.do("import socket")
        offender = error[24:40] if family == 6 else error[20:24]
        equal(client.do("socket.inet_pton(u.family,%r)" % address), offender, "offender")
        equal(client.do("settled(u,'OUT')"), "OUT", "nothing more")
        equal(client.errno("u.recvmsg(100,200,0x2000)"), "EAGAIN", "the queue is empty")


@test("tracepath", both=True, needs=("tracepath",))
def tracepath(w, family):
    """Finds the other machine one hop away, and the network's MTU."""
    address = w.b.addresses[family]
    out = w.a.run("tracepath", "-n", "-%d" % family, address, timeout=60).ok().text
    contains(out, "pmtu 1420", "the MTU")
    true(re.search(r"1:\s+%s\s.*reached" % re.escape(address), out), "reached: %s" % out)


@test("traceroute", both=True, needs=("traceroute",))
def traceroute(w, family):
    """The other machine is the first hop, and the last."""
    address = w.b.addresses[family]
    out = w.a.run("traceroute", "-n", "-%d" % family, address, timeout=60).ok().text
    true(re.search(r"\n\s*1\s+%s\s+[0-9.]+ ms" % re.escape(address), out), "the first hop: %s" % out)
    true("\n 2 " not in out, "and the last: %s" % out)
