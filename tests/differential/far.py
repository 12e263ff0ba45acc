# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The other machine of a program that is run apart: its sockets are used from here, one call at a time.

A server on the other machine waits on a unix socket; each thread of a program has a connection of its own to it, so that one
may wait in accept(2) while another goes on.
"""

import contextlib
import multiprocessing.connection
import os
import socket
import threading
import time

# Addresses of the two machines of a run, on the kernel's side and on the virtual network alike.
SERVER = {4: "10.77.0.1", 6: "fd77::1"}
CLIENT = {4: "10.77.0.2", 6: "fd77::2"}


def reach(path, limit):
    """Waits until the other machine serves and both its addresses answer: what the first packet ever has to wait for (neighbours,
    handshakes) is no part of a program."""
    end = time.monotonic() + limit
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    for address in SERVER.values():
        with contextlib.suppress(OSError):
            socket.create_connection((address, 1), max(0.1, end - time.monotonic())).close()


class Handle:
    """A socket's number among those of a program, in place of the socket itself."""

    def __init__(self, number):
        self.number = number


class Remote:
    """A socket of the other machine. Its methods are those of a socket."""

    def __init__(self, far, number):
        self.far, self.number = far, number

    def __getattr__(self, name):
        return lambda *arguments: self.far.ask("socket", name, Handle(self.number), *arguments)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Far:
    """A program's way to the other machine."""

    def __init__(self, path, family, mode, poller):
        self.path, self.run = path, (os.getpid(), family, mode, poller)
        self.threads = threading.local()

    def trace(self, name, *arguments):
        """A method of the Trace of the other machine."""
        return self.ask("trace", name, *arguments)

    def ask(self, *question):
        if not hasattr(self.threads, "connection"):
            self.threads.connection = multiprocessing.connection.Client(str(self.path))
            self.threads.connection.send(self.run)
        self.threads.connection.send([Handle(w.number) if isinstance(w, Remote) else w for w in question])
        answer = self.threads.connection.recv()
        if isinstance(answer, BaseException):
            raise answer
        return self.near(answer)

    def near(self, value):
        if isinstance(value, Handle):
            return Remote(self, value.number)
        return tuple(self.near(item) for item in value) if isinstance(value, tuple) else value


class Run:
    """What the other machine holds for one program."""

    def __init__(self, trace):
        self.trace, self.users, self.sockets = trace, 0, {}

    def away(self, value):
        if isinstance(value, socket.socket):
            self.sockets[value.fileno()] = value
            return Handle(value.fileno())
        return tuple(self.away(item) for item in value) if isinstance(value, tuple) else value

    def answer(self, kind, name, *arguments):
        arguments = [self.sockets[w.number] if isinstance(w, Handle) else w for w in arguments]
        try:
            if kind == "trace":
                return self.away(getattr(self.trace, name)(*arguments))
            if name == "close":
                self.sockets.pop(arguments[0].fileno(), None)
            return self.away(getattr(arguments[0], name)(*arguments[1:]))
        except Exception as failure:  # the caller's outcome
            return failure


def serve(path, make):
    """Answers programs until the process ends; `make` gives the Trace of a run."""
    runs, lock = {}, threading.Lock()

    def converse(connection):
        run = key = None
        try:
            key = connection.recv()
            with lock:
                run = runs.setdefault(key, None) or Run(make(*key[1:]))
                runs[key] = run
                run.users += 1
            while True:
                connection.send(run.answer(*connection.recv()))
        except (EOFError, OSError):
            pass  # the program, or its thread, has ended
        finally:
            connection.close()
            with lock:
                if run:
                    run.users -= 1
                    if run.users == 0:
                        del runs[key]
                        for s in run.sockets.values():
                            s.close()

    listener = multiprocessing.connection.Listener(str(path), backlog=64)
    while True:
        threading.Thread(target=converse, args=(listener.accept(),), daemon=True).start()
