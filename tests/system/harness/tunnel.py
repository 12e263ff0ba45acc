# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One supervisor beside a standard WireGuard endpoint: wireguard-go with a TUN device in network namespaces of the run."""

import re
import shutil

from . import Failed, Skip, eventually, shorten
from .world import Side, World

HOST, PEER = "192.0.2.1", "192.0.2.2"  # the two ends of the cable between the namespaces


class Tunnel(World):
    """`a` is our side in a namespace that stands for the host; commands of `other` run beside wireguard-go."""

    def __init__(self, context, label):
        self.context, self.label, self.relay, self.background = context, label, None, []
        self.a = Side(self, "a")
        self.b = Side(self, "b")
        if not context.root:
            raise Skip("network namespaces and a TUN device need root")
        needed = ("wireguard-go", "wg", "ip", "nsenter", "unshare", "setpriv", "ping")
        missing = [p for p in needed if not shutil.which(p, path=context.environment()["PATH"])]
        if missing:
            raise Skip("not installed: " + " ".join(missing))
        self.host = self.namespace("true")
        self.peer = self.namespace("mount -t tmpfs tmpfs /run")
        self.background += [self.host.pid, self.peer.pid]
        self.cable()
        self.a.prefix = [
            "nsenter", "--target", str(self.host.pid), "--net", "--mount", "--",
            "setpriv", "--reuid", str(context.uid), "--regid", str(context.uid), "--clear-groups", "--",
        ]  # fmt: skip
        self.a.prepare()
        self.before = self.host_view()
        self.a.launch()
        self.a.netcon("network", "create", "demo", "--address", "10.77.0.1/24", "--address", "fd77::1/64").ok()
        self.a.addresses = {4: "10.77.0.1", 6: "fd77::1"}
        self.addresses = {}
        self.attach()

    def namespace(self, prepare):
        """A process that holds a network and a mount namespace; both vanish with it."""
        script = "ip link set lo up && %s && echo ready && exec sleep 3600" % prepare
        command = ["unshare", "--net", "--mount", "--", "sh", "-c", script]
        holder = self.context.start(command, privileged=True, name="namespace")
        try:
            eventually(lambda: "ready" in holder.output() or not holder.alive(), 5, "a network namespace")
        except Failed as failure:
            raise Skip(str(failure)) from None
        if not holder.alive():
            raise Skip("no network namespace: " + shorten(holder.output()))
        return holder

    def inside(self, holder, *argv):
        return ["nsenter", "--target", str(holder.pid), "--net", "--mount", "--", *map(str, argv)]

    def cable(self):
        run = self.context.run
        command = ["ip", "link", "add", "cable0", "type", "veth", "peer", "name", "cable1", "netns", self.peer.pid]
        made = run(self.inside(self.host, *command), privileged=True)
        if made.code != 0:
            raise Skip("no veth devices: " + made.errors.strip())
        for holder, device, address in ((self.host, "cable0", HOST), (self.peer, "cable1", PEER)):
            run(self.inside(holder, "ip", "addr", "add", address + "/24", "dev", device), privileged=True).ok()
            run(self.inside(holder, "ip", "link", "set", device, "up"), privileged=True).ok()

    def attach(self):
        """Exports the peer's file from us and gives it to wireguard-go the way `wg-quick` would."""
        text = self.a.netcon("peer", "add", "demo", "standard", "--export", "--our-endpoint", "%s:%d" % (HOST, self.a.udp_port)).ok().text
        self.go = self.context.start(
            self.inside(self.peer, "wireguard-go", "--foreground", "wg0"), privileged=True, env={"LOG_LEVEL": "error"}, name="wireguard-go"
        )
        self.background.append(self.go.pid)
        eventually(lambda: self.command("wg", "show", "wg0").code == 0 or not self.go.alive(), 5, "wireguard-go")
        if not self.go.alive():
            raise Skip("wireguard-go does not start: " + shorten(self.go.output()))
        kept = [line for line in text.splitlines() if not re.match(r"(?i)\s*(Address|DNS|MTU|Table)\s*=", line)]
        file = self.context.base / "standard.conf"
        file.write_text("\n".join(kept) + "\n")
        file.chmod(0o600)
        self.command("wg", "setconf", "wg0", file).ok()
        mtu = re.search(r"(?im)^\s*MTU\s*=\s*(\d+)", text)
        self.command("ip", "link", "set", "wg0", "mtu", mtu[1] if mtu else "1420", "up").ok()
        for line in re.findall(r"(?im)^\s*Address\s*=\s*(.+)$", text):
            for address in line.split(","):
                plain = address.strip().split("/")[0]
                self.addresses[6 if ":" in plain else 4] = plain
                self.command("ip", "addr", "add", address.strip(), "dev", "wg0", *(["nodad"] if ":" in plain else [])).ok()
        self.command("ip", "route", "replace", "10.77.0.0/24", "dev", "wg0").ok()
        self.command("ip", "-6", "route", "replace", "fd77::/64", "dev", "wg0").ok()

    def command(self, *argv, **more):
        """Runs a program beside wireguard-go, as root."""
        return self.context.run(self.inside(self.peer, *argv), privileged=True, **more)

    def start(self, *argv, **more):
        """Starts a program beside wireguard-go."""
        return self.context.start(self.inside(self.peer, *argv), privileged=True, **more)

    def host_view(self):
        """What a person on the host sees: addresses, links and routes."""
        run = self.context.run
        return "".join(
            run(self.inside(self.host, "ip", *what), privileged=True).ok().text
            for what in (("-br", "addr"), ("-br", "link"), ("route",), ("-6", "route"))
        )

    def processes(self):
        return [self.a.supervisor.pid] if self.a.supervisor else []

    def complaint(self):
        return self.a.complaint()

    def close(self):
        if self.a.supervisor:
            self.a.supervisor.stop()
        for holder in (self.go, self.host, self.peer):
            holder.stop()
