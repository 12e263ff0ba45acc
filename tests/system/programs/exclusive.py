# SPDX-License-Identifier: Apache-2.0 OR MIT
"""exclusive.py ADDRESS COUNT: four processes share a listener through EPOLLEXCLUSIVE and echo COUNT connections."""

import multiprocessing
import select
import socket
import sys


def work(listener, served_all, count):
    served = woken = 0
    ep = select.epoll()
    ep.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    while served_all.value < count:
        if not ep.poll(0.2):
            continue
        woken += 1
        try:
            s, peer = listener.accept()
        except BlockingIOError:
            continue
        s.setblocking(True)
        while data := s.recv(65536):
            s.sendall(data)
        s.close()
        served += 1
        with served_all.get_lock():
            served_all.value += 1
    sys.stdout.write("served %d woken %d\n" % (served, woken))
    sys.stdout.flush()


def main():
    address, count = sys.argv[1], int(sys.argv[2])
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.bind((address, 0))
    listener.listen(512)
    listener.setblocking(False)
    print("port", listener.getsockname()[1], flush=True)
    context = multiprocessing.get_context("fork")
    served = context.Value("i", 0)
    workers = [context.Process(target=work, args=(listener, served, count)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
