#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The measurements of ci/bench: every way of getting bytes from one program to another gets the same programs.

A lane is such a way: where servers run, where clients run, and at which address they meet.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "system"))

from harness import Failed, eventually  # noqa: E402
from harness.context import Context, free_port  # noqa: E402
from harness.world import World  # noqa: E402


class Lane:
    """Runs servers with `start`, clients with `run`; they meet at `address`."""

    def __init__(self, name, address, start, run, port=None):
        self.name, self.address, self.start, self.run = name, address, start, run
        self.port = port or (lambda wanted: wanted)


# Lanes ------------------------------------------------------------------------------------------


def loopback(context):
    return Lane("loopback", "127.0.0.1", lambda *a, **k: context.start(a, **k), lambda *a, **k: context.run(a, **k), lambda _: free_port())


def overlay(world):
    return Lane("netcon", world.a.addresses[4], world.a.start, world.b.run)


def same_host(world):
    return Lane("netcon, one host", world.a.addresses[4], world.a.start, world.a.run)


class WireguardGo:
    """Two wireguard-go, each in a network namespace of its own, joined by a veth pair."""

    def __init__(self, context):
        self.context = context
        tag = "nb%d" % (os.getpid() % 1000000)
        self.ends = [(tag + "a", "192.168.77.1", "10.78.0.1"), (tag + "b", "192.168.77.2", "10.78.0.2")]
        self.made, self.daemons = [], []

    def root(self, *argv, **more):
        return self.context.run(argv, privileged=True, **more).ok()

    def open(self):
        for name, _, _ in self.ends:
            self.root("ip", "netns", "add", name)
            self.made.append(name)
        (a, outer_a, _), (b, outer_b, _) = self.ends
        self.root("ip", "link", "add", "wire", "netns", a, "type", "veth", "peer", "name", "wire", "netns", b)
        keys = []
        for name, outer, inner in self.ends:
            self.root("ip", "-n", name, "addr", "add", outer + "/24", "dev", "wire")
            self.root("ip", "-n", name, "link", "set", "wire", "up")
            self.root("ip", "-n", name, "link", "set", "lo", "up")
            private = self.root("wg", "genkey").text.strip()
            keys.append((private, self.root("wg", "pubkey", input=private.encode()).text.strip()))
            self.daemons.append(self.start_in(name, "wireguard-go", "-f", name, name="wireguard-go"))
            eventually(lambda: self.context.run(["ip", "-n", name, "link", "show", name], privileged=True).code == 0, 10, "the TUN device")
        for (name, _, inner), (private, _), (_, other), (_, outer, to) in zip(self.ends, keys, keys[::-1], self.ends[::-1]):
            file = self.context.write(self.context.home / (name + ".key"), private, 0o600)
            self.root("wg", "set", name, "private-key", file, "listen-port", "51820", "peer", other, "endpoint", outer + ":51820", "allowed-ips", to + "/32")
            self.root("ip", "-n", name, "addr", "add", inner + "/24", "dev", name)
            self.root("ip", "-n", name, "link", "set", name, "mtu", "1420", "up")
        return Lane("wireguard-go", self.ends[0][2], lambda *x, **k: self.start_in(a, *x, **k), lambda *x, **k: self.run_in(b, *x, **k))

    def start_in(self, namespace, *argv, **more):
        return self.context.start(["ip", "netns", "exec", namespace, *argv], privileged=True, **more)

    def run_in(self, namespace, *argv, **more):
        return self.context.run(["ip", "netns", "exec", namespace, *argv], privileged=True, **more)

    def close(self):
        for daemon in self.daemons:
            daemon.stop()
        for name in self.made:
            self.context.run(["ip", "netns", "del", name], privileged=True)


# Measurements -----------------------------------------------------------------------------------


class Measure:
    def __init__(self, context, quick):
        shutil.copy(ROOT / "ci" / "bench.c", context.programs / "bench.c")
        self.context, self.quick = context, quick
        self.probe = context.compile("bench.c")

    def all(self, lane):
        """Every figure of a lane; what could not be measured is a text that says why."""
        figures = {}
        for method in (self.throughput, self.round_trip, self.connections, self.requests):
            print("  %-18s %s" % (lane.name, method.__name__.replace("_", " ")), flush=True)
            try:
                figures.update(method(lane))
            except Exception as failure:
                figures.setdefault("failed", {})[method.__name__] = " ".join(str(failure).split())
                print("    failed: %s" % figures["failed"][method.__name__], flush=True)
        return figures

    def throughput(self, lane):
        port, seconds = lane.port(5201), 2 if self.quick else 5
        server = lane.start("iperf3", "-s", "-B", lane.address, "-p", port, name="iperf3")
        figures = {}
        try:
            for name, options in (("tcp", ()), ("tcp_reverse", ("-R",)), ("tcp_4", ("-P", "4"))):
                eventually(lambda: server.alive(), 5, "the iperf3 server")
                argv = ["iperf3", "-J", "-c", lane.address, "-p", port, "-t", seconds, "-O", 1, *options]
                figures[name + "_bits_per_second"] = self.iperf(lane, argv, seconds + 30)
        finally:
            server.stop()
        return figures

    def iperf(self, lane, argv, timeout):
        """Bits per second that arrived. iperf3 sometimes ends well without a result: then it is asked again."""
        for _ in range(3):
            answer = json.loads(self.retried(lane, argv, timeout).text)
            if "sum_received" in answer.get("end", {}):
                return answer["end"]["sum_received"]["bits_per_second"]
            time.sleep(0.5)
        raise Failed("iperf3: %s" % answer.get("error", "no result"))

    def retried(self, lane, argv, timeout):
        """The first attempts may come before the server listens."""
        end = time.monotonic() + 10
        while True:
            result = lane.run(*argv, timeout=timeout)
            if result.code == 0 or time.monotonic() > end:
                return result.ok()
            time.sleep(0.2)

    def with_echo(self, lane, mode, count):
        port = lane.port(7007)
        server = lane.start(self.probe, "echo", lane.address, port, name="echo")
        try:
            self.retried(lane, [self.probe, "connect", lane.address, port, "1"], 30)
            return json.loads(lane.run(self.probe, mode, lane.address, port, count, timeout=120).ok().text)
        finally:
            server.stop()

    def round_trip(self, lane):
        found = self.with_echo(lane, "rtt", 5000 if self.quick else 30000)
        return {"round_trip_p50_ns": found["p50"], "round_trip_p99_ns": found["p99"]}

    def connections(self, lane):
        found = self.with_echo(lane, "connect", 500 if self.quick else 5000)
        return {"connect_p50_ns": found["p50"], "connect_p99_ns": found["p99"]}

    def requests(self, lane):
        port = lane.port(6379)
        server = lane.start("redis-server", "--bind", lane.address, "--port", port, "--save", "", "--appendonly", "no", "--protected-mode", "no", name="redis")
        try:
            self.retried(lane, ["redis-cli", "-h", lane.address, "-p", port, "ping"], 30)
            count = 20000 if self.quick else 200000
            text = lane.run("redis-benchmark", "-h", lane.address, "-p", port, "-c", "50", "-n", count, "-t", "get", "--csv", timeout=180).ok().text
            return {"requests_per_second": float(re.findall(r'^"GET","([\d.]+)"', text, re.M)[0])}
        finally:
            server.stop()

    def start_up(self, world):
        """Time from start to end of /bin/true, bare and through the shim."""
        count = 50 if self.quick else 300
        print("  start-up of a program", flush=True)
        side = world.a
        environment = side.environment()
        bare = json.loads(self.context.run([self.probe, "start", count, "/bin/true"], timeout=120).ok().text)
        shim = self.context.run([self.probe, "start", count, *side.command(["/bin/true"])], env=environment, timeout=120).ok()
        shim = json.loads(shim.text)
        return {"bare_p50_ns": bare["p50"], "shim_p50_ns": shim["p50"], "added_p50_ns": shim["p50"] - bare["p50"], "shim_bytes": (self.context.bin / "netcon-shim").stat().st_size}


# Report -----------------------------------------------------------------------------------------

ROWS = (
    # label, key, divisor, format, larger is better
    ("TCP, one stream, Gbit/s", "tcp_bits_per_second", 1e9, "%.2f", True),
    ("TCP, one stream, reverse, Gbit/s", "tcp_reverse_bits_per_second", 1e9, "%.2f", True),
    ("TCP, four streams, Gbit/s", "tcp_4_bits_per_second", 1e9, "%.2f", True),
    ("1 byte there and back, p50, µs", "round_trip_p50_ns", 1e3, "%.1f", False),
    ("1 byte there and back, p99, µs", "round_trip_p99_ns", 1e3, "%.1f", False),
    ("connect + 1 byte, p50, µs", "connect_p50_ns", 1e3, "%.1f", False),
    ("connect + 1 byte, p99, µs", "connect_p99_ns", 1e3, "%.1f", False),
    ("requests/s (redis GET, 50 clients)", "requests_per_second", 1, "%.0f", True),
)


def table(lanes):
    """Lines of the table: figures, then what netcon is against the others (above 1 is better)."""
    names = list(lanes)
    against = [name for name in ("loopback", "wireguard-go") if name in lanes and "netcon" in lanes]
    head = ["", *names, *("netcon / " + name for name in against)]
    lines = [head]
    for label, key, divisor, form, larger in ROWS:
        row = [label]
        for name in names:
            value = lanes[name].get(key)
            row.append("failed" if value is None else form % (value / divisor))
        for name in against:
            ours, theirs = lanes["netcon"].get(key), lanes[name].get(key)
            ratio = None if not ours or not theirs else ours / theirs if larger else theirs / ours
            row.append("" if ratio is None else "%.2f" % ratio)
        lines.append(row)
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))).rstrip() for line in lines]


def versions(binaries):
    def first(*argv):
        try:
            result = subprocess.run(argv, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            return "not found"
        return ((result.stdout or result.stderr).strip().splitlines() or ["?"])[0] if result.returncode == 0 else "unknown"

    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "netcon": first("git", "-c", "safe.directory=" + str(ROOT), "-C", str(ROOT), "describe", "--always", "--dirty"),
        "netcon-supervisor": first(str(binaries / "netcon-supervisor"), "--version"),
        "kernel": platform.release(),
        "processor": "%s, %d cores" % (model[1] if model else platform.machine(), os.cpu_count()),
        "rustc": first("rustc", "--version"),
        "iperf3": first("iperf3", "--version"),
        "redis": first("redis-server", "--version"),
        "wireguard-go": first("wireguard-go", "--version"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--relay", metavar="RULE", help="between the supervisors a bad network: a rule of netcon-relay (docs/relay.md)")
    parser.add_argument("--only", help="lanes to measure, separated by commas (loopback, netcon, same-host, wireguard-go)")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else ["loopback", "netcon", "same-host", "wireguard-go"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    found = {"when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "versions": versions(options.bin), "relay": options.relay, "lanes": {}, "skipped": {}}
    context = Context(options.bin, False, False, False)
    world = pair = None
    try:
        measure = Measure(context, options.quick)
        if "loopback" in wanted:
            lane = loopback(context)
            found["lanes"][lane.name] = measure.all(lane)
        if "netcon" in wanted or "same-host" in wanted:
            try:
                world = World(context, "bench", options.relay)
            except (Failed, OSError) as failure:
                found["lanes"]["netcon"] = {"failed": {"start": str(failure)}}
                print("  netcon: %s" % failure)
        if world:
            for name, lane in (("netcon", overlay(world)), ("same-host", same_host(world))):
                if name in wanted:
                    found["lanes"][lane.name] = measure.all(lane)
            try:
                found["start_up"] = measure.start_up(world)
            except Failed as failure:
                found["lanes"]["netcon"].setdefault("failed", {})["start_up"] = str(failure)
            if world.relay:
                print("relay: %s" % json.dumps(world.relay.counts()))
            world.close()
        if "wireguard-go" in wanted:
            if not context.root:
                found["skipped"]["wireguard-go"] = "needs root for its TUN devices and network namespaces"
            elif not shutil.which("wireguard-go") or not pathlib.Path("/dev/net/tun").exists():
                found["skipped"]["wireguard-go"] = "wireguard-go or /dev/net/tun is not there"
            else:
                pair = WireguardGo(context)
                try:
                    lane = pair.open()
                    found["lanes"][lane.name] = measure.all(lane)
                except Failed as failure:
                    found["skipped"]["wireguard-go"] = str(failure)
    except KeyboardInterrupt:
        return 130
    finally:
        if pair:
            pair.close()
        context.close(False)

    print()
    for line in table(found["lanes"]):
        print(line)
    if "start_up" in found:
        start = found["start_up"]
        print("\nstart-up p50: /bin/true alone %.2f ms, through the shim %.2f ms (%.2f ms more); the shim is %d KiB" % (
            start["bare_p50_ns"] / 1e6, start["shim_p50_ns"] / 1e6, start["added_p50_ns"] / 1e6, start["shim_bytes"] // 1024))
    print()
    for name, version in found["versions"].items():
        print("%-18s %s" % (name, version))
    for name, why in found["skipped"].items():
        print("skipped %s: %s" % (name, why))
    failures = {name: lane["failed"] for name, lane in found["lanes"].items() if "failed" in lane}
    for name, whys in failures.items():
        for what, why in whys.items():
            print("failed %s, %s: %s" % (name, what, why))
    new = options.out.with_suffix(".new")
    new.write_text(json.dumps(found, indent=2) + "\n")
    new.replace(options.out)
    print("written: %s" % options.out)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
