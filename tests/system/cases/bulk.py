# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Large transfers, compared by their sums."""

import re
import threading

from harness import Failed, equal, test


def transfer(world, server, client, family, size, timeout):
    """Sends that much (MiB; with a K: KiB) from client to server, then back, both with sha256, on one connection."""
    finish(*begin(world, server, client, family, size), timeout)


def begin(world, server, client, family, size):
    """Starts such a transfer."""
    script = world.context.programs / "transfer.py"
    address = server.addresses[family]
    serving = server.start("/usr/bin/python3", script, "serve", address, size, name="transfer")
    return serving, client.start("/usr/bin/python3", script, "call", address, serving.port(), size, name="transfer")


def finish(serving, calling, timeout):
    """Waits for its end and compares the sums."""
    equal(calling.wait(timeout), 0, "the client: %s" % calling.output())
    equal(serving.wait(30), 0, "the server: %s" % serving.output())
    sums = re.findall(r"(sent|got) (\w+)", calling.output()) + re.findall(r"(sent|got) (\w+)", serving.output())
    if len(sums) != 4:
        raise Failed("sums: %s" % sums)
    (_, up), (_, down), (_, arrived), (_, returned) = sums
    equal((arrived, down), (up, returned), "sha256 of what arrived")


@test("transfer", both=True, native=True, timeout=900)
def both_ways(w, family):
    """1 GiB there and 1 GiB back (64 MiB without --full)."""
    transfer(w, w.a, w.b, family, 1024 if w.context.full else 64, 880)


@test("transfer-inside", native=True, timeout=300)
def inside(w):
    """The same between two programs of one supervisor."""
    transfer(w, w.a, w.a, 4, 256 if w.context.full else 32, 280)


@test("transfer-crossing", native=True, timeout=600)
def crossing(w):
    """Four transfers in both directions at once, v4 and v6."""
    errors = []

    def one(server, client, family):
        try:
            transfer(w, server, client, family, 128 if w.context.full else 16, 550)
        except Exception as failure:  # handed to the test's own thread
            errors.append(failure)

    threads = [
        threading.Thread(target=one, args=(server, client, family))
        for server, client in ((w.a, w.b), (w.b, w.a))
        for family in (4, 6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
