#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# stress-ng's socket stressors with --verify (Debian: stress-ng): concurrency, leaks, crashes; not semantics.
# Arguments: stressors instead of the usual ones.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

need stress-ng
(($# > 0)) || set -- sock udp udp-flood sockmany sockfd sockabuse epoll poll sendfile
for stressor in "$@"; do
    timed stress-ng "--$stressor" 2 -t "${SECONDS_EACH:-3}s" --verify --metrics-brief
    if ((STATUS == 0)) && ! grep -E '^stress-ng: fail' "$OUT/last" >/dev/null; then line ok "$stressor"; else line fail "$stressor"; fi
done
