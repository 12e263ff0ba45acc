# SPDX-License-Identifier: Apache-2.0 OR MIT
"""UDP relays between two supervisors: one that keeps a copy of what passes, and a bad network (netcon-relay)."""

import json
import socket
import threading

from . import Failed, Skip, shorten

LIMIT = 20000  # datagrams kept; later ones pass unkept


class Relay:
    """Datagrams sent to `port` go on to the target; its answers go back to the last sender."""

    def __init__(self, target):
        self.front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.front.bind(("127.0.0.1", 0))
        self.back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.back.connect(("127.0.0.1", target))
        self.port = self.front.getsockname()[1]
        self.client = None
        self.seen = []
        self.over = False
        for function in (self.forward, self.backward):
            threading.Thread(target=function, daemon=True).start()

    def keep(self, data):
        if len(self.seen) < LIMIT:
            self.seen.append(data)

    def forward(self):
        while not self.over:
            try:
                data, self.client = self.front.recvfrom(65536)
                self.keep(data)
                self.back.send(data)
            except OSError:
                continue

    def backward(self):
        while not self.over:
            try:
                data = self.back.recv(65536)
                self.keep(data)
                if self.client:
                    self.front.sendto(data, self.client)
            except OSError:
                continue

    def close(self):
        self.over = True
        for s in (self.front, self.back):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


class BadNetwork:
    """netcon-relay in front of `target`: delays, loses, reorders, duplicates, corrupts; each client gets a port of its own."""

    def __init__(self, context, target, listen="127.0.0.1:0", rule=None, seed=1, prefix=(), **more):
        program = context.bin / "netcon-relay"
        if not program.exists():
            raise Skip("netcon-relay is not beside the other programs (cargo build -p netcon-tests, or ci/build)")
        argv = [*prefix, program, "--listen", listen, "--to", target, "--seed", seed]
        if rule:
            argv += ["--rule", rule]
        self.process = context.start(argv, pipes=True, **more)
        self.pid = self.process.pid
        first = self.line()
        if " port " not in first:
            raise Failed("netcon-relay: %s" % shorten(self.process.popen.stderr.read()))
        self.port = int(first.split(" port ")[1].split()[0])

    def line(self):
        return self.process.popen.stdout.readline().decode()

    def tell(self, command):
        """Sends one command and returns what it answered; fails when the relay does not like it."""
        self.process.popen.stdin.write(command.encode() + b"\n")
        self.process.popen.stdin.flush()
        answer = self.line().strip()
        if not answer or answer.startswith("error"):
            raise Failed("netcon-relay: %s: %s" % (command, answer or "it has ended"))
        return answer

    def counts(self):
        """What it has done so far: see docs/relay.md."""
        return json.loads(self.tell("counts"))

    def close(self):
        self.process.stop()
