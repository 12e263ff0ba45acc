# SPDX-License-Identifier: Apache-2.0 OR MIT
"""UDP: addresses, boundaries, readiness, errors, and name service over it."""

import re

from harness import contains, equal, eventually, test, true
from harness.agent import agents


@test("udp-echo", both=True, native=True)
def echo(w, family):
    """sendto and recvfrom with addresses, several clients on one server socket."""
    address = w.a.addresses[family]
    with agents(w.a, w.b, w.b) as (server, one, two):
        server.do("u=datagram(%r,0)" % address)
        number = server.do("port(u)")
        equal(server.do("events(u)"), "OUT", "idle")
        for agent in (one, two):
            agent.do("u=datagram(%r);u.settimeout(5)" % address)
            equal(agent.do("u.getsockname()[1]"), 0, "no port before the first send")
        for turn in range(20):
            for agent, text in ((one, b"one %d" % turn), (two, b"two %d" % turn)):
                equal(agent.do("u.sendto(%r,(%r,%d))" % (text, address, number)), len(text), "sendto")
        server.do("u.settimeout(5);got=[]\nfor _ in range(40): d,a=u.recvfrom(2000);got.append((d,a));u.sendto(d.upper(),a)")
        for agent, text in ((one, b"ONE"), (two, b"TWO")):
            replies = agent.do("[u.recvfrom(2000) for _ in range(20)]")
            equal([d for d, _ in replies], [b"%s %d" % (text, i) for i in range(20)], "replies in order")
            equal({a[:2] for _, a in replies}, {(address, number)}, "their source")
            mine = agent.do("u.getsockname()[1]")
            sources = {a[:2] for d, a in server.do("got") if d.startswith(text.lower())}
            equal(sources, {(w.b.addresses[family], mine)}, "the client's address at the server")


@test("udp-connected", both=True, native=True)
def connected(w, family):
    """connect() filters and names the peer; send and recv without addresses; AF_UNSPEC dissolves."""
    address, other = w.a.addresses[family], w.b.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("u=datagram(%r,0);v=datagram(%r,0)" % (address, address))
        number = server.do("port(u)")
        client.do("c=datagram(%r);c.settimeout(5)" % address)
        # A send that carries no address is not trapped: the stand-in's word for it differs (docs/differences.md).
        true(client.errno("c.send(b'x')") in ("EDESTADDRREQ", "ENOTCONN"), "send without a peer")
        equal(client.errno("c.getpeername()"), "ENOTCONN", "no peer")
        client.do("c.connect((%r,%d))" % (address, number))
        equal(client.do("c.getpeername()[:2]"), (address, number), "peer")
        equal(client.do("c.getsockname()[0]"), other, "own address chosen by connect")
        mine = client.do("port(c)")
        equal(client.do("c.send(b'one')+c.send(b'two')+os.write(c.fileno(),b'three')"), 11, "send, send, write")
        got = server.do("u.settimeout(5) or [u.recvfrom(100) for _ in range(3)]")
        equal([d for d, _ in got], [b"one", b"two", b"three"], "datagrams")
        equal({a[:2] for _, a in got}, {(other, mine)}, "their source")
        server.do("v.sendto(b'stranger',(%r,%d));u.sendto(b'friend',(%r,%d))" % (other, mine, other, mine))
        equal(client.do("c.recv(100)"), b"friend", "only the peer's datagrams")
        server.do("u.sendto(b'a',(%r,%d));u.sendto(b'bb',(%r,%d))" % (other, mine, other, mine))
        equal(client.do("settled(c,'IN OUT')"), "IN OUT", "readable")
        equal(client.do("os.read(c.fileno(),100)"), b"a", "read(2)")
        equal(client.do("c.recvfrom(100)[1][:2]"), (address, number), "recvfrom's address")
        equal(client.do("events(c)"), "OUT", "empty again")
        equal(client.do("raw('connect',c.fileno(),bytes(16),16)"), (0, 0), "AF_UNSPEC")
        equal(client.errno("c.getpeername()"), "ENOTCONN", "no peer any more")


@test("udp-sizes", both=True, native=True)
def sizes(w, family):
    """Boundaries are kept; zero length; truncation with MSG_TRUNC; too large is EMSGSIZE; 60,000 bytes on loopback."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("u=datagram(%r,0);u.settimeout(5)" % address)
        number = server.do("port(u)")
        client.do("c=datagram(%r);to=(%r,%d)" % (address, address, number))
        for size in (0, 1, 1000, 1300):
            equal(client.do("c.sendto(b'z'*%d,to)" % size), size, "sendto")
            equal(server.do("len(u.recvfrom(65536)[0])"), size, "received")
        client.do("c.sendto(b'0123456789',to)")
        equal(server.do("u.recvmsg(4)[::2]"), (b"0123", 0x20), "short buffer: MSG_TRUNC flag")
        client.do("c.sendto(b'0123456789',to)")
        equal(server.do("u.recv_into(bytearray(4),4,socket.MSG_TRUNC|socket.MSG_PEEK)"), 10, "MSG_TRUNC gives the real length")
        equal(server.do("u.recvfrom(100,socket.MSG_PEEK)[0]"), b"0123456789", "MSG_PEEK")
        equal(server.do("u.recv(100)"), b"0123456789", "still there")
        equal(server.do("raw('recv',u.fileno(),ctypes.create_string_buffer(9),9,socket.MSG_DONTWAIT)"), (-1, "EAGAIN"), "then gone")
        equal(client.errno("c.sendto(b'z'*70000,to)"), "EMSGSIZE", "70,000 bytes")
        loopback = {4: "127.0.0.1", 6: "::1"}[family]
        client.do("l=datagram(%r,0);l.settimeout(5)" % loopback)
        equal(client.do("c.sendto(b'y'*60000,(%r,port(l)))" % loopback), 60000, "60,000 bytes")
        equal(client.do("len(l.recv(65536))"), 60000, "on loopback")


@test("udp-messages", both=True, native=True)
def messages(w, family):
    """sendmsg, recvmsg and sendmmsg with names; epoll; poll with several sockets."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("u=datagram(%r,0);u.settimeout(5);e=select.epoll();e.register(u,select.EPOLLIN|select.EPOLLET)" % address)
        number = server.do("port(u)")
        client.do("c=datagram(%r);to=(%r,%d)" % (address, address, number))
        equal(client.do("c.sendmsg([b'ab',b'cd'],[],0,to)"), 4, "sendmsg")
        equal(server.do("[names(m) for _,m in e.poll(5)]"), ["IN"], "epoll")
        data, _, flags, source = server.do("u.recvmsg(100)")
        equal((data, flags, source[0]), (b"abcd", 0, w.b.addresses[family]), "recvmsg")
        equal(server.do("u.sendmsg([b'back'],[],0,%r)" % (source,)), 4, "sendmsg back")
        equal(client.do("c.settimeout(5) or c.recvmsg_into([bytearray(2),bytearray(9)])[0]"), 4, "recvmsg_into")


@test("udp-refused", both=True, native=True)
def refused(w, family):
    """SO_ERROR of a connected socket tells that nobody listens; the socket stays usable."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("u=datagram(%r,0);gone=port(u);u.close()" % address)
        gone = server.do("gone")
        client.do("c=datagram(%r);c.settimeout(5);c.connect((%r,%d))" % (address, address, gone))
        # Sent again and again: a socket that was closed a moment ago may still swallow some.
        client.do("end=time.time()+5\nwhile not (r:=pending(c)) and time.time()<end: raw('send',c.fileno(),b'x',1,0);time.sleep(.1)")
        client.do("time.sleep(.3);pending(c)")
        equal(client.do("r"), "ECONNREFUSED", "SO_ERROR")
        equal(client.do("pending(c)"), 0, "SO_ERROR again")
        equal(client.do("events(c)"), "OUT", "mask afterwards")
        server.do("u=datagram(%r,%d);u.settimeout(5)" % (address, gone))
        client.do("c.send(b'y')")
        equal(server.do("u.recv(10)[:1]"), b"y", "the same socket reaches a later listener")


@test("udp-wildcard", native=True)
def wildcard(w):
    """A dual-stack datagram socket on :: hears both families and answers from the right address."""
    with agents(w.a, w.b) as (server, client):
        server.do("u=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM);u.bind(('::',0));u.settimeout(5)")
        number = server.do("port(u)")
        for family in (4, 6):
            address = w.a.addresses[family]
            client.do("c=datagram(%r);c.settimeout(5);c.connect((%r,%d));c.send(b'x')" % (address, address, number))
            source = server.do("u.recvfrom(10)[1]")
            equal(source[0], ("::ffff:" if family == 4 else "") + w.b.addresses[family], "source over IPv%d" % family)
            server.do("u.sendto(b'y',%r)" % (source,))
            equal(client.do("c.recv(10)"), b"y", "answer over IPv%d" % family)


@test("udp-flood", native=True)
def flood(w):
    """A receiver that does not read loses datagrams and nothing else; the sender never blocks for long."""
    address = w.a.addresses[4]
    with agents(w.a, w.b) as (server, client):
        server.do("u=datagram(%r,0)" % address)
        number = server.do("port(u)")
        client.do("c=datagram(%r);c.connect((%r,%d));b=time.time()" % (address, address, number))
        client.do("for i in range(20000): c.send(b'%06d'%i+b'z'*500)", 40)
        true(client.do("time.time()-b") < 30, "20,000 sends took %.1f s" % client.do("time.time()-b"))
        server.do("time.sleep(.5);u.setblocking(False);got=[]\nwhile readable(u,300): got.append(int(u.recv(1000)[:6]))")
        got = server.do("got")
        true(len(got) >= 10, "datagrams kept: %d" % len(got))
        equal(got == sorted(set(got)), True, "in order, none twice")
        client.do("c.send(b'999999')")
        equal(server.do("u.settimeout(5) or u.recv(100)"), b"999999", "then it works as before")


@test("dns", native=False, needs=())
def dns(w):
    """A small name server inside; getaddrinfo of the C library and busybox nslookup ask it."""
    server = w.a.start("/usr/bin/python3", w.context.programs / "nameserver.py", w.a.addresses[4], "53")
    eventually(lambda: "port" in server.output(), 10, "the name server")
    program = w.context.compile("resolve.c", "-lresolv")
    for _ in range(5):
        result = w.b.run(program, w.a.addresses[4], "www.example.test", timeout=30)
        equal(sorted(result.text.split()), ["192.0.2.80", "2001:db8::80"], "addresses %s" % result.errors)
    gone = w.b.run(program, w.a.addresses[4], "nobody.example.test", timeout=30)
    contains(gone.text, "error", "a name that does not exist")
    if w.context.run(["/bin/sh", "-c", "command -v busybox"]).code == 0:
        text = w.b.run("busybox", "nslookup", "www.example.test", w.a.addresses[4], timeout=30).text
        true(re.search(r"192\.0\.2\.80", text), "nslookup said %r" % text)


@test("dns-unreachable")
def dns_unreachable(w):
    """A resolver outside the network fails fast, not after time-outs."""
    program = w.context.compile("resolve.c", "-lresolv")
    result = w.b.run(program, "203.0.113.53", "www.example.test", timeout=4)
    contains(result.text, "error", "resolver outside")


@test("udp-large", both=True, native=True)
def large(w, family):
    """Up to 65,507 bytes cross the network in fragments, both ways; one byte more, or where cutting is forbidden, is EMSGSIZE."""
    address, other = w.a.addresses[family], w.b.addresses[family]
    most = {4: 65507, 6: 65527}[family]
    with agents(w.a, w.b) as (server, client):
        server.do("u=datagram(%r,0);u.settimeout(5)" % address)
        number = server.do("port(u)")
        client.do("c=datagram(%r,0);c.settimeout(5);to=(%r,%d);import os" % (other, address, number))
        for size in (1400, 1500, 9000, 40000, most):
            client.do("sent=os.urandom(%d);n=c.sendto(sent,to)" % size)
            server.do("d,a=u.recvfrom(70000);u.sendto(d[::-1],a)")
            equal(client.do("c.recvfrom(70000)[0]==sent[::-1]"), True, "%d bytes there and back" % size)
        equal(client.errno("c.sendto(bytes(%d),to)" % (most + 1)), "EMSGSIZE", "one byte more")
        if not w.context.native:
            level, name = {4: (0, 10), 6: (41, 23)}[family]
            client.do("c.setsockopt(%d,%d,2)" % (level, name))
            equal(client.errno("c.sendto(bytes(9000),to)"), "EMSGSIZE", "with path MTU discovery")
            equal(client.do("c.sendto(bytes(1300),to)"), 1300, "what fits")


@test("udp-control", both=True, native=True)
def control(w, family):
    """recvmsg tells destination, hop limit, traffic class and time; sendmsg sets them; a small buffer is MSG_CTRUNC."""
    address, other = w.a.addresses[family], w.b.addresses[family]
    level = {4: 0, 6: 41}[family]
    asked = {4: ((0, 8), (0, 12), (0, 13)), 6: ((41, 49), (41, 51), (41, 66))}[family]
    hops, traffic = {4: (2, 1), 6: (52, 67)}[family]
    with agents(w.a, w.b) as (server, client):
        server.do("u=datagram(%r,0);u.settimeout(5);import struct,socket,time" % address)
        number = server.do("port(u)")
        for option in asked + ((1, 35),):
            server.do("u.setsockopt(%d,%d,1)" % option)
        client.do("c=datagram(%r,0);to=(%r,%d);import struct" % (other, address, number))
        message = "[(%d,%d,struct.pack('i',77)),(%d,%d,struct.pack('i',0x68))]" % (level, hops, level, traffic)
        client.do("n=c.sendmsg([b'one'],%s,0,to)" % message)
        client.do("n=c.sendto(b'two',to)")
        for text, limit, mark in ((b"one", 77, 0x68), (b"two", 64, 0)):
            server.do("d,c,f,a=u.recvmsg(100,1000);m={(l,k):v for l,k,v in c}")
            equal(server.do("(d,f,a[0])"), (text, 0, other), "the datagram")
            equal(server.do("struct.unpack('i',m[%d,%d])[0]" % (level, hops)), limit, "hop limit")
            equal(server.do("m[%d,%d][0]" % (level, traffic)), mark, "traffic class")
            equal(server.do("abs(time.time()-struct.unpack('qq',m[1,35])[0])<5"), True, "time")
            where = {4: "socket.inet_ntoa(m[0,8][8:12])", 6: "socket.inet_ntop(10,m[41,50][:16])"}[family]
            equal(server.do(where), address, "destination")
        client.do("n=c.sendto(b'three',to)")
        server.do("d,c,f,a=u.recvmsg(100,20)")
        equal(server.do("bool(f&socket.MSG_CTRUNC)"), True, "MSG_CTRUNC")
        wrong = "[(%d,%d,struct.pack('i',300))]" % (level, hops)
        equal(client.errno("c.sendmsg([b'x'],%s,0,to)" % wrong), "EINVAL", "an impossible hop limit")


@test("udp-lite", both=True)
def lite(w, family):
    """UDP-Lite: its own ports beside UDP's, coverage of the checksum."""
    address = w.a.addresses[family]
    kind = {4: 2, 6: 10}[family]
    with agents(w.a, w.b) as (server, client):
        server.do("import socket\nl=socket.socket(%d,2,136);l.bind((%r,7777));l.settimeout(5)" % (kind, address))
        server.do("u=socket.socket(%d,2);u.bind((%r,7777));u.setblocking(False)" % (kind, address))
        equal(server.do("(l.getsockopt(1,38),u.getsockopt(1,38))"), (136, 17), "SO_PROTOCOL")
        client.do("import socket\nc=socket.socket(%d,2,136);c.setsockopt(136,10,12)" % kind)
        equal(client.do("c.getsockopt(136,10)"), 12, "coverage")
        equal(client.errno("socket.socket(%d,2).setsockopt(136,10,12)" % kind), "ENOPROTOOPT", "on UDP")
        client.do("n=c.sendto(b'light',(%r,7777))" % address)
        equal(server.do("l.recv(100)"), b"light", "UDP-Lite")
        equal(server.errno("u.recv(100)"), "EAGAIN", "UDP on the same port")
