# SPDX-License-Identifier: Apache-2.0 OR MIT
"""20,000 short connections, and what is left of them two minutes later."""

import json
import time

from harness import equal, test, true

from .echo import calls, start_echo

CONNECTIONS = 20_000
SLACK = 4 << 20  # bytes of resident memory that may stay


@test("connections-20000", native=True, timeout=300, world="own")
def many(w):
    """No error among 20,000; after two minutes files, threads and tables are as before and RSS within 4 MiB."""
    address = w.a.addresses[4]
    server, port = start_echo(w.a, "epoll", address)
    six, port_six = start_echo(w.a, "epoll", w.a.addresses[6])
    calls(w.b, address, port, 8, 25, 1)  # warm: threads and pools exist
    calls(w.b, w.a.addresses[6], port_six, 8, 25, 1)
    before = None
    if not w.context.native:
        time.sleep(3)
        before = [side.figures() for side in (w.a, w.b)]
        sockets = table(w)
    calls(w.b, address, port, 16, CONNECTIONS // 32, 1, timeout=140)
    calls(w.b, w.a.addresses[6], port_six, 16, CONNECTIONS // 32, 1, timeout=140)
    if w.context.native:
        return
    w.background = [server.pid, six.pid]
    yield 120
    for side, was in zip((w.a, w.b), before):
        now = side.figures()
        for what in ("fds", "threads"):
            equal(now.get(what), was.get(what), "%s of supervisor %s" % (what, side.name))
        grown = now["rss"] - was["rss"]
        true(grown <= SLACK, "supervisor %s: RSS grew by %.1f MiB (from %.1f)" % (side.name, grown / 2**20, was["rss"] / 2**20))
    equal(table(w), sockets, "sockets in the tables")
    calls(w.b, address, port, 4, 10, 1)


def table(w):
    """Number of sockets of all programs, by supervisor."""
    lists = (json.loads(side.netcon("--json", "ps").ok().text) for side in (w.a, w.b))
    return [sum(container["sockets"] for container in containers) for containers in lists]
