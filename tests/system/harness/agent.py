# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The test's end of programs/agent.py: send it statements and expressions, get values and errno names back."""

import ast
import contextlib
import json
import select
import signal
import time

from . import Failed, shorten


@contextlib.contextmanager
def agents(*sides):
    """One agent per side, ended afterwards."""
    started = []
    try:
        for side in sides:
            started.append(side.agent())
        yield started
    finally:
        for agent in started:
            agent.close()


@contextlib.contextmanager
def listening(w, family):
    """A server's agent at side a with the listener `l`, a client's at side b, and the listener's address and port."""
    address = w.a.addresses[family]
    with agents(w.a, w.b) as (server, client):
        server.do("l=listener(%r)" % address)
        yield server, client, address, server.do("port(l)")


class AgentError(Exception):
    """The agent's code raised; `errno` is the symbolic name when it was an OSError."""

    def __init__(self, text, errno):
        super().__init__(text)
        self.errno = errno


class Agent:
    """A Python program under the test's control."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        self.waiting = 0
        self.buffer = b""

    def begin(self, code):
        """Sends code without waiting for it; `result()` collects what it gave."""
        try:
            self.process.popen.stdin.write(json.dumps(code).encode() + b"\n")
            self.process.popen.stdin.flush()
        except OSError:
            raise Failed("the program has ended: %s" % shorten(self.rest())) from None
        self.waiting += 1

    def finished(self, timeout=0.0):
        """Whether an answer is there (waits that many seconds for it)."""
        stdout = self.process.popen.stdout
        end = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            ready, _, _ = select.select([stdout], [], [], max(0, left))
            if not ready:
                return False
            block = stdout.read1(65536)
            if not block:
                raise Failed("the program ended with %s: %s" % (self.process.popen.wait(5), shorten(self.rest())))
            self.buffer += block
        return True

    def result(self, timeout=20):
        """The value of the oldest code that was sent."""
        if not self.finished(timeout):
            raise Failed("no answer within %g s" % timeout)
        line, self.buffer = self.buffer.split(b"\n", 1)
        self.waiting -= 1
        answer = json.loads(line)
        if "error" in answer:
            raise AgentError(answer["error"], answer["errno"])
        return ast.literal_eval(answer["value"])

    def do(self, code, timeout=20):
        """Runs code and returns its value (an expression) or None (statements)."""
        self.begin(code)
        try:
            return self.result(timeout)
        except Failed as failure:
            raise Failed("%s: %s" % (shorten(code, 120), failure)) from None

    def errno(self, code, timeout=20):
        """Runs code that should fail with an OSError; the errno's name, or 'none' with the value it gave."""
        try:
            return "none (%r)" % (self.do(code, timeout),)
        except AgentError as error:
            if error.errno is None:
                raise
            return error.errno

    def outcome(self, timeout=10):
        """The value of code begun before, or its errno's name."""
        try:
            return self.result(timeout)
        except AgentError as error:
            if error.errno is None:
                raise
            return error.errno

    def rest(self):
        try:
            return self.process.popen.stderr.read1(65536)
        except (OSError, ValueError):
            return b""

    def state(self):
        """The process's state letter (field 3 of /proc/pid/stat)."""
        with open("/proc/%d/stat" % self.pid) as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def close(self):
        """Ends the program and waits for it."""
        self.process.signal(signal.SIGCONT)
        self.process.signal(signal.SIGKILL)
        self.process.popen.wait()
