# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What an established connection does at its ends: data, half-close, FIN, RST, linger, options."""

import contextlib

from harness import equal, test, true
from harness.agent import listening

REFUSED = "IN OUT ERR HUP RDHUP"


@contextlib.contextmanager
def pair(w, family):
    """Two agents with one connection: `s` at the server (side a), `c` at the client (side b)."""
    with listening(w, family) as (server, client, address, number):
        client.do("c=connected(%r,%d)" % (address, number))
        server.do("s,p=l.accept()")
        yield server, client


@test("stream-masks", both=True, native=True)
def masks(w, family):
    """Poll masks of an established connection: idle, data waiting, buffer full, drained again."""
    with pair(w, family) as (server, client):
        equal(client.do("events(c)"), "OUT", "idle")
        server.do("s.send(b'x')")
        equal(client.do("settled(c,'IN OUT')"), "IN OUT", "data waits")
        equal(client.do("c.recv(10)"), b"x", "the data")
        equal(client.do("events(c)"), "OUT", "drained")
        client.do("c.setblocking(False);n=0")
        client.do(
            "end=time.time()+15;quiet=0\nwhile time.time()<end and quiet<20:\n"
            " try: n+=c.send(b'y'*65536);quiet=0\n except BlockingIOError: quiet+=1;time.sleep(.05)"
        )
        sent = client.do("n")
        equal(client.do("events(c)"), "0", "full after %d bytes" % sent)
        true(0 < sent < 64 << 20, "a peer that does not read bounds the sender: %d bytes" % sent)
        server.do("d=receive(s,%d)" % sent, timeout=30)
        equal(server.do("len(d)"), sent, "bytes received")
        equal(client.do("settled(c,'OUT')"), "OUT", "writable again")


@test("stream-buffers", both=True, native=True)
def buffers(w, family):
    """SO_SNDBUF and SO_RCVBUF, set before the connection or during it, bound what a peer that does not read takes."""
    with listening(w, family) as (server, client, address, number):
        server.do("l.setsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF,4096)")
        client.do("c=stream(%r);c.setsockopt(socket.SOL_SOCKET,socket.SO_SNDBUF,4096)" % address)
        client.do("c.connect((%r,%d))" % (address, number))
        server.do("s,p=l.accept()")
        equal(server.do("s.getsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF)"), 8192, "inherited")
        client.do("c.setblocking(False);n=0")
        client.do(
            "end=time.time()+15;quiet=0\nwhile time.time()<end and quiet<10:\n"
            " try: n+=c.send(b'y'*65536);quiet=0\n except BlockingIOError: quiet+=1;time.sleep(.05)"
        )
        sent = client.do("n")
        true(2000 < sent < 100_000, "bytes on their way to a peer that does not read: %d" % sent)
        server.do("d=receive(s,%d)" % sent, timeout=30)
        equal(server.do("len(d)"), sent, "bytes received")
        client.do("c.setsockopt(socket.SOL_SOCKET,socket.SO_SNDBUF,65536);c.setblocking(True);c.settimeout(20)")
        client.begin("c.sendall(b'z'*1000000)")
        equal(server.do("len(receive(s,1000000))", timeout=30), 1_000_000, "a transfer through small buffers")
        client.result()


@test("stream-buffers-nonblocking", both=True, native=True)
def buffers_nonblocking(w, family):
    """A small SO_SNDBUF of a socket that connects without blocking, set before and after: it becomes writable and is usable."""
    for before in (True, False):
        with listening(w, family) as (server, client, address, number):
            client.do("c=stream(%r);c.setblocking(False)" % address)
            if before:
                client.do("c.setsockopt(socket.SOL_SOCKET,socket.SO_SNDBUF,4096)")
            equal(client.do("c.connect_ex((%r,%d))" % (address, number)), 115, "EINPROGRESS")
            server.do("s,p=l.accept()")
            equal(client.do("settled(c,'OUT')"), "OUT", "connected")
            if not before:
                client.do("c.setsockopt(socket.SOL_SOCKET,socket.SO_SNDBUF,4096)")
                equal(client.do("settled(c,'OUT')"), "OUT", "still writable")
            client.do("c.settimeout(20)")
            client.begin("c.sendall(b'z'*300000)")
            equal(server.do("len(receive(s,300000))", timeout=30), 300_000, "a transfer")
            client.result()


@test("urgent", both=True, native=True)
def urgent(w, family):
    """MSG_OOB: the byte beside the stream, PRI, the mark, SO_OOBINLINE."""
    with pair(w, family) as (server, client):
        equal(server.errno("s.recv(1,socket.MSG_OOB)"), "EINVAL", "nothing urgent")
        server.do("s.sendall(b'abc');n=s.send(b'12X',socket.MSG_OOB)")
        equal(server.do("n"), 3, "bytes taken")
        server.do("s.sendall(b'def')")
        equal(client.do("settled(c,'IN PRI OUT')"), "IN PRI OUT", "urgent data waits")
        equal(client.do("c.recv(1,socket.MSG_OOB|socket.MSG_PEEK)"), b"X", "looked at")
        equal(client.do("c.recvmsg(9,0,socket.MSG_OOB)[0]"), b"X", "taken")
        equal(client.errno("c.recv(1,socket.MSG_OOB)"), "EINVAL", "taken twice")
        equal(client.do("settled(c,'IN OUT')"), "IN OUT", "the rest waits")
        equal(client.do("receive(c,5)"), b"abc12", "before the mark")
        client.do("time.sleep(.3)")
        equal(client.do("receive(c,3)"), b"def", "behind it")
        client.do("c.setsockopt(socket.SOL_SOCKET,socket.SO_OOBINLINE,1)")
        server.do("s.sendall(b'abc');s.send(b'X',socket.MSG_OOB);time.sleep(.2);s.sendall(b'def')")
        client.do("time.sleep(.4)")
        equal(client.errno("c.recv(1,socket.MSG_OOB)"), "EINVAL", "in line there is nothing beside the stream")
        equal(client.do("c.recv(100)"), b"abc", "in line: until the mark")
        equal(client.do("__import__('fcntl').ioctl(c,0x8905,b'0000')"), b"\1\0\0\0", "SIOCATMARK")
        equal(client.do("receive(c,4)"), b"Xdef", "in line: from the mark on")
        equal(client.do("__import__('fcntl').ioctl(c,0x8905,b'0000')"), bytes(4), "SIOCATMARK behind it")
        client.do("d=stream(%r)" % w.a.addresses[family])
        equal(client.errno("d.recv(1,socket.MSG_OOB)"), "EINVAL", "fresh socket")


@test("stream-peek", both=True, native=True)
def flags(w, family):
    """MSG_PEEK, MSG_WAITALL, MSG_DONTWAIT, MSG_TRUNC, FIONREAD, readv/writev, sendfile."""
    with pair(w, family) as (server, client):
        server.do("s.sendall(b'0123456789')")
        equal(client.do("settled(c,'IN OUT')"), "IN OUT", "data waits")
        equal(client.do("c.recv(4,socket.MSG_PEEK)"), b"0123", "peek")
        equal(client.do("__import__('fcntl').ioctl(c,0x541B,b'0000')"), b"\x0a\0\0\0", "FIONREAD")
        equal(client.do("LIBC.recv(c.fileno(),None,4,socket.MSG_TRUNC)"), 4, "MSG_TRUNC without a buffer")
        equal(client.do("c.recv(100)"), b"456789", "the rest")
        equal(client.errno("c.recv(1,socket.MSG_DONTWAIT)"), "EAGAIN", "nothing there")
        client.begin("c.recv(6,socket.MSG_WAITALL)")
        server.do("s.send(b'abc');time.sleep(.2);s.send(b'def')")
        equal(client.result(), b"abcdef", "MSG_WAITALL")
        equal(server.do("os.writev(s.fileno(),[b'one',b'two'])"), 6, "writev")
        equal(client.do("receive(c,6)"), b"onetwo", "its bytes")
        equal(client.do("c.sendto(b'to',('203.0.113.1' if c.family==2 else '2001:db8::1',9))"), 2, "sendto with an address")
        equal(server.do("s.recvfrom(10)[0]"), b"to", "its bytes")
        server.do("f=open('/etc/passwd','rb');n=os.fstat(f.fileno()).st_size;os.sendfile(s.fileno(),f.fileno(),0,n)")
        equal(client.do("receive(c,%d)==open('/etc/passwd','rb').read()" % server.do("n")), True, "sendfile")
        equal(client.do("c.sendmsg([b'a',b'b'])"), 2, "sendmsg")
        equal(server.do("s.recvmsg(10)[0]"), b"ab", "recvmsg")


@test("shutdown-write", both=True, native=True)
def shutdown_write(w, family):
    """SHUT_WR is a FIN: the peer reads the end and may go on sending."""
    with pair(w, family) as (server, client):
        client.do("c.sendall(b'request');c.shutdown(socket.SHUT_WR)")
        equal(client.do("events(c)"), "OUT", "own SHUT_WR")
        equal(client.errno("c.send(b'x')"), "EPIPE", "send after SHUT_WR")
        equal(server.do("receive(s,100)"), b"request", "all until the end")
        equal(server.do("settled(s,'IN OUT RDHUP')"), "IN OUT RDHUP", "the peer's FIN")
        server.do("s.sendall(b'answer'*1000)")
        equal(client.do("len(receive(c,6000))"), 6000, "data against the FIN")
        server.do("s.close()")
        equal(client.do("c.recv(1)"), b"", "the end")
        equal(client.do("settled(c,'IN OUT HUP RDHUP')"), "IN OUT HUP RDHUP", "both ways over")


@test("shutdown-read", both=True, native=True)
def shutdown_read(w, family):
    """SHUT_RD ends reading here and is not seen by the peer."""
    with pair(w, family) as (server, client):
        client.do("c.shutdown(socket.SHUT_RD)")
        equal(client.do("events(c)"), "IN OUT RDHUP", "own SHUT_RD")
        equal(client.do("c.recv(1)"), b"", "read after SHUT_RD")
        equal(client.do("c.send(b'still')"), 5, "send after SHUT_RD")
        equal(server.do("receive(s,5)"), b"still", "its bytes")
        equal(server.do("s.send(b'x'*1000)"), 1000, "the peer may send")
        server.do("time.sleep(.2)")
        equal(server.do("s.send(b'y')"), 1, "and again: no RST")


@test("shutdown-both", both=True, native=True)
def shutdown_both(w, family):
    """SHUT_RDWR, a second shutdown, shutdown of what is not connected."""
    with pair(w, family) as (server, client):
        client.do("c.shutdown(socket.SHUT_RDWR)")
        equal(client.do("c.recv(1)"), b"", "own read")
        equal(client.errno("c.send(b'x')"), "EPIPE", "own write")
        equal(server.do("s.recv(1)"), b"", "the peer reads the end")
        server.do("s.close()")
        equal(client.do("settled(c,'IN OUT HUP RDHUP')"), "IN OUT HUP RDHUP", "over both ways")
        client.do("d=stream(%r)" % w.a.addresses[family])
        equal(client.errno("d.shutdown(socket.SHUT_WR)"), "ENOTCONN", "fresh socket")
        equal(client.do("raw('shutdown',d.fileno(),7)"), (-1, "EINVAL"), "bad argument")


@test("peer-closes", both=True, native=True)
def peer_closes(w, family):
    """The peer's close is a FIN: data first, then the end; later writes meet its RST."""
    with pair(w, family) as (server, client):
        server.do("s.sendall(b'last');s.close()")
        equal(client.do("settled(c,'IN OUT RDHUP')"), "IN OUT RDHUP", "FIN")
        equal(client.do("receive(c,100)"), b"last", "data before the end")
        equal(client.do("c.send(b'x')"), 1, "first write")
        got = client.errno("[(time.sleep(.05),c.send(b'x')) for _ in range(60)]")
        true(got in ("EPIPE", "ECONNRESET"), "writes after the peer's RST: %s" % got)


@test("reset-unread", both=True, native=True)
def reset_unread(w, family):
    """close() with unread data is an RST."""
    with pair(w, family) as (server, client):
        client.do("c.sendall(b'never read')")
        equal(server.do("settled(s,'IN OUT')"), "IN OUT", "data waits")
        server.do("s.close()")
        equal(client.do("settled(c,%r)" % REFUSED), REFUSED, "mask after RST")
        equal(client.errno("c.recv(1)"), "ECONNRESET", "read after RST")
        equal(client.do("c.recv(1)"), b"", "second read")


@test("last-words", both=True, native=True)
def last_words(w, family):
    """What is written right before an RST arrives before it (a TLS alert before close() with unread data)."""
    with pair(w, family) as (server, client):
        server.do("s.sendall(b'never read')")
        equal(client.do("settled(c,'IN OUT')"), "IN OUT", "data waits")
        client.do("c.send(b'alert');c.close()")
        equal(server.do("settled(s,%r)" % REFUSED), REFUSED, "mask after RST")
        equal(server.do("s.recv(100)"), b"alert", "data before the RST")
        equal(server.errno("s.recv(1)"), "ECONNRESET", "read after RST")
    with pair(w, family) as (server, client):
        client.do("linger(c,0);c.send(b'alert');c.close()")
        equal(server.do("settled(s,%r)" % REFUSED), REFUSED, "mask after RST with SO_LINGER 0")
        equal(server.do("s.recv(100)"), b"alert", "data before the RST with SO_LINGER 0")
        equal(server.errno("s.recv(1)"), "ECONNRESET", "read after it")


@test("reset-linger", both=True, native=True)
def reset_linger(w, family):
    """SO_LINGER 0 closes with an RST; what was received before is read first."""
    with pair(w, family) as (server, client):
        server.do("s.sendall(b'before')")
        equal(client.do("settled(c,'IN OUT')"), "IN OUT", "data waits")
        server.do("linger(s,0);s.close()")
        equal(client.do("settled(c,%r)" % REFUSED), REFUSED, "mask after RST")
        equal(client.do("pending(c)"), "ECONNRESET", "SO_ERROR")
        equal(client.do("pending(c)"), 0, "SO_ERROR again")


@test("reset-blocked", both=True, native=True)
def reset_blocked(w, family):
    """An RST ends a blocked recv."""
    with pair(w, family) as (server, client):
        client.begin("c.recv(1)")
        equal(client.finished(0.3), False, "recv blocks")
        server.do("linger(s,0);s.close()")
        equal(client.outcome(), "ECONNRESET", "recv")


@test("linger-waits", both=True, native=True)
def linger_waits(w, family):
    """All data queued at close() still arrives (no linger), and with SO_LINGER 5."""
    for seconds in (None, 5):
        with pair(w, family) as (server, client):
            if seconds:
                client.do("linger(c,%d)" % seconds)
            client.begin("c.sendall(b'z'*300000);c.close()")
            equal(server.do("len(receive(s,1<<20))"), 300000, "bytes after close")
            client.result()


@test("exit-sends", both=True, native=True)
def exit_sends(w, family):
    """A program that ends at once after writing loses nothing; a killed one closes its connections."""
    with pair(w, family) as (server, client):
        client.begin("c.sendall(b'z'*200000);os._exit(0)")
        equal(server.do("len(receive(s,1<<20))"), 200000, "bytes of a program that has ended")
    with pair(w, family) as (server, client):
        client.close()
        equal(server.do("s.recv(1)"), b"", "the end of a killed program's connection")


@test("timeouts", both=True, native=True)
def timeouts(w, family):
    """SO_RCVTIMEO and SO_SNDTIMEO on recv, accept, recvfrom and connect."""
    with pair(w, family) as (server, client):
        rcv = "%s.setsockopt(socket.SOL_SOCKET,socket.SO_RCVTIMEO,struct.pack('ll',0,300000))"
        client.do(rcv % "c")
        equal(client.do("b=time.time();r=raw('recv',c.fileno(),ctypes.create_string_buffer(9),9,0)"), None, "recv")
        equal(client.do("r"), (-1, "EAGAIN"), "recv with SO_RCVTIMEO")
        true(0.2 < client.do("time.time()-b") < 3, "after 0.3 s")
        server.do(rcv % "l")
        equal(server.do("raw('accept',l.fileno(),None,None)"), (-1, "EAGAIN"), "accept with SO_RCVTIMEO")
        server.do("a=ctypes.create_string_buffer(28);n=ctypes.c_int(28)")
        equal(server.do("raw('accept',l.fileno(),a,ctypes.byref(n))"), (-1, "EAGAIN"), "accept with address and SO_RCVTIMEO")
        server.do("u=datagram(%r,0)" % w.a.addresses[family])
        server.do(rcv % "u")
        code = "raw('recvfrom',u.fileno(),ctypes.create_string_buffer(9),9,0,a,ctypes.byref(n))"
        equal(server.do(code), (-1, "EAGAIN"), "recvfrom with address and SO_RCVTIMEO")


@test("socket-options", both=True, native=True)
def options(w, family):
    """What servers and clients set and ask on the way."""
    with pair(w, family) as (server, client):
        for level, name, value in (
            ("IPPROTO_TCP", "TCP_NODELAY", 1),
            ("IPPROTO_TCP", "TCP_KEEPIDLE", 30),
            ("IPPROTO_TCP", "TCP_KEEPINTVL", 10),
            ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
            ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 5000),
            ("IPPROTO_TCP", "TCP_QUICKACK", 1),
            ("IPPROTO_TCP", "TCP_CORK", 0),
            ("SOL_SOCKET", "SO_KEEPALIVE", 1),
            ("SOL_SOCKET", "SO_REUSEADDR", 1),
            ("SOL_SOCKET", "SO_OOBINLINE", 1),
        ):
            arguments = "socket.%s,socket.%s" % (level, name)
            client.do("c.setsockopt(%s,%d)" % (arguments, value))
            equal(client.do("c.getsockopt(%s)" % arguments), value, name)
        for name, value in (
            ("SO_TYPE", 1),
            ("SO_DOMAIN", 10 if family == 6 else 2),
            ("SO_PROTOCOL", 6),
            ("SO_ACCEPTCONN", 0),
            ("SO_ERROR", 0),
        ):
            equal(client.do("c.getsockopt(socket.SOL_SOCKET,socket.%s)" % name), value, name)
        equal(server.do("l.getsockopt(socket.SOL_SOCKET,socket.SO_ACCEPTCONN)"), 1, "SO_ACCEPTCONN of the listener")
        client.do("c.setsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF,100000)")
        equal(client.do("c.getsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF)"), 200000, "SO_RCVBUF is doubled")
        true(client.do("c.getsockopt(socket.SOL_SOCKET,socket.SO_SNDBUF)") > 4096, "SO_SNDBUF")
        equal(client.do("c.getsockopt(socket.IPPROTO_TCP,socket.TCP_INFO,200)[0]"), 1, "TCP_INFO: state established")
        equal(server.do("l.getsockopt(socket.IPPROTO_TCP,socket.TCP_INFO,200)[0]"), 10, "TCP_INFO: state listening")
        equal(client.errno("c.setsockopt(socket.IPPROTO_TCP,199,1)"), "ENOPROTOOPT", "unknown option")
        equal(client.errno("c.getsockopt(socket.SOL_SOCKET,9999)"), "ENOPROTOOPT", "unknown option asked")
        equal(client.errno("c.setsockopt(socket.IPPROTO_TCP,socket.TCP_NODELAY,b'x')"), "EINVAL", "too short a value")
        mss = client.do("c.getsockopt(socket.IPPROTO_TCP,socket.TCP_MAXSEG)")
        true(500 <= mss <= 65535, "TCP_MAXSEG %d" % mss)
