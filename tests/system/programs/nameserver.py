# SPDX-License-Identifier: Apache-2.0 OR MIT
"""nameserver.py ADDRESS PORT: knows A and AAAA of www.example.test, everything else does not exist."""

import socket
import struct
import sys

ANSWERS = {1: socket.inet_aton("192.0.2.80"), 28: socket.inet_pton(socket.AF_INET6, "2001:db8::80")}


def question(query):
    """The name and type asked for, and where the question ends."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii"))
        at += 1 + query[at]
    return ".".join(labels).lower(), struct.unpack("!H", query[at + 1 : at + 3])[0], at + 5


def answer(query):
    name, kind, end = question(query)
    known = name == "www.example.test"
    records = b""
    if known and kind in ANSWERS:
        data = ANSWERS[kind]
        records = struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data
    flags = 0x8580 if known else 0x8583
    return query[:2] + struct.pack("!HHHHH", flags, 1, 1 if records else 0, 0, 0) + query[12:end] + records


def main():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((sys.argv[1], int(sys.argv[2])))
    print("port", s.getsockname()[1], flush=True)
    while True:
        query, source = s.recvfrom(2000)
        s.sendto(answer(query), source)


if __name__ == "__main__":
    main()
