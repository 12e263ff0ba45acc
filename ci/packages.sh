# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash
# What has to be installed, and how: sourced by ci/setup.

# Debian package, and a file by which one sees that it is there.
PACKAGES=(
    # to build
    "gcc                  /usr/bin/gcc"
    "libc6-dev            /usr/include/stdio.h"
    "libseccomp-dev       /usr/include/seccomp.h"
    # to test and to show
    "nginx                /usr/sbin/nginx"
    "curl                 /usr/bin/curl"
    "wget                 /usr/bin/wget"
    "redis-server         /usr/bin/redis-server"
    "redis-tools          /usr/bin/redis-cli"
    "python3              /usr/bin/python3"
    "python3-venv         /usr/share/doc/python3-venv"
    "openssh-server       /usr/sbin/sshd"
    "openssh-client       /usr/bin/ssh"
    "openssh-sftp-server  /usr/lib/openssh/sftp-server"
    "openssl              /usr/bin/openssl"
    "iperf3               /usr/bin/iperf3"
    "socat                /usr/bin/socat"
    "busybox-static       /usr/share/doc/busybox-static"
    "wireguard-go         /usr/bin/wireguard-go"
    "wireguard-tools      /usr/bin/wg"
    "iproute2             /usr/bin/ss"
    "iputils-ping         /usr/bin/ping"
    # ICMP from inside a container: by ping sockets, by raw sockets, by the error queue, by a program with a file capability
    "iputils-tracepath    /usr/bin/tracepath"
    "traceroute           /usr/bin/traceroute.db"
    "mtr-tiny             /usr/bin/mtr"
    "fping                /usr/bin/fping"
    "tcpdump              /usr/bin/tcpdump"
    "tshark               /usr/bin/tshark"
    "prometheus           /usr/bin/promtool"
    "strace               /usr/bin/strace"
    "procps               /usr/bin/ps"
    "util-linux           /usr/bin/setpriv"
    "systemd              /usr/bin/systemd-analyze"
    "dbus-user-session    /usr/lib/systemd/user/dbus.socket"
    "binutils             /usr/bin/nm"
    "man-db               /usr/bin/man"
    "mandoc               /usr/bin/mandoc"
)

# Services of those packages that must not start on the host.
SERVICES=(nginx redis-server ssh iperf3 prometheus)

# One word per package that is not there.
missing_packages() {
    local row package file
    for row in "${PACKAGES[@]}"; do
        read -r package file <<<"$row"
        [[ -e $file || -e ${file#/usr} ]] || printf '%s\n' "$package"
    done
}

# install_packages PACKAGE…: as root. Leaves /etc/apt as it is and policy-rc.d as found.
install_packages() {
    local lock=/run/lock
    [[ -d $lock ]] || lock=/tmp
    say "waiting for other set-ups on this machine, if any"
    exec 8>"$lock/netcon-setup.lock"
    flock 8
    mapfile -t wanted < <(missing_packages) # another set-up may have installed them meanwhile
    if ((${#wanted[@]} > 0)); then
        refuse_services
        install_wanted "${wanted[@]}" 8>&-
        restore_services
    fi
    exec 8>&-
}

# Services ------------------------------------------------------------------------------------------------------------
# invoke-rc.d and systemd's maintainer scripts ask policy-rc.d; 101 means "do not start".

POLICY=/usr/sbin/policy-rc.d
POLICY_FOUND=$POLICY.netcon-found # what was there before, while ours is in place
POLICY_MARK="# put here by netcon's ci/setup while it installs packages"
POLICY_OURS=

services_refused() {
    local service status
    [[ -x $POLICY ]] || return 1
    for service in "${SERVICES[@]}"; do
        status=0
        "$POLICY" "$service" start >/dev/null 2>&1 || status=$?
        ((status == 101)) || return 1
    done
}

refuse_services() {
    put_policy_back # a set-up that was killed may have left its own
    if services_refused; then return; fi
    POLICY_OURS=yes
    if [[ -e $POLICY || -L $POLICY ]]; then mv -T -- "$POLICY" "$POLICY_FOUND"; fi
    printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >"$POLICY.netcon-new"
    chmod 755 "$POLICY.netcon-new"
    mv -T -- "$POLICY.netcon-new" "$POLICY"
}

# Safe to call at any time; does something only when refuse_services did.
restore_services() {
    if [[ -n $POLICY_OURS ]]; then put_policy_back; fi
    POLICY_OURS=
}

put_policy_back() {
    rm -f -- "$POLICY.netcon-new"
    if [[ -e $POLICY_FOUND || -L $POLICY_FOUND ]]; then
        mv -T -- "$POLICY_FOUND" "$POLICY"
    elif [[ -f $POLICY ]] && grep -qF "$POLICY_MARK" "$POLICY"; then
        rm -f -- "$POLICY"
    fi
}

# apt -----------------------------------------------------------------------------------------------------------------

# Tries with what apt knows, then with fresh lists, then with Debian's own archive as the only source.
install_wanted() {
    export DEBIAN_FRONTEND=noninteractive
    local options=(-o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0)
    local install=(install -y -q --no-install-recommends --no-remove)
    if [[ -n $(ls -A /var/lib/dpkg/updates 2>/dev/null) ]]; then
        say "finishing an installation that was interrupted"
        run dpkg --configure -a
    fi
    say "installing: $*"
    if known "$@" && run apt-get "${options[@]}" "${install[@]}" "$@"; then return; fi
    say "fetching the lists of packages"
    run apt-get "${options[@]}" -q update || say "some sources did not answer; trying without them"
    if run apt-get "${options[@]}" "${install[@]}" "$@"; then return; fi
    private_sources
    run apt-get "${options[@]}" "${PRIVATE[@]}" -q update || true
    run apt-get "${options[@]}" "${PRIVATE[@]}" "${install[@]}" "$@" ||
        fail "apt could not install: $*" "$EXIT_MISSING"
}

# Whether apt has a candidate for each package.
known() {
    local package
    for package in "$@"; do
        apt-cache policy "$package" 2>/dev/null | grep 'Candidate: [0-9]' >/dev/null || return 1
    done
}

# PRIVATE: options that make apt use Debian's main archive through a sources file of our own.
private_sources() {
    local example=/usr/share/doc/apt/examples/sources.list codename
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-bookworm}")
    mkdir -p "$SCRATCH/apt/lists/partial"
    if [[ -n ${NETCON_DEBIAN_MIRROR:-} ]]; then
        printf 'deb %s %s main\n' "$NETCON_DEBIAN_MIRROR" "$codename" >"$SCRATCH/apt/sources.list"
    elif [[ -r $example ]]; then
        grep '^deb ' "$example" >"$SCRATCH/apt/sources.list"
    else
        fail "apt's sources lack Debian's main archive; name a mirror in NETCON_DEBIAN_MIRROR and try again" "$EXIT_MISSING"
    fi
    say "apt's own sources do not have them; using Debian's archive for this one time"
    chmod -R a+rX "$SCRATCH/apt"
    PRIVATE=(-o "Dir::Etc::sourcelist=$SCRATCH/apt/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$SCRATCH/apt/lists")
}
