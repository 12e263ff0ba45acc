# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034
# Shared by the scripts of this folder: sourced, never run.
#
# What every script gets: the folders below, one scratch folder of its own, jobs that end with it (also after Ctrl-C),
# and a way to run a command as an ordinary user whoever started the script.

set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
[[ $TARGET == /* ]] || TARGET=$PWD/$TARGET
export CARGO_TARGET_DIR=$TARGET
BIN=$TARGET/netcon/bin # where ci/build leaves netcon-shim, netcon-supervisor and netcon

# Exit status when something has to be installed that the script may not install.
readonly EXIT_MISSING=3

export LC_ALL=C.UTF-8
export PATH=$PATH:${HOME:-/}/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
exec </dev/null

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    exit "${2:-1}"
}
is_root() { [[ $(id -u) -eq 0 ]]; }

# Scratch folder ------------------------------------------------------------------------------------------------------

SCRATCH= # set by scratch; removed at the end

# Makes SCRATCH: short path (unix sockets), programs may run in it, every user may look into it.
scratch() {
    local parent
    for parent in /tmp /var/tmp "${TMPDIR:-/tmp}"; do
        SCRATCH=$(mktemp -d "$parent/netcon-ci-XXXXXX" 2>/dev/null) || continue
        chmod 755 "$SCRATCH"
        if printf '#!/bin/sh\n' >"$SCRATCH/try" && chmod 755 "$SCRATCH/try" && "$SCRATCH/try" 2>/dev/null; then
            rm "$SCRATCH/try"
            mkdir "$SCRATCH/log"
            return
        fi
        rm -rf "$SCRATCH"
    done
    SCRATCH=
    fail "no temporary folder lets programs run: set TMPDIR to one that does"
}

# Jobs ----------------------------------------------------------------------------------------------------------------
# Every job is a session of its own, so that ending it ends what it started, and nothing else. Only programs and
# scripts can be jobs, not functions.

JOBS=()

# start NAME COMMAND…: runs in the background, output in $SCRATCH/log/NAME; its process id is in JOB.
start() {
    local name=$1
    shift
    setsid env --default-signal "$@" >"$SCRATCH/log/$name" 2>&1 &
    JOB=$!
    disown "$JOB"
    JOBS+=("$JOB")
}

# run COMMAND…: runs in the foreground; unlike a plain call it ends at once when the script is told to end.
run() {
    local status=0
    setsid env --default-signal "$@" &
    JOB=$!
    JOBS+=("$JOB")
    wait "$JOB" || status=$?
    forget "$JOB"
    return "$status"
}

# stop JOB: asks it to end, then makes it.
stop() {
    local job=$1 i
    kill -TERM -- "-$job" 2>/dev/null || kill -TERM "$job" 2>/dev/null || true
    for ((i = 0; i < 50; i++)); do
        kill -0 -- "-$job" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL -- "-$job" 2>/dev/null || true
    wait "$job" 2>/dev/null || true
    forget "$job"
}

forget() {
    local job left=()
    for job in "${JOBS[@]}"; do [[ $job == "$1" ]] || left+=("$job"); done
    JOBS=(${left[@]+"${left[@]}"})
}

alive() { kill -0 "$1" 2>/dev/null; }

# Called by guard at the end, however it comes.
finish() {
    local status=$? i
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    for ((i = ${#JOBS[@]} - 1; i >= 0; i--)); do stop "${JOBS[i]}"; done
    if declare -F at_end >/dev/null; then at_end "$status"; fi
    if [[ -n $SCRATCH ]]; then rm -rf -- "$SCRATCH"; fi
    exit "$status"
}

# Ends jobs and removes SCRATCH when the script ends or is told to. A script's own at_end STATUS is called in between.
guard() {
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
}

# Ordinary user -------------------------------------------------------------------------------------------------------

AS_USER=() # prefix of a command that runs as an ordinary user with an environment of its own
USER_ID=   # that user's number
HOME_DIR=  # that user's home in SCRATCH

# Chooses the user: whoever started the script, or for root a number that nobody has. Needs SCRATCH.
ordinary_user() {
    local i
    HOME_DIR=$SCRATCH/home
    mkdir "$HOME_DIR"
    USER_ID=$(id -u)
    local drop=()
    if is_root; then
        for ((i = 0; i < 100; i++)); do
            USER_ID=$((20000 + RANDOM))
            getent passwd "$USER_ID" >/dev/null || [[ -n $(ps -o pid= -U "$USER_ID") ]] || break
        done
        drop=(setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --inh-caps=-all)
        chown "$USER_ID:$USER_ID" "$HOME_DIR"
    fi
    chmod 755 "$HOME_DIR"
    AS_USER=(${drop[@]+"${drop[@]}"} env -i -C "$HOME_DIR" "HOME=$HOME_DIR" "TMPDIR=$HOME_DIR"
        "PATH=$SCRATCH/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        LC_ALL=C.UTF-8 "TERM=${TERM:-dumb}")
}

# Copies the programs to where an ordinary user sees them: $SCRATCH/bin.
publish_programs() {
    mkdir "$SCRATCH/bin"
    install -m 755 "$BIN/netcon-shim" "$BIN/netcon-supervisor" "$BIN/netcon" "$SCRATCH/bin/"
}

# A TCP and UDP port that nobody has now.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        if [[ -z $(ss -Htuln "sport = :$port") ]]; then
            printf '%s' "$port"
            return
        fi
    done
}

# eventually SECONDS COMMAND…: repeats the command until it succeeds.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}
