# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Echo servers of every usual shape under many clients."""

import re

from harness import Skip, equal, test

SHAPES = ("epoll", "select", "poll", "threads", "prefork")


def start_echo(side, shape, address, *flags):
    """Starts the echo server and returns it with its port."""
    program = side.context.compile("echo.c", *flags)
    server = side.start(program, shape, address, "0", name="echo-" + shape)
    return server, server.port()


def calls(side, address, port, threads, connections, size, timeout=50, flags=()):
    """Runs the checking client; fails with its first error."""
    program = side.context.compile("caller.c", *flags)
    out = side.run(program, address, port, threads, connections, size, timeout=timeout).ok().text
    equal(out, "%d connections\n" % (threads * connections), "the client's count")


def shape_test(shape):
    @test("echo-" + shape, both=True, native=True)
    def echo(w, family):
        address = w.a.addresses[family]
        server, port = start_echo(w.a, shape, address)
        calls(w.b, address, port, 1, 20, 1)
        calls(w.b, address, port, 8, 40, 2000)
        calls(w.b, address, port, 4, 2, 1_000_000)
        equal(server.alive(), True, "the server lives")

    echo.__doc__ = "%s echo server: short, many and long connections, every byte compared." % shape


for one in SHAPES:
    shape_test(one)


@test("echo-static", both=True, native=True)
def static(w, family):
    """Statically linked server and client."""
    try:
        w.context.compile("caller.c", "-static")
    except Exception as failure:
        raise Skip("no static C library: %s" % failure) from None
    address = w.a.addresses[family]
    _, port = start_echo(w.a, "epoll", address, "-static")
    calls(w.b, address, port, 4, 20, 5000, flags=("-static",))


@test("echo-reverse", both=True, native=True)
def reverse(w, family):
    """The server lives on the side that joined."""
    address = w.b.addresses[family]
    _, port = start_echo(w.b, "threads", address)
    calls(w.a, address, port, 4, 25, 10_000)


@test("echo-inside", both=True, native=True)
def inside(w, family):
    """Server and client on one supervisor: over its own address and over loopback."""
    loopback = {4: "127.0.0.1", 6: "::1"}[family]
    for address in dict.fromkeys((w.a.addresses[family], loopback)):
        for shape in ("epoll", "prefork"):
            _, port = start_echo(w.a, shape, address)
            calls(w.a, address, port, 8, 25, 2000)
            calls(w.a, address, port, 2, 2, 1_000_000)


@test("threads-many", both=True, native=True)
def threads(w, family):
    """100 threads of one process in blocking calls at the same time."""
    address = w.a.addresses[family]
    _, port = start_echo(w.a, "threads", address)
    calls(w.b, address, port, 100, 5, 3000)


@test("epollexclusive", both=True, native=True)
def exclusive(w, family):
    """Four processes wait with EPOLLEXCLUSIVE for one listener: every connection is served, few wake in vain."""
    address = w.a.addresses[family]
    script = w.context.programs / "exclusive.py"
    server = w.a.start("/usr/bin/python3", script, address, "400", name="exclusive")
    calls(w.b, address, server.port(), 4, 100, 10)
    server.wait(20)
    counts = [(int(a), int(b)) for a, b in re.findall(r"served (\d+) woken (\d+)", server.output())]
    equal(sum(served for served, _ in counts), 400, "connections served by %s" % counts)
    woken = sum(woken for _, woken in counts)
    equal(woken < 1000, True, "wakes for 400 connections: %d" % woken)
