// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams, the errors that come back for them, and names.

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{Connect, ConnectTo, SendControl, SocketEvent};

use crate::world::*;

#[test]
fn datagrams() {
    let mut world = World::new();
    let now = world.now;
    let server = world.hosts[1].socket(10, DGRAM, 0).unwrap();
    world.hosts[1].bind(server, address("[::]:53")).unwrap();
    let client = world.hosts[0].socket(2, DGRAM, 0).unwrap();
    let host = &mut world.hosts[0];
    assert_eq!(
        host.udp_send(now, client, None, b"x"),
        Err(Errno::EDESTADDRREQ)
    );
    assert_eq!(
        host.udp_send(now, client, Some(address("10.9.0.2:0")), b"x"),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        host.udp_send(now, client, Some(address("[fd09::2]:53")), b"x"),
        Err(Errno::EAFNOSUPPORT)
    );
    assert_eq!(
        host.udp_send(now, client, Some(address("255.255.255.255:53")), b"x"),
        Err(Errno::EACCES)
    );
    assert_eq!(
        host.udp_send(now, client, Some(address("8.8.8.8:99")), b"x"),
        Err(Errno::ENETUNREACH)
    );
    assert_eq!(
        host.udp_send(now, client, Some(address("127.0.0.1:9")), &[0; 65_508]),
        Err(Errno::EMSGSIZE)
    );
    assert_eq!(
        host.udp_send(now, client, Some(address("127.0.0.1:9")), &[0; 65_507]),
        Ok(65_507)
    );
    assert_eq!(
        host.udp_send(now, client, Some(address("10.9.0.2:53")), b"question"),
        Ok(8)
    );
    assert_eq!(
        host.udp_send(now, client, Some(address("10.9.0.2:53")), b""),
        Ok(0)
    );
    world.run();
    assert!(
        world
            .take(1)
            .contains(&SocketEvent::Datagram { socket: server })
    );
    let question = world.hosts[1].udp_recv(server).unwrap();
    assert_eq!(question.payload, b"question");
    assert!(question.from.to_string().starts_with("[::ffff:10.9.0.1]:"));
    assert_eq!(world.hosts[1].udp_recv(server).unwrap().payload, b"");
    assert_eq!(world.hosts[1].udp_recv(server), None);
    world.hosts[1]
        .udp_send(now, server, Some(question.from), b"answer")
        .unwrap();
    world.run();
    assert_eq!(
        world.hosts[0].udp_recv(client).unwrap().from,
        address("10.9.0.2:53")
    );
}

/// What getaddrinfo(3) does to sort addresses: connect, getsockname, connect(AF_UNSPEC), the next.
#[test]
fn source_address_probe() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let probe = host.socket(10, DGRAM, 0).unwrap();
    for (peer, source) in [
        ("[fd09::2]:80", "fd09::1"),
        ("[::ffff:10.9.0.2]:80", "::ffff:10.9.0.1"),
        ("[::1]:80", "::1"),
    ] {
        assert_eq!(host.connect(now, probe, to(peer)), Ok(Connect::Done));
        let local = host.local_address(probe).unwrap();
        assert_eq!(local.ip(), source.parse::<std::net::IpAddr>().unwrap());
        assert_ne!(local.port(), 0);
        assert_eq!(host.peer_address(probe), Ok(address(peer)));
        assert_eq!(
            host.connect(now, probe, ConnectTo::Unspecified),
            Ok(Connect::Dissolved(None))
        );
        assert_eq!(host.local_address(probe), Ok(address("[::]:0")));
        assert_eq!(host.peer_address(probe), Err(Errno::ENOTCONN));
    }
    assert_eq!(
        host.connect(now, probe, to("[2001:db8::1]:80")),
        Err(Errno::ENETUNREACH)
    );
    let bound = host.socket(2, DGRAM, 0).unwrap();
    host.bind(bound, address("0.0.0.0:7")).unwrap();
    host.connect(now, bound, to("10.9.0.2:9")).unwrap();
    assert_eq!(host.local_address(bound), Ok(address("10.9.0.1:7")));
    host.connect(now, bound, ConnectTo::Unspecified).unwrap();
    assert_eq!(host.local_address(bound), Ok(address("0.0.0.0:7")));
    let zero = host.socket(2, DGRAM, 0).unwrap();
    assert_eq!(
        host.connect(now, zero, to("127.0.0.1:0")),
        Ok(Connect::Done)
    );
    assert_eq!(host.peer_address(zero), Err(Errno::ENOTCONN));
}

#[test]
fn port_unreachable_reaches_connected_sockets_only() {
    let mut world = World::new();
    let now = world.now;
    let [connected, plain, eager] = [0; 3].map(|_| world.hosts[0].socket(2, DGRAM, 0).unwrap());
    world.connect(0, connected, "10.9.0.2:9").unwrap();
    set(&mut world.hosts[0], now, eager, SOL_IP, IP_RECVERR, 1).unwrap();
    for id in [connected, plain, eager] {
        world.hosts[0]
            .udp_send(now, id, Some(address("10.9.0.2:9")), b"x")
            .unwrap();
        world.run();
    }
    let errno = Errno::ECONNREFUSED;
    let hit = |socket| SocketEvent::DatagramError { socket, errno };
    assert_eq!(world.take(0), vec![hit(connected), hit(eager)]);
    assert_eq!(
        world.hosts[0].udp_send(now, connected, None, b"y"),
        Err(errno)
    );
    assert_eq!(world.hosts[0].udp_send(now, connected, None, b"z"), Ok(1));
    assert_eq!(
        int_option(&mut world.hosts[0], eager, SOL_SOCKET, SO_ERROR),
        errno.0
    );
}

#[test]
fn calls_and_datagrams_need_not_be_one_to_one() {
    let mut world = World::new();
    let now = world.now;
    let receiver = world.hosts[1].socket(2, DGRAM, 0).unwrap();
    world.hosts[1]
        .bind(receiver, address("10.9.0.2:9"))
        .unwrap();
    let id = world.hosts[0].socket(2, DGRAM, 0).unwrap();
    let to = Some(address("10.9.0.2:9"));
    let received = |world: &mut World| {
        world.run();
        let next = || world.hosts[1].udp_recv(receiver);
        std::iter::from_fn(next)
            .map(|datagram| datagram.payload.len())
            .collect::<Vec<_>>()
    };
    let more = SendControl {
        more: true,
        ..SendControl::default()
    };
    let host = &mut world.hosts[0];
    assert_eq!(host.udp_send_with(now, id, to, b"abc", &more), Ok(3));
    assert_eq!(host.udp_send(now, id, to, b"de"), Ok(2));
    set(host, now, id, SOL_UDP, UDP_CORK, 1).unwrap();
    assert_eq!(host.udp_send(now, id, to, b"abc"), Ok(3));
    assert_eq!(host.udp_send(now, id, to, b"def"), Ok(3));
    assert_eq!(received(&mut world), [5]);
    let host = &mut world.hosts[0];
    set(host, now, id, SOL_UDP, UDP_CORK, 0).unwrap();
    assert_eq!(received(&mut world), [6]);
    let host = &mut world.hosts[0];
    let segment = |size| SendControl {
        segment: Some(size),
        ..SendControl::default()
    };
    assert_eq!(
        host.udp_send_with(now, id, to, &[0; 2500], &segment(1000)),
        Ok(2500)
    );
    // Each must fit the MTU, and there may be 128.
    let large = host.udp_send_with(now, id, to, &[0; 2500], &segment(1393));
    assert_eq!(large, Err(Errno::EMSGSIZE));
    let many = host.udp_send_with(now, id, to, &[0; 129], &segment(1));
    assert_eq!(many, Err(Errno::EINVAL));
    assert_eq!(received(&mut world), [1000, 1000, 500]);
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let mut world = World::new();
    let now = world.now;
    let receiver = world.hosts[0].socket(2, DGRAM, 0).unwrap();
    let host = &mut world.hosts[0];
    set(host, now, receiver, SOL_SOCKET, SO_RCVBUF, 8_192).unwrap();
    host.bind(receiver, address("127.0.0.1:9")).unwrap();
    let id = host.socket(2, DGRAM, 0).unwrap();
    let to = Some(address("127.0.0.1:9"));
    for _ in 0..100 {
        host.udp_send(now, id, to, &[0; 768]).unwrap();
    }
    let received: Vec<_> = std::iter::from_fn(|| host.udp_recv(receiver)).collect();
    assert_eq!(received.len(), 16, "1 KiB each in 16 KiB");
    assert!(received.iter().all(|datagram| datagram.dropped == 0));
    host.udp_send(now, id, to, b"x").unwrap();
    assert_eq!(host.udp_recv(receiver).unwrap().dropped, 84);
    let memory = host.get_option(now, receiver, SOL_SOCKET, SO_MEMINFO);
    let memory = memory.unwrap();
    assert_eq!(memory.as_bytes()[32..], 84_u32.to_ne_bytes());
}

#[test]
fn name_servers_out_of_reach_refuse_at_once() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02io\x00\x00\x1c\x00\x01";
    for connected in [true, false] {
        let id = host.socket(2, DGRAM, 0).unwrap();
        let server = address("8.8.8.8:53");
        if connected {
            assert_eq!(
                host.connect(now, id, ConnectTo::Address(server)),
                Ok(Connect::Done)
            );
        }
        let to = (!connected).then_some(server);
        for _ in 0..40 {
            assert_eq!(host.udp_send(now, id, to, query), Ok(query.len()));
        }
        assert_eq!(
            host.poll_event(),
            Some(SocketEvent::Datagram { socket: id })
        );
        let reply = host.udp_recv(id).unwrap();
        assert_eq!((reply.from, reply.payload[3] & 15), (server, 5));
        assert_eq!(
            std::iter::from_fn(|| host.udp_recv(id)).count(),
            15,
            "bounded"
        );
    }
}
