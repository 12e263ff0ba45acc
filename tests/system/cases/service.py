# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The service: started on demand, its end, its reload, and what becomes of programs when it is gone."""

import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import struct
import time

from harness import contains, equal, eventually, test, true
from harness.context import free_port


class Place:
    """A user's surroundings in which no supervisor runs yet."""

    count = 0

    def __init__(self, w, binaries=None, **environment):
        Place.count += 1
        self.context = w.context
        self.home = w.context.folder("place-%d" % Place.count)
        self.home.chmod(0o700)
        self.bin = binaries or w.context.bin
        self.socket = self.home / "supervisor.sock"
        self.log = self.home / "supervisor.log"
        self.port = free_port()
        self.environment = {
            "NETCON_SOCKET": str(self.socket),
            "NETCON_STATE_DIR": str(self.home / "state"),
            "NETCON_PORT": str(self.port),
            "NETCON_NO_START": "0",
            **environment,
        }

    def run(self, program, *argv, env=None, **more):
        return self.context.run([self.bin / program, *argv], env={**self.environment, **(env or {})}, **more)

    def start(self, program, *argv, env=None, **more):
        return self.context.start([self.bin / program, *argv], env={**self.environment, **(env or {})}, **more)

    def supervisor(self):
        """Process id of the supervisor that answers; 0: nobody does."""
        return answering(self.socket)

    def kill(self, number=signal.SIGKILL):
        """Ends the supervisor; nobody answers then."""
        os.kill(self.supervisor(), number)
        eventually(lambda: not self.supervisor(), 5, "the end of the supervisor")

    def api(self, code):
        """A program of the user's with a connection `s` to the API on the unix socket and a function `ask()`."""
        text = "import socket,time\ns=socket.socket(socket.AF_UNIX)\ns.connect(%r)\ns.settimeout(10)\n" % str(self.socket)
        text += "def ask():\n s.sendall(b'GET /status HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n')\n return s.recv(65536)\n"
        return self.context.start(["/usr/bin/python3", "-c", text + code], name="api")

    def network(self):
        """The network "demo", and with it a supervisor."""
        self.run("netcon", "network", "create", "demo", "--address", "10.77.0.1/24").ok()
        return self.supervisor()


def answering(path):
    """Process id of whoever listens at a unix socket; 0: nobody does."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(str(path))
        except OSError:
            return 0
        return struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def told(errors):
    """Lines that tell of a start."""
    return [line for line in errors.splitlines() if "started netcon-supervisor" in line]


def field(pid, name):
    """A line of /proc/pid/status."""
    text = pathlib.Path("/proc/%d/status" % pid).read_text()
    return re.search(r"^%s:\s*(.*)$" % name, text, re.M)[1].split()


@test("start-on-demand")
def on_demand(w):
    """The first command starts a supervisor, says so in one line with the log's path, and leaves nothing of itself in it."""
    place = Place(w)
    created = place.run("netcon", "network", "create", "demo").ok()
    equal(len(told(created.errors)), 1, "lines that tell: %s" % created.errors)
    contains(created.errors, str(place.log), "the line")
    contains(place.log.read_text(), "ready", "the log")
    place.kill()

    def limited():
        os.nice(7)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.umask(0)
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        resource.setrlimit(resource.RLIMIT_CPU, (3600, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, resource.RLIM_INFINITY))

    read, write = os.pipe()
    shim = place.start(
        "netcon-shim", "--net", "demo", "--", "/bin/sleep", "30", env={"LD_BIND_NOW": "1", "LD_PRELOAD": ""},
        pipes=True, pass_fds=(write,), preexec_fn=limited,
    )  # fmt: skip
    os.close(write)
    eventually(lambda: place.log.read_text().count(" ready ") == 2, 10, "the supervisor")
    pid = place.supervisor()
    equal(field(pid, "SigIgn")[0], "%016x" % (1 << signal.SIGPIPE - 1), "ignored signals: only Rust's own")
    blocked = sum(1 << n - 1 for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
    equal(field(pid, "SigBlk")[0], "%016x" % blocked, "blocked signals: those that it reads")
    equal(field(pid, "Umask")[0], "0077", "umask")
    equal(field(pid, "Cpus_allowed_list"), field(os.getpid(), "Cpus_allowed_list"), "processors")
    limits = dict(re.findall(r"^Max (.*?)  +(\S+)", pathlib.Path("/proc/%d/limits" % pid).read_text(), re.M))
    equal((limits["cpu time"], limits["file size"], limits["core file size"]), ("unlimited", "unlimited", "0"), "soft limits")
    stat = pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    true(int(stat[3]) not in (os.getsid(0), os.getsid(shim.pid)) and stat[4] == "0", "a session of its own without terminal")
    true(int(stat[1]) != shim.pid, "not a child of the program")
    if w.context.root:
        equal(os.readlink("/proc/%d/cwd" % pid), "/", "working folder")
        environment = pathlib.Path("/proc/%d/environ" % pid).read_text()
        true("LD_" not in environment and "NETCON_SOCKET=%s" % place.socket in environment, "environment: %r" % environment)
        files = {n: os.readlink("/proc/%d/fd/%s" % (pid, n)) for n in os.listdir("/proc/%d/fd" % pid)}
        equal([files[n] for n in "012"], ["/dev/null", str(place.log), str(place.log)], "standard files")
        pipe = "pipe:[%d]" % os.fstat(read).st_ino
        true(pipe not in files.values(), "a file of the shim's is open in the supervisor")
        equal(os.getpriority(os.PRIO_PROCESS, shim.pid), 7, "niceness of the program")
    os.close(read)
    quiet = place.run("netcon-shim", "/bin/echo", "served").ok()
    equal((quiet.text, quiet.errors), ("served\n", ""), "the second says nothing")
    shim.signal(signal.SIGKILL)
    contains(shim.popen.communicate()[1].decode(), "started netcon-supervisor", "the shim's line")


@test("start-relative")
def relative(w):
    """A relative NETCON_SOCKET means the same to the supervisor, which runs in another folder."""
    place = Place(w)
    for name in ("NETCON_SOCKET", "NETCON_STATE_DIR"):
        place.environment[name] = os.path.relpath(place.environment[name], place.home)
    place.run("netcon", "network", "create", "demo", cwd=place.home).ok()
    true(place.socket.exists() and (place.home / "state/networks/demo.json").exists(), "files of it: %s" % os.listdir(place.home))


@test("start-together")
def together(w):
    """Twenty shims at once start one supervisor, also beside what one that was killed has left."""
    place = Place(w)
    place.network()
    place.kill()
    for _ in range(3):
        shims = [place.start("netcon-shim", "/bin/true", pipes=True) for _ in range(20)]
        errors = [shim.popen.communicate(timeout=30)[1].decode() for shim in shims]
        equal([shim.popen.returncode for shim in shims], [0] * 20, "exit statuses: %s" % set(errors))
        equal(len(told("".join(errors))), 1, "lines that tell")
        place.kill()


@test("start-failure")
def failure(w):
    """A supervisor that cannot be started: one sentence with the last line of its log; nothing to start: what was looked for."""
    place = Place(w, NETCON_STATE_DIR="/proc/nothing")
    for program, argv, code in (("netcon-shim", ("/bin/true",), 125), ("netcon", ("network", "list"), 3)):
        result = place.run(program, *argv)
        equal((result.code, len(result.errors.splitlines())), (code, 1), result.errors)
        contains(result.errors, "Cannot create /proc/nothing", "why")
        contains(result.errors, str(place.log), "where the log is")
    shims = [place.start("netcon-shim", "/bin/true", pipes=True) for _ in range(5)]
    equal([(shim.popen.communicate(timeout=30), shim.popen.returncode)[1] for shim in shims], [125] * 5, "five at once")

    alone = w.context.folder("alone")
    for name in ("netcon-shim", "netcon-supervisor"):
        shutil.copy(w.context.bin / name, alone / name)
    place = Place(w, binaries=alone, PATH="/usr/bin:/bin")
    (alone / "netcon-supervisor").chmod(0o777)
    result = place.run("netcon-shim", "/bin/true")
    equal(result.code, 125, "a program that everybody may write to: %s" % result.errors)
    contains(result.errors, "everybody may write", "the sentence")
    (alone / "netcon-supervisor").unlink()
    result = place.run("netcon-shim", "/bin/true")
    equal(result.code, 125, "no program: %s" % result.errors)
    contains(result.errors, str(alone / "netcon-supervisor"), "where it was looked for")
    (alone / "netcon-supervisor").write_text("#!/no/such/interpreter\n")
    (alone / "netcon-supervisor").chmod(0o755)
    result = place.run("netcon-shim", "/bin/true")
    equal((result.code, len(result.errors.splitlines())), (125, 1), result.errors)
    contains(result.errors, "interpreter is missing", "a program that cannot be executed")


@test("start-forbidden")
def forbidden(w):
    """NETCON_NO_START, --no-start, status and ps start nothing; a program in a network cannot start one either."""
    place = Place(w)
    for program, argv, env, code in (
        ("netcon-shim", ("/bin/true",), {"NETCON_NO_START": "1"}, 125),
        ("netcon-shim", ("--no-start", "/bin/true"), {}, 125),
        ("netcon", ("network", "list"), {"NETCON_NO_START": "yes"}, 3),
        ("netcon", ("status",), {}, 3),
        ("netcon", ("ps",), {}, 3),
        ("netcon-shim", ("/bin/true",), {"NETCON_IDLE_EXIT": "soon"}, 125),
    ):
        result = place.run(program, *argv, env=env)
        equal((result.code, place.supervisor()), (code, 0), "%s %s: %s" % (program, argv, result.errors))
    place.network()
    other = place.home / "other.sock"
    inside = place.run("netcon-shim", "/bin/sh", "-c", "NETCON_SOCKET=%s netcon-shim /bin/true" % other)
    equal(inside.code, 125, "from inside: %s" % inside.errors)
    contains(inside.errors, "inside a network", "from inside")
    true(not other.exists(), "nothing was started from inside")


@test("start-idle")
def idle(w):
    """A supervisor that was started on demand ends when nobody needs it: no program, no connection; the next command starts
    another, and its state is there."""
    place = Place(w, NETCON_IDLE_EXIT="1")
    first = place.network()
    eventually(lambda: not place.socket.exists(), 10, "the end of an idle supervisor")
    contains(place.log.read_text(), "nothing needs it", "the log")
    program = place.start("netcon-shim", "--net", "demo", "--", "/bin/sleep", "30")
    second = eventually(place.supervisor, 10, "another supervisor")
    true(second != first, "another one")
    time.sleep(2.5)
    equal(place.supervisor(), second, "while a program runs")
    api = place.api("print(ask()[:12])\ntime.sleep(60)")
    eventually(lambda: "HTTP/1.1 200" in api.output(), 10, "the API answers")
    program.signal(signal.SIGKILL)
    time.sleep(2.5)
    equal(place.supervisor(), second, "while a connection to the API is open")
    api.signal(signal.SIGKILL)
    eventually(lambda: not place.socket.exists(), 10, "the end")
    # Many that come while one is just ending are all served.
    for _ in range(3):
        place.run("netcon-shim", "--net", "demo", "--", "/bin/true").ok()
        time.sleep(1.0)


@test("service-end", world="own")
def end(w):
    """SIGTERM: both sides of connections hear of the end, calls that wait end, exit status 0, soon, and the files are gone."""
    server, client = w.a.agent(), w.b.agent()
    server.do("l=listener(%r)" % w.a.addresses[4])
    port = server.do("port(l)")
    client.do("c=connected(%r,%d);d=connected(%r,%d)" % (w.a.addresses[4], port, w.a.addresses[4], port))
    server.do("s,p=l.accept();t,p=l.accept();s.sendall(b'last words')")
    client.do("d.settimeout(20)")
    waiting = w.a.agent()
    waiting.do("m=listener(%r)" % w.a.addresses[4])
    waiting.begin("m.accept()")
    server.begin("s.recv(10)")
    client.begin("d.recv(10)")
    equal((waiting.finished(0.3), server.finished(), client.finished()), (False, False, False), "all wait")
    start = time.monotonic()
    w.a.supervisor.signal(signal.SIGTERM)
    equal(w.a.supervisor.wait(10), 0, "exit status")
    true(time.monotonic() - start < 4, "it took %.1f s" % (time.monotonic() - start))
    equal(server.outcome(), b"", "the program's own end")
    equal(client.outcome(), b"", "the peer hears of the end as of a process that ended")
    equal(client.do("receive(c,10)"), b"last words", "what was sent before")
    # The peer kept its side open: it was reset when the time was over, and does not send into nowhere.
    equal(client.errno("d.sendall(b'x')") in ("EPIPE", "ECONNRESET"), True, "sending afterwards")
    got = waiting.outcome()
    true(got in ("ENOSYS", "ENETDOWN", "EINVAL", "ECONNABORTED"), "a call that waits: %r" % (got,))
    equal(server.errno("stream('127.0.0.1')"), "ENOSYS", "calls afterwards")
    true(not w.a.socket.exists() and not pathlib.Path(str(w.a.socket) + ".d").exists(), "socket and folder are gone")
    for agent in (server, client, waiting):
        agent.close()
    w.a.launch()


@test("service-killed", world="own")
def killed(w):
    """SIGKILL: no program hangs. Calls that wait end, connections are closed, other calls are ENOSYS; what is started then
    is served at once by a supervisor that is started on demand."""
    server, client = w.a.agent(), w.a.agent()
    server.do("l=listener(%r)" % w.a.addresses[4])
    port = server.do("port(l)")
    client.do("c=connected(%r,%d)" % (w.a.addresses[4], port))
    server.do("s,p=l.accept()")
    waiting = {name: w.a.agent() for name in ("accept", "connect", "recvfrom")}
    waiting["accept"].do("m=listener(%r)" % w.a.addresses[4])
    waiting["accept"].begin("m.accept()")
    w.b.supervisor.signal(signal.SIGSTOP)  # a peer that does not answer
    waiting["connect"].do("c=stream(%r)" % w.b.addresses[4])
    waiting["connect"].begin("c.connect((%r,9))" % w.b.addresses[4])
    waiting["recvfrom"].do("import socket;u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);u.bind((%r,0))" % w.a.addresses[4])
    waiting["recvfrom"].begin("u.recvfrom(10)")
    server.begin("s.recv(10)")
    client.begin("c.sendall(b'x'*100000000)")
    for name, agent in waiting.items():
        equal(agent.finished(0.2), False, name + " waits")
    equal(server.outcome()[:1], b"x", "data")
    server.begin("l.accept()")
    w.a.supervisor.signal(signal.SIGKILL)
    w.a.supervisor.wait(5)
    w.b.supervisor.signal(signal.SIGCONT)
    for name, agent in waiting.items():
        equal(agent.outcome(5), "ENOSYS", name + " that waits")
    equal(server.outcome(5), "ENOSYS", "accept that waits")
    equal(client.outcome(5) in ("EPIPE", "ECONNRESET"), True, "a send that waits")
    equal(server.errno("sum(len(b) for b in iter(lambda: s.recv(1<<20), b''))")[:4] in ("none", "ECON"), True, "a reader comes to the end")
    for code in ("stream('127.0.0.1')", "l.accept()", "s.getpeername()", "s.setsockopt(6,1,1)", "u.sendto(b'x',('10.77.0.1',9))"):
        agent = waiting["recvfrom"] if code.startswith("u.") else server
        equal(agent.errno(code), "ENOSYS", code)
    environment = {
        **w.a.environment(), "NETCON_NO_START": "0", "NETCON_STATE_DIR": str(w.a.state), "NETCON_PORT": str(w.a.udp_port),
    }  # fmt: skip
    start = time.monotonic()
    again = w.context.run(w.a.command(["/bin/echo", "served"]), env=environment)
    equal((again.code, again.text), (0, "served\n"), "a new program: %s" % again.errors)
    true(time.monotonic() - start < 3, "at once, not after %.1f s" % (time.monotonic() - start))
    equal(len(told(again.errors)), 1, again.errors)
    # The old ones are not served by the new one, and say so.
    equal(server.errno("stream('127.0.0.1')"), "ENOSYS", "an old program")
    for agent in (server, client, *waiting.values()):
        agent.close()
    os.kill(answering(w.a.socket), signal.SIGTERM)
    eventually(lambda: not w.a.socket.exists(), 5, "its end")
    w.a.launch()


@test("service-reload", world="own")
def reload(w):
    """SIGHUP: files that came, went and changed are followed; a broken one is reported and its network runs on; connections of
    the others stay."""
    folder = w.a.state / "networks"
    demo = folder / "demo.json"
    server, client = w.a.agent(), w.b.agent()
    server.do("l=listener(%r)" % w.a.addresses[4])
    client.do("c=connected(%r,%d)" % (w.a.addresses[4], server.do("port(l)")))
    server.do("s,p=l.accept()")
    w.a.netcon("network", "create", "old", "--address", "10.78.0.1/24").ok()

    def names():
        return {n["name"]: n for n in json.loads(w.a.netcon("--json", "network", "list").ok().text)}

    def hang_up():
        w.a.supervisor.signal(signal.SIGHUP)

    def broken():
        return json.loads(w.a.netcon("--json", "status").ok().text)["brokenFiles"]

    equal(sorted(names()), ["demo", "old"], "networks before")
    added = json.loads((folder / "old.json").read_text())
    added.update(name="new", id="00000000000000aa", addresses=["10.79.0.1/24"])
    w.context.write(folder / "new.json", json.dumps(added), 0o600)
    (folder / "old.json").unlink()
    hang_up()
    eventually(lambda: sorted(names()) == ["demo", "new"], 5, "one came, one went")
    # Changed: another address for "new", another peer's keepalive for "demo".
    added["addresses"] = ["10.80.0.1/24"]
    w.context.write(folder / "new.json", json.dumps(added), 0o600)
    good = demo.read_text()
    changed = json.loads(good)
    changed["peers"][0]["persistent_keepalive"] = 7
    w.context.write(demo, json.dumps(changed), 0o600)
    hang_up()
    eventually(lambda: "10.80.0.1/24" in json.dumps(names()["new"]), 5, "the changed address")
    equal(w.a.run("/bin/echo", "there", network="new").ok().text, "there\n", "a program in the changed network")
    client.do("c.sendall(b'still')")
    equal(server.do("receive(s,5)"), b"still", "a connection over a change of peers")
    # Broken: reported, kept, and the network runs on.
    w.context.write(demo, "{ broken", 0o600)
    hang_up()
    eventually(lambda: [b for b in broken() if "demo.json" in b["path"]], 5, "the report in /status")
    client.do("c.sendall(b'again')")
    equal(server.do("receive(s,5)"), b"again", "a connection beside a broken file")
    equal(w.a.run("/bin/echo", "served").ok().text, "served\n", "a program in it")
    refused = w.a.netcon("peer", "add", "demo", "late", "--export", "--our-endpoint", "127.0.0.1:1")
    true(refused.code != 0, "a change that would overwrite the broken file")
    equal(demo.read_text(), "{ broken", "the broken file")
    w.context.write(demo, good, 0o600)
    hang_up()
    eventually(lambda: not broken(), 5, "repaired")
    server.close()
    client.close()


@test("service-log")
def log(w):
    """The log of a supervisor that was started on demand has a bounded size, and SIGHUP opens it anew."""
    place = Place(w, RUST_LOG="trace")
    pid = place.network()
    old = pathlib.Path(str(place.log) + ".1")
    # Each datagram that is no packet is a line.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        def enough():
            for _ in range(200):
                noise.sendto(b"noise", ("127.0.0.1", place.port))
            return old.exists() and place.log.stat().st_size > 200_000

        eventually(enough, 30, "a second file", interval=0.01)
    sizes = [old.stat().st_size, place.log.stat().st_size]
    true(max(sizes) <= 1 << 20, "sizes of the files: %s" % sizes)
    equal(sorted(p.name for p in place.home.glob("supervisor.log*")), ["supervisor.log", "supervisor.log.1"], "files")
    equal([p.stat().st_mode & 0o777 for p in (place.log, old)], [0o600, 0o600], "modes")
    equal(place.supervisor(), pid, "the supervisor")
    place.log.rename(place.home / "moved")
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: place.log.exists() and "reading the state directory again" in place.log.read_text(), 5, "a new log")


@test("service-restart")
def restart(w):
    """netcon service restart and reload, with a supervisor that was started on demand and without one."""
    place = Place(w)
    missing = place.run("netcon", "service", "reload")
    true(missing.code != 0 and "no supervisor runs" in missing.errors, missing.errors)
    first = place.network()
    again = place.run("netcon", "service", "restart").ok()
    second = place.supervisor()
    true(second not in (0, first), "another supervisor")
    equal(len(told(again.errors)), 1, "lines that tell: %s" % again.errors)
    file = place.home / "state/networks/demo.json"
    w.context.write(file.with_name("more.json"), file.read_text().replace('"demo"', '"more"'), 0o600)
    place.run("netcon", "service", "reload").ok()
    eventually(lambda: "more" in place.run("netcon", "network", "list").ok().text, 5, "the network that came")
    equal(place.supervisor(), second, "the same supervisor after a reload")
    place.kill()
    place.run("netcon", "service", "restart").ok()
    true(place.supervisor(), "a supervisor where none ran")


SPEAK = """
import socket, struct, sys
def text(b): return struct.pack('<I', len(b)) + b
def hello(version):
    body = b'\\1' + struct.pack('<H', version) + b'\\0' + text(b'/bin/true') + struct.pack('<I', 0) + b'\\0' + b'later fields'
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(10)
    s.sendall(b'NETCON\\0\\1' + text(body))
    size = struct.unpack('<I', s.recv(4, socket.MSG_WAITALL))[0]
    return s.recv(size, socket.MSG_WAITALL)
for version in (0, 1, 2, 999):
    answer = hello(version)
    print(version, answer[0], struct.unpack('<H', answer[1:3])[0] if answer[0] == 4 else '', answer[7:].decode() if answer[0] == 4 else '')
"""

REFUSE = """
import socket, struct, sys
l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen(5); print('listening', flush=True)
while True:
    s, _ = l.accept(); s.recv(4096)
    said = b'Speak version 7; then: netcon service restart.'
    body = b'\\4' + struct.pack('<HI', 1, len(said)) + said + b'later fields'
    s.sendall(struct.pack('<I', len(body)) + body); s.close()
"""


@test("service-versions")
def versions(w):
    """Shim and supervisor of different versions: what both speak is spoken, fields that are not known are passed over, and a
    refusal is read by either side and says what to do."""
    place = Place(w)
    place.network()
    said = w.context.run(["/usr/bin/python3", "-c", SPEAK, place.socket]).ok().text.splitlines()
    accepted, refused = 2, 4
    equal([line.split()[1:3] for line in said if line[0] != "1"], [[str(refused), "1"]] * 3, "other versions: %s" % said)
    equal(said[1].split()[:2], ["1", str(accepted)], "this version")
    for line in said[:1] + said[2:]:
        contains(line, "netcon service restart", "what to do")
    other = place.home / "other.sock"
    fake = w.context.start(["/usr/bin/python3", "-c", REFUSE, other], name="other-version")
    eventually(lambda: "listening" in fake.output(), 5, "the false supervisor")
    result = place.run("netcon-shim", "/bin/echo", "ran", env={"NETCON_SOCKET": str(other)})
    equal((result.code, result.text), (125, ""), result.errors)
    contains(result.errors, "Speak version 7; then: netcon service restart.", "the other side's sentence")


@test("service-users", root=True)
def users(w):
    """Two users of one machine with the same port: both work, whoever came first, and neither is served by the other's."""
    port = free_port()
    first, second = w.context.uid, w.context.uid + 1
    bodies = {}
    for order in ((first, second), (second, first)):
        places = {}
        for uid in order:
            place = places[uid] = Place(w, NETCON_PORT=str(port))
            os.chown(place.home, uid, uid)
            for argv in (("network", "create", "net-of-%d" % uid), ("network", "list")):
                result = as_user(place, uid, "netcon", *argv)
                equal(result.code, 0, "user %d: %s" % (uid, result.errors))
            contains(result.text, "net-of-%d" % uid, "the own network")
            served = as_user(place, uid, "netcon-shim", "/bin/echo", "served")
            equal(served.text, "served\n", "user %d: %s" % (uid, served.errors))
        warnings = {uid: [line for line in places[uid].log.read_text().splitlines() if "WARN" in line] for uid in order}
        equal(len(warnings[order[0]]), 0, "the first one's warnings: %s" % warnings)
        true(len([line for line in warnings[order[1]] if "UDP port %d is taken" % port in line]) == 1, "one line about UDP: %s" % warnings)
        # On loopback the first one answers: its owner, and nobody else.
        for uid in order:
            url = ["curl", "-sS", "--max-time", "5", "-w", "%{http_code}", "http://localhost:%d/networks" % port]
            bodies[uid] = w.context.run(drop(uid) + url, privileged=True).text
        contains(bodies[order[0]], "net-of-%d" % order[0], "the owner on loopback")
        true(bodies[order[1]].endswith("403") and "net-of" not in bodies[order[1]], "the other on loopback: %s" % bodies)
        foreign = as_user(places[order[0]], order[1], "netcon-shim", "/bin/true")
        equal(foreign.code, 125, "the other's socket: %s" % foreign.errors)
        for uid in order:
            places[uid].kill(signal.SIGTERM)


def drop(uid):
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]


def as_user(place, uid, program, *argv):
    return place.context.run([*drop(uid), place.bin / program, *argv], env=place.environment, privileged=True)
