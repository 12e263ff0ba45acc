# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One row's machines: our supervisor in one network namespace, a standard WireGuard endpoint in another, a cable between."""

import ipaddress
import itertools
import json
import os
import re
import shutil
import signal
import struct

from harness import Failed, Skip, eventually, shorten, true
from harness.relay import BadNetwork
from harness.world import Side

PEER_PORT = 51820
OUR_PORT = 9993
MTU = 1420
OUTER = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
INNER = {4: ("10.77.0.1", "10.77.0.2"), 6: ("fd77::1", "fd77::2")}
NUMBERS = itertools.count(1)
# Further addresses of each machine on the cable: for those who flood.
STRANGERS = {"us": "192.0.2.3", "them": "192.0.2.4"}


class Cell:
    """`us` is our side; `command` and `start` run beside the peer. Everything ends with `close`, or with the run."""

    def __init__(self, context, kind, label, outer=4):
        self.context, self.kind, self.label, self.outer = context, kind, label, outer
        self.started, self.tunnels = [], []
        self.us = Side(self, label)
        self.us.addresses = {family: pair[0] for family, pair in INNER.items()}
        self.host = self.namespace("true")
        self.peer = self.namespace("mount -t tmpfs tmpfs /run")
        self.cable()
        self.us.prefix = [
            *self.inside(self.host),
            "setpriv", "--reuid", str(context.uid), "--regid", str(context.uid), "--clear-groups", "--inh-caps=-all", "--",
        ]  # fmt: skip
        # A socket's path is short: the row's name does not fit.
        folder = context.folder("c%d" % next(NUMBERS))
        self.us.state = context.folder("%s/state" % folder.name)
        self.us.state.chmod(0o700)
        self.us.socket, self.us.udp_port = folder / "socket", OUR_PORT
        self.our_key, self.their_key = self.keys(), self.keys()
        self.capture = Capture(self)

    # Namespaces ---------------------------------------------------------------------------------

    def keep(self, process):
        self.started.append(process)
        return process

    def namespace(self, prepare):
        script = "ip link set lo up && %s && echo ready && exec sleep infinity" % prepare
        command = ["unshare", "--net", "--mount", "--", "sh", "-c", script]
        holder = self.keep(self.context.start(command, privileged=True, name=self.label + "-namespace"))
        eventually(lambda: "ready" in holder.output() or not holder.alive(), 10, "a network namespace")
        if not holder.alive():
            raise Skip("no network namespace: " + shorten(holder.output()))
        return holder

    def inside(self, holder, *argv):
        return ["nsenter", "--target", str(holder.pid), "--net", "--mount", "--", *map(str, argv)]

    def cable(self):
        made = self.host_command("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", self.peer.pid)
        if made.code != 0:
            raise Skip("no veth devices: " + made.errors.strip())
        for end, run in ((0, self.host_command), (1, self.command)):
            stranger = STRANGERS["us" if end == 0 else "them"]
            run("ip", "addr", "add", OUTER[4][end] + "/24", "dev", "cable").ok()
            run("ip", "addr", "add", stranger + "/24", "dev", "cable").ok()
            run("ip", "addr", "add", OUTER[6][end] + "/64", "dev", "cable", "nodad").ok()
            run("ip", "link", "set", "cable", "up").ok()
        # The first packet must not wait for a neighbour.
        for family in (4, 6):
            eventually(lambda f=family: self.host_command("ping", "-c1", "-W1", OUTER[f][1]).code == 0, 10, "the cable")

    def host_command(self, *argv, **more):
        """Runs a program as root on our machine, beside the supervisor."""
        return self.context.run(self.inside(self.host, *argv), privileged=True, **more)

    def command(self, *argv, **more):
        """Runs a program as root on the peer's machine."""
        return self.context.run(self.inside(self.peer, *argv), privileged=True, **more)

    def start(self, *argv, name=None, **more):
        """Starts a program as root on the peer's machine."""
        name = "%s-them-%s" % (self.label, name or os.path.basename(str(argv[0])))
        return self.keep(self.context.start(self.inside(self.peer, *argv), privileged=True, name=name, **more))

    def start_on_host(self, *argv, name=None, **more):
        """Starts a program as root on our machine, beside the supervisor."""
        name = "%s-host-%s" % (self.label, name or os.path.basename(str(argv[0])))
        return self.keep(self.context.start(self.inside(self.host, *argv), privileged=True, name=name, **more))

    def start_with_us(self, *argv, **more):
        """Starts a program on the virtual network, through the shim."""
        return self.keep(self.us.start(*argv, **more))

    def keys(self):
        """A private and a public key."""
        private = self.context.run(["wg", "genkey"]).ok().text.strip()
        return private, self.context.run(["wg", "pubkey"], input=private.encode()).ok().text.strip()

    def psk(self):
        return self.context.run(["wg", "genpsk"]).ok().text.strip()

    # Our side -----------------------------------------------------------------------------------

    def their_endpoint(self, port=PEER_PORT):
        return at(OUTER[self.outer][1], port)

    def our_endpoint(self):
        return at(OUTER[self.outer][0], OUR_PORT)

    def run_supervisor(self, env=None):
        """Starts our supervisor, as an ordinary user; its state stays where it was."""
        if env:
            ordinary = self.us.environment
            self.us.environment = lambda extra=None: dict(ordinary(extra), **env)
            try:
                self.us.launch()
            finally:
                self.us.environment = ordinary
        else:
            self.us.launch()
        self.keep(self.us.supervisor)

    def restart_supervisor(self, env=None, by=signal.SIGKILL):
        """Ends our supervisor, without warning unless `by` another signal, and starts it again."""
        self.us.supervisor.signal(by)
        self.us.supervisor.popen.wait()
        self.run_supervisor(env)

    def join(self, endpoint=None, psk=None, public_key=None, peers=None):
        """Our side of the network, from a wg-quick file."""
        text = "[Interface]\nPrivateKey = %s\nAddress = %s/24, %s/64\nMTU = %d\n" % (self.our_key[0], INNER[4][0], INNER[6][0], MTU)
        for peer in peers or [(public_key or self.their_key[1], endpoint, psk, "%s/32, %s/128" % (INNER[4][1], INNER[6][1]))]:
            text += section(*peer)
        file = self.context.write(self.us.state.parent / "demo.conf", text, 0o600)
        self.us.netcon("network", "import", file).ok()

    def our_peers(self):
        """What we say about our peers."""
        peers = json.loads(self.us.netcon("--json", "peer", "list", "demo").ok().text)
        return peers.get("peers", peers) if isinstance(peers, dict) else peers

    def our_peer(self):
        return self.our_peers()[0]

    # Their side ---------------------------------------------------------------------------------

    def run_peer(self, endpoint=None, psk=None, device="wg0", port=PEER_PORT, key=None, public_key=None, inner=(INNER[4][1], INNER[6][1])):
        """Starts the peer's program and configures it with wg(8) and ip(8)."""
        key = key or self.their_key
        program = self.start_program(device)
        text = "[Interface]\nPrivateKey = %s\nListenPort = %d\n" % (key[0], port)
        text += section(public_key or self.our_key[1], endpoint, psk, "10.77.0.0/24, fd77::/64")
        self.command("wg", "setconf", device, "/dev/stdin", input=text.encode()).ok()
        self.command("ip", "link", "set", device, "mtu", MTU, "up").ok()
        for address in inner:
            self.command("ip", "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else [])).ok()
        if device == "wg0":
            self.command("ip", "route", "replace", "10.77.0.0/24", "dev", device).ok()
            self.command("ip", "-6", "route", "replace", "fd77::/64", "dev", device).ok()
        self.tunnels.append(program)
        return program

    def start_program(self, device):
        """Starts the peer's program and waits for its device."""
        # boringtun-cli, on a busy machine, now and then ends with status 0 as soon as it has started.
        for attempt in range(3 if self.kind.boringtun else 1):
            program = self.start(*self.kind.command(device), env=self.kind.environment, name=self.kind.name)
            eventually(lambda: self.command("wg", "show", device).code == 0 or not program.alive(), 15, self.kind.name)
            if program.alive():
                return program
        raise Failed("%s ended with %s at its start: %s" % (self.kind.name, program.popen.returncode, shorten(program.output())))

    def kill_peer(self):
        """Ends the peer's program without warning; its device goes with it."""
        program = self.tunnels.pop()
        program.signal(9)
        program.popen.wait()
        eventually(lambda: self.command("ip", "link", "show", "wg0").code != 0, 10, "the end of the peer's device")

    def wg_set(self, *what, **more):
        self.command("wg", "set", "wg0", *what, **more).ok()

    def change_psk(self, psk, endpoint):
        """Gives the peer's program another preshared key for us."""
        if self.kind.boringtun:
            # It cannot change a peer, only forget it with its sessions and take it anew.
            self.wg_set("peer", self.our_key[1], "remove")
            more = ["allowed-ips", "10.77.0.0/24,fd77::/64"] + (["endpoint", endpoint] if endpoint else [])
        else:
            more = []
        self.wg_set("peer", self.our_key[1], "preshared-key", "/dev/stdin", *more, input=psk.encode())

    def wg(self, what):
        """What wg(8) shows of the peer's only peer, ourselves."""
        words = self.command("wg", "show", "wg0", what).ok().text.split()
        return words[1] if len(words) > 1 else ""

    def their_handshake(self):
        return int(self.wg("latest-handshakes") or 0)

    # Traffic ------------------------------------------------------------------------------------

    def server(self, way, family):
        """An echo server: with way `out` on their side, with `in` on ours. Its address and port."""
        program = self.context.compile("echo.c")
        if way == "out":
            address = INNER[family][1]
            server = self.start(program, "threads", address, "0", name="echo%d" % family)
        else:
            address = INNER[family][0]
            server = self.start_with_us(program, "threads", address, "0")
        return address, server.port()

    def client(self, way, *argv):
        """A Python program of tests/system/programs on the other side."""
        script = ["/usr/bin/python3", self.context.programs / argv[0], *argv[1:]]
        return self.start(*script, name="client") if way == "in" else self.start_with_us(*script)

    def talk(self, way, families=(4, 6), size=100_000, timeout=60):
        """Sends that many random bytes from one side to the other and back; compares them."""
        running = [self.client(way, "exchange.py", *self.server(way, family), size, timeout) for family in families]
        for family, client in zip(families, running):
            code = client.wait(timeout + 30)
            true(code == 0, "IPv%d %s: %s" % (family, way, shorten(client.output())))

    def no_talk(self, way, timeout):
        """Nothing gets through for that long."""
        client = self.client(way, "exchange.py", *self.server(way, 4), 10, timeout)
        true(client.wait(timeout + 30) != 0, "data passed that must not: " + client.output())

    def flow(self, way, family, seconds, patience=20):
        """A steady exchange of random bytes, each compared, in the background."""
        return self.client(way, "flow.py", *self.server(way, family), seconds, patience)

    def flowed(self, flow, gap, timeout):
        """Waits for a flow's end: nothing was lost, and no answer took longer than `gap` seconds."""
        true(flow.wait(timeout) == 0, "the flow: " + shorten(flow.output()))
        longest = float(re.search(r"longest ([\d.]+)", flow.output())[1])
        true(longest <= gap, "an answer took %.1f s" % longest)
        return longest

    def relay(self, rule):
        """netcon-relay on our machine towards the peer; our endpoint for it is what it returns."""
        listen = at("127.0.0.1" if self.outer == 4 else "::1", 0)
        relay = BadNetwork(self.context, self.their_endpoint(), listen, rule, prefix=self.inside(self.host), privileged=True)
        self.keep(relay.process)
        return relay, at("127.0.0.1" if self.outer == 4 else "::1", relay.port)

    # The end ------------------------------------------------------------------------------------

    def complaint(self):
        return self.us.complaint() if self.us.supervisor else None

    def close(self):
        for process in reversed(self.started):
            if process.alive():
                process.signal(9)
                process.popen.wait()


class Capture:
    """What passes on the cable, in a file of tcpdump's."""

    def __init__(self, cell):
        self.cell, self.file = cell, cell.context.logs / (cell.label + ".pcap")
        # -Z root: tcpdump would become another user, who may not write there. Floods would only fill the file.
        wanted = "(udp or icmp or icmp6) and not host %s and not host %s" % tuple(STRANGERS.values())
        self.process = cell.start_on_host(
            "tcpdump", "-i", "cable", "-s", "220", "-U", "--immediate-mode", "-Z", "root", "-w", self.file, wanted
        )
        eventually(lambda: "listening on" in self.process.output() or not self.process.alive(), 10, "tcpdump")
        if not self.process.alive():
            raise Skip("tcpdump: " + shorten(self.process.output()))

    def messages(self):
        """The datagrams so far."""
        data, found, place = self.file.read_bytes(), [], 24
        while place + 16 <= len(data):
            seconds, micros, length = struct.unpack_from("<III", data, place)
            frame = data[place + 16 : place + 16 + length]
            place += 16 + length
            message = Message.parse(seconds + micros / 1e6, frame)
            if message:
                found.append(message)
        return found

    def between(self, kind=None, source=None, to=None, after=0.0):
        """Messages of that type, source and destination (`us` and `them` are the two endpoints)."""
        return [
            m
            for m in self.messages()
            if kind in (None, m.kind) and source in (None, m.source) and to in (None, m.to) and m.time >= after
        ]


class Message:
    """A UDP datagram or ICMP message on the cable. `kind`: WireGuard's type; 0 for any other datagram; -1 for ICMP."""

    NAMES = {pair[end]: name for pair in OUTER.values() for end, name in enumerate(("us", "them"))}

    def __init__(self, time, source, to, ports, kind, payload):
        self.time, self.source, self.to, self.ports, self.kind, self.payload = time, source, to, ports, kind, payload

    @classmethod
    def parse(cls, time, frame):
        kind = frame[12:14]
        if kind == b"\x08\x00":
            header, protocol = 14 + (frame[14] & 15) * 4, frame[23]
            source, to = frame[26:30], frame[30:34]
        elif kind == b"\x86\xdd":
            header, protocol = 54, frame[20]
            source, to = frame[22:38], frame[38:54]
        else:
            return None
        source, to = (str(ipaddress.ip_address(a)) for a in (source, to))
        source, to = cls.NAMES.get(source, source), cls.NAMES.get(to, to)
        if protocol in (1, 58):
            neighbours = protocol == 58 and frame[header] in range(130, 144)
            pings = frame[header] in ((8, 0) if protocol == 1 else (128, 129))
            return None if neighbours or pings else cls(time, source, to, None, -1, frame[header:])
        if protocol != 17:
            return None
        ports = struct.unpack_from(">HH", frame, header)
        payload = frame[header + 8 :]
        wire = payload[0] if len(payload) >= 4 and payload[0] in (1, 2, 3, 4) and payload[1:4] == b"\0\0\0" else 0
        return cls(time, source, to, ports, wire, payload)

    @property
    def mac2(self):
        """Whether a handshake message carries one."""
        return any(self.payload[-16:])


class Kind:
    """A WireGuard implementation."""

    def __init__(self, name, program, boringtun=False):
        self.name, self.program, self.boringtun = name, program, boringtun
        self.environment = {"LOG_LEVEL": "error"}

    def command(self, device):
        if self.boringtun:
            return [self.program, "--foreground", "--disable-drop-privileges", "--threads", "2", "--verbosity", "error", device]
        return [self.program, "--foreground", device]

    def missing(self):
        return None if self.program and shutil.which(str(self.program)) else "%s is not there" % self.name


def at(address, port):
    """Address and port as one text."""
    return "[%s]:%d" % (address, port) if ":" in address else "%s:%d" % (address, port)


def section(public_key, endpoint, psk, allowed):
    """A [Peer] of a wg-quick file."""
    text = "\n[Peer]\nPublicKey = %s\nAllowedIPs = %s\n" % (public_key, allowed)
    if endpoint:
        text += "Endpoint = %s\n" % endpoint
    if psk:
        text += "PresharedKey = %s\n" % psk
    return text


__all__ = ["Cell", "Failed", "INNER", "Kind", "OUTER", "OUR_PORT", "PEER_PORT", "STRANGERS", "at"]
