# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The programs; importing a module registers them."""

from . import (  # noqa: F401
    accepting,
    binding,
    calls,
    connecting,
    datagrams,
    descriptors,
    edges,
    ending,
    errors,
    found,
    fresh,
    options,
    processes,
    refusals,
    routes,
    signals,
    streams,
    sweep,
    tasks,
    tcp,
    transfers,
    udp,
)
