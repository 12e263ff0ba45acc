# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The rows: what our supervisor and a standard endpoint do together. `way` says who initiates: `out` we, `in` they."""

import json
import signal
import time

from cell import INNER, OUR_PORT, OUTER, PEER_PORT, STRANGERS, Cell
from harness import eventually, shorten, true

ROWS = []
REKEY_AFTER = 120  # seconds, whitepaper 6.1
ATTEMPT = 5  # seconds between two attempts of a handshake


class Row:
    """`function(cell, options)`. `when`: `first` takes very long, `alone` would disturb others."""

    def __init__(self, name, function, outer, short, when):
        self.name, self.function, self.outer, self.short, self.when = name, function, outer, short, when


def row(name, outer=4, short=True, when="together"):
    def register(function):
        ROWS.append(Row(name, function, outer, short, when))
        return function

    return register


def each_way(name, outers=(4, 6), **more):
    """A row for each side as the initiator, IPv4 and IPv6 outside; the function gets the way as well."""

    def register(function):
        for way, outer in ((way, outer) for way in ("out", "in") for outer in outers):
            full = "%s/%s%s" % (name, {"out": "we", "in": "they"}[way], "" if len(outers) == 1 else "/v%d" % outer)
            ROWS.append(Row(full, lambda cell, options, w=way: function(cell, options, w), outer, **{"short": True, "when": "together", **more}))
        return function

    return register


def meet(cell, way, psk=None):
    """Both sides up; only the one that is to initiate knows where the other is."""
    cell.run_supervisor()
    cell.join(cell.their_endpoint() if way == "out" else None, psk)
    cell.run_peer(cell.our_endpoint() if way == "in" else None, psk)


def initiators(cell, after=0.0):
    """Who sent the initiations that were answered."""
    answered = {m.payload[8:12] for m in cell.capture.between(2, after=after)}
    return {m.source for m in cell.capture.between(1, after=after) if m.payload[4:8] in answered}


SIDE = {"out": "us", "in": "them"}


@each_way("handshake")
def handshake(cell, options, way):
    """A first handshake, then data inside both families, then the other way through the same session."""
    meet(cell, way)
    cell.talk(way)
    cell.talk("in" if way == "out" else "out")
    true(initiators(cell) == {SIDE[way]}, "initiated by %s" % initiators(cell))
    true(len(cell.capture.between(1)) == 1, "%d initiations" % len(cell.capture.between(1)))
    true(cell.our_peer()["lastHandshake"], "our side tells of no handshake")
    true(not cell.capture.between(0) and not cell.capture.between(-1), "something on the wire that is not WireGuard")


@each_way("rekey", outers=(4, 6), short=False)
def rekey(cell, options, way):
    """Data for 135 s in both families inside: the initiator renews the session, and nothing waits for it."""
    meet(cell, way)
    flows = [cell.flow(way, family, 135) for family in (4, 6)]
    for flow in flows:
        cell.flowed(flow, 2.0, 180)
    times = [m.time for m in cell.capture.between(1, SIDE[way])]
    true(len(times) >= 2 and 118 <= times[1] - times[0] <= 128, "initiations at %s" % [round(t - times[0], 1) for t in times])
    true(initiators(cell) == {SIDE[way]}, "initiated by %s" % initiators(cell))


@each_way("idle", outers=(4,), short=False, when="first")
def idle(cell, options, way):
    """A connection that is quiet for half an hour goes on; meanwhile we send nothing of our own accord."""
    meet(cell, way)
    begin = time.time()
    flow = cell.client(way, "quiet.py", *cell.server(way, 4), options.idle, 30)
    true(flow.wait(options.idle + 60) == 0, "after the silence: " + shorten(flow.output()))
    silence = [m for m in cell.capture.messages() if begin + 30 < m.time < begin + options.idle - 1]
    # Nobody has a reason to speak; when boringtun renews a session all the same, we answer.
    ours = [m for m in silence if m.source == "us" and m.kind != 2]
    true(not ours, "we sent %d datagrams during the silence, type %d first" % (len(ours), ours[0].kind if ours else 0))
    cell.talk(way)


@each_way("restart-peer", outers=(4,))
def restart_peer(cell, options, way):
    """The peer's program dies and comes back without its sessions: a running connection goes on."""
    meet(cell, way)
    flow = cell.flow(way, 4, 12, 90)
    time.sleep(4)
    cell.kill_peer()
    restarted = time.time()
    cell.run_peer(cell.our_endpoint() if way == "in" else None)
    speak_up(cell, way)
    # We notice after 15 s without an answer; TCP's own retransmission may add as much again.
    longest = cell.flowed(flow, 45 if way == "out" else 20, 120)
    true(SIDE[way] in initiators(cell, restarted), "no new handshake; the flow waited %.1f s" % longest)
    cell.talk(way)


def speak_up(cell, way):
    """Has the initiator send something: in a running exchange it may be the other side's turn."""
    cell.client(way, "exchange.py", *cell.server(way, 6), 10, 60)


@each_way("restart-us", outers=(4,))
def restart_us(cell, options, way):
    """Our supervisor dies and comes back (twice in the full set): new programs talk again; the peer accepts the new timestamps."""
    meet(cell, way)
    cell.talk(way, families=(4,))
    for _ in range(1 if options.short else 2):
        restarted = time.time()
        cell.restart_supervisor()
        # They learn of it after 15 s without an answer.
        cell.talk(way, families=(4,), size=10_000, timeout=30)
        true(SIDE[way] in initiators(cell, restarted), "no new handshake after a restart")
    cell.talk(way)


@row("restart-us-clock-behind")
def clock_behind(cell, options):
    """Our supervisor comes back with a clock that is an hour behind: our timestamps must not go back (TAI64N, persisted)."""
    meet(cell, "out")
    cell.talk("out", families=(4,), size=10_000)
    library = cell.context.compile("skew.c", "-shared", "-fPIC", name="skew.so")
    cell.restart_supervisor({"LD_PRELOAD": str(library), "SKEW": "-3600"}, signal.SIGTERM)
    cell.talk("out", families=(4,), size=10_000, timeout=30)


@each_way("roam-peer", outers=(4, 6))
def roam_peer(cell, options, way):
    """The peer moves to another port while data flows: we follow it."""
    meet(cell, way)
    flow = cell.flow("in", 4, 10) if way == "in" else cell.flow("out", 4, 10)
    time.sleep(3)
    cell.wg_set("listen-port", PEER_PORT + 100)
    # One side has to speak from the new port: the peer does when it has something to send.
    moved = cell.client("in", "exchange.py", *cell.server("in", 6), 1000, 30)
    true(moved.wait(40) == 0, "from the new port: " + shorten(moved.output()))
    eventually(lambda: cell.our_peer()["endpoint"].endswith(":%d" % (PEER_PORT + 100)), 10, "our endpoint of the peer follows")
    cell.flowed(flow, 8, 60)


@row("roam-us")
def roam_us(cell, options):
    """A NAT gives us another port while data flows, three times: the peer follows, and no new handshake is needed."""
    cell.run_supervisor()
    relay, endpoint = cell.relay("both delay=1ms")
    cell.join(endpoint)
    cell.run_peer()
    flow = cell.flow("out", 4, 12)
    ports = set()
    for _ in range(3):
        time.sleep(3)
        ports.add(cell.wg("endpoints"))
        relay.tell("rebind")
    cell.flowed(flow, 8, 60)
    ports.add(cell.wg("endpoints"))
    true(len(ports) == 4, "endpoints that the peer saw: %s" % ports)
    true(len(cell.capture.between(1)) == 1, "%d initiations" % len(cell.capture.between(1)))


@row("cookie-theirs", when="alone")
def cookie_theirs(cell, options):
    """The peer is flooded with handshakes: it asks us for a cookie, and we come back with one (mac2)."""
    cell.run_supervisor()
    cell.join(cell.their_endpoint())
    cell.run_peer()
    flood = flood_from(cell, "us", OUTER[4][1], PEER_PORT, cell.their_key[1], options.flood, 25)
    cell.talk("out", families=(4,), size=10_000, timeout=30)
    cookies = cell.capture.between(3, "them", "us")
    true(cookies, "the peer asked for no cookie")
    with_mac2 = [m for m in cell.capture.between(1, "us", "them") if m.mac2]
    true(with_mac2, "we sent no mac2 after a cookie")
    flood.stop()


@row("cookie-ours", when="alone")
def cookie_ours(cell, options):
    """We are flooded with handshakes: we ask the peer for a cookie, and it comes back with one (mac2)."""
    cell.run_supervisor()
    cell.join()
    cell.run_peer(cell.our_endpoint())
    flood = flood_from(cell, "them", OUTER[4][0], OUR_PORT, cell.our_key[1], options.flood, 25)
    cell.talk("in", families=(4,), size=10_000, timeout=30)
    true(cell.capture.between(3, "us", "them"), "we asked the peer for no cookie")
    true([m for m in cell.capture.between(1, "them", "us") if m.mac2], "the peer sent no mac2 after our cookie")
    flood.stop()
    true("types [3]" in flood.output(), "the one who floods got something other than cookies: " + flood.output())


def flood_from(cell, side, address, port, key, rate, seconds):
    """Somebody else on that side's machine sends initiations; returns once the flood is on."""
    start = cell.start_on_host if side == "us" else cell.start
    script = cell.context.programs / "flood.py"
    flood = start("/usr/bin/python3", script, STRANGERS[side], address, port, key, rate, seconds, name="flood")
    eventually(lambda: "flooding" in flood.output() or not flood.alive(), 10, "the flood")
    true(flood.alive(), "the flood: " + shorten(flood.output()))
    time.sleep(1.5)  # a queue has to fill
    return flood


@each_way("psk", outers=(4,))
def psk_right(cell, options, way):
    """Both sides have the same preshared key."""
    meet(cell, way, cell.psk())
    cell.talk(way)


@each_way("psk-wrong", outers=(4,))
def psk_wrong(cell, options, way):
    """Different preshared keys: nothing gets through, until both have the same."""
    right = cell.psk()
    cell.run_supervisor()
    cell.join(cell.their_endpoint() if way == "out" else None, right)
    cell.run_peer(cell.our_endpoint() if way == "in" else None, cell.psk())
    cell.no_talk(way, 2 * ATTEMPT + 2)
    true(not cell.our_peer()["lastHandshake"] and not cell.their_handshake(), "a handshake with different keys")
    cell.change_psk(right, cell.our_endpoint() if way == "in" else None)
    cell.talk(way, families=(4,), size=10_000, timeout=30)


@each_way("psk-changed", outers=(4,))
def psk_changed(cell, options, way):
    """The preshared key changes on both sides while data flows: the session goes on, the next handshake has the new key.

    In the full set that is the renewal after two minutes, in the short set one after the peer's program has come back.
    """
    meet(cell, way, cell.psk())
    flow = cell.flow(way, 4, 12 if options.short else 135, 60)
    time.sleep(3)
    new = cell.psk()
    theirs = cell.our_endpoint() if way == "in" else None
    cell.change_psk(new, theirs)
    ours = "/networks/demo/peers/" + cell.their_key[1].replace("+", "-").replace("/", "_")
    request(cell, "PATCH", ours, {"presharedKey": new})
    changed = time.time()
    time.sleep(3)
    true(flow.alive(), "the session ended with the change: " + shorten(flow.output()))
    kept = not cell.kind.boringtun
    if kept:
        true(len(cell.capture.between(1)) == 1, "a handshake because of the change")
    if options.short:
        cell.kill_peer()
        cell.run_peer(theirs, new)
        speak_up(cell, way)
    # We notice a peer without its session after 15 s; TCP may add as much again.
    cell.flowed(flow, 2 if kept and not options.short else 45, 200)
    true(cell.capture.between(2, after=changed), "no handshake with the new key")
    cell.talk(way)


def request(cell, method, path, body):
    """A request to our control API, as the user whose supervisor it is."""
    command = ["curl", "-sS", "--fail-with-body", "--unix-socket", cell.us.socket, "-X", method, "-H", "Content-Type: application/json"]
    command += ["-d", json.dumps(body), "http://localhost" + path]
    cell.context.run([*cell.us.prefix, *command], privileged=True).ok()


@row("hundred-peers", when="alone")
def hundred_peers(cell, options):
    """Many peers at once (a hundred; twenty in the short set), each with its own keys and addresses: all talk both ways."""
    count = 20 if options.short else 100
    cell.run_supervisor()
    keys = [cell.keys() for _ in range(count)]
    inner = [("10.77.0.%d" % (n + 10), "fd77::%x" % (n + 0x1000)) for n in range(count)]
    endpoint = lambda n: cell.their_endpoint(PEER_PORT + n) if n % 2 == 0 else None  # noqa: E731
    cell.join(peers=[(keys[n][1], endpoint(n), None, "%s/32, %s/128" % inner[n]) for n in range(count)])
    for n in range(count):
        device = "wg%d" % (n + 100)
        cell.run_peer(None if n % 2 == 0 else cell.our_endpoint(), None, device, PEER_PORT + n, keys[n], None, inner[n])
        for family, address in zip(("-4", "-6"), inner[n]):
            cell.command("ip", family, "rule", "add", "from", address, "table", 1000 + n).ok()
            cell.command("ip", family, "route", "add", "default", "dev", device, "table", 1000 + n).ok()
    program = cell.context.compile("echo.c")
    # Of the even ones we know where they are and begin; the odd ones begin.
    theirs = cell.start(program, "threads", "::", "0", name="echo")
    ours = {f: cell.start_with_us(program, "threads", INNER[f][0], "0") for f in (4, 6)}
    even = [address for n in range(0, count, 2) for address in inner[n]]
    odd = [address for n in range(1, count, 2) for address in inner[n]]
    many = cell.context.programs / "many.py"
    script = ["/usr/bin/python3", many]
    out = cell.start_with_us(*script, "to", theirs.port(), *even)
    true(out.wait(120) == 0, "we to them: " + shorten(out.output()))
    back = cell.start(*script, "from", "%s@%d" % (INNER[4][0], ours[4].port()), "%s@%d" % (INNER[6][0], ours[6].port()), *odd, name="many")
    true(back.wait(120) == 0, "they to us: " + shorten(back.output()))
    met = [peer for peer in cell.our_peers() if peer["lastHandshake"]]
    true(len(met) == count, "handshakes with %d of %d" % (len(met), count))


@row("wrong-key-of-theirs")
def wrong_key_of_theirs(cell, options):
    """We have a wrong public key for them: they answer nothing."""
    cell.run_supervisor()
    cell.join(cell.their_endpoint(), public_key=cell.keys()[1])
    cell.run_peer()
    cell.no_talk("out", 2 * ATTEMPT + 1)
    silent(cell, "them", "us")


@row("wrong-key-of-ours")
def wrong_key_of_ours(cell, options):
    """They have a wrong public key for us: we answer nothing."""
    cell.run_supervisor()
    cell.join()
    cell.run_peer(cell.our_endpoint(), public_key=cell.keys()[1])
    cell.no_talk("in", 2 * ATTEMPT + 1)
    silent(cell, "us", "them")


@row("unknown-peer")
def unknown_peer(cell, options):
    """They know our key and we do not know theirs; then random bytes in the form of every message: we answer nothing."""
    cell.run_supervisor()
    cell.join(public_key=cell.keys()[1])
    cell.run_peer(cell.our_endpoint())
    cell.no_talk("in", 2 * ATTEMPT + 1)
    silent(cell, "us", "them")
    script = cell.context.programs / "flood.py"
    for family in (4, 6):
        flood = cell.start("/usr/bin/python3", script, OUTER[family][1], OUTER[family][0], OUR_PORT, "garbage", 200, 2)
        true(flood.wait(20) == 0 and " 0 answered" in flood.output(), "garbage: " + flood.output())
    true(not cell.capture.between(source="us"), "we answered garbage")
    true(cell.complaint() is None, str(cell.complaint()))


def silent(cell, side, other):
    """The other tried; this side has sent nothing at all, not even ICMP."""
    true(len(cell.capture.between(1, other)) >= 2, "%d initiations of the other side" % len(cell.capture.between(1, other)))
    said = cell.capture.between(source=side)
    true(not said, "%d datagrams in answer, type %d first" % (len(said), said[0].kind if said else 0))


@each_way("loss", outers=(4, 6))
def loss(cell, options, way):
    """10 % of the datagrams are lost each way: handshakes and data get through."""
    cell.run_supervisor()
    relay, endpoint = cell.relay("both loss=10%")
    # Through the relay only we can begin; with way `in` the data does.
    cell.join(endpoint)
    cell.run_peer()
    if way == "in":
        cell.talk("out", families=(4,), size=100, timeout=60)
    cell.talk(way, size=20_000, timeout=100)
    counts = relay.counts()
    true(counts["up"]["lost"] + counts["down"]["lost"] > 0, "nothing was lost: %s" % counts)


@each_way("narrow", outers=(4, 6))
def narrow(cell, options, way):
    """The cable carries 1400 bytes, then 1290: connections on it adapt, and what cannot be smaller is fragmented.

    wireguard-go of 2023 loses each batch whose datagrams would need fragments; its host's TCP then sends single packets, seconds
    apart. So little is sent, and much time given.
    """
    meet(cell, way)
    for mtu in (1400, 1290):
        for run in (cell.host_command, cell.command):
            run("ip", "link", "set", "cable", "mtu", mtu).ok()
        for to in (way, "in" if way == "out" else "out"):
            cell.talk(to, size=30_000, timeout=100)
    true("the path to a peer is narrow" in cell.us.supervisor.output(), "the supervisor has not noticed")
