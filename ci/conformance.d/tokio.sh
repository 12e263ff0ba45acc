#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# tokio's integration tests as published on crates.io: every test program of TCP, UDP, unix sockets and AsyncFd.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

need cargo
version=${TOKIO:-1.54.1}
folder=$WORK/tokio-$version
export CARGO_TARGET_DIR=$WORK/tokio-build
if [[ ! -d $folder ]]; then
    rm -rf "$WORK/tokio-get"
    mkdir -p "$WORK/tokio-get/src"
    printf '[package]\nname = "get"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\ntokio = "=%s"\n[workspace]\n' "$version" >"$WORK/tokio-get/Cargo.toml"
    : >"$WORK/tokio-get/src/lib.rs"
    (cd "$WORK/tokio-get" && cargo fetch -q)
    cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"tokio-$version" "$folder.new"
    printf '\n[workspace]\n' >>"$folder.new/Cargo.toml"
    mv "$folder.new" "$folder"
fi
cd "$folder"
tests=()
for file in tests/tcp_*.rs tests/udp.rs tests/io_async_fd.rs tests/net_{bind_resource,lookup_host,quickack,panic}.rs tests/uds_*.rs; do
    if [[ -f $file ]]; then tests+=(--test "$(basename "$file" .rs)"); fi
done
cargo test -q --features full --no-run "${tests[@]}" >"$WORK/tokio.log" 2>&1 || {
    tail -n 40 "$WORK/tokio.log" >&2
    exit 3
}
mkdir -p "$OUT/room/tokio"
cargo test --features full --no-run --message-format=json "${tests[@]}" 2>/dev/null |
    sed -n 's/.*"target":{"kind":\["test"\].*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' >"$OUT/tokio.list"
# Each test in a process of its own: one that hangs does not take the others with it.
while read -r name program; do
    install -m 755 "$program" "$OUT/room/tokio/$name"
    while read -r test; do
        LIMIT=60 timed "$OUT/room/tokio/$name" --exact "$test"
        case $(sed -n 's/^test result: //p' "$OUT/last") in
        "ok. 1 passed"*) line ok "$name:$test" ;;
        "ok. 0 passed; 0 failed; 1 ignored"*) line skip "$name:$test" ;;
        *) line fail "$name:$test" ;;
        esac
    done < <("$program" --list --format terse 2>/dev/null | sed -n 's/: test$//p')
done <"$OUT/tokio.list"
