# SPDX-License-Identifier: Apache-2.0 OR MIT
"""transfer.py serve ADDRESS MIB | call ADDRESS PORT MIB: that many MiB each way, sha256 of both printed."""

import hashlib
import os
import socket
import sys

BLOCK = 1 << 20


def send(s, megabytes):
    digest, block = hashlib.sha256(), os.urandom(BLOCK)
    for turn in range(megabytes):
        data = turn.to_bytes(8, "big") + block[8:]
        digest.update(data)
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    print("sent", digest.hexdigest(), flush=True)


def receive(s, megabytes):
    digest, total = hashlib.sha256(), 0
    while data := s.recv(BLOCK):
        digest.update(data)
        total += len(data)
    if total != megabytes * BLOCK:
        sys.exit("%d bytes instead of %d" % (total, megabytes * BLOCK))
    print("got", digest.hexdigest(), flush=True)


def main():
    role, address = sys.argv[1:3]
    if role == "serve":
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        listener.bind((address, 0))
        listener.listen(1)
        print("port", listener.getsockname()[1], flush=True)
        s, _ = listener.accept()
        receive(s, int(sys.argv[3]))
        send(s, int(sys.argv[3]))
    else:
        s = socket.create_connection((address, int(sys.argv[3])))
        send(s, int(sys.argv[4]))
        receive(s, int(sys.argv[4]))


if __name__ == "__main__":
    main()
