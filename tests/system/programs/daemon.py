# SPDX-License-Identifier: Apache-2.0 OR MIT
"""daemon.py ADDRESS FILE: forks twice as daemons do, writes its port into FILE, answers in capitals until 'quit!'."""

import os
import socket
import sys


def main():
    address, file = sys.argv[1:]
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.bind((address, 0))
    listener.listen(5)
    with open(file + ".new", "w") as out:
        out.write(str(listener.getsockname()[1]))
    os.rename(file + ".new", file)
    while True:
        s, _ = listener.accept()
        while data := s.recv(100):
            if data == b"quit!":
                return
            s.sendall(data.upper())
        s.close()


if __name__ == "__main__":
    main()
