# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Two supervisors with a bad network between them (netcon-relay)."""

import json

from harness import eventually, test, true

from .bulk import begin, finish


@test("relay-transfer", world="own", timeout=200, relay="both delay=2ms jitter=1ms loss=1% reorder=5%:5ms duplicate=5%")
def transfer(w):
    """1 % loss, reordering and duplication: 10 MiB each way, sha256 compared."""
    yield from lossy(w, "10", 90, 0.01)


@test("relay-heavy-loss", world="own", timeout=200, relay="both delay=2ms jitter=1ms loss=20% reorder=10%:5ms duplicate=5%")
def heavy_loss(w):
    """20 % loss, reordering and duplication: 64 KiB each way, sha256 compared."""
    yield from lossy(w, "64K", 90, 0.2)


def lossy(w, size, wait, loss):
    """A transfer through the relay that other tests need not wait for; the relay must have lost and mixed as asked."""
    both = begin(w, w.a, w.b, 4, size)
    w.background += [process.pid for process in both]
    yield wait
    finish(*both, 190)
    counts = w.relay.counts()
    for way in ("up", "down"):
        passed = counts[way]
        share = passed["lost"] / passed["received"]
        true(loss / 2 < share < loss * 2, "lost: %s" % counts)
        true(passed["duplicated"] and passed["held_back"], "copied and overtaken: %s" % counts)


@test("relay-rebind", world="own", relay="both delay=1ms")
def rebind(w):
    """A NAT forgets its mappings under a running connection: it goes on from the new port."""
    script = (
        "import socket,sys\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n"
        "for line in sys.stdin:\n s.sendall(line.encode()); print(s.recv(100).decode(),end='',flush=True)"
    )
    program = w.context.compile("echo.c")
    server = w.a.start(program, "threads", w.a.addresses[4], "0", name="echo")
    client = w.b.start("/usr/bin/python3", "-u", "-c", script, w.a.addresses[4], server.port(), pipes=True)
    pipe = client.popen
    for turn in range(4):
        pipe.stdin.write(b"turn %d\n" % turn)
        pipe.stdin.flush()
        true(pipe.stdout.readline() == b"turn %d\n" % turn, "the connection goes on after %d changes of port" % turn)
        before = endpoint(w)
        w.relay.tell("rebind")
        pipe.stdin.write(b"after\n")
        pipe.stdin.flush()
        true(pipe.stdout.readline() == b"after\n", "an answer after the port changed")
        eventually(lambda: endpoint(w) != before, 5, "the endpoint follows the new port")
    client.stop()


def endpoint(w):
    """Where `a` reaches `b` now."""
    peers = json.loads(w.a.netcon("--json", "peer", "list", "demo").ok().text)
    peers = peers.get("peers", peers) if isinstance(peers, dict) else peers
    return peers[0].get("endpoint")
