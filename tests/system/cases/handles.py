# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Sockets that travel: dup, fork, exec, SCM_RIGHTS, inetd style."""

from harness import equal, test, true
from harness.agent import agents, listening


@test("dup", both=True, native=True)
def dup(w, family):
    """A duplicate is the same socket; the connection lives until the last one is closed."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("l=listener(%r);m=l.dup();number=port(l);l.close()" % address)
        number = server.do("number")
        equal(server.do("port(m)"), number, "name of a duplicated listener")
        client.do("c=stream(%r);d=c.dup();c.close();d.connect((%r,%d));e=d.dup()" % (address, address, number))
        server.do("s,p=m.accept()")
        equal(client.do("(d.getpeername()==e.getpeername(),d.getsockname()==e.getsockname())"), (True, True), "names")
        client.do("d.close();e.sendall(b'x')")
        equal(server.do("s.recv(1)"), b"x", "data of the duplicate")
        client.do("os.dup2(e.fileno(),200);e.close();f=socket.socket(fileno=200)")
        equal(client.do("f.getpeername()[1]"), number, "after dup2 onto 200")
        client.do("f.close()")
        equal(server.do("s.recv(1)"), b"", "the last one closed")


@test("dup-while-connecting", both=True, native=True)
def dup_connecting(w, family):
    """A duplicate made before connect() is connected with it."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("l=listener(%r)" % address)
        client.do("c=stream(%r);d=c.dup();e=select.epoll();e.register(d,select.EPOLLOUT|select.EPOLLET);e.poll(0)" % address)
        client.do("c.setblocking(False);c.connect_ex((%r,%d))" % (address, server.do("port(l)")))
        equal(client.do("[names(m) for _,m in e.poll(5)]"), ["OUT"], "edge at the duplicate")
        client.do("c.close()")
        server.do("s,p=l.accept();s.send(b'x')")
        equal(client.do("d.setblocking(True) or d.recv(1)"), b"x", "data at the duplicate")


@test("fork", both=True, native=True)
def fork(w, family):
    """Parent and child share sockets; a child makes its own."""
    with listening(w, family) as (server, client, address, number):
        client.do(
            "c=connected(%r,%d)\nif os.fork()==0:\n c.sendall(b'child ');d=connected(%r,%d);d.sendall(repr(c.getpeername()[1]).encode());os._exit(0)\n"
            "os.wait();c.sendall(b'parent');c.close()" % (address, number, address, number)
        )
        server.do("s,p=l.accept();t,q=l.accept()")
        equal(server.do("receive(s,100)"), b"child parent", "the shared connection")
        equal(server.do("receive(t,100)"), str(number).encode(), "the child's own, and its view of the parent's")
        server.do("pid=os.fork()\nif pid==0:\n x,p=l.accept();x.sendall(b'from the child');os._exit(0)")
        client.do("c=connected(%r,%d)" % (address, number))
        equal(client.do("receive(c,100)"), b"from the child", "accept in a child")
        server.do("os.waitpid(pid,0)")


@test("exec", both=True, native=True)
def exec_keeps(w, family):
    """A socket kept over exec: inetd style on 0, 1 and 2, and by number; CLOEXEC ones are gone."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("import subprocess;l=listener(%r)" % address)
        number = server.do("port(l)")
        client.do("c=connected(%r,%d)" % (address, number))
        server.do("s,p=l.accept();q=subprocess.Popen(['/bin/sh','-c','read line; echo \"got $line\"'],stdin=s,stdout=s,stderr=s);s.close()")
        client.do("c.sendall(b'a line\\n')")
        equal(client.do("receive(c,100)"), b"got a line\n", "inetd style")
        equal(server.do("q.wait()"), 0, "exit status")
        code = "import socket,sys;l=socket.socket(fileno=int(sys.argv[1]));print(l.getsockname()[1]);s,p=l.accept();s.sendall(repr(p[0]).encode())"
        server.do("q=subprocess.Popen(['/usr/bin/python3','-c',%r,str(l.fileno())],pass_fds=[l.fileno()],stdout=subprocess.PIPE)" % code)
        client.do("c=connected(%r,%d)" % (address, number))
        equal(client.do("receive(c,100)"), repr(w.b.addresses[family]).encode(), "accept after exec")
        equal(server.do("q.communicate()[0]"), b"%d\n" % number, "the name after exec")


@test("scm-rights", both=True, native=True)
def scm_rights(w, family):
    """A connection, a listener and a fresh socket passed to another process of the network."""
    address = w.a.addresses[family]
    path = w.context.home / ("rights%d" % family)
    with agents(w.a, w.a, w.b) as (one, two, client):
        one.do("u=socket.socket(socket.AF_UNIX);u.bind(%r);u.listen(1)" % str(path))
        two.do("u=socket.socket(socket.AF_UNIX);u.connect(%r)" % str(path))
        one.do("v,_=u.accept();l=listener(%r)" % address)
        number = one.do("port(l)")
        client.do("c=connected(%r,%d)" % (address, number))
        one.do("s,p=l.accept();f=stream(%r);socket.send_fds(v,[b'x'],[l.fileno(),s.fileno(),f.fileno()]);s.close();l.close();f.close()" % address)
        two.do("fds=socket.recv_fds(u,1,3)[1];l,s,f=[socket.socket(fileno=n) for n in fds]")
        equal(two.do("port(l)"), number, "the listener's name")
        equal(two.do("s.getpeername()"), client.do("c.getsockname()"), "the connection's peer")
        two.do("s.sendall(b'passed');s.close()")
        equal(client.do("receive(c,100)"), b"passed", "data")
        client.do("l=listener(%r)" % w.b.addresses[family])
        two.do("f.connect((%r,%d))" % (w.b.addresses[family], client.do("port(l)")))
        one.close()
        client.do("c=connected(%r,%d)" % (address, number))
        two.do("s,p=l.accept();s.send(b'y')")
        equal(client.do("c.recv(1)"), b"y", "the listener outlives the process that made it")


@test("rights-over-tcp", native=True)
def rights_over_tcp(w):
    """SCM_RIGHTS on what the program believes is TCP goes nowhere, and nothing breaks."""
    for target, side in ((w.a, w.b), (w.a, w.a)):
        with agents(target, side) as (server, client):
            address = target.addresses[4]
            server.do("l=listener(%r)" % address)
            client.do("c=connected(%r,%d)" % (address, server.do("port(l)")))
            server.do("s,p=l.accept()")
            client.do("f=open('/etc/passwd');r=None\ntry: r=socket.send_fds(c,[b'x'],[f.fileno()])\nexcept OSError as e: r=errno.errorcode[e.errno]")
            true(client.do("r") in (1, "EINVAL", "EOPNOTSUPP", "ENOTSUP"), "sendmsg with rights: %r" % client.do("r"))
            client.do("c.sendall(b'y')")
            server.do("d,fds,flags,a=socket.recv_fds(s,10,5)")
            equal(server.do("list(fds)"), [], "files received")


@test("many-files", native=True, timeout=90)
def many(w):
    """500 connections held at once by one process, EMFILE at its limit, and the listener goes on afterwards."""
    address = w.a.addresses[4]
    with agents(w.a, w.b) as (server, client):
        server.do("l=listener(%r,1000)" % address)
        number = server.do("port(l)")
        client.do("import resource;resource.setrlimit(resource.RLIMIT_NOFILE,(600,600))")
        client.do("all=[connected(%r,%d) for _ in range(500)]" % (address, number), 40)
        server.do("got=[l.accept()[0] for _ in range(500)]", 40)
        server.do("for i,s in enumerate(got): s.sendall(b'%03d'%i)")
        equal(client.do("len({receive(c,3) for c in all})", 40), 500, "different answers")
        client.do("more=[]\ntry:\n while True: more.append(stream(%r))\nexcept OSError as e: r=errno.errorcode[e.errno]" % address)
        equal(client.do("r"), "EMFILE", "at the limit")
        client.do("for s in more+all: s.close()")
        server.do("import resource;resource.setrlimit(resource.RLIMIT_NOFILE,(len(got)+20,600));l.setblocking(False)")
        client.do("all=[connected(%r,%d) for _ in range(40)]" % (address, number))
        server.do("time.sleep(.3)\ntry:\n while True: got.append(l.accept()[0])\nexcept OSError as e: r=errno.errorcode[e.errno]")
        equal(server.do("r"), "EMFILE", "accept at the limit")
        server.do("for s in got: s.close()\ngot=[]\ntry:\n while True: got.append(l.accept()[0])\nexcept OSError as e: r=errno.errorcode[e.errno]")
        equal(server.do("r"), "EAGAIN", "accept afterwards")
        server.do("for s in got: s.sendall(b'ok')")
        last = client.do("receive(all[-1],2)")
        equal(last, b"ok", "a connection that waited for a free number")


@test("sandboxed", native=True)
def sandboxed(w):
    """A program in a user, pid and mount namespace of its own keeps its network; without room for that: skip."""
    from harness import Skip

    probe = w.a.run("unshare", "-Urpfm", "/bin/true")
    if probe.code != 0:
        raise Skip("no unprivileged user namespaces: " + probe.errors.strip())
    with agents(w.a) as (server,):
        address = w.a.addresses[4]
        server.do("l=listener(%r)" % address)
        code = "import socket;s=socket.create_connection((%r,%d));print(s.getpeername()[1])" % (address, server.do("port(l)"))
        result = w.b.run("unshare", "-Urpfm", "/usr/bin/python3", "-c", code)
        equal(result.text.strip(), str(server.do("port(l)")), "connect from inside: %s" % result.errors[-200:])
