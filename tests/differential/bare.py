# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The kernel's side as two machines of its own: namespaces with nothing in them but loopback and a cable between them.

Addresses and MTU are those of the virtual network that the programs are run on for comparison, and neither machine has a
route to anywhere else. Only root can make them; the programs run as the user that is given.
"""

import ctypes
import os
import subprocess

from far import CLIENT, SERVER

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
MTU = 1420


def fresh():
    if LIBC.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def ip(*commands):
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def dress(addresses):
    """Brings this machine's interfaces up."""
    ip(
        "link set lo up",
        "address add %s/24 dev netcon0" % addresses[4],
        "address add %s/64 dev netcon0 nodad" % addresses[6],
        "link set netcon0 up",
    )


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def two_machines(uid, other):
    """Leaves this process as `uid` on the client's machine. The server's machine runs `other` in a process, whose id is given
    back and which does not outlive this one."""
    ready, readied = os.pipe()
    go, gone = os.pipe()
    fresh()
    pid = os.fork()
    if pid == 0:
        try:
            LIBC.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
            fresh()
            os.write(readied, b"x")
            os.read(go, 1)
            dress(SERVER)
            become(uid)
            os.write(readied, b"x")
            LIBC.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)  # giving up root's rights has cleared it
            other()
        finally:
            os._exit(1)
    os.read(ready, 1)
    ip("link add netcon0 mtu %d type veth peer name netcon0 netns %d mtu %d" % (MTU, pid, MTU))
    dress(CLIENT)
    os.write(gone, b"x")
    os.read(ready, 1)
    become(uid)
    return pid
