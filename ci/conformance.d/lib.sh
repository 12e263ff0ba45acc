# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034
# Sourced by every suite. ci/conformance calls them; by hand they run on the machine's own loopback.
#
#   RUN    words put before every test process: nothing (the kernel's sockets), private-netns.sh, or netcon-shim
#   LABEL  name of this run: native or supervised
#   WORK   folder of sources and builds, kept between runs
#   OUT    folder of this run: readable by all users, test programs write there
#   LIMIT  seconds allowed to one test process
#
# Results are lines `status<TAB>test` in $OUT/SUITE.txt; status is ok, fail or skip.
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
LABEL=${LABEL:-native}
WORK=${WORK:-${TMPDIR:-/tmp}/netcon-conformance}
OUT=${OUT:-$WORK/out-$LABEL}
LIMIT=${LIMIT:-600}
read -ra PREFIX <<<"${RUN:-}"
SUITE=$(basename "$0" .sh)
LOG=$OUT/$SUITE.log
RESULT=$OUT/$SUITE.txt
STATUS=0
mkdir -p "$WORK" "$OUT"
: >"$LOG"
: >"$RESULT"

need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || {
            printf 'error: the suite %s needs %s; install it (ci/conformance does that as root)\n' "$SUITE" "$program" >&2
            exit 3
        }
    done
}

# timed COMMAND…: one test process below RUN, in the folder of this run; its exit status in STATUS, what it printed in $OUT/last.
timed() {
    STATUS=0
    (cd "$OUT/room" && exec timeout --kill-after=10 "$LIMIT" ${PREFIX[@]+"${PREFIX[@]}"} "$@") >"$OUT/last" 2>&1 </dev/null || STATUS=$?
    {
        printf '==== %s (%d)\n' "$*" "$STATUS"
        cat "$OUT/last"
    } >>"$LOG"
}

# Where test programs may write, whoever they run as.
mkdir -p "$OUT/room"
chmod 1777 "$OUT/room"

# line STATUS NAME
line() { printf '%s\t%s\n' "$1" "$2" >>"$RESULT"; }

# debian_source PACKAGE: unpacks a Debian source package below WORK with a list of sources of its own; SOURCE is its folder.
debian_source() {
    local package=$1 folder options
    SOURCE=
    for folder in "$WORK/$package"-*/; do [[ -e $folder/unpacked ]] && SOURCE=${folder%/}; done
    [[ -z $SOURCE ]] || return 0
    rm -rf "$WORK/apt" "$WORK/$package"-*/
    mkdir -p "$WORK/apt/lists/partial"
    printf 'deb-src %s %s main\n' "${NETCON_DEBIAN_MIRROR:-http://deb.debian.org/debian}" \
        "$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-bookworm}")" >"$WORK/apt/sources.list"
    options=(-q -o "Dir::Etc::sourcelist=$WORK/apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$WORK/apt/lists"
        -o "Dir::Cache=$WORK/apt" -o "APT::Sandbox::User=$(id -un)")
    (cd "$WORK" && apt-get "${options[@]}" update && apt-get "${options[@]}" source --download-only "$package" &&
        dpkg-source --no-check -x "$package"_*.dsc) >"$WORK/$package.log" 2>&1 || {
        cat "$WORK/$package.log" >&2
        exit 3
    }
    for folder in "$WORK/$package"-*/; do SOURCE=${folder%/}; done
    touch "$SOURCE/unpacked"
}
