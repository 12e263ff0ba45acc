# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Binds every pair of sockets on one port and prints what the second bind and listen gave, one case a line."""

import errno
import itertools
import socket

PLACES = (
    ("0.0.0.0", False),
    ("127.0.0.1", False),
    ("127.0.0.2", False),
    ("::", False),
    ("::", True),
    ("::1", True),
    ("::ffff:127.0.0.1", False),
)
OPTIONS = ((), ("REUSEADDR",), ("REUSEPORT",), ("REUSEADDR", "REUSEPORT"))


def make(kind, place, options):
    address, v6only = place
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    if ":" in address:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    for option in options:
        s.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_" + option), 1)
    return s


def attempt(action):
    try:
        action()
        return "ok"
    except OSError as failure:
        return errno.errorcode[failure.errno]


def case(kind, first, second, first_options, second_options, listens):
    with make(kind, first, first_options) as one, make(kind, second, second_options) as two:
        one.bind((first[0], 0))
        if listens:
            one.listen(1)
        port = one.getsockname()[1]
        result = attempt(lambda: two.bind((second[0], port)))
        if result == "ok" and kind == socket.SOCK_STREAM:
            result += "/" + attempt(lambda: two.listen(1))
        return result


def name(place):
    return place[0] + ("(v6only)" if place[1] else "")


def main():
    for kind, label in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
        for first, second in itertools.product(PLACES, PLACES):
            for before, after in itertools.product(OPTIONS, OPTIONS):
                for listens in (False, True) if label == "tcp" else (False,):
                    result = case(kind, first, second, before, after, listens)
                    words = (label, name(first), "+".join(before) or "-", "listening" if listens else "bound")
                    print(*words, "then", name(second), "+".join(after) or "-", "->", result)


if __name__ == "__main__":
    main()
