# SPDX-License-Identifier: Apache-2.0 OR MIT
"""wg-quick files through a whole supervisor: imported, exported, and read by wg-quick and wg themselves."""

import ipaddress
import os
import pathlib

from harness import Skip, contains, equal, test, true

CORPUS = pathlib.Path(__file__).resolve().parents[3] / "api/tests/corpus/wgquick"


def netcon(w, *arguments, **more):
    return w.context.run([w.context.bin / "netcon", *arguments], env={"NETCON_SOCKET": str(w.a.socket)}, **more)


def as_root(w, *command):
    """wg-quick wants to be root; that of a user namespace will do."""
    prefix = [] if w.context.root else ["unshare", "--user", "--map-root-user"]
    return w.context.run([*prefix, *command], privileged=w.context.root)


def meaning(text):
    """What wg(8) makes of a stripped file: values of the interface, and peers by key."""
    interface, peers, section = {}, {}, None
    for line in text.splitlines():
        line = "".join(line.split("#")[0].split())
        if not line:
            continue
        if line.lower() in ("[interface]", "[peer]"):
            section = interface if line.lower() == "[interface]" else {"allowedips": set()}
            if section is not interface:
                peers[len(peers)] = section
            continue
        key, _, value = line.partition("=")
        key = key.lower()
        if key == "allowedips":
            section.setdefault(key, set()).update(whole(ip) for ip in value.split(",") if ip)
        elif key in ("fwmark", "persistentkeepalive") and value.lower() in ("off", "0", "0x0"):
            section.pop(key, None)
        else:
            section[key] = int(value, 0) if key == "fwmark" else value
    return interface, {peer.pop("publickey"): peer for peer in peers.values()}


def whole(ip):
    return str(ipaddress.ip_network(ip, strict=False))


@test("wgquick-corpus", needs=("wg-quick",), timeout=120)
def corpus(w):
    """Each good file: import, export, wg-quick strip of both, the same meaning. Each bad one: its line, and nothing has happened."""
    good, bad = sorted((CORPUS / "good").glob("*.conf")), sorted((CORPUS / "bad").glob("*.conf"))
    true(len(good) + len(bad) >= 30 and good and bad, "%d files" % (len(good) + len(bad)))
    folder = w.context.folder("home/corpus")
    for path in good:
        text = path.read_bytes().decode()
        file = w.context.write(folder / path.name, text, 0o600)
        imported = netcon(w, "network", "import", file, "--name", "wgtest").ok()
        for line in imported.errors.splitlines():
            contains(line, "(line ", path.name)
        exported = netcon(w, "network", "export", "wgtest").ok().text
        netcon(w, "network", "delete", "wgtest").ok()
        again = w.context.write(folder / "again.conf", exported, 0o600)
        results = [as_root(w, "wg-quick", "strip", name) for name in (file, again)]
        if any("unshare" in result.errors for result in results):
            raise Skip("neither root nor user namespaces")
        one, other = (meaning(result.ok().text) for result in results)
        equal(other, one, path.name)
    before = netcon(w, "network", "list", "--json").ok().text
    for path in bad:
        text = path.read_bytes()
        expected = text.decode().splitlines()[0].lstrip("# ")
        result = netcon(w, "network", "import", w.context.write(folder / path.name, text))
        equal(result.code, 6, path.name + ": " + result.errors)
        contains(result.errors, expected, path.name)
        equal(len(result.errors.splitlines()), 1, path.name)
    equal(netcon(w, "network", "list", "--json").ok().text, before, "networks after bad files")


@test("wgquick-dump", needs=("wg",))
def dump(w):
    """The table of `wg show … dump`, from the command and over HTTP, and the file of a new peer."""
    text = netcon(w, "peer", "list", w.a.network, "--dump").ok().text
    first, *peers = [line.split("\t") for line in text.splitlines()]
    equal(len(first), 4, "columns of the interface")
    true(peers and all(len(peer) == 8 for peer in peers), "columns of peers: %r" % text)
    shown = netcon(w, "--json", "network", "show", w.a.network).ok().text
    contains(shown, first[1], "our public key")
    url = "http://localhost/networks/%s/peers?format=wg-dump" % w.a.network
    got = w.context.run(["curl", "-sS", "--unix-socket", w.a.socket, url]).ok().text
    equal([line.split("\t")[:4] for line in got.splitlines()], [line.split("\t")[:4] for line in text.splitlines()], "over HTTP")
    added = netcon(w, "peer", "add", w.a.network, "phone", "--export", "--our-endpoint", "192.0.2.1").ok()
    try:
        file = w.context.write(w.context.home / "phone.conf", added.text, 0o600)
        interface, peers = meaning(as_root(w, "wg-quick", "strip", file).ok().text)
        equal(sorted(interface), ["privatekey"], "the phone's interface")
        equal(list(peers), [first[1]], "the phone's peer is this side")
        (peer,) = peers.values()
        true({"presharedkey", "allowedips", "endpoint", "persistentkeepalive"} == set(peer), "%s" % peer)
        said = as_root(w, "wg", "setconf", "netcon-none0", w.context.write(w.context.home / "x.conf", as_root(w, "wg-quick", "strip", file).text))
        contains(said.errors, "Unable to modify interface", "wg reads it")
    finally:
        netcon(w, "peer", "remove", w.a.network, "phone").ok()
        for name in ("phone.conf", "x.conf"):
            path = w.context.home / name
            if path.exists():
                os.unlink(path)
