# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Runs a program under a seccomp filter that refuses some calls, as a container's profile does.

    refuse.py CALL[@ARGUMENT=VALUE]=ERRNO … -- PROGRAM …

A call is a number, an argument 0 to 5 with the lower 32 bits of its value; without one every such call is refused. ERRNO is a
number, or `kill`.
"""

import ctypes
import os
import re
import struct
import sys

LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06  # linux/filter.h
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000  # linux/seccomp.h
NO_NEW_PRIVS, SET_SECCOMP, MODE_FILTER = 38, 22, 2


def rule(text):
    call, argument, value, result = re.fullmatch(r"(\d+)(?:@(\d)=(\d+))?=(\w+)", text).groups()
    verdict = KILL if result == "kill" else REFUSE | int(result)
    tests = [(LOAD, 0, 0, 0), (EQUALS, 0, 3 if argument else 1, int(call))]
    if argument:
        tests += [(LOAD, 0, 0, 16 + 8 * int(argument)), (EQUALS, 0, 1, int(value))]
    return tests + [(RETURN, 0, 0, verdict)]


end = sys.argv.index("--")
program = [part for text in sys.argv[1:end] for part in rule(text)] + [(RETURN, 0, 0, ALLOW)]
code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
memory = ctypes.create_string_buffer(code)
header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(memory)))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SET_SECCOMP, MODE_FILTER, header, 0, 0)):
    if libc.prctl(*arguments) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])
