# SPDX-License-Identifier: Apache-2.0 OR MIT
"""netcon doctor: what is missing is provoked, found, and said with what to do about it."""

import errno
import json
import resource

from harness import contains, equal, test, true

# Numbers of x86_64.
BIND, SETSOCKOPT, IOCTL, UNSHARE = 49, 54, 16, 272
SECCOMP, PROCESS_VM_READV, IO_URING_SETUP, PIDFD_GETFD = 317, 310, 425, 438
NEW_LISTENER, WAIT_KILLABLE = 1 << 3, 1 << 5
# ioctl requests of a listener: linux/seccomp.h.
NOTIF_RECV, NOTIF_ADDFD, NOTIF_SET_FLAGS = 0xC0502100, 0x40182103, 0x40082104
UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h


def examine(w, *rules, code, env=None, before=None, prefix=()):
    """What doctor finds under such a filter: its checks by id."""
    command = [*prefix, w.context.bin / "netcon", "doctor", "--json"]
    if rules:
        command = ["/usr/bin/python3", w.context.programs / "refuse.py", *rules, "--", *command]
    result = w.context.run(command, env={"NETCON_SOCKET": str(w.a.socket), **(env or {})}, preexec_fn=before)
    equal(result.code, code, "exit status with %s: %s %s" % (rules, result.text[:2000], result.errors))
    report = json.loads(result.text)
    equal(report["ok"], code == 0, "ok")
    return {check["id"]: check for check in report["checks"]}


def worst(checks, level, *ids):
    """Exactly these are of that level, each with a sentence and a remedy."""
    equal(sorted(i for i, check in checks.items() if check["level"] == level), sorted(ids), level)
    for check in checks.values():
        true(check["finding"].strip(), "a finding of %s" % check["id"])
        equal("remedy" in check, check["level"] != "ok", "a remedy of %s" % check["id"])


@test("doctor-well")
def well(w):
    """Where netcon works nothing is a failure, and the table says so at 80 and 200 columns."""
    checks = examine(w, code=0)
    worst(checks, "failure")
    true(len(checks) >= 25, "%d checks" % len(checks))
    contains(checks["supervisor"]["finding"], "answers", "the supervisor")
    for columns in (80, 200):
        env = {"NETCON_SOCKET": str(w.a.socket), "COLUMNS": str(columns)}
        text = w.context.run([w.context.bin / "netcon", "doctor"], env=env).ok().text
        true(all(len(line) <= columns for line in text.splitlines()), "no line is longer than %d" % columns)
        true("…" not in text, "nothing is cut at %d columns: %s" % (columns, text))
        true("\x1b" not in text, "no colours where there is no terminal")
        contains(text, "netcon works here", "the last line")


@test("doctor-refused")
def refused(w):
    """Each call that a container's profile may refuse: the check that names it, and what to do."""
    eperm, einval = errno.EPERM, errno.EINVAL
    notifications = ("receive", "answer", "add-fd", "wait-killable", "sync-wake-up", "one-listener")
    for rules, failures, words in (
        (["%d=%d" % (SECCOMP, eperm)], ("listener", *notifications), ("refused", "profile")),
        (["%d=%d" % (SECCOMP, einval)], ("listener", *notifications), ("no seccomp user notification", "5.14")),
        (["%d=kill" % SECCOMP], ("listener", *notifications), ("ended for trying", "profile")),
        (["%d=%d" % (SECCOMP, errno.EBUSY)], ("listener", *notifications), ("another program's", "outside")),
        (["%d@1=%d=%d" % (IOCTL, NOTIF_RECV, eperm)], ("receive", "answer", "add-fd", "one-listener"), ("does not work", "ioctl")),
        (["%d@1=%d=%d" % (IOCTL, NOTIF_ADDFD, einval)], ("add-fd",), ("does not work", "5.14")),
        (["%d=%d" % (PROCESS_VM_READV, eperm)], ("memory",), ("process_vm_readv", "SYS_PTRACE")),
        (["%d=%d" % (PIDFD_GETFD, eperm)], ("descriptors",), ("pidfd_getfd", "SYS_PTRACE")),
    ):
        checks = examine(w, *rules, code=1)
        worst(checks, "failure", *failures)
        first = checks[failures[0]]
        for word in words:
            contains(first["finding"] + " " + first["remedy"], word, first["id"])


@test("doctor-less")
def less(w):
    """What is only less than it could be is a warning, and no failure."""
    einval, eperm = errno.EINVAL, errno.EPERM
    listener = NEW_LISTENER | WAIT_KILLABLE
    for rules, warnings, words in (
        (["%d@1=%d=%d" % (SECCOMP, listener, einval)], ("wait-killable",), ("twice", "5.19")),
        (["%d@1=%d=%d" % (IOCTL, NOTIF_SET_FLAGS, einval)], ("sync-wake-up",), ("take longer", "6.6")),
        (["%d@2=%d=%d" % (SETSOCKOPT, UDP_SEGMENT, errno.ENOPROTOOPT)], ("udp-gso",), ("each packet", "setsockopt")),
        (["%d@2=%d=%d" % (SETSOCKOPT, UDP_GRO, errno.ENOPROTOOPT)], ("udp-gro",), ("each packet", "setsockopt")),
    ):
        checks = examine(w, *rules, code=0)
        for name in warnings:
            equal(checks[name]["level"], "warning", name + " " + str(rules))
            for word in words:
                contains(checks[name]["finding"] + " " + checks[name]["remedy"], word, name)
        known = {"nofile", "supervisor", "port", "clock", "netcon-shim", "netcon-supervisor", "proc-memory", *warnings}
        true(known >= {i for i, check in checks.items() if check["level"] == "warning"}, "other warnings")
    # What makes no difference is neither.
    checks = examine(w, "%d=%d" % (IO_URING_SETUP, eperm), "%d=kill" % UNSHARE, code=0)
    contains(checks["io-uring"]["finding"], "refused here", "io_uring")
    contains(checks["user-namespace"]["finding"], "not allowed", "namespaces")


@test("doctor-host")
def host(w):
    """Limits, folders, ports, the supervisor: each provoked."""

    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))

    checks = examine(w, code=0, before=few_files)
    equal(checks["nofile"]["level"], "warning", "512 open files")
    contains(checks["nofile"]["finding"], "512", "the limit")
    checks = examine(w, code=1, env={"HOME": "", "XDG_STATE_HOME": ""})
    worst(checks, "failure", "state-folder")
    locked = w.context.folder("home/locked")
    locked.chmod(0o555)
    checks = examine(w, code=1, env={"XDG_STATE_HOME": str(locked)})
    contains(checks["state-folder"]["finding"], "not writable", "a folder that is not writable")
    # A socket's folder that belongs to somebody else.
    checks = examine(w, code=1, env={"NETCON_SOCKET": "/proc/1/netcon.sock"})
    equal(checks["runtime-folder"]["level"], "failure", "somebody else's folder")
    none = w.context.home / "none.sock"
    checks = examine(w, code=0, env={"NETCON_SOCKET": str(none)})
    equal(checks["supervisor"]["level"], "warning", "no supervisor")
    contains(checks["supervisor"]["remedy"], "netcon-supervisor", "how to start one")
    checks = examine(w, "%d=%d" % (BIND, errno.EADDRINUSE), code=0, env={"NETCON_SOCKET": str(none)})
    equal(checks["port"]["level"], "warning", "a busy port")
    contains(checks["port"]["finding"], "is taken", "the port")


@test("doctor-inside")
def inside(w):
    """On a network it says that this is why it does not work there."""
    result = w.context.run(
        [w.context.bin / "netcon-shim", "--net", w.a.network, "--", w.context.bin / "netcon", "doctor", "--json"],
        env={"NETCON_SOCKET": str(w.a.socket)},
    )
    equal(result.code, 1, "exit status inside: " + result.errors)
    checks = {check["id"]: check for check in json.loads(result.text)["checks"]}
    contains(checks["listener"]["finding"], "already runs under another program's seccomp listener", "the reason")
