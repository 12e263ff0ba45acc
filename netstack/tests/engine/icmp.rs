// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Echo and raw endpoints: who hears what, what is written, what is refused.
use crate::world::{A, B, Link, World, at, summed, v4, v6};
use netcon_netstack::stack::{
    DatagramId, DatagramProtocol, Event, Failure, Families, IcmpFilter, LocalAddr, SendError,
    SendOptions,
};
use std::net::IpAddr;
use std::time::Duration;

fn echo(ip: IpAddr, sequence: u8, size: usize) -> Vec<u8> {
    let kind = if ip.is_ipv4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0, 0xaa, 0xbb, 0, sequence];
    message.resize(8 + size, 0x5a);
    message
}

fn open(
    world: &mut World,
    host: usize,
    protocol: DatagramProtocol,
    v4: bool,
    port: u16,
) -> DatagramId {
    let families = if v4 { Families::V4 } else { Families::V6 };
    world.hosts[host].datagram_open(
        protocol,
        LocalAddr {
            ip: None,
            families,
            port,
        },
    )
}

fn send(
    world: &mut World,
    id: DatagramId,
    to: IpAddr,
    message: &[u8],
    options: SendOptions,
) -> Result<(), SendError> {
    let from = world.hosts[A].route(to).map_err(|_| SendError::NoRoute)?;
    let sent = world.hosts[A].datagram_send(world.now, id, from, at(to, 0), message, options);
    sent.map(|_| ())
}

/// A reply has the identifier of its endpoint, a right checksum, the request's class and a hop limit of its own; over the
/// network, between own addresses and over loopback; in one packet and in fragments.
#[test]
fn echo_endpoints_hear_their_replies() {
    let loopback: [IpAddr; 2] = [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
    for to in [v4(B), v6(B), v4(A), v6(A), loopback[0], loopback[1]] {
        for size in [0, 5, 4_000, 60_000] {
            let mut world = World::new(1, Link::GOOD);
            let other = open(&mut world, A, DatagramProtocol::Echo, to.is_ipv4(), 8);
            let id = open(&mut world, A, DatagramProtocol::Echo, to.is_ipv4(), 7);
            let options = SendOptions {
                hop_limit: 3,
                traffic_class: 0x28,
                ..SendOptions::default()
            };
            send(&mut world, id, to, &echo(to, 1, size), options).unwrap();
            world.run_for(Duration::from_millis(100));
            let reply = world.hosts[A].datagram_recv(id).unwrap();
            assert_eq!((reply.from, reply.to.port()), (at(to, 0), 7), "{to} {size}");
            assert_eq!(
                (reply.hop_limit, reply.traffic_class),
                (64, 0x28),
                "{to} {size}"
            );
            let kind = if to.is_ipv4() { 0 } else { 129 };
            assert_eq!(reply.payload[..2], [kind, 0]);
            assert_eq!(reply.payload[4..8], [0, 7, 0, 1]);
            assert_eq!(reply.payload[8..], echo(to, 1, size)[8..]);
            assert_eq!(world.hosts[A].datagram_recv(id), None, "one reply");
            assert_eq!(
                world.hosts[A].datagram_recv(other),
                None,
                "another identifier"
            );
        }
    }
}

/// Raw endpoints hear requests, replies and errors, of their family, as far as their filter, address and peer allow.
#[test]
fn raw_endpoints_hear_all_and_the_stack_answers_beside_them() {
    for to in [v4(B), v6(B)] {
        let mut world = World::new(2, Link::GOOD);
        let family = to.is_ipv4();
        let sender = open(&mut world, A, DatagramProtocol::Icmp, family, 1);
        let foreign = open(&mut world, A, DatagramProtocol::Icmp, !family, 1);
        let deaf = open(&mut world, A, DatagramProtocol::Icmp, family, 1);
        world.hosts[A].datagram_filter(deaf, IcmpFilter([u32::MAX; 8]));
        let elsewhere = open(&mut world, A, DatagramProtocol::Icmp, family, 1);
        let third = if family {
            [10, 0, 0, 9].into()
        } else {
            "fd00::9".parse().unwrap()
        };
        world.hosts[A].datagram_connect(elsewhere, Some(at(third, 0)));
        let hearer = open(&mut world, B, DatagramProtocol::Icmp, family, 1);
        assert_eq!(world.hosts[A].raw_endpoints(), 4);
        let mut message = echo(to, 9, 20);
        if family {
            // IPv4's checksum is the caller's: through a packet of the helper.
            let mut packet = vec![0x45; 20];
            packet.extend_from_slice(&message);
            message = summed(packet)[20..].to_vec();
        }
        send(&mut world, sender, to, &message, SendOptions::default()).unwrap();
        world.run_for(Duration::from_millis(50));
        let request = world.hosts[B].datagram_recv(hearer).unwrap();
        let reply = world.hosts[A].datagram_recv(sender).unwrap();
        let header = if family { 20 } else { 0 };
        assert_eq!(
            request.payload[header..][4..],
            message[4..],
            "the request as it was sent"
        );
        assert_eq!((reply.from, reply.payload.len()), (at(to, 0), header + 28));
        assert_eq!(reply.payload[header], if family { 0 } else { 129 });
        for id in [foreign, deaf, elsewhere] {
            assert_eq!(world.hosts[A].datagram_recv(id), None);
        }
        // Nobody answers to a message whose checksum is wrong.
        let options = SendOptions {
            checksum_at: None,
            ..SendOptions::default()
        };
        message[2..4].copy_from_slice(&[1, 1]);
        send(&mut world, sender, to, &message, options).unwrap();
        world.run_for(Duration::from_millis(50));
        assert_eq!(world.hosts[A].datagram_recv(sender), None);
        assert_eq!(
            world.hosts[B].datagram_recv(hearer).is_some(),
            family,
            "raw(7)"
        );
        world.hosts[A].datagram_close(sender);
        assert_eq!(world.hosts[A].raw_endpoints(), 3);
    }
}

/// No header makes a packet come from somebody else, or of another protocol.
#[test]
fn written_headers_are_completed_and_checked() {
    let header = |src: [u8; 4], dst: [u8; 4], protocol: u8| {
        let mut packet = vec![0x45, 0x20, 9, 9, 0, 0, 0, 0, 5, protocol, 7, 7];
        packet.extend_from_slice(&src);
        packet.extend_from_slice(&dst);
        packet.extend_from_slice(&echo(v4(B), 1, 4));
        summed(packet)
    };
    let (own, peer, local) = ([10, 0, 0, 1], [10, 0, 0, 2], [127, 0, 0, 1]);
    let mut world = World::new(3, Link::GOOD);
    let id = open(&mut world, A, DatagramProtocol::Icmp, true, 1);
    world.keep_log = true;
    let send = |world: &mut World, to: [u8; 4], packet: &[u8]| {
        let from = world.hosts[A].route(to.into()).unwrap();
        world.hosts[A].datagram_send_header(world.now, id, from, to.into(), packet)
    };
    for (src, dst, protocol, to, expected) in [
        ([0; 4], peer, 1, peer, Ok(())),
        (own, peer, 1, peer, Ok(())),
        (peer, peer, 1, peer, Err(SendError::Forbidden)),
        ([10, 0, 0, 9], peer, 1, peer, Err(SendError::Forbidden)),
        (local, peer, 1, peer, Err(SendError::Forbidden)),
        (peer, local, 1, local, Err(SendError::Forbidden)),
        (own, local, 1, local, Ok(())),
        (own, peer, 17, peer, Err(SendError::Forbidden)),
        (own, peer, 6, peer, Err(SendError::Forbidden)),
        (own, [10, 0, 0, 9], 1, peer, Err(SendError::Malformed)),
    ] {
        let sent = send(&mut world, to, &header(src, dst, protocol));
        assert_eq!(sent, expected, "{src:?} {dst:?} {protocol}");
    }
    let mut odd = header(own, peer, 1);
    for (first, expected) in [
        (0x44, Err(SendError::Malformed)),
        (0x4f, Err(SendError::Malformed)),
        (0x65, Ok(())),
    ] {
        odd[0] = first;
        assert_eq!(send(&mut world, peer, &odd), expected, "{first:#x}");
    }
    assert_eq!(
        send(&mut world, peer, &odd[..19]),
        Err(SendError::Malformed)
    );
    let mut long = header(own, peer, 1);
    long.resize(1_421, 0);
    assert_eq!(send(&mut world, peer, &long), Err(SendError::TooBig));
    world.run_for(Duration::from_millis(50));
    let sent: Vec<&Vec<u8>> = world
        .log
        .iter()
        .filter(|(from, _)| *from == A)
        .map(|(_, packet)| packet)
        .collect();
    assert_eq!(sent.len(), 2, "what was refused did not leave");
    for packet in sent {
        assert_eq!((packet[1], packet[8], &packet[12..16]), (0x20, 5, &own[..]));
        assert_eq!(packet[2..4], [0, 32]);
        assert_ne!(packet[4..6], [0, 0], "an identification");
        let sum: u32 = packet[..20]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "header checksum");
    }
}

/// An error about an echo request is for whom it was sent, and for raw endpoints that may have sent it.
#[test]
fn errors_reach_the_sender_of_an_echo_request() {
    let mut world = World::new(
        4,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
    );
    let id = open(&mut world, A, DatagramProtocol::Echo, true, 7);
    let other = open(&mut world, A, DatagramProtocol::Echo, true, 8);
    let raw = open(&mut world, A, DatagramProtocol::Icmp, true, 1);
    world.keep_log = true;
    send(
        &mut world,
        id,
        v4(B),
        &echo(v4(B), 1, 8),
        SendOptions::default(),
    )
    .unwrap();
    world.flush();
    let request = world.log.pop().unwrap().1;
    // Time exceeded (RFC 792), from another host, quoting the request.
    let mut error = vec![
        0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1,
    ];
    error.extend_from_slice(&[11, 0, 0, 0, 0, 0, 0, 0]);
    error.extend_from_slice(&request[..28]);
    world.hosts[A].handle_packet(world.now, &summed(error));
    let mut failed = Vec::new();
    while let Some(event) = world.hosts[A].poll_event() {
        if let Event::DatagramError { id, failure, .. } = event {
            failed.push((id, failure));
        }
    }
    assert!(failed.contains(&(id, Failure::HostUnreachable)));
    assert!(failed.contains(&(raw, Failure::HostUnreachable)));
    assert!(failed.iter().all(|(failed, _)| *failed != other));
    let heard = world.hosts[A].datagram_recv(raw).unwrap();
    assert_eq!((heard.payload.len(), heard.payload[20]), (56, 11));
}

/// What nobody reads is dropped and counted.
#[test]
fn queues_of_raw_endpoints_are_bounded() {
    let mut world = World::new(5, Link::GOOD);
    let raw = open(&mut world, A, DatagramProtocol::Icmp, true, 1);
    let id = open(&mut world, A, DatagramProtocol::Echo, true, 7);
    let to: IpAddr = [127, 0, 0, 1].into();
    for sequence in 0..100 {
        send(
            &mut world,
            id,
            to,
            &echo(to, sequence, 10_000),
            SendOptions::default(),
        )
        .unwrap();
    }
    let queued = world.hosts[A].datagram_queued(raw);
    assert_eq!(queued, 20, "208 KiB of 10,000 bytes each");
    let dropped = world.hosts[A].counters().datagrams_dropped;
    assert!(dropped >= 200 - 20, "{dropped}");
    assert!(world.hosts[A].sizes().events <= 2, "told once each");
}

#[test]
fn filters_are_those_of_linux() {
    let mut filter = IcmpFilter([!1, 0, 0, 0, !(1 << 1), 0, 0, 1 << 31]);
    assert!(filter.passes(true, 0) && !filter.passes(true, 8));
    assert!(filter.passes(true, 129), "IPv4 looks at 32 types only");
    assert!(filter.passes(false, 129) && !filter.passes(false, 128));
    assert!(!filter.passes(false, 255));
    filter = IcmpFilter::default();
    assert!((0..=255).all(|kind| filter.passes(false, kind)));
}
