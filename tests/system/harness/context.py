# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What one run of the tests owns: its folder, its unprivileged user, its processes."""

import ctypes
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import Failed, Skip, shorten

HERE = pathlib.Path(__file__).resolve().parent.parent
BINARIES = ("netcon-shim", "netcon-supervisor", "netcon")
OPTIONAL = ("netcon-relay",)  # copied when it is there
TEST_UID = 23456  # used when started as root; has no other files or processes on a usual machine
TEST_USER = "netcon-test"


class Result:
    """A finished program: exit code (negative: signal), standard output, standard error."""

    def __init__(self, argv, code, out, err):
        self.argv, self.code, self.out, self.err = argv, code, out, err

    @property
    def text(self):
        return self.out.decode("utf-8", "replace")

    @property
    def errors(self):
        return self.err.decode("utf-8", "replace")

    def ok(self):
        """The result itself; fails unless the exit status is 0."""
        if self.code != 0:
            raise Failed(
                "`%s` ended with %d: %s"
                % (shorten(" ".join(self.argv), 160), self.code, shorten(self.err or self.out))
            )
        return self


class Process:
    """A running program with its output in a log file (unless pipes were asked for)."""

    def __init__(self, context, argv, popen, log):
        self.context, self.argv, self.popen, self.log = context, argv, popen, log
        self.pid = popen.pid

    def alive(self):
        return self.popen.poll() is None

    def output(self):
        return self.log.read_text("utf-8", "replace") if self.log else ""

    def port(self, timeout=10):
        """The number after "port " in what the program printed; waits for it."""
        end = time.monotonic() + timeout
        while True:
            found = re.search(r"port (\d+)", self.output())
            if found:
                return int(found[1])
            if not self.alive() or time.monotonic() > end:
                what = "`%s` does not tell its port: %s"
                raise Failed(what % (shorten(" ".join(self.argv), 120), shorten(self.output()) or "no output"))
            time.sleep(0.02)

    def wait(self, timeout):
        """Exit code; fails when the program does not end in time."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed("`%s` did not end within %g s" % (shorten(" ".join(self.argv), 120), timeout)) from None

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def stop(self, timeout=5):
        """Asks the program to end (SIGTERM), then makes it (SIGKILL). Returns its exit code."""
        if self.alive():
            self.signal(signal.SIGTERM)
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
        return self.popen.wait()


class Context:
    """Folders, user and processes of one run."""

    def __init__(self, binaries, native, full, keep):
        self.native, self.full, self.keep = native, full, keep
        self.root = os.geteuid() == 0
        base = pathlib.Path(tempfile.mkdtemp(prefix="netcon-system-"))
        self.base = base
        base.chmod(0o755)
        self.uid = TEST_UID if self.root else os.getuid()
        self.logs = self.folder("logs")
        self.home = self.folder("home")
        self.programs = base / "programs"
        shutil.copytree(HERE / "programs", self.programs)
        for path in [self.programs, *self.programs.rglob("*")]:
            path.chmod(0o755)
        self.built = {}
        self.started = set()
        self.count = 0
        self.bin = base / "bin"
        self.bin.mkdir(mode=0o755)
        if not native:
            for name in BINARIES + tuple(n for n in OPTIONAL if (pathlib.Path(binaries) / n).exists()):
                shutil.copy(pathlib.Path(binaries) / name, self.bin / name)
                (self.bin / name).chmod(0o755)
        # Orphans (daemons of a test) become children of this process, so that they can be found and ended.
        pr_set_child_subreaper = 36
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0)
        if self.root:
            self.enter_private_mounts()

    def folder(self, name):
        """A folder of the run that belongs to the unprivileged user."""
        path = self.base / name
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.root:
            os.chown(path, self.uid, self.uid)
        return path

    def write(self, path, text, mode=0o644):
        """Writes a file that belongs to the unprivileged user."""
        path = pathlib.Path(path)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        if self.root:
            os.chown(path, self.uid, self.uid)
        return path

    def enter_private_mounts(self):
        """Gives the test user an entry in /etc/passwd that only this process and its children see."""
        libc = ctypes.CDLL(None, use_errno=True)
        clone_newns, ms_bind, ms_rec, ms_private = 0x20000, 4096, 16384, 1 << 18
        if libc.unshare(clone_newns) != 0:
            return
        if libc.mount(b"none", b"/", None, ms_rec | ms_private, None) != 0:
            return
        passwd = pathlib.Path("/etc/passwd").read_text()
        passwd += "%s:x:%d:%d::%s:/bin/sh\n" % (TEST_USER, TEST_UID, TEST_UID, self.home)
        file = self.base / "passwd"
        file.write_text(passwd)
        file.chmod(0o644)
        libc.mount(str(file).encode(), b"/etc/passwd", None, ms_bind, None) == 0

    def environment(self, extra=None):
        env = {
            "PATH": "%s:/usr/sbin:/usr/bin:/sbin:/bin" % self.bin,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "TMPDIR": str(self.home),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "NETCON_NO_START": "1",  # a supervisor that is missing is a failure, except where a test is about that
        }
        env.update(extra or {})
        return env

    def identity(self, privileged=False):
        """Arguments of Popen that drop to the unprivileged user."""
        if not self.root or privileged:
            return {}
        return {"user": self.uid, "group": self.uid, "extra_groups": []}

    def start(self, argv, env=None, privileged=False, pipes=False, name=None, cwd=None, **more):
        """Starts a program in a session of its own. Output goes to a log, or to pipes."""
        argv = [str(a) for a in argv]
        self.count += 1
        log = None
        if not pipes:
            label = name or os.path.basename(argv[0])
            log = self.logs / ("%03d-%s.log" % (self.count, label))
            more.setdefault("stdin", subprocess.DEVNULL)
            more["stdout"] = open(log, "wb")
            more["stderr"] = subprocess.STDOUT
        else:
            more.setdefault("stdin", subprocess.PIPE)
            more.setdefault("stdout", subprocess.PIPE)
            more.setdefault("stderr", subprocess.PIPE)
        more.setdefault("start_new_session", True)
        popen = subprocess.Popen(
            argv, env=self.environment(env), cwd=cwd or self.home, **self.identity(privileged), **more
        )
        self.started.add(popen.pid)
        if log:
            more["stdout"].close()
        return Process(self, argv, popen, log)

    def run(self, argv, timeout=30, input=None, **more):
        """Runs a program to its end and returns what it said."""
        process = self.start(argv, pipes=True, **more)
        try:
            out, err = process.popen.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            try:
                out, err = process.popen.communicate(timeout=3)
            except subprocess.TimeoutExpired:
                out = err = b""  # a child of the program still holds the pipes
            raise Failed(
                "`%s` did not end within %g s: %s" % (shorten(" ".join(process.argv), 160), timeout, shorten(err or out))
            ) from None
        return Result(process.argv, process.popen.returncode, out or b"", err or b"")

    def compile(self, source, *flags, name=None):
        """Compiles a helper program once and returns its path."""
        key = (source, flags)
        if key not in self.built:
            if not shutil.which("gcc"):
                raise Skip("gcc is not installed")
            target = self.programs / (name or (pathlib.Path(source).stem + "".join(f.replace("-", ".") for f in flags)))
            command = ["gcc", "-O2", "-Wall", "-pthread", "-o", target, self.programs / source, *flags]
            self.run(command, timeout=60, privileged=True).ok()
            target.chmod(0o755)
            self.built[key] = target
        return self.built[key]

    def descendants(self, keep=()):
        """Process ids of everything this run started and that still exists, without `keep` and what hangs below."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open("/proc/%s/stat" % entry) as file:
                        fields = file.read().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if fields[0] == "Z":
                    self.collect(int(entry), int(fields[1]))
                else:
                    parents.setdefault(int(fields[1]), []).append(int(entry))
        found, todo = [], [os.getpid()]
        while todo:
            for child in parents.get(todo.pop(), ()):
                if child not in keep:
                    found.append(child)
                    todo.append(child)
        return found

    def collect(self, pid, parent):
        """Takes the status of a dead orphan, so that nothing of it is left in the kernel."""
        if parent == os.getpid() and pid not in self.started:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass

    def reap(self, keep):
        """Ends every process of the run that is not among `keep`."""
        for _ in range(50):
            left = self.descendants(keep)
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)

    def close(self, failed):
        self.reap(())
        if not (failed or self.keep):
            shutil.rmtree(self.base, ignore_errors=True)


def free_port():
    """A port that is free for TCP and UDP on the host at this moment."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
