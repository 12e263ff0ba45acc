# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Names of sockets, who may bind what beside whom, ports, dual stack."""

import time

from harness import equal, shorten, test, true
from harness.agent import agents, listening


@test("names", both=True, native=True)
def names(w, family):
    """getsockname and getpeername on both ends, before and after."""
    address, other = w.a.addresses[family], w.b.addresses[family]
    nothing = ("0.0.0.0", 0) if family == 4 else ("::", 0)
    with agents(w.a, w.b) as (server, client):
        server.do("l=stream(%r)" % address)
        equal(server.do("l.getsockname()[:2]"), nothing, "fresh socket")
        equal(server.errno("l.getpeername()"), "ENOTCONN", "fresh socket's peer")
        server.do("l.bind((%r,0))" % address)
        number = server.do("port(l)")
        equal(server.do("l.getsockname()[:2]"), (address, number), "bound")
        equal(server.errno("l.bind((%r,0))" % address), "EINVAL", "bound twice")
        server.do("l.listen(5)")
        equal(server.errno("l.getpeername()"), "ENOTCONN", "a listener's peer")
        client.do("c=connected(%r,%d)" % (address, number))
        server.do("s,p=l.accept()")
        mine = client.do("c.getsockname()")
        equal(mine[0], other, "the client's own address")
        equal(client.do("c.getpeername()[:2]"), (address, number), "the client's peer")
        equal(server.do("p"), mine, "accept's address")
        equal(server.do("s.getpeername()"), mine, "the server's peer")
        equal(server.do("s.getsockname()[:2]"), (address, number), "the server's own address")
        client.do("d=stream(%r);d.bind((%r,0));want=port(d);d.connect((%r,%d))" % (other, other, address, number))
        equal(client.do("d.getsockname()[:2]"), (other, client.do("want")), "a port chosen before connect")


@test("ports", both=True, native=True)
def ports(w, family):
    """Port 0 gives free ports of the usual range; 200 of them are all different."""
    address = w.a.addresses[family]
    with agents(w.a) as (agent,):
        agent.do("all=[listener(%r) for _ in range(200)];ps=[port(s) for s in all]" % address)
        equal(agent.do("len(set(ps))"), 200, "different ports")
        true(agent.do("min(ps)>=32768 and max(ps)<=60999"), "range: %s" % (agent.do("(min(ps),max(ps))"),))


@test("low-ports", both=True)
def low_ports(w, family):
    """An ordinary user's program may have any port of its network, TCP and UDP."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        for number in (1, 22, 53, 443, 1023):
            server.do("l=listener(%r,5,%d)" % (address, number))
            client.do("c=connected(%r,%d)" % (address, number))
            server.do("u=datagram(%r,%d)" % (address, number))
        equal(server.do("os.getuid()!=0"), True, "not root")


@test("dual-stack", native=True)
def dual_stack(w):
    """One IPv6 wildcard listener serves both families; with V6ONLY it does not."""
    with agents(w.a, w.b) as (server, client):
        server.do("l=socket.socket(socket.AF_INET6);l.setsockopt(41,26,0);l.bind(('::',0));l.listen(5)")
        number = server.do("port(l)")
        equal(server.do("l.getsockname()[0]"), "::", "the wildcard")
        for family in (4, 6):
            client.do("c=connected(%r,%d)" % (w.a.addresses[family], number))
            server.do("s,p=l.accept()")
            prefix = "::ffff:" if family == 4 else ""
            equal(server.do("p[0]"), prefix + w.b.addresses[family], "peer over IPv%d" % family)
            equal(server.do("s.getsockname()[0]"), prefix + w.a.addresses[family], "own over IPv%d" % family)
            server.do("s.send(b'x')")
            equal(client.do("c.recv(1)"), b"x", "data")
        client.do("m=socket.socket(socket.AF_INET6);m.connect(('::ffff:%s',%d))" % (w.a.addresses[4], number))
        server.do("s,p=l.accept()")
        equal(client.do("m.getpeername()[0]"), "::ffff:" + w.a.addresses[4], "connect to a mapped address")
        server.do("v=socket.socket(socket.AF_INET6);v.setsockopt(41,26,1);v.bind(('::',0));v.listen(5)")
        number = server.do("port(v)")
        client.do("c=connected(%r,%d)" % (w.a.addresses[6], number))
        equal(client.errno("connected(%r,%d)" % (w.a.addresses[4], number)), "ECONNREFUSED", "IPv4 to a V6ONLY listener")
        equal(server.errno("v.setsockopt(41,26,0)"), "EINVAL", "V6ONLY of a bound socket")
        server.do("f=socket.socket(socket.AF_INET);f.bind(('0.0.0.0',%d));f.listen(5)" % number)
        client.do("c=connected(%r,%d)" % (w.a.addresses[4], number))


@test("wildcard-connect", both=True, native=True)
def wildcard_connect(w, family):
    """connect() to 0.0.0.0 or :: means loopback."""
    with agents(w.a) as (agent,):
        wild, loopback = {4: ("0.0.0.0", "127.0.0.1"), 6: ("::", "::1")}[family]
        agent.do("l=listener(%r);c=connected(%r,port(l))" % (wild, wild))
        equal(agent.do("c.getpeername()[0]"), loopback, "peer")
        equal(agent.do("c.getsockname()[0]"), loopback, "own")


@test("loopback-range", native=True)
def loopback_range(w):
    """All of 127/8 is local."""
    with agents(w.a) as (agent,):
        agent.do("l=listener('127.9.8.7');c=connected('127.9.8.7',port(l))")
        true(agent.do("c.getsockname()[0]").startswith("127."), "own address")


@test("bind-matrix", native=True, timeout=90)
def bind_matrix(w):
    """Every pair of binds gives inside what it gives on the host's own loopback."""
    script = w.context.programs / "binds.py"
    expected = w.context.run(["/usr/bin/python3", script], timeout=60).ok().text.splitlines()
    got = w.a.run("/usr/bin/python3", script, timeout=80).ok().text.splitlines()
    equal(len(got), len(expected), "cases")
    wrong = ["%s (Linux: %s)" % (g, e.rsplit(" ", 1)[1]) for g, e in zip(got, expected) if g != e]
    true(not wrong, "%d of %d cases differ: %s" % (len(wrong), len(got), shorten("; ".join(wrong))))


@test("rebind", both=True, native=True)
def rebind(w, family):
    """A server that restarts binds its port again at once with REUSEADDR, connections in TIME_WAIT or not."""
    with listening(w, family) as (server, client, address, number):
        client.do("c=connected(%r,%d)" % (address, number))
        server.do("s,p=l.accept();s.close()")  # the server closes first: it keeps the TIME_WAIT
        equal(client.do("c.recv(1)"), b"", "the end")
        client.do("c.close()")
        server.do("l.close();l=listener(%r,5,%d)" % (address, number))
        client.do("c=connected(%r,%d)" % (address, number))
        server.do("s,p=l.accept()")
        equal(server.errno("listener(%r,5,%d)" % (address, number)), "EADDRINUSE", "a second listener")
    with agents(w.a) as (server,):
        server.do("l=listener(%r,5,%d)" % (address, number))  # the program was killed: its port is free


@test("reuseport", both=True, native=True)
def reuseport(w, family):
    """SO_REUSEPORT listeners of two processes share the connections."""
    address = w.a.addresses[family]
    with agents(w.a, w.a, w.b) as (one, two, client):
        make = "l=stream(%r);l.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1);l.bind((%r,%%d));l.listen(100)" % (address, address)
        one.do(make % 0)
        number = one.do("port(l)")
        two.do(make % number)
        client.do("all=[connected(%r,%d) for _ in range(60)]" % (address, number))
        count = "l.setblocking(False);n=0;held=[]\nwhile events(l,200)=='IN':\n held.append(l.accept());n+=1"
        one.do(count)
        two.do(count)
        first, second = one.do("n"), two.do("n")
        equal(first + second, 60, "connections")
        true(min(first, second) >= 10, "shared out: %d and %d" % (first, second))


@test("close-stages", both=True, native=True, timeout=90)
def close_stages(w, family):
    """Sockets closed at every stage leave no file, thread or port behind."""
    with listening(w, family) as (server, client, address, number):
        client.do("s=stream(%r)" % address)
        before = None if w.context.native else quiet(w)
        for agent, side in ((server, w.a), (client, w.b)):
            own = side.addresses[family]
            agent.do("for _ in range(50): stream(%r).close()" % own)
            agent.do("for _ in range(50): b=stream(%r);b.bind((%r,0));b.close()" % (own, own))
            agent.do("for _ in range(50): b=listener(%r);b.close()" % own)
            agent.do("for _ in range(50): b=datagram(%r,0);b.close()" % own)
        client.do("for _ in range(20): c=stream(%r);c.setblocking(False);c.connect_ex((%r,%d));c.close()" % (address, address, number))
        client.do("all=[connected(%r,%d) for _ in range(20)]" % (address, number))
        server.do("l.setblocking(False);got=[]\nwhile events(l,300)=='IN': got.append(l.accept()[0])")
        client.do("for c in all[:5]: c.shutdown(socket.SHUT_WR)\nfor c in all[5:10]: linger(c,0)\nfor c in all: c.close()")
        server.do("for s in got[::2]: raw('shutdown',s.fileno(),2)\nfor s in got: s.close()")
        if before:
            after = quiet(w)
            equal(after, before, "(files, threads) of both supervisors afterwards")


def quiet(w):
    """(files, threads) of both supervisors once they have not changed for 3 s: closed sockets are swept by the second."""
    seen, since, end = None, time.monotonic(), time.monotonic() + 30
    while time.monotonic() - since < 3 and time.monotonic() < end:
        now = [(side.figures().get("fds"), side.figures()["threads"]) for side in (w.a, w.b)]
        if now != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.2)
    return seen
