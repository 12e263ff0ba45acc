#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What ten thousand peers cost: bench_peers.py --bin DIR --out FILE [--quick] [--peers N].

Two pairs of supervisors; one side of the second has all those peers in its state file, and one of them is active. Throughput is
measured in turn on both pairs, so that whatever else the machine does meets both.
"""

import argparse
import base64
import json
import os
import pathlib
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import bench  # noqa: E402
from harness.context import Context  # noqa: E402
from harness.world import World  # noqa: E402


def crowd(count):
    """Peers that never answer, with an address each; every tenth has an endpoint, none a keepalive."""
    for number in range(count):
        peer = {
            "name": "idle-%d" % number,
            "public_key": base64.b64encode(os.urandom(32)).decode(),
            "allowed_ips": ["10.80.%d.%d/32" % (number // 256, number % 256)],
        }
        if number % 10 == 0:
            peer["endpoint"] = "127.0.0.1:%d" % (1024 + number)
        yield peer


def timed(work):
    start = time.monotonic()
    result = work()
    return time.monotonic() - start, result


def ticks(side):
    """Clock ticks the supervisor has used."""
    fields = pathlib.Path("/proc/%d/stat" % side.supervisor.pid).read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def populate(side, count):
    """Puts the peers into the state file of a side and starts its supervisor again; what that costs."""
    alone = side.figures()["rss"]
    side.supervisor.stop()
    file = side.state / "networks" / ("%s.json" % side.network)
    network = json.loads(file.read_text())
    network["peers"] += crowd(count)
    file.write_text(json.dumps(network))
    start, _ = timed(side.launch)
    # The other side knows nothing of the restart; its own makes it call at once.
    side.peer.supervisor.stop()
    side.peer.launch()
    listing, listed = timed(lambda: side.netcon("--json", "peer", "list", side.network).ok().text)
    assert len(json.loads(listed)) == len(network["peers"]), "all peers are listed"
    table, _ = timed(lambda: side.netcon("peer", "list", side.network).ok())
    key = base64.b64encode(os.urandom(32)).decode()
    adding, _ = timed(lambda: side.netcon("peer", "add", side.network, "latecomer", "--public-key", key).ok())
    time.sleep(2)
    before = ticks(side)
    time.sleep(5)
    return {
        "peers": len(network["peers"]),
        "start_seconds": start,
        "list_json_seconds": listing,
        "list_table_seconds": table,
        "add_seconds": adding,
        "bytes_per_peer": (side.figures()["rss"] - alone) / count,
        "idle_cpu_seconds_per_second": (ticks(side) - before) / os.sysconf("SC_CLK_TCK") / 5,
    }


def show(figures):
    for name, value in figures.items():
        print("%-30s %s" % (name.replace("_", " "), "%.4g" % value if isinstance(value, float) else value), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--peers", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    context = Context(options.bin, False, False, False)
    one = many = None
    try:
        measure = bench.Measure(context, True)
        one, many = World(context, "one"), World(context, "many")
        found = populate(many.a, options.peers - 1)
        lanes = {"one": bench.overlay(one), "many": bench.overlay(many)}
        rates = {"one": [], "many": []}
        show(found)
        for _ in range(3 if options.quick else 7):
            for name, lane in lanes.items():
                rates[name].append(measure.throughput(lane)["tcp_bits_per_second"])
    finally:
        for world in (one, many):
            if world:
                world.close()
        context.close(False)
    found["one_bits_per_second"] = statistics.median(rates["one"])
    found["many_bits_per_second"] = statistics.median(rates["many"])
    found["ratio"] = found["many_bits_per_second"] / found["one_bits_per_second"]
    show({name: found[name] for name in ("one_bits_per_second", "many_bits_per_second", "ratio")})
    options.out.write_text(json.dumps({**found, "rates": rates}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
