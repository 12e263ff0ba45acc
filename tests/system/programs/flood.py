# SPDX-License-Identifier: Apache-2.0 OR MIT
"""flood.py SOURCE ADDRESS PORT PUBLIC-KEY RATE SECONDS: WireGuard initiations with a right mac1 and nothing else right.

With `garbage` in place of the key: datagrams with the four message types and random contents. Ends early by SIGTERM. Prints
how many were answered, and by which types of message.
"""

import base64
import collections
import hashlib
import os
import signal
import socket
import sys
import time

LENGTHS = {1: 148, 2: 92, 3: 64, 4: 96}


def initiation(public_key):
    """A message that only its reader can tell from a real one (whitepaper, 5.4.2 and 5.4.4)."""
    message = b"\x01\0\0\0" + os.urandom(112)
    key = hashlib.blake2s(b"mac1----" + base64.b64decode(public_key)).digest()
    return message + hashlib.blake2s(message, key=key, digest_size=16).digest() + bytes(16)


def garbage():
    kind = 1 + os.urandom(1)[0] % 4
    return bytes([kind, 0, 0, 0]) + os.urandom(LENGTHS[kind] - 4)


def main():
    source, address, port, key, rate, seconds = sys.argv[1:]
    s = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((source, 0))
    s.connect((address, int(port)))
    s.setblocking(False)
    start, sent, answers, ended = time.monotonic(), 0, collections.Counter(), []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    messages = [garbage() for _ in range(64)] if key == "garbage" else [initiation(key) for _ in range(64)]
    print("flooding", flush=True)
    while (passed := time.monotonic() - start) < float(seconds) and not ended:
        while sent < passed * float(rate):
            try:
                s.send(messages[sent % 64])
            except OSError:
                pass
            sent += 1
        try:
            while answer := s.recv(2000):
                answers[answer[0]] += 1
        except OSError:
            pass
        time.sleep(0.002)
    print("%d sent, %d answered, types %s" % (sent, sum(answers.values()), sorted(answers)), flush=True)


if __name__ == "__main__":
    main()
