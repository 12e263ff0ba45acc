# SPDX-License-Identifier: Apache-2.0 OR MIT
"""exchange.py ADDRESS PORT BYTES SECONDS: sends random bytes to an echo server, all within that time; compares what returns."""

import os
import select
import socket
import sys
import time


def main():
    address, port, size, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), time.monotonic() + float(sys.argv[4])
    while True:  # a connection attempt may come before the tunnel
        try:
            s = socket.create_connection((address, port), timeout=max(0.1, end - time.monotonic()))
            break
        except OSError as error:
            if time.monotonic() > end:
                sys.exit("no connection: %s" % error)
            time.sleep(0.2)
    s.setblocking(False)
    data, sent, got = os.urandom(size), 0, bytearray()
    while len(got) < size:
        left = end - time.monotonic()
        readable, writable, _ = select.select([s], [s] if sent < size else [], [], max(0, left))
        if left <= 0:
            sys.exit("%d bytes sent, %d returned in time" % (sent, len(got)))
        if writable:
            sent += s.send(data[sent : sent + 65536])
        if readable:
            block = s.recv(65536)
            if not block:
                sys.exit("the connection ended after %d bytes" % len(got))
            got += block
    if got != data:
        sys.exit("other bytes came back")
    print("%d bytes" % size, flush=True)


if __name__ == "__main__":
    main()
