# SPDX-License-Identifier: Apache-2.0 OR MIT
"""ICMP from inside a container: ping, traceroute, mtr, fping; echo sockets and raw sockets of a program."""

import json
import re

from harness import contains, equal, shorten, test, true
from harness.agent import agents

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
# An echo request of either family with identifier, sequence and payload; the checksum is right.
ECHO = """
import struct, fcntl
def echo(kind, identifier=0x1234, sequence=1, data=b'hello'):
    head = struct.pack('!BBHHH', kind, 0, 0, identifier, sequence)
    whole = head + data + b'\\0' * (len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(whole) // 2), whole))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return struct.pack('!BBHHH', kind, 0, ~total & 0xffff, identifier, sequence) + data
def ping_socket(family):
    s = socket.socket(*((2, 2, 1) if family == 4 else (10, 2, 58))); s.settimeout(5); return s
def raw_socket(family):
    s = socket.socket(*((2, 3, 1) if family == 4 else (10, 3, 58))); s.settimeout(5); return s
"""


def ping(side, *arguments):
    return side.run("ping", "-n", *arguments, timeout=40)


def answered(result, count, what):
    true(result.code == 0, "%s: status %d: %s" % (what, result.code, shorten(result.text + result.errors)))
    contains(result.text, "%d received, 0%% packet loss" % count, what)


@test("icmp/ping", both=True, needs=("ping",))
def pings(w, family):
    """Debian's ping to loopback, the own address and the other node; whole, in fragments, often, with a hop limit of one."""
    own, there = w.a.addresses[family], w.b.addresses[family]
    for address in (LOOPBACK[family], own, there):
        result = ping(w.a, "-c", 3, "-i", 0.2, address)
        answered(result, 3, "ping %s" % address)
        equal(re.findall(r"icmp_seq=(\d+) ttl=(\d+)", result.text), [("1", "64"), ("2", "64"), ("3", "64")], "replies")
    for size in (0, 1400, 4000, 60000):
        result = ping(w.a, "-c", 2, "-i", 0.2, "-s", size, there)
        answered(result, 2, "ping -s %d" % size)
        contains(result.text, "%d bytes from %s" % (size + 8, there), "size")
    answered(ping(w.a, "-c", 1, "-t", 1, there), 1, "one hop is enough")
    answered(ping(w.a, "-q", "-c", 500, "-i", 0.002, there), 500, "one every two milliseconds")
    result = ping(w.a, "-c", 1, "-W", 1, "-M", "do", "-s", 4000, there)
    true(result.code != 0 and "1 received" not in result.text, "too big and not to be cut: %s" % shorten(result.text))
    nowhere = {4: "192.0.2.1", 6: "2001:db8::1"}[family]
    result = ping(w.a, "-c", 1, "-W", 1, nowhere)
    equal(result.code, 2, "no route: status")
    contains(result.errors, "Network is unreachable", "no route")


@test("icmp/programs", both=True, needs=("busybox", "fping", "traceroute", "mtr"), timeout=120)
def programs(w, family):
    """busybox ping, fping, traceroute -I and mtr reach the other node: one hop."""
    there = w.b.addresses[family]
    result = w.a.run("busybox", "ping", "-%d" % family, "-c", 2, there, timeout=20).ok()
    contains(result.text, "2 packets transmitted, 2 packets received", "busybox")
    result = w.a.run("fping", "-C", 3, "-p", 200, "-t", 5000, "-q", there, LOOPBACK[family], timeout=20).ok()
    rows = dict(line.split(" : ") for line in result.errors.replace("  ", " ").strip().splitlines())
    equal({name.strip() for name in rows}, {there, LOOPBACK[family]}, "fping's targets")
    true(all("-" not in times for times in rows.values()), "fping: %s" % result.errors)
    result = w.a.run("traceroute", "-n", "-I", "-q", 1, "-m", 3, there, timeout=30).ok()
    equal(re.findall(r"(?m)^ *(\d+) +(\S+)", result.text)[-1], ("1", there), "traceroute -I")
    result = w.a.run("mtr", "-n", "--report", "-c", 2, "-m", 3, there, timeout=60).ok()
    equal(re.findall(r"(?m)^ *(\d+)\.\|-- (\S+) +(\S+)", result.text), [("1", there, "0.0%")], "mtr")


@test("icmp/echo-socket", both=True)
def echo_socket(w, family):
    """The identifier is the port and the kernel's to write; readiness; dup, fork and close; who holds an identifier."""
    there = w.b.addresses[family]
    kind = {4: 8, 6: 128}[family]
    with agents(w.a) as (a,):
        a.do(ECHO + "p=ping_socket(%d);to=(%r,0)" % (family, there))
        equal(a.do("events(p)"), "OUT", "fresh")
        equal(a.do("p.getsockname()[1]"), 0, "no identifier before the first send")
        equal(a.do("p.sendto(echo(%d),to)" % kind), 13, "sendto")
        equal(a.do("settled(p,'IN OUT')"), "IN OUT", "the reply has come")
        data, source = a.do("p.recvfrom(100)")
        equal((data[0], data[6:], source[:2]), ({4: 0, 6: 129}[family], b"\0\1hello", (there, 0)), "reply")
        equal(int.from_bytes(data[4:6], "big"), a.do("port(p)"), "its identifier")
        equal(a.errno("p.sendto(echo(%d),to)" % {4: 0, 6: 129}[family]), "EINVAL", "an echo reply is not sent")
        level, names = {4: (0, (12, 13)), 6: (41, (51, 66))}[family]
        for name in names:
            a.do("p.setsockopt(%d,%d,1)" % (level, name))
        a.do("p.setsockopt(%d,%d,0x28)" % (level, {4: 1, 6: 67}[family]))
        a.do("p.sendto(echo(%d,sequence=2),to)" % kind)
        told = a.do("[(l,t,d[0]) for l,t,d in p.recvmsg(100,500)[1]]")
        equal(told, {4: [(0, 2, 64), (0, 1, 0x28)], 6: [(41, 52, 64), (41, 67, 0x28)]}[family], "hop limit and class")
        a.do("p.connect(to);d=os.dup(p.fileno())")
        equal(a.do("os.write(d,echo(%d,sequence=3))" % kind), 13, "write(2) to a duplicate")
        equal(a.do("settled(p,'IN OUT') and os.read(d,100)[6:8]"), b"\0\3", "read(2)")
        a.do("r,o=os.pipe()\nif os.fork()==0:\n p.send(echo(%d,sequence=4));os.write(o,p.recv(100)[6:8]);os._exit(0)" % kind)
        equal(a.do("os.read(r,10)"), b"\0\4", "a child's")
        number = a.do("port(p)")
        a.do("p.setsockopt(1,2,0);q=ping_socket(%d)" % family)
        equal(a.errno("q.bind((%r,%d))" % ({4: "0.0.0.0", 6: "::"}[family], number)), "EADDRINUSE", "identifier")
        a.do("os.close(d);p.close();q.bind((%r,%d))" % ({4: "0.0.0.0", 6: "::"}[family], number))
        equal(a.do("q.sendto(echo(%d),to)and q.recv(100)[4:6]" % kind), number.to_bytes(2, "big"), "free again")


@test("icmp/raw-socket", both=True)
def raw_socket(w, family):
    """A raw socket hears the requests and replies of its node, which goes on answering; filters; other protocols are EPERM."""
    address = {"a": w.a.addresses[family], "b": w.b.addresses[family]}
    kind, reply, header = {4: (8, 0, 20), 6: (128, 129, 0)}[family]
    with agents(w.a, w.b) as (a, b):
        a.do(ECHO + "s=raw_socket(%d)" % family)
        b.do(ECHO + "s=raw_socket(%d);n=s.recvfrom" % family)
        equal(a.do("s.getsockopt(1,3),port(s)"), (3, {4: 1, 6: 58}[family]), "type and protocol")
        a.do("s.sendto(echo(%d),(%r,0))" % (kind, address["b"]))
        data, source = b.do("n(100)")
        equal((data[header], source[:2]), (kind, (address["a"], 0)), "the request at the other node")
        equal(data[header + 4 :], b"\x12\x34\0\1hello", "as it was written")
        data, source = a.do("s.recvfrom(100)")
        equal((data[header], data[header + 4 :], source[:2]), (reply, b"\x12\x34\0\1hello", (address["b"], 0)), "the reply")
        if family == 4:
            equal((data[0], data[8:10], data[12:16]), (0x45, b"\x40\1", bytes((10, 77, 0, 2))), "its header")
            a.do("s.setsockopt(255,1,struct.pack('=I',~(1<<11)&0xffffffff))")
        else:
            a.do("s.setsockopt(58,1,b'\\xff'*31+b'\\x7f')")
        a.do("s.sendto(echo(%d),(%r,0));q=raw_socket(%d);q.sendto(echo(%d),(%r,0));q.recvfrom(100)"
             % (kind, address["b"], family, kind, address["b"]))
        equal(a.do("events(s)"), "OUT", "filtered")
        for protocol in (6, 17, 255):
            equal(a.errno("socket.socket(%d,3,%d)" % ({4: 2, 6: 10}[family], protocol)), "EPERM", "protocol %d" % protocol)
        if family == 4:
            forged = "struct.pack('!BBHHHBBH4s4s',69,0,0,0,0,9,1,0,bytes(%r),bytes((10,77,0,2)))+echo(8)"
            a.do("s.setsockopt(0,3,1)")
            equal(a.errno("s.sendto(%s,(%r,0))" % (forged % ((10, 77, 0, 9),), address["b"])), "EPERM", "a forged source")
            b.do("[n(100) for _ in range(2)]")  # the filtered ones' requests
            equal(a.do("s.sendto(%s,(%r,0))" % (forged % ((0, 0, 0, 0),), address["b"])), 33, "a header of its own")
            data = b.do("n(100)[0]")
            equal((data[2:4], data[8], data[12:16]), (b"\0\x21", 9, bytes((10, 77, 0, 1))), "completed")


@test("icmp/raw-flood", world="own")
def raw_flood(w):
    """A raw socket that nobody reads holds nothing up and does not grow."""
    with agents(w.a, w.b) as (a, b):
        a.do(ECHO + "s=[raw_socket(4) for _ in range(20)]")
        before = w.a.figures()["rss"]
        result = ping(w.b, "-q", "-c", 1000, "-i", 0.002, "-s", 1300, w.a.addresses[4])
        answered(result, 1000, "ping beside twenty sleepy raw sockets")
        grown = w.a.figures()["rss"] - before
        true(grown < 40 << 20, "%d bytes more" % grown)
        equal(a.do("len(s[0].recv(2000))"), 1328, "what came first is there")


@test("icmp/raw-sockets-off", world="own", needs=("ping",))
def raw_off(w):
    """The network's setting: no raw sockets, echo sockets as before; `netcon network set`, the API and the file say the same."""
    equal(json.loads(w.a.netcon("--json", "network", "show", w.a.network).ok().text)["rawSockets"], True, "the usual")
    with agents(w.a) as (a,):
        a.do(ECHO + "s=raw_socket(4)")
        w.a.netcon("network", "set", w.a.network, "--raw-sockets", "off").ok()
        equal(json.loads(w.a.netcon("--json", "network", "show", w.a.network).ok().text)["rawSockets"], False, "off")
        for family in (4, 6):
            equal(a.errno("raw_socket(%d)" % family), "EPERM", "IPv%d" % family)
        answered(ping(w.a, "-c", 1, w.b.addresses[4]), 1, "ping by an echo socket")
        equal(a.do("s.recvfrom(100)[0][20]"), 0, "what was open goes on: the reply")
        w.a.netcon("network", "set", w.a.network, "--raw-sockets", "on").ok()
        a.do("raw_socket(4).close()")
