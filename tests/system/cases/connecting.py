# SPDX-License-Identifier: Apache-2.0 OR MIT
"""connect() in every outcome, blocking and not; listeners, backlog and accept()."""

from harness import equal, test, true
from harness.agent import agents, listening


def full_listener(server, client, address):
    """A listener with room for no further connection: the next connect() stays in SYN_SENT. Returns its port."""
    server.do("l=listener(%r,0)" % address)
    number = server.do("port(l)")
    client.do(
        "waiting=[]\nfor _ in range(40):\n x=stream(%r);x.setblocking(False);x.connect_ex((%r,%d));waiting.append(x)\n"
        " if events(x,300)!='OUT': break" % (address, address, number)
    )
    true(client.do("len(waiting)") < 40, "listen(0) accepts without end: %d connections wait" % client.do("len(waiting)"))
    return number


@test("connect-nonblocking", both=True, native=True)
def nonblocking(w, family):
    """EINPROGRESS; poll 0 until established; one EPOLLET OUT edge; then 0 once and EISCONN."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        number = full_listener(server, client, address)
        client.do("c=waiting[-1];e=select.epoll();e.register(c,select.EPOLLIN|select.EPOLLOUT|select.EPOLLET)")
        equal(client.do("events(c,300)"), "0", "while connecting")
        equal(client.do("e.poll(0)"), [], "epoll while connecting")
        equal(client.do("pending(c)"), 0, "SO_ERROR while connecting")
        equal(client.errno("c.getpeername()"), "ENOTCONN", "getpeername while connecting")
        equal(client.errno("c.connect((%r,%d))" % (address, number)), "EALREADY", "connect again")
        equal(client.errno("c.send(b'x')"), "EAGAIN", "send while connecting")
        equal(client.errno("c.recv(1)"), "EAGAIN", "recv while connecting")
        true(client.do("c.getsockname()[1]") > 0, "local port while connecting")
        server.do("held=[l.accept()[0] for _ in range(%d)]" % (client.do("len(waiting)") - 1))
        equal(client.do("settled(c,'OUT',15)", 30), "OUT", "established")
        equal(client.do("len(e.poll(1))"), 1, "one edge")
        equal(client.do("e.poll(0.3)"), [], "no second edge")
        equal(client.do("pending(c)"), 0, "SO_ERROR")
        again = "raw('connect',c.fileno(),*[(b:=sockaddr(%r,%d)),len(b)])" % (address, number)
        equal(client.do(again), (0, 0), "connect: 0 once")
        equal(client.errno("c.connect((%r,%d))" % (address, number)), "EISCONN", "then EISCONN")
        equal(client.do("c.getpeername()[:2]"), (address, number), "getpeername")
        server.do("s,p=l.accept();s.send(b'hi')")
        equal(client.do("c.setblocking(True) or c.recv(2)"), b"hi", "data")


@test("connect-edge-first", both=True, native=True)
def edge_first(w, family):
    """A registration made before connect() sees one OUT edge when established."""
    with listening(w, family) as (server, client, address, number):
        client.do("c=stream(%r);c.setblocking(False);e=select.epoll()" % address)
        client.do("e.register(c,select.EPOLLIN|select.EPOLLOUT|select.EPOLLRDHUP|select.EPOLLET)")
        equal(client.do("[names(m) for _,m in e.poll(0)]"), ["OUT HUP"], "fresh socket")
        client.do("r=c.connect_ex((%r,%d))" % (address, number))
        equal(client.do("errno.errorcode.get(r,r) in ('EINPROGRESS',0)"), True, "connect")
        equal(client.do("[names(m) for _,m in e.poll(5)]"), ["OUT"], "the edge")
        equal(client.do("e.poll(0.2)"), [], "no more")
        server.do("s,p=l.accept()")
        server.do("s.send(b'1')")
        equal(client.do("[names(m) for _,m in e.poll(5)]"), ["IN OUT"], "data edge")
        server.do("s.close()")
        equal(client.do("[names(m) for _,m in e.poll(5)]"), ["IN OUT RDHUP"], "FIN edge")


@test("connect-refused", both=True, native=True)
def refused(w, family):
    """ECONNREFUSED, blocking and not; the same socket then connects elsewhere."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("l=listener(%r);d=listener(%r);gone=port(d);d.close()" % (address, address))
        gone, live = server.do("gone"), server.do("port(l)")
        client.do("c=stream(%r)" % address)
        equal(client.errno("c.connect((%r,%d))" % (address, gone)), "ECONNREFUSED", "blocking")
        equal(client.do("pending(c)"), 0, "SO_ERROR after it was returned")
        client.do("c.connect((%r,%d))" % (address, live))
        equal(client.do("events(c)"), "OUT", "the same socket connects")
        client.do("n=stream(%r);n.setblocking(False)" % address)
        true(client.errno("n.connect((%r,%d))" % (address, gone)) in ("EINPROGRESS", "ECONNREFUSED"), "non-blocking")
        if not w.context.native:
            full = "IN OUT ERR HUP RDHUP"
            equal(client.do("settled(n,%r)" % full), full, "mask of a refused connection")
            equal(client.do("pending(n)"), "ECONNREFUSED", "SO_ERROR")
            equal(client.do("pending(n)"), 0, "SO_ERROR again")
            equal(client.do("events(n)"), "IN OUT HUP RDHUP", "mask after SO_ERROR was read")
            equal(client.errno("n.getpeername()"), "ENOTCONN", "getpeername")
        # Linux answers the first call after an error that SO_ERROR took with ECONNABORTED.
        client.do("pending(n);n.setblocking(True);r=n.connect_ex((%r,%d))" % (address, live))
        true(client.do("r==0 or r==errno.ECONNABORTED and n.connect((%r,%d)) is None" % (address, live)), "connect after a failed one")
        equal(client.do("n.getpeername()[1]"), live, "the same socket connects after a failed non-blocking try")


@test("connect-unreachable", both=True)
def unreachable(w, family):
    """Addresses outside the network: ENETUNREACH at once, TCP and UDP; nothing falls through to the host."""
    with agents(w.b) as (client,):
        for address in {4: ("203.0.113.7", "8.8.8.8", "192.168.1.1"), 6: ("2001:db8::7", "2606:4700::1")}[family]:
            client.do("b=time.time()")
            equal(client.errno("connected(%r,80)" % address), "ENETUNREACH", "connect to %s" % address)
            true(client.do("time.time()-b") < 1, "at once")
            equal(client.errno("datagram(%r).connect((%r,80))" % (address, address)), "ENETUNREACH", "UDP connect to %s" % address)
            equal(client.errno("datagram(%r).sendto(b'x',(%r,80))" % (address, address)), "ENETUNREACH", "sendto %s" % address)
        # An address of the network's prefix that nobody has.
        address = {4: "10.77.0.200", 6: "fd77::200"}[family]
        client.do("c=stream(%r);c.settimeout(4)" % address)
        got = client.errno("c.connect((%r,80))" % address)
        true(got in ("ENETUNREACH", "EHOSTUNREACH", "timed out"), "an address nobody has: %s" % got)


@test("connect-timeout", both=True, native=True)
def timed_out(w, family):
    """Nobody answers: SO_SNDTIMEO gives EINPROGRESS, TCP_SYNCNT 1 gives ETIMEDOUT."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        number = full_listener(server, client, address)
        client.do("c=stream(%r);c.setsockopt(socket.SOL_SOCKET,socket.SO_SNDTIMEO,struct.pack('ll',0,400000))" % address)
        client.do("b=time.time()")
        code = "raw('connect',c.fileno(),*[(to:=sockaddr(%r,%d)),len(to)])" % (address, number)
        equal(client.do(code), (-1, "EINPROGRESS"), "SO_SNDTIMEO")
        true(0.3 < client.do("time.time()-b") < 2, "after 0.4 s")
        client.do("d=stream(%r);d.setsockopt(socket.IPPROTO_TCP,socket.TCP_SYNCNT,1)" % address)
        equal(client.errno("d.connect((%r,%d))" % (address, number), 40), "ETIMEDOUT", "TCP_SYNCNT 1")


@test("connect-unspec", both=True, native=True)
def unspec(w, family):
    """connect(AF_UNSPEC) dissolves a connection; the socket can be used again."""
    with listening(w, family) as (server, client, address, number):
        client.do("c=connected(%r,%d)" % (address, number))
        server.do("s,p=l.accept()")
        equal(client.do("raw('connect',c.fileno(),bytes(16),16)"), (0, 0), "AF_UNSPEC")
        equal(client.errno("c.getpeername()"), "ENOTCONN", "getpeername")
        equal(server.errno("s.recv(1)"), "ECONNRESET", "the peer sees an RST")
        client.do("c.connect((%r,%d))" % (address, number))
        server.do("s,p=l.accept();s.send(b'x')")
        equal(client.do("c.recv(1)"), b"x", "used again")


@test("connect-errors", both=True, native=True)
def errors(w, family):
    """What Linux says to wrong calls."""
    address = w.a.addresses[family]
    with agents(w.b) as (client,):
        client.do("c=stream(%r);a=sockaddr(%r,1)" % (address, address))
        for what, code, expected in (
            ("bad pointer", "raw('connect',c.fileno(),ctypes.c_void_p(8),28)", "EFAULT"),
            ("short address", "raw('connect',c.fileno(),a,4)", "EINVAL"),
            ("not a socket", "raw('connect',0,a,len(a))", "ENOTSOCK"),
            ("closed number", "raw('connect',777,a,len(a))", "EBADF"),
            ("wrong family", "raw('connect',c.fileno(),b'\\x63\\0'+bytes(26),28)", "EAFNOSUPPORT"),
            ("listen on a datagram socket", "raw('listen',(u:=datagram(%r)).fileno(),5)" % address, "ENOTSUP"),
            ("accept on a fresh socket", "raw('accept',c.fileno(),None,None)", "EINVAL"),
            ("accept4 flags", "raw('accept4',c.fileno(),None,None,1)", "EINVAL"),
            ("bind a foreign address", "raw('bind',c.fileno(),*[(f:=sockaddr('198.51.100.1' if c.family==2 else '2001:db8::9',0)),len(f)])", "EADDRNOTAVAIL"),
            ("getsockname, bad pointer", "raw('getsockname',c.fileno(),ctypes.c_void_p(8),ctypes.byref(ctypes.c_int(28)))", "EFAULT"),
            ("getsockname, negative length", "raw('getsockname',c.fileno(),a,ctypes.byref(ctypes.c_int(-1)))", "EINVAL"),
            ("unknown protocol", "raw('socket',c.family,1,99)", "EPROTONOSUPPORT"),
            ("wrong protocol", "raw('socket',c.family,1,17)", "EPROTONOSUPPORT"),
            ("unknown type", "raw('socket',c.family,9,0)", "ESOCKTNOSUPPORT"),
        ):  # fmt: skip
            equal(client.do(code), (-1, expected), what)
        got = client.do("raw('send',c.fileno(),b'x',1,0x4000)")  # not trapped: the stand-in's word differs
        true(got in ((-1, "EPIPE"), (-1, "ENOTCONN")), "send on a fresh socket: %s" % (got,))
        client.do("l=listener(%r)" % w.b.addresses[family])
        equal(client.errno("l.connect((%r,1))" % address), "EISCONN", "connect on a listener")
        client.do("l.listen(5)")
        true(client.errno("l.recv(1)") in ("ENOTCONN", "EINVAL"), "recv on a listener")  # not trapped either


@test("backlog", both=True, native=True)
def backlog(w, family):
    """A full queue holds further clients back; accept() lets them in, in order."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("l=listener(%r,3)" % address)
        number = server.do("port(l)")
        client.do(
            "all=[]\nfor _ in range(12):\n x=stream(%r);x.setblocking(False);x.connect_ex((%r,%d));all.append(x);events(x,60)"
            % (address, address, number)
        )
        client.do("time.sleep(.3)")
        done = client.do("sum(events(x)=='OUT' for x in all)")
        equal(done, 4, "connections established with listen(3)")
        server.do("held=[];ports=[]\nfor _ in range(12):\n s,p=l.accept();held.append(s);ports.append(p[1])", 40)
        equal(client.do("[settled(x,'OUT',5) for x in all]", 40), ["OUT"] * 12, "all in the end")
        equal(client.do("sorted(port(x) for x in all)"), sorted(server.do("ports")), "their ports")


@test("accept-data-first", both=True, native=True)
def data_first(w, family):
    """Data, and even a FIN, that came before accept() are there after it."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("l=listener(%r)" % address)
        equal(server.do("events(l)"), "0", "idle listener")
        client.do("c=connected(%r,%d);c.sendall(b'early'*2000);c.close()" % (address, server.do("port(l)")))
        equal(server.do("settled(l,'IN')"), "IN", "pending connection")
        server.do("time.sleep(.2);s,p=l.accept()")
        equal(server.do("receive(s,1<<20)==b'early'*2000"), True, "data before accept")
        equal(server.do("s.send(b'x')"), 1, "after a FIN before accept")


@test("accept-reset-first", both=True, native=True)
def reset_before_accept(w, family):
    """A connection reset before accept() is still accepted and reads ECONNRESET."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("l=listener(%r)" % address)
        client.do("c=connected(%r,%d);linger(c,0);c.close()" % (address, server.do("port(l)")))
        server.do("time.sleep(.3);l.settimeout(5);s,p=l.accept()")
        equal(server.errno("s.recv(1)"), "ECONNRESET", "read")


@test("accept-flags", both=True, native=True)
def accept_flags(w, family):
    """accept4 flags, lowest free number, the peer's address truncated to the caller's room."""
    with listening(w, family) as (server, client, address, number):
        client.do("held=[connected(%r,%d) for _ in range(3)]" % (address, number))
        server.do("a=ctypes.create_string_buffer(b'z'*28,28);n=ctypes.c_int(4)")
        server.do("import fcntl;low=os.open('/dev/null',0);os.close(low)")
        code = "raw('accept4',l.fileno(),a,ctypes.byref(n),socket.SOCK_NONBLOCK|socket.SOCK_CLOEXEC)"
        equal(server.do(code), (server.do("low"), 0), "lowest number")
        equal(server.do("n.value"), 28 if family == 6 else 16, "length wanted")
        equal(server.do("a.raw[4:8]"), b"zzzz", "bytes beyond the room")
        equal(server.do("fcntl.fcntl(low,fcntl.F_GETFL)&os.O_NONBLOCK and fcntl.fcntl(low,fcntl.F_GETFD)"), 1, "NONBLOCK, CLOEXEC")
        equal(server.do("(fd:=raw('accept',l.fileno(),None,None)[0])>0 and fcntl.fcntl(fd,fcntl.F_GETFD)"), 0, "accept without flags")
        equal(server.do("socket.socket(fileno=fd).getpeername()[1]"), client.do("port(held[1])"), "its peer")
        server.do("l.setblocking(False);l.accept()")
        equal(server.errno("l.accept()"), "EAGAIN", "nothing there")


@test("accept-shutdown", both=True, native=True)
def accept_shutdown(w, family):
    """shutdown() of a listener wakes a blocked accept() with EINVAL; connections are refused from then on."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("l=listener(%r);import threading;got=[]" % address)
        number = server.do("port(l)")
        server.do("t=threading.Thread(target=lambda:got.append(raw('accept',l.fileno(),None,None)));t.start();time.sleep(.2)")
        server.do("l.shutdown(socket.SHUT_RD);t.join(5)")
        equal(server.do("got"), [(-1, "EINVAL")], "blocked accept")
        equal(client.errno("connected(%r,%d)" % (address, number)), "ECONNREFUSED", "connect afterwards")
        server.do("l.listen(5)")
        client.do("c=connected(%r,%d)" % (address, server.do("port(l)")))


@test("listener-closed", both=True, native=True)
def listener_closed(w, family):
    """Closing a listener resets what waits in its queue and frees the port."""
    with listening(w, family) as (server, client, address, number):
        client.do("c=connected(%r,%d)" % (address, number))
        server.do("time.sleep(.1);l.close()")
        equal(client.errno("c.recv(1)"), "ECONNRESET", "a connection nobody accepted")
        equal(client.errno("connected(%r,%d)" % (address, number)), "ECONNREFUSED", "a new one")
        server.do("l=listener(%r,5,%d)" % (address, number))
        client.do("c=connected(%r,%d)" % (address, number))
