# SPDX-License-Identifier: Apache-2.0 OR MIT
"""fake.py PATH: listens where a supervisor would and answers each connection with the next kind of nonsense."""

import socket
import sys
import time

ANSWERS = (
    b"",
    b"\0" * 40,
    b"\xff" * 400,
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    (5).to_bytes(4, "little") + b"\x63abcd",
    (1 << 30).to_bytes(4, "little") + b"\1",
)


def main():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(5)
    print("listening", len(ANSWERS), flush=True)
    for answer in ANSWERS:
        s, _ = listener.accept()
        s.settimeout(2)
        try:
            s.recv(4096)
            s.sendall(answer)
            if answer:
                time.sleep(0.3)
        except OSError:
            pass
        s.close()


if __name__ == "__main__":
    main()
