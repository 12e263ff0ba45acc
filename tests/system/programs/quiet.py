# SPDX-License-Identifier: Apache-2.0 OR MIT
"""quiet.py ADDRESS PORT SECONDS PATIENCE: an exchange with an echo server, silence for so long, another exchange."""

import os
import socket
import sys
import time


def exchange(s):
    data, got = os.urandom(10_000), b""
    s.sendall(data)
    while len(got) < len(data):
        block = s.recv(65536)
        if not block:
            sys.exit("the connection ended")
        got += block
    if got != data:
        sys.exit("other bytes came back")


def main():
    address, port, seconds, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    s = socket.create_connection((address, port), timeout=patience)
    exchange(s)
    time.sleep(seconds)
    start = time.monotonic()
    exchange(s)
    print("after the silence %.2f s" % (time.monotonic() - start), flush=True)


if __name__ == "__main__":
    main()
