# SPDX-License-Identifier: Apache-2.0 OR MIT
"""many.py to PORT ADDRESS… | from SERVER@PORT SERVER@PORT ADDRESS…: a connection each to an echo server, at once.

`to` connects to each address; `from` connects from each address to the server of its family. 20,000 bytes each, compared.
"""

import os
import socket
import sys
import threading

failures = []


def one(target, source):
    try:
        s = socket.create_connection(target, timeout=60, source_address=source)
        data, got = os.urandom(20_000), b""
        s.sendall(data)
        while len(got) < len(data):
            block = s.recv(65536)
            if not block:
                raise OSError("the connection ended")
            got += block
        if got != data:
            raise OSError("other bytes came back")
        s.close()
    except OSError as error:
        failures.append("%s from %s: %s" % (target[0], source, error))


def main():
    if sys.argv[1] == "to":
        pairs = [((address, int(sys.argv[2])), None) for address in sys.argv[3:]]
    else:
        servers = {(":" in a): (a, int(p)) for a, p in (text.rsplit("@", 1) for text in sys.argv[2:4])}
        pairs = [(servers[":" in address], (address, 0)) for address in sys.argv[4:]]
    threads = [threading.Thread(target=one, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit("%d of %d failed, %s" % (len(failures), len(pairs), "; ".join(failures[:3])))
    print("%d connections" % len(pairs), flush=True)


if __name__ == "__main__":
    main()
