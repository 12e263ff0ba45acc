# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What netcon shows: tables that fit, colours only where they are wanted, and a terminal that is given back."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time

from harness import contains, equal, test, true

TABLES = (("status",), ("ps",), ("network", "list"), ("peer", "list", "{}"), ("network", "show", "{}"), ("doctor",))


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, w, *arguments, columns=80, rows=24, **env):
        self.main, side = pty.openpty()
        self.resize(columns, rows)
        env = {"NETCON_SOCKET": str(w.a.socket), "TERM": "xterm-256color", **env}
        self.before = termios.tcgetattr(side)
        self.process = w.context.start(
            [w.context.bin / "netcon", *arguments],
            env=env,
            pipes=True,
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.side = side
        self.text = ""

    def resize(self, columns, rows):
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, done, what, timeout=10):
        end = time.monotonic() + timeout
        while not done():
            true(time.monotonic() < end, "%s within %d s; there is %r" % (what, timeout, self.text[-500:]))
            if select.select([self.main], [], [], 0.1)[0]:
                self.text += os.read(self.main, 65536).decode("utf-8", "replace")

    def send(self, keys):
        self.text = ""
        os.write(self.main, keys.encode())

    def finish(self):
        """Its exit status; everything that it printed is in text then."""
        self.read_until(lambda: not self.process.alive(), "the end")
        while select.select([self.main], [], [], 0.1)[0]:
            self.text += os.read(self.main, 65536).decode("utf-8", "replace")
        return self.process.wait(5)

    def close(self):
        os.close(self.main)
        os.close(self.side)


@test("screens-fit")
def fit(w):
    """No line is longer than 80 or 200 columns, and none is coloured where there is no terminal."""
    for columns in (80, 200):
        for words in TABLES:
            command = [w.context.bin / "netcon", *(word.format(w.a.network) for word in words)]
            env = {"NETCON_SOCKET": str(w.a.socket), "COLUMNS": str(columns)}
            text = w.context.run(command, env=env).ok().text
            true(text.strip() and "\x1b" not in text, "%s: %r" % (words, text[:200]))
            for line in text.splitlines():
                true(len(line) <= columns, "%s: %r is longer than %d" % (words, line, columns))


@test("screens-colours")
def colours(w):
    """On a terminal there are colours, unless NO_COLOR or TERM=dumb forbids them."""
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        terminal = Terminal(w, "network", "list", **env)
        equal(terminal.finish(), 0, "exit status")
        contains(terminal.text, w.a.network, "the table")
        equal("\x1b[" in terminal.text, coloured, "colours with %s" % env)
        terminal.close()


@test("top-terminal")
def top(w):
    """netcon top shows networks and peers, follows the terminal's size, and gives the terminal back however it ends."""
    for how in ("q", "\x03", signal.SIGTERM, signal.SIGHUP):
        terminal = Terminal(w, "top")
        terminal.read_until(lambda: "Networks" in terminal.text and w.a.network in terminal.text, "the networks")
        contains(terminal.text, "\x1b[?1049h", "a screen of its own")
        terminal.send("\t")
        terminal.read_until(lambda: "ENDPOINT" in terminal.text, "the peers")
        terminal.send("")
        terminal.resize(200, 50)
        os.kill(terminal.process.pid, signal.SIGWINCH)
        terminal.read_until(lambda: "ADDRESSES" in terminal.text, "more columns on a wider terminal")
        if isinstance(how, str):
            terminal.send(how)
        else:
            terminal.process.signal(how)
        equal(terminal.finish(), 0, "exit status after %r" % how)
        contains(terminal.text, "\x1b[?1049l", "the screen before")
        equal(termios.tcgetattr(terminal.side), terminal.before, "the terminal's settings")
        terminal.close()
    # Where there is no terminal it says so.
    result = w.context.run([w.context.bin / "netcon", "top"], env={"NETCON_SOCKET": str(w.a.socket)})
    equal(result.code, 2, "without a terminal")
    contains(result.errors, "needs a terminal", "the sentence")
