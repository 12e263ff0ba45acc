# SPDX-License-Identifier: Apache-2.0 OR MIT
"""flow.py ADDRESS PORT SECONDS [PATIENCE]: a steady exchange with an echo server, every byte compared; prints the longest
wait. It may take PATIENCE seconds, 20 unless said."""

import os
import socket
import sys
import time


def main():
    address, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    patience = float(sys.argv[4]) if len(sys.argv) > 4 else 20
    s = socket.create_connection((address, port), timeout=patience)
    end, longest, count = time.monotonic() + seconds, 0.0, 0
    while time.monotonic() < end:
        data = os.urandom(3000)
        start = time.monotonic()
        s.sendall(data)
        got = b""
        while len(got) < len(data):
            block = s.recv(65536)
            if not block:
                sys.exit("the connection ended after %d exchanges" % count)
            got += block
        if got != data:
            sys.exit("other bytes came back")
        longest = max(longest, time.monotonic() - start)
        count += 1
        time.sleep(0.05)
    print("%d exchanges, longest %.2f" % (count, longest), flush=True)


if __name__ == "__main__":
    main()
