# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Ways around the filter. Each must be closed inside; natively (`--native`) each is open, which shows that the test can see it."""

import shutil

from harness import Skip, contains, equal, eventually, test, true
from harness.world import Side

from .isolation import host_listener, untouched


def attempt(w, *argv, natively=1):
    """Runs one way; 0 is closed."""
    program = w.context.compile("escape.c")
    result = w.a.run(program, *argv, timeout=30)
    said = " ".join((result.text + result.errors).split())
    if result.code == 3:
        raise Skip("cannot be tried here: " + said)
    equal(result.code, natively if w.context.native else 0, said or "no word")


def way(name, natively=1):
    """A test of a way that needs no host listener."""

    @test("escape-" + name, native=True)
    def closed(w):
        attempt(w, name, natively=natively)

    closed.__doc__ = "The way called `%s` in programs/escape.c." % name


def way_to_host(name, natively=1):
    """A test of a way that tries to reach a listener of the host."""

    @test("escape-" + name, native=True)
    def closed(w):
        with host_listener() as host:
            attempt(w, name, host.getsockname()[1], natively=natively)
            if not w.context.native:
                untouched(host)

    closed.__doc__ = "The way called `%s` in programs/escape.c." % name


way("io_uring")
way("i386")
way("x32", natively=0)
way("families")
way("raw")
way("protocols")
way("pairs")
way("interfaces")
way("namespaces")
way("listener")
way_to_host("plain")
way_to_host("child")
way_to_host("clone3")
way_to_host("thread")
way_to_host("dirty")
way_to_host("fastopen")


@test("escape-take", native=True)
def take(w):
    """pidfd_getfd on a host socket of another program of the same user."""
    code = "import socket,time;s=socket.socket(type=2);s.bind(('127.0.0.1',0));print('fd',s.fileno(),flush=True);time.sleep(60)"
    holder = w.context.start(["/usr/bin/python3", "-c", code], name="holder")
    eventually(lambda: "fd " in holder.output(), 5, "the holder")
    attempt(w, "take", holder.pid, holder.output().split()[1])


@test("escape-supervisor")
def supervisor(w):
    """Memory, ptrace, /proc and pidfd_getfd of the supervisor, from inside and from outside."""
    attempt(w, "into", w.a.supervisor.pid)
    program = w.context.compile("escape.c")
    result = w.context.run([program, "into", w.a.supervisor.pid])
    equal(result.code, 0, "from a program of the same user outside: " + result.text)


@test("escape-control")
def control(w):
    """The supervisor's unix socket and HTTP port from inside: no road to the control API."""
    outside = w.context.run([w.context.compile("escape.c"), "control", w.a.socket])
    equal(outside.code, 1, "the user outside is served: " + outside.text)
    attempt(w, "control", w.a.socket)
    attempt(w, "handed", w.a.socket)
    agent = w.a.agent()
    for address in ("127.0.0.1", "::1", w.a.addresses[4]):
        equal(agent.errno("connected(%r,%d)" % (address, w.a.udp_port)), "ECONNREFUSED", "the HTTP port at %s" % address)
    agent.close()
    listed = w.a.run(w.context.bin / "netcon", "network", "create", "sneaky")
    true(listed.code != 0, "netcon inside makes a network: " + listed.text)
    names = w.a.netcon("network", "list").ok().text
    true("sneaky" not in names, names)


# Outside: makes a host socket, connected to the control API or not, and becomes the shim. Inside: asks over it.
OUTSIDE = (
    "import os,socket,sys\n"
    "family,how,port=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET,sys.argv[2],int(sys.argv[3])\n"
    "s=socket.socket(family)\n"
    "if how=='connected': s.connect((sys.argv[1],port))\n"
    "os.set_inheritable(s.fileno(),True)\n"
    "inside=sys.argv[4:]\n"
    "os.execv(inside[0],[*inside,str(s.fileno()),sys.argv[1],how,str(port)])\n"
)
INSIDE = (
    "import socket,sys\n"
    "s=socket.socket(fileno=int(sys.argv[1]))\n"
    "if sys.argv[3]=='fresh': s.connect((sys.argv[2],int(sys.argv[4])))\n"
    "s.sendall(b'GET /networks HTTP/1.1\\r\\nhost: localhost\\r\\n'+sys.stdin.buffer.read()+b'connection: close\\r\\n\\r\\n')\n"
    "print(s.makefile().read())\n"
)


@test("escape-inherited")
def inherited(w):
    """A host socket that the program was given from outside, connected or not: no road to the control API, with the token or without."""
    token = w.a.netcon("token").ok().text.strip()
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        for how in ("connected", "fresh"):
            for header in ("", "x-zt1-auth: %s\r\n" % token):
                outside = ["/usr/bin/python3", "-c", OUTSIDE, address, how, w.a.udp_port]
                program = ["/usr/bin/python3", "-c", INSIDE]
                env, said = w.a.environment(), header.encode()
                free = w.context.run([*outside, *program], env=env, input=said).ok()
                contains(free.text, "HTTP/1.1 200", "the same outside (%s, %s)" % (address, how))
                result = w.context.run([*outside, *w.a.command(program)], env=env, input=said)
                contains(result.text, "HTTP/1.1 403", "%s, %s: %s" % (address, how, result.errors))
                contains(result.text, "A program in network demo", address)


@test("escape-hidden")
def hidden(w):
    """A program that /proc hides (hidepid, a file that may not be read) cannot be told from one outside: it is not served."""
    if not w.context.root:
        raise Skip("mounting /proc needs root")
    command = ["unshare", "--mount", "--", "sh", "-c", "mount -t proc -o hidepid=2 proc /proc && echo ready && exec sleep 3600"]
    holder = w.context.start(command, privileged=True, name="hidepid")
    eventually(lambda: "ready" in holder.output() or not holder.alive(), 5, "a mount namespace")
    if not holder.alive():
        raise Skip("no /proc with hidepid: " + holder.output())
    user = ["--reuid", str(w.context.uid), "--regid", str(w.context.uid), "--clear-groups"]
    side = Side(w, "hidden")
    side.prefix = ["nsenter", "--target", str(holder.pid), "--mount", "--", "setpriv", *user, "--"]
    side.prepare()
    side.launch()
    try:
        side.netcon("network", "create", "demo").ok()
        unread = w.context.home / "unread"
        shutil.copy(w.context.compile("escape.c"), unread)
        unread.chmod(0o111)
        for way in ("control", "handed"):
            result = side.run("/bin/sh", "-c", "%s %s %s; exit $?" % (unread, way, side.socket))
            equal(result.code, 0, " ".join(result.text.split()))
    finally:
        side.supervisor.stop()
        holder.stop()


@test("escape-handover")
def handover(w):
    """A program inside cannot make the supervisor take it for a fresh shim of another network."""
    w.a.netcon("network", "create", "other", "--address", "10.78.0.1/24", "--address", "fd78::1/64").ok()
    try:
        shim = w.context.bin / "netcon-shim"
        code = "import socket;socket.socket().bind(('10.78.0.1',0));print('inside')"
        result = w.a.run(shim, "--net", "other", "--", "/usr/bin/python3", "-c", code)
        true("inside" not in result.text, "a program changed its network: " + result.text)
        equal(result.code, 125, "exit status: " + result.errors)
    finally:
        w.a.netcon("network", "delete", "other").ok()
