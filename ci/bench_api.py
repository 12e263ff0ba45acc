#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Whether the control API holds up the data path: one byte there and back between two supervisors, while slow clients and
requests are on the API of one of them, against the same load on a server that does nothing but answer as much.

Exit status 1 when the 99th percentile grows by more than a fifth, or threads or files are not bounded.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import sys
import time

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "system"))

from harness import eventually  # noqa: E402
from harness.context import Context, free_port  # noqa: E402
from harness.world import World  # noqa: E402

SLOW, RATE = 200, 1000
MOST_GROWTH = 1.20
# Beside its usual files: one for each slow client, the one that asks, and some on their way in or out.
MOST_FILES = SLOW + 40


class Bench:
    def __init__(self, context, world, seconds):
        self.context, self.world, self.seconds = context, world, seconds
        shutil.copy(ROOT / "ci" / "bench.c", context.programs / "bench.c")
        self.probe = context.compile("bench.c")
        self.dummy_port = free_port()
        self.most = {}

    def open(self):
        # As much to send and to read as the API's answer.
        code = "import urllib.request as u; a = u.urlopen('http://127.0.0.1:%d/networks'); print(len(str(a.headers) + a.read().decode()))"
        length = self.context.run(["/usr/bin/python3", "-c", code % self.world.a.udp_port]).ok().text.strip()
        self.context.start([self.probe, "http", "127.0.0.1", self.dummy_port, length], name="dummy")
        self.world.a.start(self.probe, "echo", self.world.a.addresses[4], "7007", name="echo")
        self.world.b.wait_port(4, 7007, self.world.a.addresses[4])

    def round_trip(self, port):
        """The round trip while the load is on `port` of the host's loopback; None: without any."""
        side, load = self.world.b, None
        if port:
            argv = [self.probe, "load", "127.0.0.1", port, self.seconds + 3, RATE, SLOW]
            load = self.context.start(argv, pipes=True, name="load")
            time.sleep(2)  # until the slow clients are there
        found = side.start(self.probe, "rtt-for", self.world.a.addresses[4], "7007", self.seconds, pipes=True, name="rtt")
        while found.alive():
            for name, value in self.world.a.figures().items():
                self.most[name] = max(value, self.most.get(name, 0))
            time.sleep(0.5)
        result = json.loads(found.popen.communicate(timeout=10)[0])
        if load:
            said, _ = load.popen.communicate(timeout=30)
            result["load"] = json.loads(said)
        return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    context = Context(options.bin, False, False, False)
    world = None
    try:
        world = World(context, "bench-api")
        bench = Bench(context, world, 5 if options.quick else 30)
        bench.open()
        before = world.a.figures()
        rounds = {"idle": [], "dummy": [], "api": []}
        # In turns: the machine has other things to do now and then.
        for number in range(options.rounds):
            for name, port in (("idle", None), ("dummy", bench.dummy_port), ("api", world.a.udp_port)):
                result = bench.round_trip(port)
                rounds[name].append(result)
                line = "%d  %-6s p50 %7.1f us  p99 %7.1f us" % (number + 1, name, result["p50"] / 1e3, result["p99"] / 1e3)
                if "load" in result:
                    line += "  %(answered)d of %(asked)d answered, %(per_second).0f/s, %(slow)d slow clients" % result["load"]
                print(line, flush=True)
        eventually(lambda: world.a.figures().get("fds", 0) <= before.get("fds", 0) + 5, 40, "the files of the clients closed")
        after = world.a.figures()
    finally:
        if world:
            world.close()
        context.close(False)

    p99 = {name: statistics.median(result["p99"] for result in results) for name, results in rounds.items()}
    growth = p99["api"] / p99["dummy"]
    loads = [result["load"] for name in ("dummy", "api") for result in rounds[name]]
    checks = {
        "p99 grows by less than a fifth": growth < MOST_GROWTH,
        "every request is answered": all(load["asked"] == load["answered"] for load in loads),
        "the load is what it should be": all(load["per_second"] > 0.9 * RATE for load in loads),
        "threads are bounded": bench.most["threads"] <= before["threads"] + 2,
        "files are bounded": bench.most.get("fds", 0) <= before.get("fds", 0) + MOST_FILES,
    }
    print("\nmedians of p99: idle %.1f us, dummy %.1f us, api %.1f us (%+.1f %%)" % (
        p99["idle"] / 1e3, p99["dummy"] / 1e3, p99["api"] / 1e3, (growth - 1) * 100))
    print("supervisor before, most, after: %s / %s / %s" % (before, bench.most, after))
    for what, holds in checks.items():
        print("%s %s" % ("ok" if holds else "not ok", what))
    found = {"rounds": rounds, "growth": growth, "before": before, "most": bench.most, "after": after, "cores": os.cpu_count()}
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
