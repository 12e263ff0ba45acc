# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Registry of the system tests and the small vocabulary they share."""

import time


class Skip(Exception):
    """The test cannot run here; the text says why."""


class Failed(Exception):
    """The product did not do what the test expects; the text says what came instead."""


class Test:
    """One registered test: `function(world)` or a generator that yields seconds to be resumed after."""

    def __init__(self, name, function, timeout, native, world, needs, family, root, relay):
        self.name = name
        self.function = function
        self.timeout = timeout  # seconds for each part of the test
        self.native = native  # also meaningful without the product, on the host's loopback
        self.world = world  # "shared": the run's two supervisors; "own": a pair of its own; "tunnel": beside wireguard-go
        self.needs = needs  # programs that must be on the PATH
        self.family = family  # 4, 6 or None when the test takes no family
        self.root = root
        self.relay = relay  # for an own world: a rule of netcon-relay, which then stands between b and a


TESTS = []


def test(name, timeout=60, native=False, world="shared", needs=(), both=False, root=False, relay=None):
    """Registers a test. `both` registers it once for IPv4 and once for IPv6 and passes the family."""

    def register(function):
        families = (4, 6) if both else (None,)
        for family in families:
            full = name if family is None else "%s/v%d" % (name, family)
            TESTS.append(Test(full, function, timeout, native, world, needs, family, root, relay))
        return function

    return register


def equal(got, expected, what):
    """Fails unless both values are equal."""
    if got != expected:
        raise Failed("%s: expected %r, got %r" % (what, expected, got))


def true(condition, what):
    """Fails with `what` unless the condition holds."""
    if not condition:
        raise Failed(what)


def contains(haystack, needle, what):
    """Fails unless the text has the part."""
    if needle not in haystack:
        raise Failed("%s: %r not found in %r" % (what, needle, shorten(haystack)))


def shorten(text, limit=400):
    """The end of a long text, for one-line messages."""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    text = text.strip()
    return text if len(text) <= limit else "…" + text[-limit:]


def eventually(function, timeout, what, interval=0.05):
    """Calls the function until it returns something true; returns that. Fails after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = function()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed("%s: not within %g s" % (what, timeout))
        time.sleep(interval)
