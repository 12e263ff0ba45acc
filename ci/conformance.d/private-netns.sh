#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# private-netns.sh COMMAND…: as root, in a fresh kernel network namespace with loopback and one interface with a default route:
# what an ideal virtual network would give. The namespace ends with the command.
# shellcheck disable=SC2016
exec unshare -n bash -c 'ip link set lo up; ip link add net0 type veth peer name net1 && ip link set net1 up &&
    ip addr add 10.77.0.2/24 dev net0 && ip link set net0 up && ip route add default via 10.77.0.1; exec "$@"' _ "$@"
