#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# libuv's test runner (Debian: source package libuv1; cmake ninja-build gcc). It refuses to run as root.
# Arguments: single tests to run.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

need cmake ninja
debian_source libuv1
if [[ ! -x $SOURCE/b/uv_run_tests_a ]]; then
    mkdir -p "$SOURCE/b"
    (cd "$SOURCE/b" && cmake .. -DLIBUV_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=Release -G Ninja && ninja uv_run_tests_a) >"$WORK/libuv1.log" 2>&1 || {
        tail -n 40 "$WORK/libuv1.log" >&2
        exit 3
    }
fi
# Its fixtures are found relative to where it runs, and some are written to.
mkdir -p "$OUT/room/b" "$OUT/room/test"
cp -r "$SOURCE/test/fixtures" "$OUT/room/test/"
install -m 755 "$SOURCE/b/uv_run_tests_a" "$OUT/room/b/"
chmod -R a+rwX "$OUT/room/test" "$OUT/room/b"

if (($# > 0)); then
    for name in "$@"; do
        timed ./b/uv_run_tests_a "$name"
        if ((STATUS == 0)); then line ok "$name"; else line fail "$name"; fi
    done
else
    LIMIT=$((LIMIT * 2)) timed ./b/uv_run_tests_a
    sed -nE 's/^ok [0-9]+ - ([^ ]+) *# SKIP.*/skip\t\1/p; t; s/^ok [0-9]+ - ([^ ]+).*/ok\t\1/p; s/^not ok [0-9]+ - ([^ ]+).*/fail\t\1/p' "$OUT/last" >>"$RESULT"
fi
