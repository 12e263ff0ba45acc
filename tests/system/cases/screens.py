# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What netcon shows: tables that fit, colours only where they are wanted, and a terminal that is given back."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import termios
import time

from harness import contains, equal, eventually, test, true

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


@test("ps-command")
def command(w):
    """netcon ps tells the command line: as it is after exec, its arguments apart, on one line, whole up to a bound."""

    def told(process):
        """The entry of a program, and its lines on a terminal of 80 columns."""
        all = json.loads(w.a.netcon("--json", "ps").ok().text)
        entry = next((container for container in all if container["pid"] == process.pid), None)
        env = {"NETCON_SOCKET": str(w.a.socket), "COLUMNS": "80"}
        text = w.context.run([w.context.bin / "netcon", "ps"], env=env).ok().text
        return entry, [line for line in text.splitlines() if str(process.pid) in line.split()]

    # It replaces itself twice: what counts is what it is now.
    arguments = ["sleep", "1000.0", "漢字 漢字, ä", "a\nb\x1b[31m" + "x" * 100]
    script = "exec /usr/bin/python3 -c 'import os,sys;os.execv(sys.argv[1],sys.argv[2:])' \"$@\""
    programs = []
    for argv in (["/bin/sleep", *arguments[:2]], ["/usr/bin/python3", "python3", "-c", "input()", *arguments[2:]]):
        programs.append(w.a.start("/bin/sh", "-c", script, "sh", *argv, pipes=True))
    short, long = programs
    eventually(lambda: told(short)[0] and told(short)[0]["command"] == arguments[:2], 10, "what sleep runs as")
    wanted = ["python3", "-c", "input()", *arguments[2:]]
    eventually(lambda: told(long)[0] and told(long)[0]["command"] == wanted, 10, "what python runs as")
    equal(told(long)[0]["program"], "/bin/sh", "what was started")
    lines = told(long)[1]
    equal(len(lines), 1, "lines of %r" % lines)
    contains(lines[0], "python3 -c input() ", "the command")
    true(lines[0].endswith("…"), "cut: %r" % lines[0])
    huge = w.a.start("/bin/sh", "-c", "read x", "sh", *["é" * 1000] * 40, pipes=True)
    eventually(lambda: told(huge)[0] and told(huge)[0]["command"][:1] == ["/bin/sh"], 10, "what the shell runs as")
    entry = told(huge)[0]["command"]
    true(entry[-1].endswith("é…"), "the end of %r" % entry[-1][-9:])
    size = sum(len(argument.encode()) + 1 for argument in entry)
    true(4000 < size <= 4100, "%d bytes are told" % size)
    for program in (*programs, huge):
        program.stop()


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
