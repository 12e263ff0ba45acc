# SPDX-License-Identifier: Apache-2.0 OR MIT
"""transfer.py serve ADDRESS SIZE | call ADDRESS PORT SIZE: that many MiB (with a K: KiB) each way, sha256 of both printed."""

import hashlib
import os
import socket
import sys


def size(text):
    """Bytes of a block, and how many of them."""
    return (1 << 10, int(text[:-1])) if text.endswith("K") else (1 << 20, int(text))


def send(s, block, count):
    digest, block = hashlib.sha256(), os.urandom(block)
    for turn in range(count):
        data = turn.to_bytes(8, "big") + block[8:]
        digest.update(data)
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    print("sent", digest.hexdigest(), flush=True)


def receive(s, block, count):
    digest, total = hashlib.sha256(), 0
    while data := s.recv(1 << 20):
        digest.update(data)
        total += len(data)
    if total != block * count:
        sys.exit("%d bytes instead of %d" % (total, block * count))
    print("got", digest.hexdigest(), flush=True)


def main():
    role, address = sys.argv[1:3]
    if role == "serve":
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        listener.bind((address, 0))
        listener.listen(1)
        print("port", listener.getsockname()[1], flush=True)
        s, _ = listener.accept()
        receive(s, *size(sys.argv[3]))
        send(s, *size(sys.argv[3]))
    else:
        s = socket.create_connection((address, int(sys.argv[3])))
        send(s, *size(sys.argv[4]))
        receive(s, *size(sys.argv[4]))


if __name__ == "__main__":
    main()
