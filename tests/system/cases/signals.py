# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Signals, stops and tracers on calls that wait in the supervisor."""

import signal
import time

from harness import Failed, Skip, equal, eventually, shorten, test, true
from harness.agent import agents


ADDRESS = "a=ctypes.create_string_buffer(28);n=ctypes.c_int(28)"


def waiting_calls(w, family, agent, other):
    """(name, code of a call that blocks, action of the other side that ends it, its result's check)."""
    address = w.a.addresses[family]
    agent.do("l=listener(%r);u=datagram(%r,0);number=port(l);unumber=port(u);%s" % (address, address, ADDRESS))
    number, unumber = agent.do("number"), agent.do("unumber")
    return (
        ("accept", "raw('accept',l.fileno(),a,ctypes.byref(n))", "connected(%r,%d)" % (address, number)),
        ("accept4", "raw('accept4',l.fileno(),None,None,0)", "connected(%r,%d)" % (address, number)),
        (
            "recvfrom",
            "raw('recvfrom',u.fileno(),ctypes.create_string_buffer(9),9,0,a,ctypes.byref(n))",
            "datagram(%r).sendto(b'1234',(%r,%d))" % (address, address, unumber),
        ),
    )


def park(agent, code):
    """Starts the blocking call and makes sure that it blocks."""
    agent.begin(code)
    if agent.finished(0.3):
        raise Failed("the call does not block: %r" % (agent.outcome(),))


@test("signal-eintr", both=True, native=True)
def eintr(w, family):
    """A handler without SA_RESTART ends blocking accept, accept4 and recvfrom with EINTR."""
    with agents(w.a, w.b) as (server, client):
        server.do("handle(signal.SIGUSR1,False)")
        for turn, (name, code, _) in enumerate(waiting_calls(w, family, server, client), 1):
            park(server, code)
            start = time.monotonic()
            server.process.signal(signal.SIGUSR1)
            equal(server.outcome(5), (-1, "EINTR"), name)
            true(time.monotonic() - start < 1, "%s: at once" % name)
            equal(server.do("len(hits)"), turn, "handler calls")


@test("signal-restart", both=True, native=True)
def restart(w, family):
    """A handler with SA_RESTART runs at once and the call goes on."""
    with agents(w.a, w.b) as (server, client):
        server.do("handle(signal.SIGUSR1,True)")
        for name, code, action in waiting_calls(w, family, server, client):
            park(server, code)
            for _ in range(3):
                server.process.signal(signal.SIGUSR1)
                equal(server.finished(0.3), False, "%s goes on" % name)
            client.do(action)
            result, error = server.result(5)
            true(result > 0 and error == 0, "%s after signals: %s" % (name, (result, error)))
        true(server.do("len(hits)") >= 1, "handler calls")


@test("signal-handler-runs", both=True, native=True)
def handler_runs(w, family):
    """The handler of an SA_RESTART signal runs while the call waits, not after it."""
    program = w.context.compile("restart.c")
    address = w.a.addresses[family]
    server = w.a.start(program, address, name="restart")
    port = server.port()
    for count in range(1, 6):
        time.sleep(0.2)
        server.signal(signal.SIGUSR1)
        eventually(lambda: "signal %d\n" % count in server.output(), 2, "handler call %d while accept() waits" % count)
    client = w.b.agent()
    client.do("c=connected(%r,%d)" % (address, port))
    equal(server.wait(5), 0, "exit status")
    true("accepted" in server.output(), server.output())
    client.close()


@test("signal-timeout", both=True, native=True)
def with_timeout(w, family):
    """With SO_RCVTIMEO even an SA_RESTART handler ends the call with EINTR, as Linux does."""
    with agents(w.a, w.b) as (server, client):
        calls = waiting_calls(w, family, server, client)
        server.do("handle(signal.SIGUSR1,True)")
        server.do("for s in (l,u): s.setsockopt(socket.SOL_SOCKET,socket.SO_RCVTIMEO,struct.pack('ll',20,0))")
        for name, code, _ in calls:
            park(server, code)
            server.process.signal(signal.SIGUSR1)
            equal(server.outcome(5), (-1, "EINTR"), name)


@test("signal-connect", both=True, native=True)
def connect(w, family):
    """Blocking connect(): EINTR leaves it connecting; SA_RESTART goes on."""
    from .connecting import full_listener

    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        number = full_listener(server, client, address)
        client.do("handle(signal.SIGUSR1,False);c=stream(%r);to=sockaddr(%r,%d)" % (address, address, number))
        park(client, "raw('connect',c.fileno(),to,len(to))")
        client.process.signal(signal.SIGUSR1)
        equal(client.outcome(5), (-1, "EINTR"), "connect")
        client.do("c.setblocking(False)")
        equal(client.do("raw('connect',c.fileno(),to,len(to))"), (-1, "EALREADY"), "connect again")
        client.do("handle(signal.SIGUSR1,True);d=stream(%r)" % address)
        park(client, "raw('connect',d.fileno(),to,len(to))")
        client.process.signal(signal.SIGUSR1)
        equal(client.finished(0.5), False, "restarted connect goes on")
        server.do("import threading;stop=[];keep=[];l.settimeout(.2)")
        server.do("def drain():\n while not stop:\n  try: keep.append(l.accept()[0])\n  except TimeoutError: pass")
        server.do("t=threading.Thread(target=drain,daemon=True);t.start()")
        equal(client.outcome(20), (0, 0), "restarted connect")
        equal(client.do("settled(c,'OUT',10)", 20), "OUT", "the interrupted one is established too")
        server.do("stop.append(1);t.join(5)")


@test("signal-threads", both=True, native=True)
def threads(w, family):
    """A signal for one thread of several that wait touches only that one."""
    with agents(w.a, w.b) as (server, client):
        address = w.a.addresses[family]
        server.do("import threading;handle(signal.SIGUSR1,False);l=listener(%r);number=port(l)" % address)
        server.do("got={}\ndef wait(i): got[i]=raw('accept',l.fileno(),None,None)")
        server.do("ts=[threading.Thread(target=wait,args=(i,),daemon=True) for i in range(3)]\nfor t in ts: t.start()")
        server.do("time.sleep(.3);signal.pthread_kill(ts[1].ident,signal.SIGUSR1);ts[1].join(3)")
        equal(server.do("got"), {1: (-1, "EINTR")}, "the signalled thread alone")
        client.do("all=[connected(%r,%d) for _ in range(2)]" % (address, server.do("number")))
        server.do("ts[0].join(5);ts[2].join(5)")
        equal(server.do("sorted(i for i,r in got.items() if r[0]>0)"), [0, 2], "the others")


@test("stop-continue", both=True, native=True)
def stops(w, family):
    """SIGSTOP stops a waiting program at once; SIGCONT lets the call go on."""
    with agents(w.a, w.b) as (server, client):
        for name, code, action in waiting_calls(w, family, server, client):
            park(server, code)
            server.process.signal(signal.SIGSTOP)
            eventually(lambda: server.state() == "T", 2, "%s stops (state %s)" % (name, server.state()))
            client.do(action)
            equal(server.finished(0.3), False, "%s while stopped" % name)
            server.process.signal(signal.SIGCONT)
            result, error = server.result(5)
            true(result > 0 and error == 0, "%s after SIGCONT: %s" % (name, (result, error)))


@test("terminal-stop", native=True)
def terminal_stop(w):
    """Ctrl-Z in a job-control shell stops a program in accept(), fg goes on, Ctrl-C ends it."""
    from .shim import Terminal

    script = "import socket;l=socket.socket();l.bind(('%s',0));l.listen();print('ready',l.getsockname()[1],flush=True)\n" % w.a.addresses[4]
    script += "l.accept();print('accepted',flush=True);l.accept()"
    file = w.context.write(w.context.home / "accept.py", script)
    with Terminal(w.a, "/bin/bash", "--norc", "-i") as terminal:
        terminal.send("PS1='$ '\n/usr/bin/python3 %s\n" % file)
        terminal.expect("ready ")
        port = int(terminal.expect(r"(\d+)\s")[1])
        time.sleep(0.3)
        terminal.send("\x1a")
        terminal.expect("Stopped", 5)
        terminal.send("fg\n")
        time.sleep(0.3)
        client = w.b.agent()
        client.do("c=connected(%r,%d)" % (w.a.addresses[4], port))
        terminal.expect("accepted", 5)
        time.sleep(0.2)
        terminal.send("\x03")
        terminal.expect("KeyboardInterrupt", 5)
        terminal.send("exit 0\n")
        client.close()


@test("strace-attach", both=True, native=True, needs=("strace",))
def strace(w, family):
    """strace -p on a waiting call attaches, detaches and leaves it waiting."""
    with agents(w.a, w.b) as (server, client):
        for name, code, action in waiting_calls(w, family, server, client):
            park(server, code)
            tracer = w.context.start(["strace", "-p", server.pid, "-o", w.context.home / "strace.out"], name="strace")
            eventually(lambda: "attached" in tracer.output() or not tracer.alive(), 5, "strace attaches")
            if not tracer.alive():
                raise Skip("strace cannot attach here: " + shorten(tracer.output()))
            time.sleep(0.5)
            tracer.signal(signal.SIGINT)
            try:
                tracer.wait(3)
            except Failed:
                raise Failed("%s: strace does not detach" % name) from None
            equal(server.finished(0.2), False, "%s goes on" % name)
            client.do(action)
            result, error = server.result(5)
            true(result > 0 and error == 0, "%s after strace: %s" % (name, (result, error)))


@test("kill-waiting", both=True, native=True)
def kill(w, family):
    """SIGKILL and SIGTERM end a program in a waiting call at once; its port is free."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        with agents(w.a) as (server,):
            address = w.a.addresses[family]
            server.do("l=listener(%r);number=port(l)" % address)
            port = server.do("number")
            park(server, "l.accept()")
            server.process.signal(number)
            equal(server.process.wait(3), -number, "exit status")
        with agents(w.a) as (server,):
            server.do("l=listener(%r,5,%d)" % (address, port))


@test("signal-storm", native=True, timeout=90)
def storm(w):
    """Connections under a timer signal every millisecond (SA_RESTART): none fails."""
    program = w.context.compile("storm.c")
    from .echo import start_echo

    for family in (4, 6):
        address = w.a.addresses[family]
        _, port = start_echo(w.a, "epoll", address)
        result = w.b.run(program, address, port, "300", timeout=40).ok()
        true("300 connections" in result.text, result.text + result.errors)
