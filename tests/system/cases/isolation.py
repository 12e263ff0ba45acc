# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What must not be reachable: other networks, the host from inside, the network from the host."""

import socket
import subprocess

from harness import equal, test, true
from harness.agent import agents


def host_listener(address="127.0.0.1"):
    """A listener of the host itself."""
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.bind((address, 0))
    s.listen(5)
    s.settimeout(0.3)
    return s


def untouched(s):
    """Fails when anybody has connected to a host's listener."""
    try:
        _, peer = s.accept()
    except socket.timeout:
        return
    true(False, "a program of the network reached the host's listener from %s" % (peer,))


@test("private-loopback", both=True)
def private_loopback(w, family):
    """The host's loopback is unreachable from inside; its ports are free there; both sides have loopbacks of their own."""
    address = {4: "127.0.0.1", 6: "::1"}[family]
    with host_listener(address) as host, agents(w.a, w.b) as (one, two):
        number = host.getsockname()[1]
        equal(one.errno("connected(%r,%d)" % (address, number)), "ECONNREFUSED", "the host's listener from inside")
        with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM) as heard:
            heard.bind((address, 0))
            heard.settimeout(0.3)
            one.do("u=datagram(%r).sendto(b'x',(%r,%d))" % (address, address, heard.getsockname()[1]))
            try:
                true(False, "a datagram from inside reached the host: %r" % (heard.recvfrom(10),))
            except socket.timeout:
                pass
        one.do("l=listener(%r,5,%d)" % (address, number))
        equal(two.errno("connected(%r,%d)" % (address, number)), "ECONNREFUSED", "the other side's loopback")
        one.do("c=connected(%r,%d)" % (address, number))
        untouched(host)


@test("host-addresses", needs=("ip",))
def host_addresses(w):
    """The host's own addresses are not part of the network."""
    text = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=False).stdout
    addresses = [line.split()[3].split("/")[0] for line in text.splitlines() if " lo " not in line]
    with agents(w.a) as (agent,):
        for address in addresses:
            with host_listener(address) as host:
                got = agent.errno("connected(%r,%d)" % (address, host.getsockname()[1]))
                equal(got, "ENETUNREACH", "the host's %s" % address)
                untouched(host)


@test("invisible", both=True)
def invisible(w, family):
    """From the host the network's addresses answer nobody, and its listeners are in no table of the host's."""
    address = w.a.addresses[family]
    with agents(w.a) as (agent,):
        agent.do("l=listener(%r,5,8088);m=listener(%r,5,8089)" % (address, {4: "127.0.0.1", 6: "::1"}[family]))
        for target, port in ((address, 8088), ({4: "127.0.0.1", 6: "::1"}[family], 8089)):
            with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET) as s:
                s.settimeout(1)
                s.connect_ex((target, port))  # may even succeed, with a proxy in the host's way
                listener = "l" if port == 8088 else "m"
                equal(agent.do("events(%s,200)" % listener), "0", "connections from the host to %s port %d" % (target, port))
        for table in ("tcp", "tcp6", "udp", "udp6"):
            text = open("/proc/net/" + table).read()
            true(":1F98 " not in text and ":1F99 " not in text, "port 8088 or 8089 shows in /proc/net/" + table)
        own = open("/proc/net/fib_trie").read() + open("/proc/net/if_inet6").read()
        true("10.77.0." not in own and "fd77" not in own, "an address of the network shows on the host")


@test("two-networks", both=True)
def two_networks(w, family):
    """Two networks on one supervisor share nothing: addresses, ports, loopback."""
    w.a.netcon("network", "create", "other", "--address", "10.78.0.1/24", "--address", "fd78::1/64").ok()
    mine, theirs = w.a.addresses[family], {4: "10.78.0.1", 6: "fd78::1"}[family]
    loopback = {4: "127.0.0.1", 6: "::1"}[family]
    one, two = w.a.agent(), w.a.agent(network="other")
    try:
        for address in (theirs, loopback):
            two.do("l=listener(%r)" % address)
            number = two.do("port(l)")
            got = one.errno("connected(%r,%d)" % (address, number))
            true(got in ("ENETUNREACH", "ECONNREFUSED"), "%s of the other network: %s" % (address, got))
            one.do("m=listener(%r,5,%d)" % (mine if address == theirs else loopback, number))
        got = two.errno("connected(%r,%d)" % (mine, one.do("port(m)")))
        true(got in ("ENETUNREACH", "ECONNREFUSED"), "the other way: %s" % got)
        equal(two.errno("listener(%r)" % mine), "EADDRNOTAVAIL", "an address of the other network")
        # A socket that was handed over belongs to the network it was made on.
        path = str(w.context.home / ("networks%d" % family))
        one.do("u=socket.socket(socket.AF_UNIX);u.bind(%r);u.listen(1)" % path)
        two.do("u=socket.socket(socket.AF_UNIX);u.connect(%r)" % path)
        one.do("v,_=u.accept();f=stream(%r);socket.send_fds(v,[b'x'],[f.fileno()])" % mine)
        two.do("f=socket.socket(fileno=socket.recv_fds(u,1,1)[1][0]);k=listener(%r)" % theirs)
        got = two.errno("f.connect((%r,port(k)))" % theirs)
        true(not got.startswith("none"), "a socket of one network connects on the other")
    finally:
        one.close()
        two.close()
        w.a.netcon("network", "delete", "other").ok()


@test("wire-encrypted", world="own", timeout=60)
def encrypted(w):
    """Between the supervisors runs WireGuard's protocol; none of the programs' bytes can be read there."""
    secret = b"plain text that nobody on the way may read"
    with agents(w.a, w.b) as (server, client):
        for family in (4, 6):
            server.do("l=listener(%r)" % w.a.addresses[family])
            client.do("c=connected(%r,%d);c.sendall(%r*50)" % (w.a.addresses[family], server.do("port(l)"), secret))
            server.do("s,p=l.accept();d=receive(s,%d);s.sendall(d)" % (len(secret) * 50))
            equal(client.do("receive(c,%d)==%r*50" % (len(secret) * 50, secret)), True, "the echo")
    seen = w.relay.seen
    true(len(seen) > 10, "datagrams on the way: %d" % len(seen))
    equal([d[:1] for d in seen if secret[:12] in d or secret[6:20] in d], [], "datagrams with plain text")
    kinds = {d[:4] for d in seen}
    equal(kinds <= {bytes([k, 0, 0, 0]) for k in (1, 2, 3, 4)}, True, "message kinds %s" % kinds)
    true(b"\1\0\0\0" in kinds and b"\2\0\0\0" in kinds and b"\4\0\0\0" in kinds, "handshake and data: %s" % kinds)
