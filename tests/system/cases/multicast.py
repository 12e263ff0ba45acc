# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Multicast and broadcast: among the programs of one supervisor, and between two."""

import ipaddress
import struct
import time

from harness import contains, equal, eventually, test, true
from harness.agent import agents

GROUPS = {4: "239.7.7.7", 6: "ff15::7"}
MDNS = {4: "224.0.0.251", 6: "ff02::fb"}
# A socket of the group on any interface, and the control messages that tell how a datagram came.
MEMBER = """
def member(group, number, *, join=True):
    v6 = ":" in group
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(8)
    s.setsockopt(41 if v6 else 0, 49 if v6 else 8, 1)
    s.bind(("::" if v6 else "0.0.0.0", number))
    if join:
        change(s, group, 20 if v6 else 35)
    return s

def change(s, group, name):
    v6 = ":" in group
    address = socket.inet_pton(s.family, group)
    s.setsockopt(41 if v6 else 0, name, address + (struct.pack("i", 0) if v6 else bytes(4)))

def heard(s):
    data, control, _, source = s.recvmsg(2000, 200)
    [(_, kind, value)] = control
    if kind == 8:
        return data, source[0], struct.unpack("i", value[:4])[0], socket.inet_ntoa(value[4:8]), socket.inet_ntoa(value[8:12])
    return data, source[0], struct.unpack("i", value[16:20])[0], None, socket.inet_ntop(socket.AF_INET6, value[:16])

def nothing(s, seconds=0.3):
    return select.select([s], [], [], seconds)[0] == []
"""


def prepare(*all_agents):
    for agent in all_agents:
        agent.do(MEMBER)


@test("multicast", both=True)
def groups(w, family):
    """Members on both supervisors get each datagram once, with the right PKTINFO; others and those that left get none."""
    group, source = GROUPS[family], w.b.addresses[family]
    own = {side: side.addresses[4] if family == 4 else None for side in (w.a, w.b)}
    with agents(w.a, w.a, w.b, w.b) as (one, two, near, sender):
        prepare(one, two, near, sender)
        for agent in (one, two, near):
            agent.do("m=member(%r,7701)" % group)
        # One that has not joined hears nothing where it does not ask for the groups of others.
        two.do("x=member(%r,7701,join=False);x.setsockopt(%s,%d,0)" % (group, *((0, 49) if family == 4 else (41, 29))))
        sender.do("s=datagram(%r,0)" % source)
        for turn in range(3):
            sender.do("s.sendto(b'%d',(%r,7701))" % (turn, group))
            for agent, side in ((one, w.a), (two, w.a), (near, w.b)):
                equal(agent.do("heard(m)"), (b"%d" % turn, source, 2, own[side] if side is w.a else (source if family == 4 else None), group), "heard")
        true(two.do("nothing(x)"), "a socket that has not joined")
        sender.do("s.setsockopt(%s,%d,0)" % ((0, 34) if family == 4 else (41, 19)))
        sender.do("s.sendto(b'away',(%r,7701))" % group)
        equal(one.do("heard(m)[0]"), b"away", "without the loop")
        true(near.do("nothing(m)"), "the loop is off")
        two.do("change(m,%r,%d)" % (group, 36 if family == 4 else 21))
        two.do("m.recv(100)")
        one.do("m.close()")

        def quiet():
            sender.do("s.sendto(b'late',(%r,7701))" % group)
            return two.do("nothing(m) or not m.recv(100)")

        # The other socket of this host was closed: that is seen within a second or so.
        eventually(quiet, 10, "no member is left")
        # Late members are told of at once, also by the other side.
        time.sleep(3.2)
        one.do("m=member(%r,7701)" % group)

        def arrives():
            sender.do("s.sendto(b'again',(%r,7701))" % group)
            return not one.do("nothing(m,0.2)")
        eventually(arrives, 10, "a member that joins while others send")


@test("multicast-dns", both=True)
def discovery(w, family):
    """A question to the group of mDNS is answered by a responder on the other supervisor, to the group, as browsers do it."""
    group = MDNS[family]
    answer = (
        "q,a=m.recvfrom(2000)\n"
        "while q[2]&0x80: q,a=m.recvfrom(2000)\n"
        "r=q[:2]+b'\\x84\\0'+b'\\0\\0\\0\\1\\0\\0\\0\\0'+q[12:-4]+b'\\0\\1\\x80\\1\\0\\0\\0x\\0\\4\\x0a\\1\\2\\3'\n"
        "m.sendto(r,(%r,5353))" % group
    )
    question = struct.pack(">HHHHHH", 0, 0, 1, 0, 0, 0) + b"\x04here\x05local\x00" + struct.pack(">HH", 1, 1)
    with agents(w.a, w.b) as (responder, browser):
        prepare(responder, browser)
        responder.do("m=member(%r,5353);m.setsockopt(%d,%d,255)" % (group, *((0, 33) if family == 4 else (41, 18))))
        browser.do("m=member(%r,5353)" % group)
        responder.begin(answer)
        browser.do("m.sendto(%r,(%r,5353))" % (question, group))
        got = browser.do("[m.recvfrom(2000) for _ in range(2)]")
        responder.result()
        equal(got[0][0], question, "the own question, looped")
        contains(got[1][0], b"\x0a\x01\x02\x03", "the answer")
        equal(got[1][1][0], w.a.addresses[family], "its source")


@test("multicast-sources")
def sources(w):
    """Source filters count at the receiver; limits and errors are Linux'."""
    group = GROUPS[4]
    mreq = "socket.inet_aton(%r)+bytes(4)+socket.inet_aton(%%r)" % group
    with agents(w.a, w.b) as (member, sender):
        prepare(member, sender)
        member.do("m=member(%r,7702,join=False);o=member(%r,7702,join=False)" % (group, group))
        member.do("m.setsockopt(0,39,%s)" % (mreq % w.b.addresses[4]))
        member.do("o.setsockopt(0,39,%s)" % (mreq % "192.0.2.1"))
        equal(member.errno("m.setsockopt(0,39,%s)" % (mreq % w.b.addresses[4])), "EADDRNOTAVAIL", "twice")
        sender.do("s=datagram('0.0.0.0',0);s.sendto(b'one',(%r,7702))" % group)
        equal(member.do("m.recv(100)"), b"one", "the wanted source")
        true(member.do("nothing(o)"), "another source is wanted")
        # struct ip_msfilter is read, then written over.
        asked = "socket.inet_aton(%r)+bytes(4)+struct.pack('II',9,4)+bytes(16)" % group
        code = (
            "b=ctypes.create_string_buffer(%s,32);n=ctypes.c_uint(32)\n"
            "r=LIBC.getsockopt(m.fileno(),0,41,b,ctypes.byref(n));f=b.raw[:n.value]" % asked
        )
        member.do(code)
        expected = ipaddress.ip_address(group).packed + bytes(4) + struct.pack("II", 1, 1) + ipaddress.ip_address(w.b.addresses[4]).packed
        equal(member.do("(r,f)"), (0, expected), "IP_MSFILTER")
        member.do("l=member(%r,7703,join=False)" % group)
        joins = "[l.setsockopt(0,35,socket.inet_aton('239.8.0.%d'%n)+bytes(4)) for n in range(21)]"
        equal(member.errno(joins), "ENOBUFS", "the twenty-first group")


@test("broadcast")
def broadcast(w):
    """255.255.255.255 and the prefix's broadcast address reach wildcard sockets of both supervisors; the gate is SO_BROADCAST."""
    prefix = w.a.run("ip", "-j", "-4", "addr", "show", "dev", "netcon0").ok().text
    contains(prefix, '"broadcast":', "ip addr")
    source = w.b.addresses[4]
    with agents(w.a, w.a, w.b) as (far, exact, sender):
        prepare(far, exact, sender)
        far.do("m=member('0.0.0.0',7704,join=False)")
        exact.do("m=datagram(%r,7705)" % w.a.addresses[4])
        sender.do("import json,subprocess;n=json.loads(subprocess.run(['ip','-j','-4','addr','show','dev','netcon0'],stdout=-1).stdout)[0]['addr_info'][0]['broadcast']")
        sender.do("s=datagram('0.0.0.0',0);m=member('0.0.0.0',7704,join=False)")
        for to in ("'255.255.255.255'", "n"):
            equal(sender.errno("s.sendto(b'x',(%s,7704))" % to), "EACCES", "without SO_BROADCAST")
        sender.do("s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1)")
        for to in ("'255.255.255.255'", "n"):
            address = sender.do(to)
            sender.do("s.sendto(b'x',(%s,7704));s.sendto(b'x',(%s,7705))" % (to, to))
            equal(far.do("heard(m)"), (b"x", source, 2, w.a.addresses[4], address), "across")
            equal(sender.do("heard(m)"), (b"x", source, 2, source, address), "on the own supervisor")
        true(exact.do("select.select([m],[],[],0.3)[0]==[]"), "bound to an address")


@test("socat-multicast", needs=("socat",))
def socat(w):
    """socat's own example: a group of two, each of which sends to all."""
    address = "UDP4-DATAGRAM:%s:7706,bind=:7706,ip-add-membership=%s:0.0.0.0,reuseaddr" % (GROUPS[4], GROUPS[4])
    receiver = w.a.start("socat", "-u", address, "STDOUT")
    sender = "UDP4-DATAGRAM:%s:7706,ip-multicast-ttl=2" % GROUPS[4]

    def heard():
        w.b.run("socat", "-u", "STDIN", sender, input=b"to whom it may concern\n").ok()
        return "to whom it may concern" in receiver.output()

    eventually(heard, 15, "socat's datagram", interval=0.3)
    receiver.stop()
