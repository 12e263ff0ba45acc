# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A UDP relay between two supervisors that keeps a copy of what passes."""

import socket
import threading

LIMIT = 20000  # datagrams kept; later ones pass unkept


class Relay:
    """Datagrams sent to `port` go on to the target; its answers go back to the last sender."""

    def __init__(self, target):
        self.front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.front.bind(("127.0.0.1", 0))
        self.back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.back.connect(("127.0.0.1", target))
        self.port = self.front.getsockname()[1]
        self.client = None
        self.seen = []
        self.over = False
        for function in (self.forward, self.backward):
            threading.Thread(target=function, daemon=True).start()

    def keep(self, data):
        if len(self.seen) < LIMIT:
            self.seen.append(data)

    def forward(self):
        while not self.over:
            try:
                data, self.client = self.front.recvfrom(65536)
                self.keep(data)
                self.back.send(data)
            except OSError:
                continue

    def backward(self):
        while not self.over:
            try:
                data = self.back.recv(65536)
                self.keep(data)
                if self.client:
                    self.front.sendto(data, self.client)
            except OSError:
                continue

    def close(self):
        self.over = True
        for s in (self.front, self.back):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
