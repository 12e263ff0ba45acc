#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Prints the notices of every crate that ends up in a program: notices.py FILE, with the output of `cargo metadata`."""

import collections
import json
import pathlib
import re
import sys

LICENCE_FILE = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense)([-_.].*)?$", re.I)
PROGRAMS = ("netcon-shim", "netcon-supervisor", "netcon-api")

HEAD = """Third-party notices
===================

Network Containers are licensed under Apache-2.0 OR MIT. Their programs are built from the crates listed here, each under
its own licence. netcon-shim also contains libseccomp (LGPL-2.1, https://github.com/seccomp/libseccomp), linked
statically: whoever passes the program on owes its receivers what that licence says about relinking. The source needed for
it is this repository.

This file is written by ci/notices.
"""


def shipped(metadata):
    """Ids of the packages that are linked into a program: everything below the programs but build and test dependencies."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = [id for id, package in packages.items() if package["name"] in PROGRAMS]
    found = set()
    while waiting:
        id = waiting.pop()
        if id in found:
            continue
        found.add(id)
        for dependency in nodes[id]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    return [packages[id] for id in found if packages[id]["source"]]


def texts(package):
    """Licence texts that a package carries, without duplicates of the usual ones' white space."""
    folder = pathlib.Path(package["manifest_path"]).parent
    for file in sorted(folder.iterdir()):
        if file.is_file() and LICENCE_FILE.match(file.name):
            text = file.read_text("utf-8", "replace").replace("\r\n", "\n")
            yield "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))


def main():
    metadata = json.load(open(sys.argv[1]))
    crates = sorted(shipped(metadata), key=lambda package: (package["name"], package["version"]))
    bearers = collections.OrderedDict()
    print(HEAD)
    for package in crates:
        print("%s %s: %s" % (package["name"], package["version"], package["license"] or "see its text"))
        if package["repository"]:
            print("    %s" % package["repository"])
        for text in texts(package):
            bearers.setdefault(text, []).append("%s %s" % (package["name"], package["version"]))
    for text, names in bearers.items():
        print("\n" + "=" * 80)
        print("\n".join(names))
        print("-" * 80)
        print(text)


if __name__ == "__main__":
    main()
