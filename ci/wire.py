#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A wire that can be watched: relays UDP between two ports of this machine and keeps a copy of every datagram.

    wire.py LISTEN TARGET FILE    relays 127.0.0.1:LISTEN <-> 127.0.0.1:TARGET, copies go to FILE
    wire.py --check FILE WORD     tells what FILE holds; exit status 1 when WORD can be read in it
"""

import collections
import pathlib
import select
import socket
import sys

KINDS = {1: "handshake initiation", 2: "handshake response", 3: "cookie reply", 4: "encrypted data"}
COPY_LIMIT = 64 * 1024 * 1024  # bytes kept; what comes after is relayed and not kept


def relay(listen, target, path):
    front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    front.bind(("127.0.0.1", listen))
    back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    back.bind(("127.0.0.1", 0))
    back.connect(("127.0.0.1", target))
    for end in (front, back):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    client, kept = None, 0
    with open(path, "wb", buffering=0) as copies:
        while True:
            for end in select.select([front, back], [], [])[0]:
                try:
                    if end is front:
                        data, client = front.recvfrom(65535)
                    else:
                        data = back.recv(65535)
                    if kept < COPY_LIMIT:
                        kept += len(data)
                        copies.write(len(data).to_bytes(2, "big") + data)
                    if end is front:
                        back.send(data)
                    elif client:
                        front.sendto(data, client)
                except ConnectionRefusedError:
                    continue  # the supervisor on the other side is not there


def check(path, word):
    raw, kinds, size = pathlib.Path(path).read_bytes(), collections.Counter(), 0
    at = 0
    while at + 2 <= len(raw):
        length = int.from_bytes(raw[at : at + 2], "big")
        data = raw[at + 2 : at + 2 + length]
        kinds[KINDS.get(data[0] if data else 0, "something else")] += 1
        size += length
        at += 2 + length
    print("%d datagrams, %d bytes: %s" % (sum(kinds.values()), size, ", ".join("%d %s" % (n, k) for k, n in sorted(kinds.items()))))
    if word.encode() in raw or not kinds["encrypted data"] or kinds["something else"]:
        sys.exit(1)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--check":
        check(*sys.argv[2:])
    elif len(sys.argv) == 4:
        relay(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        sys.exit(__doc__)
