# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Two supervisors with one network between them, or the host's loopback in their place (`--native`)."""

import json
import os
import re
import signal

from . import Failed, eventually, shorten, true
from .agent import Agent
from .context import free_port
from .relay import BadNetwork, Relay

LOOPBACK = {4: "127.0.0.1", 6: "::1"}


class Side:
    """One machine of the pair: a supervisor, its network and the programs that live there."""

    def __init__(self, world, name):
        self.world, self.context, self.name = world, world.context, name
        self.network = "demo"
        self.addresses = dict(LOOPBACK)
        self.supervisor = None
        self.failed_log = 0
        self.prefix = []  # run before every command as root; must drop to the user itself

    # Programs -----------------------------------------------------------------------------------

    def command(self, argv, network=None):
        """The command line that puts a program on this side's network."""
        argv = [str(a) for a in argv]
        if self.context.native:
            return argv
        return [*self.prefix, str(self.context.bin / "netcon-shim"), "--net", network or self.network, "--", *argv]

    def environment(self, extra=None):
        return dict(extra or {}, **({} if self.context.native else {"NETCON_SOCKET": str(self.socket)}))

    def run(self, *argv, network=None, env=None, **more):
        """Runs a program on the network to its end."""
        more.setdefault("privileged", bool(self.prefix))
        return self.context.run(self.command(argv, network), env=self.environment(env), **more)

    def start(self, *argv, network=None, env=None, **more):
        """Starts a program on the network."""
        more.setdefault("privileged", bool(self.prefix))
        more.setdefault("name", "%s-%s" % (self.name, os.path.basename(str(argv[0]))))
        return self.context.start(self.command(argv, network), env=self.environment(env), **more)

    def agent(self, network=None):
        """A Python program on the network that does what the test tells it."""
        script = self.context.programs / "agent.py"
        process = self.start("/usr/bin/python3", "-u", script, network=network, pipes=True)
        return Agent(process)

    def port(self, wanted):
        """The wanted port; on the host's loopback a free one."""
        return free_port() if self.context.native else wanted

    def netcon(self, *argv, timeout=20, **more):
        """Runs the control command of this side's supervisor."""
        return self.context.run(
            [*self.prefix, self.context.bin / "netcon", *argv],
            env=self.environment(),
            timeout=timeout,
            privileged=bool(self.prefix),
            **more,
        )

    def wait_port(self, family, port, address=None, timeout=15):
        """Waits until a TCP connection from this side is accepted there."""
        code = (
            "import socket,sys,time\nend=time.time()+%g\nwhile 1:\n try: socket.create_connection((%r,%d),2).close();break\n"
            " except OSError as e:\n  if time.time()>end: sys.exit(str(e))\n  time.sleep(.05)"
        ) % (timeout, address or self.peer.addresses[family], port)
        result = self.run("/usr/bin/python3", "-c", code, timeout=timeout + 10)
        true(result.code == 0, "nothing answers on port %d: %s" % (port, shorten(result.err)))

    # The supervisor -----------------------------------------------------------------------------

    def prepare(self):
        self.state = self.context.folder("%s-%s/state" % (self.world.label, self.name))
        self.state.chmod(0o700)
        self.socket = self.state.parent / "supervisor.sock"
        if self.context.root:
            os.chown(self.state.parent, self.context.uid, self.context.uid)
        self.udp_port = free_port()

    def launch(self, wait=True):
        """Starts the supervisor and waits until it answers."""
        self.supervisor = self.context.start(
            [*self.prefix, self.context.bin / "netcon-supervisor", "--state-dir", self.state, "--port", self.udp_port],
            env=self.environment({"RUST_BACKTRACE": "1"}),
            name="%s-%s-supervisor" % (self.world.label, self.name),
            privileged=bool(self.prefix),
        )
        self.failed_log = 0
        if wait:
            eventually(self.ready, 10, "supervisor %s ready" % self.name)

    def ready(self):
        if not self.supervisor.alive():
            raise Failed(self.ended())
        return self.socket.exists() and self.netcon("status").code == 0

    def ended(self):
        code, said = self.supervisor.popen.returncode, shorten(self.supervisor.output())
        return "supervisor %s ended with %d: %s" % (self.name, code, said)

    def complaint(self):
        """Why this supervisor is no longer to be trusted, or None."""
        if self.supervisor is None:
            return None
        if not self.supervisor.alive():
            return self.ended()
        log = self.supervisor.output()
        new, self.failed_log = log[self.failed_log :], len(log)
        panics = [line for line in new.splitlines() if "panicked at" in line]
        return "supervisor %s: %s" % (self.name, panics[0]) if panics else None

    def figures(self):
        """What the supervisor holds now: threads, resident bytes and (as root) open files."""
        status = open("/proc/%d/status" % self.supervisor.pid).read()
        found = {
            "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
            "rss": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024,
        }
        try:
            found["fds"] = len(os.listdir("/proc/%d/fd" % self.supervisor.pid))
        except PermissionError:
            pass  # the supervisor is not dumpable: only root may count its files
        return found


class World:
    """The pair. `a` made the network, `b` joined it."""

    def __init__(self, context, label, rule=None):
        self.context, self.label = context, label
        self.relay = None
        self.background = []  # processes of a test that waits to be resumed
        self.a, self.b = Side(self, "a"), Side(self, "b")
        self.a.peer, self.b.peer = self.b, self.a
        if context.native:
            return
        for side in (self.a, self.b):
            side.prepare()
            side.launch()
        self.a.netcon("network", "create", "demo", "--address", "10.77.0.1/24", "--address", "fd77::1/64").ok()
        self.a.addresses = {4: "10.77.0.1", 6: "fd77::1"}
        # B reaches A through the relay in a world whose test wants to see the wire.
        if label == "wire-encrypted":
            self.relay = Relay(self.a.udp_port)
        elif rule:
            self.relay = BadNetwork(context, "127.0.0.1:%d" % self.a.udp_port, rule=rule)
        self.join(self.a, self.b, self.relay.port if self.relay else self.a.udp_port)

    def join(self, first, second, port, peer="b"):
        """Makes `second` a peer of `first`'s network, the way a user does: export, carry the file, import."""
        exported = first.netcon(
            "peer", "add", first.network, peer, "--export", "--our-endpoint", "127.0.0.1:%d" % port
        ).ok()
        text = exported.text
        second.config = self.context.write(second.state.parent / "demo.conf", text, 0o600)
        second.netcon("network", "import", second.config).ok()
        found = re.findall(r"(?im)^\s*Address\s*=\s*(.+)$", text)
        for address in ",".join(found).split(","):
            address = address.strip().split("/")[0]
            if address:
                second.addresses[6 if ":" in address else 4] = address
        shown = second.netcon("--json", "network", "list").ok().text
        second.network = name_of_network(shown) or "demo"

    def processes(self):
        relay = [self.relay.pid] if isinstance(self.relay, BadNetwork) else []
        return [side.supervisor.pid for side in (self.a, self.b) if side.supervisor] + relay

    def complaint(self):
        return self.a.complaint() or self.b.complaint()

    def close(self):
        if self.relay:
            self.relay.close()
        for side in (self.a, self.b):
            if side.supervisor:
                side.supervisor.signal(signal.SIGTERM)
        for side in (self.a, self.b):
            if side.supervisor:
                side.supervisor.stop()


def name_of_network(text):
    """Name of the first network in the answer of `netcon --json network list`."""
    value = json.loads(text)
    if isinstance(value, dict):
        value = value.get("networks", value)
    if isinstance(value, list) and value:
        return value[0].get("name")
    return None
