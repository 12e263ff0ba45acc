# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The control API of a running supervisor, with live programs."""

import json

from harness import contains, equal, eventually, test
from harness.agent import listening

ASK = (
    "import http.client,sys\n"
    "c=http.client.HTTPConnection(sys.argv[1],int(sys.argv[2]),timeout=10)\n"
    "c.request(sys.argv[3],sys.argv[4],sys.stdin.read() or None,{'content-type':'application/json'})\n"
    "a=c.getresponse()\nprint(a.status)\nprint(a.read().decode())\n"
)


def ask(side, method, path, body=None, address="127.0.0.1"):
    """Status and JSON of one request over loopback."""
    argv = ["/usr/bin/python3", "-c", ASK, address, side.udp_port, method, path]
    said = side.context.run(argv, input=json.dumps(body).encode() if body is not None else b"").ok().text
    status, answer = said.split("\n", 1)
    return int(status), json.loads(answer)


def change(side, path, body):
    """A PATCH that succeeds."""
    status, answer = ask(side, "PATCH", path, body)
    equal(status, 200, "PATCH %s %s: %s" % (path, body, answer))
    return answer


@test("control-loopbacks")
def loopbacks(w):
    """The API answers on both loopbacks and describes itself."""
    for address in ("127.0.0.1", "::1"):
        status, networks = ask(w.a, "GET", "/networks", address=address)
        equal((status, [network["name"] for network in networks]), (200, ["demo"]), address)
    status, document = ask(w.a, "GET", "/openapi.json")
    equal((status, document["openapi"]), (200, "3.1.0"), "the OpenAPI document")


@test("control-log")
def log(w):
    """What is logged changes while the supervisor runs, and back."""
    at_start, before = ask(w.a, "GET", "/log")[1], len(w.a.supervisor.output())
    change(w.a, "/log", {"filter": "debug"})
    w.a.run("/usr/bin/python3", "-c", "import socket;socket.socket()").ok()
    eventually(lambda: "DEBUG container ended" in w.a.supervisor.output()[before:], 5, "a line that is not logged usually")
    equal(ask(w.a, "PATCH", "/log", {"filter": "a=b=c"})[0], 400, "what is no filter")
    change(w.a, "/log", {"filter": None})
    equal(ask(w.a, "GET", "/log")[1], at_start, "the filter of the start")


@test("control-change")
def changed(w):
    """Name, MTU, addresses and peers change while a connection goes on."""
    with listening(w, 4) as (server, client, address, port):
        client.do("s=connected(%r,%d)" % (address, port))
        server.do("c=l.accept()[0]")

        def talks(what):
            client.do("s.sendall(b'x'*20000)")
            equal(server.do("len(c.recv(20000,socket.MSG_WAITALL))"), 20000, "after " + what)

        talks("nothing")
        key = ask(w.b, "GET", "/networks/demo/peers")[1][0]["publicKey"]
        for body in ({"mtu": 1300}, {"mtu": None}, {"name": "renamed"}, {"name": "demo"}):
            before = ask(w.b, "GET", "/networks")[1][0]
            after = change(w.b, "/networks/" + before["id"], body)
            equal(after["id"], before["id"], "the id")
            talks(str(body))
        peer = "/networks/demo/peers/" + key.replace("/", "%2F")
        before = ask(w.b, "GET", peer)[1]
        for body in ({"persistentKeepalive": 7}, {"name": "hub"}, {"name": before["name"]}):
            change(w.b, peer, body)
            talks(str(body))
        change(w.b, peer, {"persistentKeepalive": before["persistentKeepalive"]})
        after = ask(w.b, "GET", peer)[1]
        equal(after["lastHandshake"], before["lastHandshake"], "the session went on")
        client.do("s.settimeout(3)")
        # Prefixes that no longer lead to it: as an address without a route.
        change(w.b, peer, {"allowedIps": ["10.99.0.0/24"]})
        equal(client.errno("connected(%r,%d)" % (address, port)), "ENETUNREACH", "an address that no peer has")
        change(w.b, peer, {"allowedIps": before["allowedIps"]})
        talks("allowed IPs came back")
    own = ask(w.b, "GET", "/networks/demo")[1]["assignedAddresses"]
    moved = [own[0].replace(w.b.addresses[4], "10.77.0.200"), own[1]]
    change(w.b, "/networks/demo", {"addresses": moved})
    shown = w.b.run("/usr/bin/python3", "-c", "import socket;s=socket.socket();s.bind(('10.77.0.200',0));print(s.getsockname()[0])")
    contains(shown.text, "10.77.0.200", "the new address: " + shown.errors)
    gone = w.b.run("/usr/bin/python3", "-c", "import socket;socket.socket().bind((%r,0))" % w.b.addresses[4])
    contains(gone.errors, "Cannot assign requested address", "the old address")
    change(w.b, "/networks/demo", {"addresses": own})
    with listening(w, 4) as (server, client, address, port):
        client.do("s=connected(%r,%d)" % (address, port))
