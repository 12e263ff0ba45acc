// SPDX-License-Identifier: Apache-2.0 OR MIT
//! To whom packets for many go, and what hosts tell each other of their groups, minute by minute.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use netcon_netstack::stack::{
    Cast, Config, DatagramId, DatagramProtocol, Families, Fanout, Limits, Link, LocalAddr,
    Membership, PacketSink, Reception, SendOptions, SourceFilter, Stack,
};

const PORT: u16 = 5000;

/// Packets with their recipients.
#[derive(Default)]
struct Sink(Vec<(Vec<u8>, Option<Fanout>)>);

impl PacketSink for Sink {
    fn has_room(&self) -> bool {
        true
    }

    fn packet(&mut self, len: usize) -> &mut [u8] {
        self.0.push((vec![0; len], None));
        &mut self.0.last_mut().unwrap().0
    }

    fn packet_for(&mut self, len: usize, to: &Fanout) -> &mut [u8] {
        self.0.push((vec![0; len], Some(to.clone())));
        &mut self.0.last_mut().unwrap().0
    }
}

/// What a packet is, for tests: the first byte behind the header of IGMP or MLD, 17 for UDP.
fn kind(packet: &[u8]) -> u8 {
    match (packet[0], packet[9], packet[6]) {
        (0x46, 2, _) => packet[24],
        (0x60, _, 0) => packet[48],
        (0x45, protocol, _) => protocol,
        (_, _, next) => next,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn group(v6: bool) -> IpAddr {
    ip(if v6 { "ff15::5" } else { "239.1.1.1" })
}

fn host(number: u8, v6: bool) -> IpAddr {
    if v6 {
        ip(&format!("fd00::{number}"))
    } else {
        ip(&format!("10.0.0.{number}"))
    }
}

struct Host {
    stack: Stack,
    endpoint: DatagramId,
    number: u8,
}

impl Host {
    fn new(number: u8, now: Instant) -> Self {
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (host(number, false), host(number, true)) else {
            panic!("both families");
        };
        let config = Config {
            mtu: 1420,
            v4: Some((v4, 24)),
            v6: Some((v6, 64)),
            seed: [number; 32],
            limits: Limits::default(),
        };
        let mut stack = Stack::new(config, now);
        let at = LocalAddr {
            ip: None,
            families: Families::Both,
            port: PORT,
        };
        let endpoint = stack.datagram_open(DatagramProtocol::Udp, at);
        let reception = Reception {
            owner: 1,
            ..Reception::default()
        };
        stack.datagram_reception(endpoint, reception);
        Self {
            stack,
            endpoint,
            number,
        }
    }

    fn join(&mut self, now: Instant, groups: &[IpAddr]) {
        let memberships = groups.iter().map(|group| Membership {
            group: *group,
            link: Link::Overlay,
            filter: SourceFilter::any(),
        });
        self.stack.set_memberships(now, 1, memberships.collect());
    }

    fn send(&mut self, now: Instant, to: IpAddr) {
        let options = SendOptions {
            hop_limit: 1,
            ..SendOptions::default()
        };
        let cast = Cast {
            link: Link::Overlay,
            looped: false,
        };
        let from = host(self.number, to.is_ipv6());
        let to = SocketAddr::new(to, PORT);
        self.stack
            .datagram_cast(now, self.endpoint, from, to, b"x", (options, cast))
            .unwrap();
    }

    /// What leaves now.
    fn out(&mut self, now: Instant) -> Vec<(Vec<u8>, Option<Fanout>)> {
        let mut sink = Sink::default();
        while self.stack.poll_transmit(now, &mut sink) {}
        sink.0
    }

    /// What leaves until `end`, its kinds and recipients.
    fn out_until(&mut self, now: &mut Instant, end: Instant) -> Vec<(Vec<u8>, Option<Fanout>)> {
        let mut all = self.out(*now);
        while let Some(at) = self.stack.poll_timeout().filter(|at| *at <= end) {
            *now = at.max(*now);
            self.stack.handle_timeout(*now);
            all.extend(self.out(*now));
        }
        *now = end;
        all
    }

    fn take(&mut self, now: Instant, packets: &[(Vec<u8>, Option<Fanout>)]) {
        for (packet, _) in packets {
            self.stack.handle_packet(now, packet);
        }
    }

    fn received(&mut self) -> usize {
        std::iter::from_fn(|| self.stack.datagram_recv(self.endpoint)).count()
    }
}

fn kinds(packets: &[(Vec<u8>, Option<Fanout>)]) -> Vec<(u8, Fanout)> {
    let of = |(packet, to): &(Vec<u8>, Option<Fanout>)| (kind(packet), to.clone().unwrap());
    packets.iter().map(of).collect()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn start() -> Instant {
    crate::world::World::new(1, crate::world::Link::GOOD).now
}

fn members(hosts: &[IpAddr]) -> Fanout {
    Fanout::Members(hosts.into())
}

#[test]
fn a_sender_asks_then_sends_to_those_that_answer() {
    for v6 in [false, true] {
        let (group, query, report) = (
            group(v6),
            if v6 { 130 } else { 0x11 },
            if v6 { 143 } else { 0x22 },
        );
        let mut now = start();
        let (mut sender, mut member) = (Host::new(1, now), Host::new(2, now));
        member.join(now, &[group]);
        let first = member.out(now);
        assert_eq!(kinds(&first), [(report, Fanout::Everyone)]);
        let quiet = now + seconds(60);
        let again = member.out_until(&mut now, quiet);
        assert_eq!(kinds(&again), [(report, Fanout::Everyone)], "told twice");
        // The reports were lost: the sender knows nobody.
        sender.send(now, group);
        let out = sender.out(now);
        let everyone = |kind| (kind, Fanout::Everyone);
        assert_eq!(kinds(&out), [everyone(query), everyone(17)]);
        member.take(now, &out);
        assert_eq!(member.received(), 1, "the first packet arrives");
        let mut then = now;
        let answer = member.out_until(&mut then, now + seconds(1));
        assert_eq!(kinds(&answer), [(report, members(&[host(1, v6)]))]);
        sender.take(now, &answer);
        now += seconds(2);
        sender.send(now, group);
        assert_eq!(kinds(&sender.out(now)), [everyone(query), everyone(17)]);
        now += seconds(1);
        sender.send(now, group);
        let to_member = (17, members(&[host(2, v6)]));
        assert_eq!(kinds(&sender.out(now)), std::slice::from_ref(&to_member));
        // Another question after 125 seconds; without an answer it is forgotten 260 seconds after the last.
        now += seconds(130);
        sender.send(now, group);
        assert_eq!(
            kinds(&sender.out(now)),
            [everyone(query), to_member.clone()]
        );
        now += seconds(126);
        sender.send(now, group);
        assert_eq!(kinds(&sender.out(now)), [everyone(query), to_member]);
        now += seconds(10);
        sender.send(now, group);
        assert_eq!(kinds(&sender.out(now)), [(17, members(&[]))]);
        // Who has rested begins anew.
        now += seconds(300);
        sender.send(now, group);
        assert_eq!(kinds(&sender.out(now)), [everyone(query), everyone(17)]);
        assert_eq!(sender.stack.poll_timeout(), None, "a sender has no timer");
    }
}

#[test]
fn who_leaves_says_so_without_waking_anybody() {
    let mut now = start();
    let (mut sender, mut member) = (Host::new(1, now), Host::new(2, now));
    let group = group(false);
    sender.send(now, group);
    now += seconds(5);
    member.join(now, &[group]);
    let joined = member.out(now);
    sender.take(now, &joined);
    sender.send(now, group);
    let out = kinds(&sender.out(now));
    assert_eq!(out.last(), Some(&(17, members(&[host(2, false)]))));
    member.join(now, &[]);
    let end = now + seconds(10);
    let left = member.out_until(&mut now, end);
    let awake = (0x22, Fanout::Awake);
    assert_eq!(kinds(&left), [awake.clone(), awake]);
    sender.take(now, &left);
    sender.send(now, group);
    let out = kinds(&sender.out(now));
    assert_eq!(out.last(), Some(&(17, members(&[]))));
    let nothing = member.out_until(&mut now, end + seconds(1000));
    assert_eq!(kinds(&nothing), []);
}

#[test]
fn older_queriers_are_answered_in_their_language() {
    let mut now = start();
    let mut member = Host::new(2, now);
    let group = group(false);
    member.join(now, &[group]);
    let end = now + seconds(5);
    member.out_until(&mut now, end);
    // IGMPv2, about all groups, within ten seconds, from 10.0.0.1.
    let mut query = vec![
        0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0, 0, 10, 0, 0, 1, 224, 0, 0, 1, 0x11, 100, 0xee, 0x9b,
        0, 0, 0, 0,
    ];
    member.stack.handle_packet(now, &query);
    assert!(member.out(now).is_empty(), "after a delay");
    let end = now + seconds(10);
    let answer = member.out_until(&mut now, end);
    assert_eq!(kinds(&answer), [(0x16, members(&[host(1, false)]))]);
    // For 260 seconds what is said is said in it.
    member.join(now, &[]);
    let end = now + seconds(5);
    let left = kinds(&member.out_until(&mut now, end));
    assert_eq!(left[0], (0x17, Fanout::Awake));
    now += seconds(260);
    member.join(now, &[group]);
    assert_eq!(kinds(&member.out(now)), [(0x22, Fanout::Everyone)]);
    // What has come over a router is no question of this link.
    query[8] = 2;
    let end = now + seconds(5);
    member.out_until(&mut now, end);
    member.stack.handle_packet(now, &query);
    assert_eq!(member.stack.poll_timeout(), None);
}

#[test]
fn a_flood_of_questions_and_reports_is_bounded() {
    let mut now = start();
    let (mut one, mut other) = (Host::new(1, now), Host::new(2, now));
    other.join(now, &[group(false)]);
    let end = now + seconds(5);
    other.out_until(&mut now, end);
    one.send(now, group(false));
    let question = one.out(now);
    for _ in 0..10_000 {
        other.take(now, &question[..1]);
    }
    let end = now + seconds(5);
    assert_eq!(other.out_until(&mut now, end).len(), 1, "one answer");
    // A peer with many addresses and groups: the table stays within its bound, and every sender goes on.
    let mut reporter = Host::new(3, now);
    for turn in 0..40_u8 {
        let groups: Vec<_> = (0..250).map(|n| ip(&format!("239.9.{turn}.{n}"))).collect();
        reporter.join(now, &groups);
        for (mut packet, _) in reporter.out(now) {
            for source in 3..8 {
                packet[15] = source;
                packet[10..12].fill(0);
                one.stack.handle_packet(now, &packet);
            }
        }
    }
    now += seconds(4);
    one.send(now, group(false));
    assert_eq!(one.out(now).last().unwrap().1, Some(members(&[])));
}
