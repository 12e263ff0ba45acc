# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the shim leaves as it was: exit status, signals, terminal, arguments, files, process tree."""

import os
import pty
import re
import select
import signal
import time

from harness import Failed, equal, eventually, shorten, test, true


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(self, side, *argv):
        self.side, self.argv, self.text = side, argv, ""

    def __enter__(self):
        self.master, slave = pty.openpty()
        if self.side.context.root:
            os.chown(os.ttyname(slave), self.side.context.uid, -1)
        self.process = self.side.context.start(
            ["setsid", "-c", *self.side.command(self.argv)],
            env=self.side.environment(), pipes=True, stdin=slave, stdout=slave, stderr=slave, start_new_session=False,
        )  # fmt: skip
        os.close(slave)
        return self

    def __exit__(self, *_):
        self.process.signal(signal.SIGKILL)
        self.process.popen.wait()
        os.close(self.master)

    def send(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern, timeout=10):
        """Reads until the pattern appears; what was read up to it is used up."""
        end = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end() :]
                return found
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                raise Failed("the terminal does not show %r: %r" % (pattern, shorten(self.text)))
            try:
                self.text += os.read(self.master, 4096).decode("utf-8", "replace")
            except OSError:
                raise Failed("the terminal closed before %r: %r" % (pattern, shorten(self.text))) from None


@test("exit-status", native=True)
def exit_status(w):
    """The program's own exit status and death by signal."""
    for code in (0, 1, 7, 125, 126, 127, 255):
        equal(w.a.run("/bin/sh", "-c", "exit %d" % code).code, code, "exit status")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT):
        equal(w.a.run("/bin/sh", "-c", "kill -%d $$" % number).code, -number, "death by signal")
    process = w.a.start("/bin/sleep", "30")
    time.sleep(0.3)
    process.signal(signal.SIGTERM)
    equal(process.wait(3), -signal.SIGTERM, "a signal from outside")


@test("arguments", native=True)
def arguments(w):
    """Arguments, environment, folder, umask, input and output arrive unchanged."""
    code = "import sys,os;seen=(sys.argv[1:],os.getcwd(),os.umask(0),os.environ.get('OWN'),sys.stdin.read())\n"
    code += "sys.stdout.write(repr(seen));sys.stderr.write('err')"
    words = ["--net", "other", "--", "-x", "", "two words", "ü"]
    folder = w.context.folder("here")
    result = w.a.run("/usr/bin/python3", "-c", code, *words, env={"OWN": "mine"}, cwd=folder, input=b"some input", umask=0o027)
    expected = (words, str(folder), 0o027, "mine", "some input")
    equal((result.text, result.err), (repr(expected), b"err"), "seen by the program")


@test("network-name")
def network_name(w):
    """NETCON_NET is set inside; --net may be left out when one network exists; a shim inside is a plain exec."""
    equal(w.a.run("/bin/sh", "-c", "echo $NETCON_NET").ok().text.strip(), w.a.network, "NETCON_NET")
    shim = str(w.context.bin / "netcon-shim")
    bare = w.context.run([shim, "/bin/sh", "-c", "echo $NETCON_NET"], env=w.a.environment())
    equal((bare.code, bare.text.strip()), (0, w.a.network), "without --net: %s" % bare.errors)
    named = w.context.run([shim, "echo", "by", "name"], env=w.a.environment({"NETCON_NET": w.a.network}))
    equal((named.code, named.text), (0, "by name\n"), "NETCON_NET outside, program from the PATH: %s" % named.errors)
    again = w.a.run(shim, "--net", w.a.network, "--", "/bin/sh", "-c", "echo again; exit 4")
    equal((again.code, again.text), (4, "again\n"), "a shim inside: %s" % again.errors)
    other = w.a.run(shim, "--net", "elsewhere", "--", "/bin/true")
    equal(other.code, 125, "another network inside: %s" % other.errors)
    true("elsewhere" in other.errors or w.a.network in other.errors, other.errors)


@test("files", native=True)
def files(w):
    """No file of the shim's is left in the program; inherited ones are."""
    code = "import os;print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
    bare = w.context.run(["/usr/bin/python3", "-c", code]).ok().text
    equal(w.a.run("/usr/bin/python3", "-c", code).ok().text, bare, "open files")
    read, write = os.pipe()
    result = w.a.run("/bin/sh", "-c", "echo through >&%d" % write, pass_fds=(write,))
    os.close(write)
    equal((result.code, os.read(read, 100)), (0, b"through\n"), "an inherited file")
    os.close(read)
    command = ["/bin/grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]
    equal(w.a.run(*command).ok().text, w.context.run(command).text, "signal masks")


@test("process", native=True)
def process(w):
    """The program is the shim's own process: same pid, parent, group, session; one thread."""
    code = "import os;print(os.getpid(),os.getppid(),os.getpgid(0),os.getsid(0),len(os.listdir('/proc/self/task')))"
    started = w.a.start("/usr/bin/python3", "-c", code)
    started.wait(10)
    pid = started.pid
    equal([int(n) for n in started.output().split()], [pid, os.getpid(), pid, pid, 1], "pid, parent, group, session, threads")


@test("terminal", native=True)
def terminal(w):
    """The program keeps the terminal: isatty, job control, Ctrl-C."""
    with Terminal(w.a, "/bin/sh", "-c", "tty; stty size; cat; exit 3") as t:
        t.expect(r"/dev/pts/\d+\s+\d+ \d+")
        t.send("typed\n")
        t.expect("typed\r\ntyped")
        t.send("\x04")
        equal(t.process.wait(5), 3, "exit status after the end of input")
    with Terminal(w.a, "/bin/sleep", "30") as t:
        time.sleep(0.5)
        t.send("\x03")
        equal(t.process.wait(5) in (-signal.SIGINT, 130), True, "Ctrl-C")


@test("shell", native=True)
def shell(w):
    """A shell that lives on the network: pipelines, background jobs, many children."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i | cat | tr 0-9 a-j & done; wait; (exit 6); echo $?"
    result = w.a.run("/bin/bash", "-c", script).ok()
    equal(sorted(result.text.split()), sorted("b c d e f g h i j ba 6".split()), "output")
    true(not result.err, result.errors)


@test("daemon", both=True, native=True)
def daemon(w, family):
    """A program that becomes a daemon outlives the shim's process and keeps its network."""
    address = w.a.addresses[family]
    script = w.context.programs / "daemon.py"
    out = w.context.home / ("daemon%d" % family)
    result = w.a.run("/usr/bin/python3", script, address, out, timeout=10)
    equal(result.code, 0, "the parent's exit status: %s" % result.errors)
    port = int(eventually(lambda: out.exists() and out.read_text(), 5, "the daemon's port"))
    time.sleep(0.5)
    client = w.b.agent()
    for _ in range(3):
        client.do("c=connected(%r,%d);c.sendall(b'hello')" % (address, port))
        equal(client.do("receive(c,5)"), b"HELLO", "the daemon's answer")
    client.do("c.sendall(b'quit!')")
    client.close()


@test("shim-cost")
def cost(w):
    """Starting through the shim costs little (the promise is 3 ms; here only a bound against accidents)."""
    def best(command, env):
        times = []
        for _ in range(20):
            start = time.monotonic()
            equal(w.context.run(command, env=env).code, 0, "exit status")
            times.append(time.monotonic() - start)
        return sorted(times)[len(times) // 2]

    bare, shimmed = best(["/bin/true"], None), best(w.a.command(["/bin/true"]), w.a.environment())
    true(shimmed - bare < 0.025, "%.1f ms over a bare start (median of 20)" % ((shimmed - bare) * 1e3))
    size = os.path.getsize(w.context.bin / "netcon-shim")
    true(size <= 2 << 20 or os.environ.get("NETCON_TEST_DEBUG_SHIM"), "netcon-shim has %d bytes; 2 MiB is the limit" % size)
