# SPDX-License-Identifier: Apache-2.0 OR MIT
"""netcon service install and uninstall; manual pages and completions that other tools accept."""

import os
import re
import shutil
import stat

from harness import contains, equal, test, true

# Everything that install puts below the prefix, but for the pages of subcommands.
PARTS = (
    "bin/netcon",
    "bin/netcon-shim",
    "bin/netcon-supervisor",
    "share/bash-completion/completions/netcon",
    "share/fish/vendor_completions.d/netcon.fish",
    "share/man/man1/netcon-shim.1",
    "share/man/man1/netcon-supervisor.1",
    "share/man/man1/netcon.1",
    "share/zsh/site-functions/_netcon",
)


def listing(folder):
    """Every path below a folder: kind, permissions, content."""
    found = {}
    for base, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = os.path.join(base, name)
            about = os.lstat(path)
            content = open(path, "rb").read() if stat.S_ISREG(about.st_mode) else None
            found[os.path.relpath(path, folder)] = (about.st_mode, content)
    return found


def home(w, name):
    """A home of the test user with things of its own in it."""
    folder = w.context.folder("home/" + name)
    for part in (".local/share/man/man1", ".local/state/netcon/networks", ".config"):
        path = folder
        for step in part.split("/"):
            path = path / step
            path.mkdir(exist_ok=True)
            w.context.write(path / "own.txt", "mine")
    for path in [folder, *folder.rglob("*")]:
        if w.context.root:
            os.chown(path, w.context.uid, w.context.uid)
    return folder


def service(w, folder, *arguments, **more):
    env = {"HOME": str(folder), "NETCON_SOCKET": str(folder / "none.sock"), **more.pop("env", {})}
    return w.context.run([w.context.bin / "netcon", "service", *arguments], env=env, **more)


@test("install")
def install(w):
    """Installed, used, installed again and uninstalled: the home is as it was before."""
    folder = home(w, "someone")
    before = listing(folder)
    service(w, folder, "install").ok()
    prefix = folder / ".local"
    for part in PARTS:
        true((prefix / part).is_file(), part)
    units = list((prefix / "share/systemd/user").iterdir())
    true(units, "units")
    texts = "".join(unit.read_text() for unit in units)
    contains(texts, "ExecStart=%s/bin/netcon-supervisor" % prefix, "the unit's program")
    text = w.context.run([prefix / "bin/netcon", "--version"]).ok().text
    contains(text, "netcon", "what is installed runs")
    after = listing(folder)
    service(w, folder, "install").ok()
    equal(listing(folder), after, "a second installation")
    service(w, folder, "uninstall").ok()
    equal(listing(folder), before, "what is left")
    # Nothing is there any more.
    again = service(w, folder, "uninstall")
    equal(again.code, 6, "uninstalled twice: " + again.errors)
    contains(again.errors, "nothing is installed", "the sentence")


@test("install-prefix")
def elsewhere(w):
    """Another prefix, with a blank in its name; files of others are neither overwritten nor removed."""
    folder = home(w, "other")
    prefix = folder / "my programs"
    before = listing(folder)
    service(w, folder, "install", "--prefix", prefix).ok()
    true((prefix / "bin/netcon-shim").is_file(), "the shim")
    w.context.write(prefix / "share/man/man1/other.1", "somebody's")
    service(w, folder, "uninstall", "--prefix", prefix).ok()
    kept = {path for path in listing(folder) if path not in before}
    equal(kept, {"my programs" + part for part in ("", "/share", "/share/man", "/share/man/man1", "/share/man/man1/other.1")}, "kept")
    shutil.rmtree(prefix)
    foreign = folder / ".local/bin"
    foreign.mkdir()
    w.context.write(foreign / "netcon", "somebody's own")
    if w.context.root:
        os.chown(foreign, w.context.uid, w.context.uid)
    before = listing(folder)
    result = service(w, folder, "install")
    equal(result.code, 6, "over a foreign file: " + result.errors)
    contains(result.errors, ".local/bin/netcon is there", "the sentence")
    equal(listing(folder), before, "nothing has happened")
    # A place where nothing may be written.
    result = service(w, folder, "install", "--prefix", "/proc/netcon")
    equal(result.code, 6, "where nothing can be: " + result.errors)


@test("install-purge")
def purge(w):
    """--purge removes networks and keys, and not while a supervisor uses them."""
    folder = home(w, "purged")
    service(w, folder, "install").ok()
    busy = service(w, folder, "uninstall", "--purge", env={"NETCON_SOCKET": str(w.a.socket)})
    equal(busy.code, 1, "while a supervisor runs: " + busy.errors)
    true((folder / ".local/bin/netcon").exists(), "nothing is removed then")
    true((folder / ".local/state/netcon/own.txt").exists(), "nor are networks")
    service(w, folder, "uninstall", "--purge").ok()
    true(not (folder / ".local/state/netcon").exists(), "networks and keys are gone")
    true((folder / ".local/state/own.txt").exists(), "and nothing else")


@test("install-pages", needs=("man",))
def pages(w):
    """man and mandoc have nothing to complain about in any page, and shells nothing in the completions."""
    folder = home(w, "reader")
    service(w, folder, "install").ok()
    found = sorted((folder / ".local/share/man/man1").glob("netcon*.1"))
    true(len(found) > 20, "%d pages" % len(found))
    text = w.context.run(["man", "--warnings", "-E", "UTF-8", "-Tutf8", "-l", *found], env={"MANWIDTH": "80"}).ok()
    equal(text.errors, "", "what man complains about")
    shown = re.sub(".\x08", "", text.text).replace("\u2010", "-").replace("\u2212", "-")
    for word in ("EXIT STATUS", "NETCON_SOCKET", "--our-endpoint"):
        contains(shown, word, "the pages")
    if shutil.which("mandoc"):
        equal(w.context.run(["mandoc", "-Tlint", "-W", "error", *found]).ok().text, "", "what mandoc complains about")
    share = folder / ".local/share"
    for shell, arguments, script in (
        ("bash", ["-n"], "bash-completion/completions/netcon"),
        ("zsh", ["-n"], "zsh/site-functions/_netcon"),
        ("fish", ["--no-execute"], "fish/vendor_completions.d/netcon.fish"),
    ):
        if shutil.which(shell):
            equal(w.context.run([shell, *arguments, share / script]).ok().errors, "", shell)
    service(w, folder, "uninstall").ok()
