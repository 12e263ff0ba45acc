# SPDX-License-Identifier: Apache-2.0 OR MIT
"""rude.py PATH: garbage, half messages and idle connections at a supervisor's socket, held for some seconds."""

import random
import socket
import sys
import time

STARTS = (b"NETCON\0\1", b"NETCON\0\xff", b"GET /", b"", b"NETCON", b"NETCON\0\1\xff\xff\xff\xff", b"NETCON\0\1\0\0\0\0")


def main():
    noise = random.Random(5)
    held = []
    for turn in range(150):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(2)
        try:
            s.connect(sys.argv[1])
            s.sendall(STARTS[turn % len(STARTS)] + noise.randbytes(noise.randrange(0, 3000)))
        except OSError:
            pass
        held.append(s)
    print("held", flush=True)
    time.sleep(3)


if __name__ == "__main__":
    main()
