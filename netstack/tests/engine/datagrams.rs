// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UDP and ICMP.
use std::net::IpAddr;
use std::time::Duration;

use netcon_netstack::stack::{
    DatagramProtocol, Event, Failure, Families, LocalAddr, SendError, SendOptions,
};

use crate::world::{A, B, Link, World, any, at, summed, v4, v6};

fn checksum(bytes: &[u8], mut sum: u32) -> u16 {
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

#[test]
fn datagrams_larger_than_the_mtu_cross_in_fragments() {
    let options = SendOptions {
        hop_limit: 9,
        traffic_class: 0xb8,
        ..SendOptions::default()
    };
    for (from, to, largest) in [(v4(A), v4(B), 65_507), (v6(A), v6(B), 65_527)] {
        let mut world = World::new(7, Link::GOOD);
        let server = world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
        let client = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(54));
        for size in [1373, 1393, 2752, 9000, largest] {
            let payload: Vec<u8> = (0..=255).cycle().take(size).collect();
            world.hosts[A]
                .datagram_send(world.now, client, from, at(to, 53), &payload, options)
                .unwrap();
            world.run_for(Duration::from_millis(100));
            let got = world.hosts[B].datagram_recv(server);
            let got = got.unwrap_or_else(|| panic!("{size} bytes to {to}"));
            assert!(got.payload == payload, "{size} bytes");
            assert_eq!((got.hop_limit, got.traffic_class), (9, 0xb8));
        }
        let sent = world.hosts[A].datagram_send(
            world.now,
            client,
            from,
            at(to, 53),
            &vec![0; largest + 1],
            options,
        );
        assert_eq!(sent, Err(SendError::TooBig));
    }
}

#[test]
fn udp_lite_has_ports_of_its_own() {
    let mut world = World::new(8, Link::GOOD);
    let udp = world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
    let lite = world.hosts[B].datagram_open(DatagramProtocol::UdpLite, any(53));
    let client = world.hosts[A].datagram_open(DatagramProtocol::UdpLite, any(54));
    for (from, to) in [(v4(A), v4(B)), (v6(A), v6(B))] {
        for (coverage, size) in [(0, 20), (8, 20), (12, 20), (60_000, 3), (20, 3000)] {
            let options = SendOptions {
                coverage,
                ..SendOptions::default()
            };
            world.hosts[A]
                .datagram_send(world.now, client, from, at(to, 53), &vec![7; size], options)
                .unwrap();
            world.run_for(Duration::from_millis(50));
            assert!(world.hosts[B].datagram_recv(udp).is_none());
            let got = world.hosts[B].datagram_recv(lite).unwrap();
            assert_eq!(got.payload, vec![7; size], "coverage {coverage}");
        }
    }
}

#[test]
fn both_ways_and_both_families() {
    let mut world = World::new(1, Link::GOOD);
    let server = world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
    for (from, to) in [(v4(A), v4(B)), (v6(A), v6(B))] {
        let client = world.hosts[A].datagram_open(
            DatagramProtocol::Udp,
            LocalAddr {
                ip: Some(from),
                families: Families::Both,
                port: 40_000,
            },
        );
        for payload in [&b""[..], b"odd", &[9; 1372]] {
            world.hosts[A]
                .datagram_send(
                    world.now,
                    client,
                    from,
                    at(to, 53),
                    payload,
                    SendOptions::default(),
                )
                .unwrap();
            world.run_for(Duration::from_millis(20));
            assert!(
                world
                    .take(B, |event| *event == Event::Datagram(server))
                    .is_some()
            );
            let got = world.hosts[B].datagram_recv(server).unwrap();
            assert_eq!(
                (got.from, got.to, &got.payload[..]),
                (at(from, 40_000), at(to, 53), payload)
            );
            world.hosts[B]
                .datagram_send(
                    world.now,
                    server,
                    to,
                    got.from,
                    b"reply",
                    SendOptions::default(),
                )
                .unwrap();
            world.run_for(Duration::from_millis(20));
            assert_eq!(
                world.hosts[A].datagram_recv(client).unwrap().payload,
                b"reply"
            );
        }
        let too_big = world.hosts[A].datagram_send(
            world.now,
            client,
            from,
            at(to, 53),
            &[0; 1400],
            SendOptions {
                fragment: false,
                ..SendOptions::default()
            },
        );
        assert_eq!(too_big, Err(SendError::TooBig));
        world.hosts[A].datagram_close(client);
    }
    let nowhere: IpAddr = [192, 0, 2, 1].into();
    let sent = world.hosts[B].datagram_send(
        world.now,
        server,
        v4(B),
        at(nowhere, 53),
        b"",
        SendOptions::default(),
    );
    assert_eq!(sent, Err(SendError::NoRoute));
}

#[test]
fn the_best_match_receives() {
    let mut world = World::new(2, Link::GOOD);
    let wildcard = world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
    let exact = world.hosts[B].datagram_open(
        DatagramProtocol::Udp,
        LocalAddr {
            ip: Some(v4(B)),
            families: Families::V4,
            port: 53,
        },
    );
    let connected = world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
    world.hosts[B].datagram_connect(connected, Some(at(v4(A), 1000)));
    let sender = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(1000));
    let other = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(1001));
    for (from, source, to, receiver) in [
        (sender, v4(A), v4(B), connected),
        (other, v4(A), v4(B), exact),
        (other, v6(A), v6(B), wildcard),
    ] {
        world.hosts[A]
            .datagram_send(
                world.now,
                from,
                source,
                at(to, 53),
                b"x",
                SendOptions::default(),
            )
            .unwrap();
        world.run_for(Duration::from_millis(20));
        assert!(world.hosts[B].datagram_recv(receiver).is_some());
    }
    world.hosts[B].datagram_connect(connected, None);
    world.hosts[A]
        .datagram_send(
            world.now,
            sender,
            v4(A),
            at(v4(B), 53),
            b"x",
            SendOptions::default(),
        )
        .unwrap();
    world.run_for(Duration::from_millis(20));
    assert!(world.hosts[B].datagram_recv(exact).is_some());
}

#[test]
fn a_closed_port_is_unreachable() {
    let mut world = World::new(3, Link::GOOD);
    let loopback: IpAddr = [127, 0, 0, 1].into();
    let client = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(40_000));
    for (from, to) in [
        (v4(A), at(v4(B), 9)),
        (v6(A), at(v6(B), 9)),
        (loopback, at(loopback, 9)),
    ] {
        let at_once = world.hosts[A]
            .datagram_send(
                world.now,
                client,
                from,
                to,
                b"hello?",
                SendOptions::default(),
            )
            .unwrap();
        world.run_for(Duration::from_millis(50));
        let error = match at_once {
            Some(error) => error,
            None => {
                let is_error = |event: &Event| matches!(event, Event::DatagramError { .. });
                let Some(Event::DatagramError {
                    id,
                    to: told,
                    failure,
                    error,
                }) = world.take(A, is_error)
                else {
                    panic!("no error")
                };
                assert_eq!((id, told, failure), (client, to, Failure::PortUnreachable));
                *error
            }
        };
        let (kind, code) = if to.is_ipv4() { (3, 3) } else { (1, 4) };
        assert_eq!((error.kind, error.code), (kind, code));
        assert_eq!((error.from, error.to), (to.ip(), from));
        assert_eq!((error.payload.as_slice(), error.info), (&b"hello?"[..], 0));
    }
}

#[test]
fn loopback_takes_the_largest_datagram() {
    let mut world = World::new(4, Link::GOOD);
    let loopback: IpAddr = [127, 0, 0, 1].into();
    let server = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(53));
    let client = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(54));
    let send = |world: &mut World, len: usize| {
        let payload = vec![3; len];
        world.hosts[A].datagram_send(
            world.now,
            client,
            loopback,
            at(loopback, 53),
            &payload,
            SendOptions::default(),
        )
    };
    assert_eq!(send(&mut world, 65_507), Ok(None));
    assert_eq!(send(&mut world, 65_508), Err(SendError::TooBig));
    assert_eq!(
        world.hosts[A].datagram_recv(server).unwrap().payload.len(),
        65_507
    );
}

#[test]
fn queues_are_bounded() {
    let mut world = World::new(5, Link::GOOD);
    let server = world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
    let client = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(54));
    let mut sent = 0;
    while world.hosts[A]
        .datagram_send(
            world.now,
            client,
            v4(A),
            at(v4(B), 53),
            &[0; 1000],
            SendOptions::default(),
        )
        .is_ok()
    {
        sent += 1;
    }
    assert!((150..300).contains(&sent), "{sent}");
    world.run_for(Duration::from_secs(1));
    assert!(world.hosts[B].datagram_queued(server) > 100);
    for _ in 0..10 {
        for _ in 0..sent {
            world.hosts[A]
                .datagram_send(
                    world.now,
                    client,
                    v4(A),
                    at(v4(B), 53),
                    &[0; 1000],
                    SendOptions::default(),
                )
                .unwrap();
        }
        world.run_for(Duration::from_secs(1));
    }
    assert!(world.hosts[B].datagram_queued(server) < 300);
    assert!(world.hosts[B].counters().datagrams_dropped > 0);
    let told = world.events[B]
        .iter()
        .filter(|event| **event == Event::Datagram(server))
        .count();
    assert_eq!(told, 1);
}

#[test]
fn echo_is_answered() {
    let mut world = World::new(
        6,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
    );
    world.keep_log = true;
    let body = [0x12, 0x34, 0, 7, 1, 2, 3, 4, 5];
    let mut request = vec![
        0x45, 0, 0, 33, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 8, 0, 0, 0,
    ];
    request.extend_from_slice(&body);
    let request = summed(request);
    world.hosts[B].handle_packet(world.now, &request);
    world.flush();
    let (_, reply) = world.log.pop().unwrap();
    assert_eq!(
        (&reply[12..16], &reply[16..20]),
        (&request[16..20], &request[12..16])
    );
    assert_eq!((reply[20], reply[21], &reply[24..]), (0, 0, &body[..]));
    assert_eq!(checksum(&reply[..20], 0), 0);
    assert_eq!(checksum(&reply[20..], 0), 0);

    let (IpAddr::V6(from), IpAddr::V6(to)) = (v6(A), v6(B)) else {
        unreachable!()
    };
    let mut request = vec![0x60, 0, 0, 0, 0, 13, 58, 64];
    request.extend_from_slice(&from.octets());
    request.extend_from_slice(&to.octets());
    request.extend_from_slice(&[128, 0, 0, 0]);
    request.extend_from_slice(&body);
    let request = summed(request);
    world.hosts[B].handle_packet(world.now, &request);
    world.flush();
    let (_, reply) = world.log.pop().unwrap();
    assert_eq!(
        (&reply[8..24], &reply[24..40]),
        (&to.octets()[..], &from.octets()[..])
    );
    assert_eq!((reply[40], &reply[44..]), (129, &body[..]));
    let pseudo: u32 = reply[8..40]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    assert_eq!(checksum(&reply[40..], pseudo + 13 + 58), 0);
}

#[test]
fn checksums_are_right() {
    let mut world = World::new(
        7,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
    );
    world.keep_log = true;
    let client = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(40_000));
    world.hosts[A]
        .datagram_send(
            world.now,
            client,
            v4(A),
            at(v4(B), 9),
            b"abc",
            SendOptions::default(),
        )
        .unwrap();
    world.hosts[A]
        .datagram_send(
            world.now,
            client,
            v6(A),
            at(v6(B), 9),
            b"abcd",
            SendOptions::default(),
        )
        .unwrap();
    let options = crate::world::options();
    world.hosts[A]
        .connect(world.now, at(v4(A), 1), at(v4(B), 2), &options)
        .unwrap();
    world.flush();
    assert_eq!(world.log.len(), 3);
    for (_, packet) in &world.log {
        let (header, addresses, protocol) = if packet[0] >> 4 == 4 {
            (20, 12..20, packet[9])
        } else {
            (40, 8..40, packet[6])
        };
        if header == 20 {
            assert_eq!(checksum(&packet[..20], 0), 0);
        }
        let pseudo: u32 = packet[addresses]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let len = u32::try_from(packet.len() - header).unwrap();
        assert_eq!(
            checksum(&packet[header..], pseudo + len + u32::from(protocol)),
            0
        );
    }
}

#[test]
fn icmp_errors_out_are_rate_limited() {
    let mut world = World::new(8, Link::GOOD);
    world.keep_log = true;
    let client = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(40_000));
    for _ in 0..200 {
        world.hosts[A]
            .datagram_send(
                world.now,
                client,
                v4(A),
                at(v4(B), 9),
                b"hello?",
                SendOptions::default(),
            )
            .unwrap();
    }
    world.run_for(Duration::from_millis(5));
    world.flush();
    let errors = world.log.iter().filter(|(from, _)| *from == B).count();
    assert_eq!(errors, 50);
}

/// A UDP datagram from A:99 to B:53 cut into fragments of at most `size` bytes of payload (a multiple of 8).
fn fragments(payload: &[u8], size: usize, six: bool) -> Vec<Vec<u8>> {
    let mut udp = vec![0, 99, 0, 53, 0, 0, 0, 0];
    udp.extend_from_slice(payload);
    let len = u16::try_from(udp.len()).unwrap();
    udp[4..6].copy_from_slice(&len.to_be_bytes());
    let mut packets = Vec::new();
    for (index, part) in udp.chunks(size).enumerate() {
        let offset = index * size;
        let more = offset + part.len() < udp.len();
        let mut packet = Vec::new();
        if six {
            let (IpAddr::V6(from), IpAddr::V6(to)) = (v6(A), v6(B)) else {
                unreachable!()
            };
            let len = u16::try_from(part.len() + 8).unwrap();
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&len.to_be_bytes());
            packet.extend_from_slice(&[44, 64]);
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            packet.extend_from_slice(&[17, 0]);
            packet.extend_from_slice(
                &(u16::try_from(offset).unwrap() | u16::from(more)).to_be_bytes(),
            );
            packet.extend_from_slice(&[0, 0, 0, 7]);
        } else {
            let len = u16::try_from(part.len() + 20).unwrap();
            let field = u16::try_from(offset / 8).unwrap() | u16::from(more) << 13;
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&len.to_be_bytes());
            packet.extend_from_slice(&[0, 7]);
            packet.extend_from_slice(&field.to_be_bytes());
            packet.extend_from_slice(&[64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        packet.extend_from_slice(part);
        packets.push(packet);
    }
    packets
}

#[test]
fn fragments_are_put_together_in_any_order() {
    let payload: Vec<u8> = (0..60_000u32)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect();
    for six in [false, true] {
        let mut world = World::new(9, Link::GOOD);
        let server = world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
        let packets = fragments(&payload, 1280, six);
        for packet in packets.iter().rev().chain(&packets[1..]) {
            world.hosts[B].handle_packet(world.now, packet);
        }
        assert_eq!(
            world.hosts[B].datagram_recv(server).unwrap().payload,
            payload
        );
        assert!(world.hosts[B].datagram_recv(server).is_none());
        // The repetitions are an incomplete datagram, and are forgotten.
        assert!(world.hosts[B].poll_timeout().is_some());
        world.run_for(Duration::from_secs(31));
        assert_eq!(world.hosts[B].poll_timeout(), None);
    }
}

#[test]
fn overlapping_fragments_drop_the_datagram() {
    let mut world = World::new(10, Link::GOOD);
    let server = world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
    let first = fragments(&[1; 4000], 1280, false);
    let other = fragments(&[2; 4000], 1024, false);
    world.hosts[B].handle_packet(world.now, &first[0]);
    world.hosts[B].handle_packet(world.now, &other[1]);
    for packet in &first[1..] {
        world.hosts[B].handle_packet(world.now, packet);
    }
    assert!(world.hosts[B].datagram_recv(server).is_none());
}

#[test]
fn a_flood_of_fragments_is_bounded() {
    let mut world = World::new(11, Link::GOOD);
    world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
    let first = &fragments(&[1; 4000], 1280, false)[0];
    for id in 0..20_000u16 {
        let mut packet = first.clone();
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        world.hosts[B].handle_packet(world.now, &packet);
    }
    world.run_for(Duration::from_secs(31));
    assert_eq!(world.hosts[B].poll_timeout(), None);
    assert_eq!(world.hosts[B].counters().panics, 0);
}
