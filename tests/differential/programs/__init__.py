# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The programs; importing a module registers them."""

from . import accepting, binding, calls, connecting, datagrams, ending, errors, fresh, options, processes, streams, sweep, tcp  # noqa: F401
