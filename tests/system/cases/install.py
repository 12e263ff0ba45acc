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
    "share/bash-completion/completions/netcon-shim",
    "share/bash-completion/completions/netcon-supervisor",
    "share/fish/vendor_completions.d/netcon.fish",
    "share/fish/vendor_completions.d/netcon-shim.fish",
    "share/fish/vendor_completions.d/netcon-supervisor.fish",
    "share/man/man1/netcon-shim.1",
    "share/man/man1/netcon-supervisor.1",
    "share/man/man1/netcon.1",
    "share/zsh/site-functions/_netcon",
    "share/zsh/site-functions/_netcon-shim",
    "share/zsh/site-functions/_netcon-supervisor",
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
    for shell, arguments, before, behind in (
        ("bash", ["-n"], "bash-completion/completions/", ""),
        ("zsh", ["-n"], "zsh/site-functions/_", ""),
        ("fish", ["--no-execute"], "fish/vendor_completions.d/", ".fish"),
    ):
        for program in ("netcon", "netcon-shim", "netcon-supervisor"):
            if shutil.which(shell):
                script = share / (before + program + behind)
                equal(w.context.run([shell, *arguments, script]).ok().errors, "", "%s for %s" % (program, shell))
    service(w, folder, "uninstall").ok()


@test("install-completions")
def completions(w):
    """What shells offer for netcon-shim and netcon-supervisor: options, networks, and a program's own completion."""
    netcon = w.context.bin / "netcon"
    env = {"NETCON_SOCKET": str(w.a.socket), "PATH": "%s:%s" % (w.context.bin, os.environ["PATH"])}
    script = {shell: w.context.base / ("completions." + shell) for shell in ("bash", "zsh", "fish")}
    for shell, path in script.items():
        w.context.write(path, w.context.run([netcon, "completions", shell], env=env).ok().text)
    # The last word of each is the one that is completed; `own` is what a program completes by itself.
    wanted = (
        (["netcon-shim", "--n"], {"--net", "--no-start"}),
        (["netcon-shim", "--net", ""], {w.a.network}),
        (["netcon-shim", "--net", w.a.network, "--no-s"], {"--no-start"}),
        (["netcon-shim", "--net", w.a.network, "own", "a"], {"apple"}),
        (["netcon-shim", "--", "own", "a"], {"apple"}),
        (["netcon-supervisor", "--st"], {"--state-dir"}),
        (["netcon-supervisor", "--idle-exit", ""], set()),
    )
    in_bash = (
        "f=$1; shift; . /usr/share/bash-completion/bash_completion 2>/dev/null; . \"$f\"; complete -W 'apple pear' own;"
        "COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_LINE=\"$*\"; COMP_POINT=${#COMP_LINE};"
        "_${1//-/_}; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    for words, offered in wanted:
        if "own" in words and not os.path.exists("/usr/share/bash-completion/bash_completion"):
            continue
        said = w.context.run(["bash", "--norc", "-c", in_bash, "bash", script["bash"], *words], env=env).ok()
        equal((set(said.text.split()), said.errors), (offered, ""), "bash: %s" % words)
    if shutil.which("fish"):
        in_fish = "source $argv[1]; complete -c own -f -a 'apple pear'; complete -C \"$argv[2]\""
        for words, offered in wanted:
            if "--" in words:
                continue  # its helper for commands before commands does not look past two dashes
            said = w.context.run(["fish", "--no-config", "-c", in_fish, script["fish"], " ".join(words)], env=env).ok()
            equal({line.split("\t")[0] for line in said.text.splitlines()}, offered, "fish: %s" % words)
    if shutil.which("zsh"):
        load = "autoload -U compinit; compinit -D; . $1; print -r -- $_comps[netcon-shim] $_comps[netcon-supervisor]"
        said = w.context.run(["zsh", "-f", "-c", load, "zsh", script["zsh"]], env=env).ok()
        equal((said.text.split(), said.errors), (["_netcon_shim", "_netcon_supervisor"], ""), "zsh")
