// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Control messages: what is told with a datagram, what is asked for one.
use std::time::Duration;

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{ControlMessage, Family, SendControl};

fn int(level: i32, kind: i32, value: i32) -> ControlMessage {
    ControlMessage {
        level,
        kind,
        data: value.to_ne_bytes().to_vec(),
    }
}

fn parse(family: Family, message: ControlMessage) -> Result<SendControl, Errno> {
    SendControl::parse(family, family == Family::V6, &[message])
}

#[test]
fn what_is_asked_is_read() {
    let ttl = parse(Family::V4, int(SOL_IP, IP_TTL, 9)).unwrap();
    assert_eq!(ttl.hop_limit, Some(9));
    let hops = parse(Family::V6, int(SOL_IPV6, 52, 0)).unwrap();
    assert_eq!(hops.hop_limit, Some(0));
    let own = parse(Family::V6, int(SOL_IPV6, 52, -1)).unwrap();
    assert_eq!(own, SendControl::default());
    let class = parse(Family::V6, int(SOL_IPV6, IPV6_TCLASS, 255)).unwrap();
    assert_eq!(class.traffic_class, Some(255));
    let tos = ControlMessage {
        level: SOL_IP,
        kind: IP_TOS,
        data: vec![16],
    };
    assert_eq!(parse(Family::V4, tos).unwrap().traffic_class, Some(16));
    let mut data = vec![2, 0, 0, 0, 10, 77, 0, 1, 0, 0, 0, 0];
    let information = |data: &[u8]| ControlMessage {
        level: SOL_IP,
        kind: IP_PKTINFO,
        data: data.to_vec(),
    };
    let source = parse(Family::V4, information(&data)).unwrap().source;
    assert_eq!(source, Some("10.77.0.1".parse().unwrap()));
    data[0] = 3;
    assert_eq!(parse(Family::V4, information(&data)), Err(Errno::ENODEV));
    assert_eq!(
        parse(Family::V4, information(&data[..11])),
        Err(Errno::EINVAL)
    );
}

#[test]
fn what_counts_is_of_the_destination() {
    let of = |family, v6, message| SendControl::parse(family, v6, &[message]);
    let wrong = || int(SOL_IP, 99, 0);
    assert_eq!(of(Family::V6, true, wrong()), Ok(SendControl::default()));
    assert_eq!(of(Family::V6, false, wrong()), Err(Errno::EINVAL));
    let information = |ip: std::net::Ipv6Addr| ControlMessage {
        level: SOL_IPV6,
        kind: 50,
        data: [ip.octets().as_slice(), &[0; 4]].concat(),
    };
    let mapped = information("::ffff:10.9.0.1".parse().unwrap());
    let source = of(Family::V6, false, mapped).unwrap().source;
    assert_eq!(source, Some("10.9.0.1".parse().unwrap()));
    let plain = information("fd09::1".parse().unwrap());
    assert_eq!(of(Family::V6, false, plain), Err(Errno::EINVAL));
    let header = ControlMessage {
        level: SOL_IPV6,
        kind: 54,
        data: vec![0; 8],
    };
    assert_eq!(of(Family::V6, true, header), Err(Errno::EPERM));
}

#[test]
fn the_size_of_segments_is_two_bytes() {
    let size = |kind, data: &[u8]| {
        let message = ControlMessage {
            level: SOL_UDP,
            kind,
            data: data.to_vec(),
        };
        parse(Family::V4, message).map(|control| control.segment)
    };
    assert_eq!(size(UDP_SEGMENT, &[0xe8, 3]), Ok(Some(1000)));
    for wrong in [&[][..], &[1], &[1, 0, 0], &[1, 0, 0, 0]] {
        assert_eq!(size(UDP_SEGMENT, wrong), Err(Errno::EINVAL));
    }
    assert_eq!(size(UDP_GRO, &[1, 0]), Err(Errno::EINVAL));
}

#[test]
fn what_cannot_be_is_refused_and_what_is_anothers_skipped() {
    for wrong in [
        int(SOL_IP, IP_TTL, 0),
        int(SOL_IP, IP_TTL, 256),
        int(SOL_IP, IP_TOS, 256),
        int(SOL_IP, 99, 0),
        int(SOL_SOCKET, 99, 0),
    ] {
        assert_eq!(parse(Family::V4, wrong), Err(Errno::EINVAL));
    }
    for wrong in [
        int(SOL_IPV6, 52, 256),
        int(SOL_IPV6, IPV6_TCLASS, -2),
        int(SOL_IPV6, 99, 0),
    ] {
        assert_eq!(parse(Family::V6, wrong), Err(Errno::EINVAL));
    }
    assert_eq!(
        parse(Family::V4, int(SOL_SOCKET, SO_MARK, 1)),
        Err(Errno::EPERM)
    );
    for skipped in [int(SOL_IPV6, 99, 0), int(SOL_SOCKET, 1, 0)] {
        assert_eq!(parse(Family::V4, skipped), Ok(SendControl::default()));
    }
    let short = ControlMessage {
        level: SOL_IP,
        kind: IP_TTL,
        data: vec![1],
    };
    assert_eq!(parse(Family::V4, short), Err(Errno::EINVAL));
}

/// Nothing waits, nothing is known: no message, and no panic for a socket that is gone.
#[test]
fn nothing_is_told_unasked() {
    let mut world = crate::world::World::new();
    let now = world.now;
    let sockets = &mut world.hosts[0];
    let socket = sockets.socket(2, crate::world::DGRAM, 0).unwrap();
    let datagram = netcon_netstack::stack::Datagram {
        from: "10.0.0.2:9".parse().unwrap(),
        to: "10.0.0.1:7".parse().unwrap(),
        hop_limit: 61,
        dropped: 0,
        traffic_class: 4,
        at: None,
        link: netcon_netstack::stack::Link::Loopback,
        payload: Vec::new(),
    };
    let told = |sockets: &netcon_netstack::sockets::Sockets| {
        let stamp = Duration::new(1_700_000_000, 5000);
        let messages = sockets.receive_control(socket, &datagram, stamp);
        messages
            .into_iter()
            .map(|m| (m.kind, m.data))
            .collect::<Vec<_>>()
    };
    assert!(!sockets.wants_control(socket));
    assert_eq!(told(sockets), []);
    let on = 1_i32.to_ne_bytes();
    for name in [IP_RECVTTL, IP_RECVTOS] {
        sockets.set_option(now, socket, SOL_IP, name, &on).unwrap();
    }
    assert!(sockets.wants_control(socket));
    let expected = [(IP_TTL, 61_i32.to_ne_bytes().to_vec()), (IP_TOS, vec![4])];
    assert_eq!(told(sockets), expected);
}
