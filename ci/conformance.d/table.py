# SPDX-License-Identifier: Apache-2.0 OR MIT
"""table.py RESULTS EXCUSED JSON SUITE…: compares the native with the supervised run of each suite.

EXCUSED has lines `SUITE<TAB>PATTERN<TAB>REASON`; a pattern is one of fnmatch. Exit status 1 if a suite is below 99.5 %.
"""

import fnmatch
import json
import pathlib
import sys

ENOUGH = 0.995


def read(path):
    """Status by name. A name that occurs twice counts once, with its worst status."""
    rank = {"ok": 0, "skip": 1, "fail": 2}
    found = {}
    for line in path.read_text().splitlines():
        status, name = line.split("\t", 1)
        if rank[status] >= rank.get(found.get(name), -1):
            found[name] = status
    return found


def excuses(path):
    rows = []
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            suite, pattern, reason = line.split("\t")
            rows.append((suite, pattern, reason))
    return rows


def main():
    results, excused_file, latest, *suites = sys.argv[1:]
    results = pathlib.Path(results)
    rows, objects, poor = excuses(pathlib.Path(excused_file)), [], False
    print("%-12s %8s %11s %8s %8s" % ("suite", "native", "supervised", "", "excused"))
    for suite in suites:
        native, supervised = (read(results / f"{suite}.{label}.txt") for label in ("native", "supervised"))
        passed = [name for name, status in sorted(native.items()) if status == "ok"]
        reasons = {}
        for name in passed:
            for of, pattern, reason in rows:
                if of == suite and fnmatch.fnmatchcase(name, pattern):
                    reasons[name] = reason
        counted = [name for name in passed if name not in reasons]
        failed = [name for name in counted if supervised.get(name) != "ok"]
        share = 1 - len(failed) / max(1, len(counted))
        poor |= share < ENOUGH
        print("%-12s %8d %11d %7.2f%% %8d" % (suite, len(counted), len(counted) - len(failed), 100 * share, len(reasons)))
        for name in failed:
            print("    %s: %s" % (supervised.get(name, "not run"), name))
        for reason in sorted(set(reasons.values())):
            print("    excused, %d: %s" % (list(reasons.values()).count(reason), reason))
        objects.append(
            {
                "suite": suite,
                "native_ok": len(counted),
                "supervised_ok": len(counted) - len(failed),
                "excused": len(reasons),
                "names": failed,
            }
        )
    pathlib.Path(latest).write_text(json.dumps(objects, indent=1) + "\n")
    return 1 if poor else 0


if __name__ == "__main__":
    sys.exit(main())
