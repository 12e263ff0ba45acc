# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The tests themselves, in the order in which they run."""

from . import (  # noqa: F401
    leaks,
    relayed,
    interop,
    programs,
    echo,
    streams,
    connecting,
    addresses,
    datagrams,
    signals,
    handles,
    shim,
    interfaces,
    isolation,
    escapes,
    control,
    mistakes,
    doctor,
    install,
    wgquick,
    screens,
    look,
    service,
    bulk,
)
