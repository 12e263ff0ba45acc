// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sequences of socket calls against what Linux 6.18 answered, on two hosts joined by a packet pump and a virtual clock.
#![allow(clippy::unwrap_used, missing_docs)]

mod sockets_world;

use std::net::SocketAddr;
use std::time::Duration;

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{
    BindError, CloseHow, Connect, ConnectTo, Listen, Shutdown, SocketEvent, SocketId, Sockets,
};
use netcon_netstack::stack::Recv;
use sockets_world::*;

const STREAM: i32 = 1;
const DGRAM: i32 = 2;

#[test]
fn socket_arguments() {
    let mut world = World::new();
    let host = &mut world.hosts[0];
    let rows: &[(i32, i32, i32, Result<(), Errno>)] = &[
        (2, 1, 0, Ok(())),
        (2, 1, 6, Ok(())),
        (2, 2, 17, Ok(())),
        (10, 2, 0, Ok(())),
        (2, 1, 17, Err(Errno::EPROTONOSUPPORT)),
        (2, 2, 6, Err(Errno::EPROTONOSUPPORT)),
        (2, 1, 262, Err(Errno::EPROTONOSUPPORT)), // IPPROTO_MPTCP
        (2, 1, 300, Err(Errno::EINVAL)),
        (2, 1, -1, Err(Errno::EINVAL)),
        (2, 3, 0, Err(Errno::EPROTONOSUPPORT)),
        (2, 3, 1, Err(Errno::EPERM)),
        (2, 5, 0, Err(Errno::ESOCKTNOSUPPORT)),
        (2, 11, 0, Err(Errno::EINVAL)),
        (2, 2, 1, Err(Errno::EACCES)),
        (10, 2, 58, Err(Errno::EACCES)),
        (10, 2, 1, Err(Errno::EPROTONOSUPPORT)),
        (16, 3, 0, Err(Errno::EAFNOSUPPORT)),
    ];
    for &(family, ty, protocol, expected) in rows {
        assert_eq!(
            host.socket(family, ty, protocol).map(|_| ()),
            expected,
            "{family} {ty} {protocol}"
        );
    }
}

#[test]
fn bind_addresses() {
    let mut world = World::new();
    let host = &mut world.hosts[0];
    let rows: &[(i32, i32, &str, Result<&str, Errno>)] = &[
        (2, STREAM, "0.0.0.0:80", Ok("0.0.0.0:80")),
        (2, STREAM, "127.0.0.9:81", Ok("127.0.0.9:81")),
        (2, STREAM, "10.9.0.1:82", Ok("10.9.0.1:82")),
        (2, STREAM, "10.9.0.2:82", Err(Errno::EADDRNOTAVAIL)),
        (2, STREAM, "[::1]:82", Err(Errno::EAFNOSUPPORT)),
        (10, STREAM, "127.0.0.1:82", Err(Errno::EINVAL)),
        (10, STREAM, "[::]:83", Ok("[::]:83")),
        (10, STREAM, "[::1]:84", Ok("[::1]:84")),
        (10, STREAM, "[fd09::1]:84", Ok("[fd09::1]:84")),
        (10, STREAM, "[fd09::2]:84", Err(Errno::EADDRNOTAVAIL)),
        (
            10,
            STREAM,
            "[::ffff:127.0.0.1]:85",
            Ok("[::ffff:127.0.0.1]:85"),
        ),
        (10, STREAM, "[::ffff:0.0.0.0]:86", Ok("[::ffff:0.0.0.0]:86")),
        (10, STREAM, "[fe80::1]:87", Err(Errno::EINVAL)),
        (10, STREAM, "[ff02::1]:87", Err(Errno::EINVAL)),
        (10, DGRAM, "[ff02::fb]:5353", Ok("[ff02::fb]:5353")),
        (2, DGRAM, "224.0.0.251:5353", Ok("224.0.0.251:5353")),
        (2, DGRAM, "0.0.0.0:80", Ok("0.0.0.0:80")),
    ];
    for &(family, ty, to, expected) in rows {
        let id = host.socket(family, ty, 0).unwrap();
        let bound = host
            .bind(id, address(to))
            .map(|()| host.local_address(id).unwrap());
        assert_eq!(
            bound,
            expected.map(address).map_err(BindError::Errno),
            "{family} {ty} {to}"
        );
        if bound.is_ok() {
            assert_eq!(
                host.bind(id, address(to)),
                Err(BindError::Errno(Errno::EINVAL)),
                "bind twice"
            );
        }
    }
}

#[test]
fn ipv6_only_is_set_by_binding_and_fixed_after() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let only = host.socket(10, STREAM, 0).unwrap();
    host.bind(only, address("[::1]:0")).unwrap();
    assert_eq!(int_option(host, only, SOL_IPV6, IPV6_V6ONLY), 1);
    assert_eq!(
        host.connect(now, only, to("[::ffff:127.0.0.1]:5")),
        Err(Errno::ENETUNREACH)
    );
    let mapped = host.socket(10, STREAM, 0).unwrap();
    host.bind(mapped, address("[::ffff:127.0.0.1]:0")).unwrap();
    assert_eq!(int_option(host, mapped, SOL_IPV6, IPV6_V6ONLY), 0);
    assert_eq!(
        host.connect(now, mapped, to("[::1]:5")),
        Err(Errno::EAFNOSUPPORT)
    );
    assert_eq!(
        set(host, now, mapped, SOL_IPV6, IPV6_V6ONLY, 1),
        Err(Errno::EINVAL)
    );
    // Two listeners, one for each family: what nginx, Redis and Node do.
    let (v6, v4) = (
        host.socket(10, STREAM, 0).unwrap(),
        host.socket(2, STREAM, 0).unwrap(),
    );
    set(host, now, v6, SOL_IPV6, IPV6_V6ONLY, 1).unwrap();
    assert_eq!(
        host.bind(v6, address("[::ffff:127.0.0.1]:0")),
        Err(BindError::Errno(Errno::EINVAL))
    );
    host.bind(v6, address("[::]:6379")).unwrap();
    host.bind(v4, address("0.0.0.0:6379")).unwrap();
    assert!(matches!(host.listen(now, v6, 128), Ok(Listen::Started(_))));
    assert!(matches!(host.listen(now, v4, 128), Ok(Listen::Started(_))));
}

#[test]
fn port_conflicts_name_the_holders() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let (first, second) = (
        host.socket(10, STREAM, 0).unwrap(),
        host.socket(2, STREAM, 0).unwrap(),
    );
    host.bind(first, address("[::]:80")).unwrap();
    let in_use = Err(BindError::InUse {
        holders: vec![first],
    });
    assert_eq!(host.bind(second, address("10.9.0.1:80")), in_use);
    // Options changed after bind count too.
    for id in [first, second] {
        set(host, now, id, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
    }
    host.bind(second, address("10.9.0.1:80")).unwrap();
    host.listen(now, first, 5).unwrap();
    assert_eq!(
        host.listen(now, second, 5),
        Err(BindError::InUse {
            holders: vec![first]
        })
    );
    host.close(now, first, CloseHow::Graceful);
    assert!(matches!(
        host.listen(now, second, 5),
        Ok(Listen::Started(_))
    ));
    assert!(matches!(
        host.listen(now, second, 9),
        Ok(Listen::Updated(_))
    ));
    // UDP ports are others.
    let datagram = host.socket(2, DGRAM, 0).unwrap();
    host.bind(datagram, address("0.0.0.0:80")).unwrap();
}

#[test]
fn ephemeral_ports() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let ids: Vec<_> = (0..11)
        .map(|_| host.socket(2, STREAM, 0).unwrap())
        .collect();
    for id in &ids {
        set(
            host,
            now,
            *id,
            SOL_IP,
            IP_LOCAL_PORT_RANGE,
            40_000 | 40_009 << 16,
        )
        .unwrap();
    }
    let (last, most) = ids.split_last().unwrap();
    for id in most {
        host.bind(*id, address("0.0.0.0:0")).unwrap();
    }
    assert_eq!(
        host.bind(*last, address("0.0.0.0:0")),
        Err(BindError::InUse { holders: vec![] })
    );
    let mut ports: Vec<_> = most
        .iter()
        .map(|id| host.local_address(*id).unwrap().port())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, (40_000..40_010).collect::<Vec<_>>());
    let plain = host.socket(2, STREAM, 0).unwrap();
    host.listen(now, plain, -1).unwrap();
    assert!((32_768..=60_999).contains(&host.local_address(plain).unwrap().port()));
    let no_port = host.socket(2, STREAM, 0).unwrap();
    set(host, now, no_port, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1).unwrap();
    host.bind(no_port, address("10.9.0.1:0")).unwrap();
    assert_eq!(host.local_address(no_port), Ok(address("10.9.0.1:0")));
}

#[test]
fn connect_errors() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let rows: &[(i32, i32, &str, Errno)] = &[
        (2, STREAM, "[::1]:5", Errno::EAFNOSUPPORT),
        (10, STREAM, "127.0.0.1:5", Errno::EINVAL),
        (2, STREAM, "8.8.8.8:5", Errno::ENETUNREACH),
        (10, STREAM, "[2001:db8::1]:5", Errno::ENETUNREACH),
        (2, STREAM, "127.0.0.1:0", Errno::ECONNREFUSED),
        (2, STREAM, "255.255.255.255:5", Errno::ENETUNREACH),
        (2, STREAM, "224.0.0.1:5", Errno::ENETUNREACH),
        (10, STREAM, "[ff02::1]:5", Errno::ENETUNREACH),
        (10, STREAM, "[fe80::1]:5", Errno::EINVAL),
        (2, DGRAM, "255.255.255.255:5", Errno::EACCES),
        (2, DGRAM, "8.8.8.8:80", Errno::ENETUNREACH),
        (2, DGRAM, "[::1]:5", Errno::EAFNOSUPPORT),
    ];
    for &(family, ty, destination, expected) in rows {
        let id = host.socket(family, ty, 0).unwrap();
        assert_eq!(
            host.connect(now, id, to(destination)),
            Err(expected),
            "{family} {ty} {destination}"
        );
        assert_eq!(
            host.connect(now, id, ConnectTo::Unspecified),
            Ok(Connect::Dissolved(None))
        );
    }
    for ty in [STREAM, DGRAM] {
        let id = host.socket(2, ty, 0).unwrap();
        host.bind(id, address("127.0.0.1:0")).unwrap();
        assert_eq!(
            host.connect(now, id, to("10.9.0.2:5")),
            Err(Errno::EINVAL),
            "a loopback source stays at home"
        );
    }
    assert_eq!(
        host.connect(now, SocketId(999), to("127.0.0.1:5")),
        Err(Errno::EBADF)
    );
}

#[test]
fn connect_accept_data_and_end() {
    let mut world = World::new();
    let listener = world.listener(1, 2, "0.0.0.0:80");
    set(
        &mut world.hosts[1],
        world.now,
        listener,
        SOL_TCP,
        TCP_KEEPIDLE,
        77,
    )
    .unwrap();
    let client = world.hosts[0].socket(2, STREAM, 0).unwrap();
    let Ok(Connect::Started(flow)) = world.connect(0, client, "10.9.0.2:80") else {
        panic!("starts")
    };
    assert_eq!(
        world.connect(0, client, "10.9.0.2:80"),
        Ok(Connect::InProgress(flow))
    );
    assert_eq!(world.hosts[0].peer_address(client), Err(Errno::ENOTCONN));
    assert_eq!(
        world.hosts[0].local_address(client).unwrap().ip(),
        address("10.9.0.1:0").ip()
    );
    assert_eq!(
        world.hosts[0].listen(world.now, client, 1),
        Err(BindError::Errno(Errno::EINVAL))
    );
    world.run();
    assert_eq!(
        world.take(0),
        vec![SocketEvent::Connected {
            socket: client,
            flow
        }]
    );
    let Some(SocketEvent::Incoming {
        listener: from,
        socket: server,
        flow: accepted,
    }) = world.take(1).pop()
    else {
        panic!("comes in")
    };
    assert_eq!(from, listener);
    // 0 once, then EISCONN.
    assert_eq!(world.connect(0, client, "10.9.0.2:80"), Ok(Connect::Done));
    assert_eq!(world.connect(0, client, "10.9.0.2:80"), Err(Errno::EISCONN));
    assert_eq!(
        world.connect(1, listener, "10.9.0.1:80"),
        Err(Errno::EISCONN)
    );
    let local = world.hosts[0].local_address(client).unwrap();
    assert_eq!(
        world.hosts[0].peer_address(client),
        Ok(address("10.9.0.2:80"))
    );
    assert_eq!(world.hosts[1].peer_address(server), Ok(local));
    assert_eq!(
        world.hosts[1].local_address(server),
        Ok(address("10.9.0.2:80"))
    );
    assert_eq!(world.hosts[1].peer_address(listener), Err(Errno::ENOTCONN));
    assert_eq!(
        int_option(&mut world.hosts[1], server, SOL_TCP, TCP_KEEPIDLE),
        77
    );
    assert_eq!(
        int_option(&mut world.hosts[1], server, SOL_SOCKET, SO_ACCEPTCONN),
        0
    );
    assert_eq!(
        int_option(&mut world.hosts[1], listener, SOL_SOCKET, SO_ACCEPTCONN),
        1
    );
    assert_eq!(
        world.hosts[0]
            .get_option(client, SOL_TCP, TCP_INFO)
            .unwrap()
            .as_bytes()[0],
        1
    );
    assert_eq!(
        world.hosts[1]
            .get_option(listener, SOL_TCP, TCP_INFO)
            .unwrap()
            .as_bytes()[0],
        10
    );
    assert_eq!(
        int_option(&mut world.hosts[0], client, SOL_IP, IP_MTU),
        1_420
    );
    assert_eq!(
        int_option(&mut world.hosts[0], client, SOL_TCP, TCP_MAXSEG),
        1_380
    );

    let now = world.now;
    world.hosts[0].stack_mut().send(now, flow, |room| {
        room[..4].copy_from_slice(b"ping");
        4
    });
    assert_eq!(world.hosts[0].shutdown(now, client, 1), Ok(Shutdown::Write));
    world.hosts[0].finish(now, client);
    world.run();
    assert!(world.take(1).contains(&SocketEvent::Readable {
        socket: server,
        flow: accepted
    }));
    let mut received = Vec::new();
    while let Recv::Data(_) = world.hosts[1].stack_mut().recv(now, accepted, |data| {
        received.extend_from_slice(data);
        data.len()
    }) {}
    assert_eq!(received, b"ping");
    assert_eq!(
        world.hosts[1].stack_mut().recv(now, accepted, <[u8]>::len),
        Recv::Finished
    );
    assert_eq!(
        world.hosts[0].peer_address(client),
        Ok(address("10.9.0.2:80")),
        "half closed is connected"
    );
    assert_eq!(
        world.hosts[0].shutdown(now, client, 1),
        Ok(Shutdown::Write),
        "again is no error"
    );
    world.hosts[1].close(now, server, CloseHow::Graceful);
    world.run();
    assert_eq!(
        world.hosts[0].peer_address(client),
        Err(Errno::ENOTCONN),
        "though the FIN is not read yet"
    );
    assert_eq!(
        world.hosts[0]
            .get_option(client, SOL_TCP, TCP_INFO)
            .unwrap()
            .as_bytes()[0],
        7
    );
    let now = world.now;
    assert_eq!(
        world.hosts[0].stack_mut().recv(now, flow, <[u8]>::len),
        Recv::Finished
    );
    world.run();
    assert!(world.take(0).contains(&SocketEvent::Closed {
        socket: client,
        flow
    }));
    assert_eq!(
        world.hosts[0].shutdown(now, client, 2),
        Err(Errno::ENOTCONN)
    );
    assert_eq!(
        world.connect(0, client, "10.9.0.2:80"),
        Err(Errno::EISCONN),
        "only AF_UNSPEC leads out"
    );
    assert_eq!(world.hosts[0].local_address(client), Ok(local));
    assert_eq!(
        world.hosts[0].connect(now, client, ConnectTo::Unspecified),
        Ok(Connect::Dissolved(None))
    );
    assert!(matches!(
        world.connect(0, client, "10.9.0.2:80"),
        Ok(Connect::Started(_))
    ));
}

#[test]
fn refused_and_tried_again() {
    let mut world = World::new();
    let client = world.hosts[0].socket(10, STREAM, 0).unwrap();
    let Ok(Connect::Started(flow)) = world.connect(0, client, "[::ffff:10.9.0.2]:80") else {
        panic!("starts")
    };
    let first = world.hosts[0].local_address(client).unwrap();
    assert!(first.to_string().starts_with("[::ffff:10.9.0.1]:"));
    world.run();
    let errno = Errno::ECONNREFUSED;
    assert_eq!(
        world.take(0),
        vec![SocketEvent::ConnectFailed {
            socket: client,
            flow,
            errno
        }]
    );
    assert_eq!(world.hosts[0].peer_address(client), Err(Errno::ENOTCONN));
    assert_eq!(world.hosts[0].local_address(client), Ok(address("[::]:0")));
    // A non-blocking program asks again and learns the error once.
    assert_eq!(world.connect(0, client, "[::ffff:10.9.0.2]:80"), Err(errno));
    assert!(matches!(
        world.connect(0, client, "[::ffff:10.9.0.2]:80"),
        Ok(Connect::Started(_))
    ));
    world.run();
    // Or reads SO_ERROR: the next connect is ECONNABORTED, the one after that is a new attempt.
    assert_eq!(
        int_option(&mut world.hosts[0], client, SOL_SOCKET, SO_ERROR),
        errno.0
    );
    assert_eq!(
        int_option(&mut world.hosts[0], client, SOL_SOCKET, SO_ERROR),
        0
    );
    assert_eq!(
        world.connect(0, client, "[::ffff:10.9.0.2]:80"),
        Err(Errno::ECONNABORTED)
    );
    assert!(matches!(
        world.connect(0, client, "[::ffff:10.9.0.2]:80"),
        Ok(Connect::Started(_))
    ));
    world.run();
    // A blocking connect was parked and is answered by the driver: nothing is left behind.
    assert_eq!(world.hosts[0].connect_answer(client), Err(errno));
    assert_eq!(world.hosts[0].take_error(client), None);
    world.listener(1, 2, "10.9.0.2:80");
    assert!(matches!(
        world.connect(0, client, "[::ffff:10.9.0.2]:80"),
        Ok(Connect::Started(_))
    ));
    world.run();
    assert_eq!(
        world.hosts[0].peer_address(client),
        Ok(address("[::ffff:10.9.0.2]:80"))
    );
}

#[test]
fn no_answer_times_out() {
    let mut world = World::new();
    let client = world.hosts[0].socket(2, STREAM, 0).unwrap();
    set(
        &mut world.hosts[0],
        world.now,
        client,
        SOL_TCP,
        TCP_SYNCNT,
        1,
    )
    .unwrap();
    world.connect(0, client, "10.9.0.77:80").unwrap();
    world.run_for(Duration::from_secs(10));
    assert!(matches!(
        world.take(0)[..],
        [SocketEvent::ConnectFailed {
            errno: Errno::ETIMEDOUT,
            ..
        }]
    ));
}

#[test]
fn shutdown_of_every_state() {
    let mut world = World::new();
    let now = world.now;
    let listener = world.listener(0, 2, "0.0.0.0:80");
    let host = &mut world.hosts[0];
    let fresh = host.socket(2, STREAM, 0).unwrap();
    for how in 0..3 {
        assert_eq!(host.shutdown(now, fresh, how), Err(Errno::ENOTCONN));
    }
    assert_eq!(host.shutdown(now, fresh, 5), Err(Errno::EINVAL));
    assert_eq!(host.shutdown(now, listener, 1), Ok(Shutdown::Ignored));
    assert!(matches!(
        host.shutdown(now, listener, 0),
        Ok(Shutdown::Listener(_))
    ));
    assert_eq!(
        host.local_address(listener),
        Ok(address("0.0.0.0:80")),
        "the port that bind named stays"
    );
    assert!(matches!(
        host.listen(now, listener, 1),
        Ok(Listen::Started(_))
    ));
    let Ok(Connect::Started(flow)) = host.connect(now, fresh, to("10.9.0.77:80")) else {
        panic!("starts")
    };
    assert_eq!(host.shutdown(now, fresh, 1), Ok(Shutdown::Aborted(flow)));
    assert!(matches!(
        host.connect(now, fresh, to("10.9.0.77:80")),
        Ok(Connect::Started(_))
    ));
    let datagram = host.socket(2, DGRAM, 0).unwrap();
    assert_eq!(host.shutdown(now, datagram, 2), Err(Errno::ENOTCONN));
    assert_eq!(
        host.connect(now, datagram, to("127.0.0.1:9")),
        Ok(Connect::Done)
    );
    assert_eq!(host.udp_send(now, datagram, None, b"x"), Err(Errno::EPIPE));
    assert_eq!(host.shutdown(now, datagram, 1), Ok(Shutdown::Write));
    assert_eq!(
        host.listen(now, datagram, 1),
        Err(BindError::Errno(Errno::EOPNOTSUPP))
    );
}

#[test]
fn reset_by_linger_zero() {
    let mut world = World::new();
    let listener = world.listener(1, 10, "[::]:80");
    let (client, server) = world.connected(0, "10.9.0.2:80", 1);
    assert_eq!(world.hosts[0].connect_answer(client), Ok(()));
    assert_eq!(
        world.hosts[1].local_address(server),
        Ok(address("[::ffff:10.9.0.2]:80"))
    );
    let now = world.now;
    let mut linger = 1_i32.to_ne_bytes().to_vec();
    linger.extend_from_slice(&0_i32.to_ne_bytes());
    world.hosts[1]
        .set_option(now, server, SOL_SOCKET, SO_LINGER, &linger)
        .unwrap();
    assert_eq!(world.hosts[1].linger(server), Some(Duration::ZERO));
    world.hosts[1].close(now, server, CloseHow::Graceful);
    world.run();
    let errno = Errno::ECONNRESET;
    assert!(world.take(0).iter().any(|event| matches!(event, SocketEvent::Reset { socket, errno: e, .. } if *socket == client && *e == errno)));
    assert_eq!(world.hosts[0].peer_address(client), Err(Errno::ENOTCONN));
    assert_eq!(
        world.hosts[0].shutdown(now, client, 2),
        Err(Errno::ENOTCONN)
    );
    assert_eq!(world.hosts[0].take_error(client), Some(errno));
    assert_eq!(world.connect(0, client, "10.9.0.2:80"), Err(Errno::EISCONN));
    assert_eq!(
        world.hosts[0]
            .get_option(client, SOL_TCP, TCP_INFO)
            .unwrap()
            .as_bytes()[0],
        7
    );
    // The port of a server with connections cannot be bound anew without SO_REUSEADDR.
    let (_, held) = world.connected(0, "10.9.0.2:80", 1);
    world.hosts[1].close(now, listener, CloseHow::Graceful);
    let again = world.hosts[1].socket(10, STREAM, 0).unwrap();
    assert_eq!(
        world.hosts[1].bind(again, address("[::]:80")),
        Err(BindError::InUse {
            holders: vec![held]
        })
    );
}

#[test]
fn listener_closes_with_connections_waiting() {
    let mut world = World::new();
    let listener = world.listener(1, 2, "0.0.0.0:80");
    let announced = world.connected(0, "10.9.0.2:80", 1).0;
    let client = world.hosts[0].socket(2, STREAM, 0).unwrap();
    world.connect(0, client, "10.9.0.2:80").unwrap();
    world.run_without_events();
    world.hosts[1].close(world.now, listener, CloseHow::Graceful);
    world.run();
    assert!(
        world
            .take(1)
            .iter()
            .all(|event| !matches!(event, SocketEvent::Incoming { .. }))
    );
    assert!(
        world
            .take(0)
            .iter()
            .any(|event| matches!(event, SocketEvent::Reset { socket, .. } if *socket == client))
    );
    assert!(
        world.hosts[0].peer_address(announced).is_ok(),
        "a socket of its own"
    );
}

#[test]
fn reuseport_group_shares_connections() {
    let mut world = World::new();
    let now = world.now;
    let group: Vec<_> = (0..4)
        .map(|_| {
            let id = world.hosts[1].socket(2, STREAM, 0).unwrap();
            set(&mut world.hosts[1], now, id, SOL_SOCKET, SO_REUSEPORT, 1).unwrap();
            world.hosts[1].bind(id, address("0.0.0.0:80")).unwrap();
            world.hosts[1].listen(now, id, 64).unwrap();
            id
        })
        .collect();
    for _ in 0..64 {
        let client = world.hosts[0].socket(2, STREAM, 0).unwrap();
        world.connect(0, client, "10.9.0.2:80").unwrap();
    }
    world.run();
    let events = world.take(1);
    let of = |id: &SocketId| {
        events
            .iter()
            .filter(
                |event| matches!(event, SocketEvent::Incoming { listener, .. } if listener == id),
            )
            .count()
    };
    assert_eq!(group.iter().map(of).sum::<usize>(), 64);
    assert!(group.iter().all(|id| of(id) > 0));
}

#[test]
fn one_source_port_reaches_two_peers() {
    let mut world = World::new();
    world.listener(1, 2, "0.0.0.0:80");
    world.listener(1, 2, "0.0.0.0:81");
    let now = world.now;
    let host = &mut world.hosts[0];
    let ids = [0; 2].map(|_| host.socket(2, STREAM, 0).unwrap());
    for id in ids {
        set(
            host,
            now,
            id,
            SOL_IP,
            IP_LOCAL_PORT_RANGE,
            40_000 | 40_000 << 16,
        )
        .unwrap();
    }
    assert!(matches!(
        host.connect(now, ids[0], to("10.9.0.2:80")),
        Ok(Connect::Started(_))
    ));
    assert_eq!(
        host.connect(now, ids[1], to("10.9.0.2:80")),
        Err(Errno::EADDRNOTAVAIL),
        "same 4-tuple"
    );
    assert!(matches!(
        host.connect(now, ids[1], to("10.9.0.2:81")),
        Ok(Connect::Started(_))
    ));
    assert_eq!(host.local_address(ids[0]), host.local_address(ids[1]));
}

#[test]
fn loopback_within_one_host() {
    let mut world = World::new();
    world.listener(0, 10, "[::]:80");
    for (family, destination, local, peer) in [
        (2, "0.0.0.0:80", "127.0.0.1", "127.0.0.1:80"),
        (10, "[::]:80", "::1", "[::1]:80"),
        (
            10,
            "[::ffff:0.0.0.0]:80",
            "::ffff:127.0.0.1",
            "[::ffff:127.0.0.1]:80",
        ),
        (2, "10.9.0.1:80", "10.9.0.1", "10.9.0.1:80"),
    ] {
        let client = world.hosts[0].socket(family, STREAM, 0).unwrap();
        world.connect(0, client, destination).unwrap();
        world.run();
        assert_eq!(
            world.hosts[0].peer_address(client),
            Ok(address(peer)),
            "{destination}"
        );
        assert_eq!(
            world.hosts[0].local_address(client).unwrap().ip(),
            local.parse::<std::net::IpAddr>().unwrap()
        );
    }
}

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

#[test]
fn rows_for_tables() {
    let mut world = World::new();
    world.listener(1, 10, "[::]:80");
    let (_, server) = world.connected(0, "10.9.0.2:80", 1);
    let rows: Vec<_> = world.hosts[1].rows().collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].protocol, rows[0].state, rows[0].remote),
        ("tcp6", "LISTEN", None)
    );
    assert_eq!((rows[1].id, rows[1].state), (server, "ESTAB"));
    assert_eq!(rows[1].local, address("[::ffff:10.9.0.2]:80"));
    world.hosts[1].close(world.now, server, CloseHow::Reset);
    assert_eq!(world.hosts[1].rows().count(), 1);
}

/// Any call on any socket in any order: an answer, never a panic; and nothing is left when all are closed.
#[test]
fn random_calls_are_harmless() {
    for seed in 0..30 {
        let mut world = World::new();
        let mut random = Dice(seed);
        let mut ids: Vec<(usize, SocketId)> = Vec::new();
        let places = [
            "127.0.0.1:80",
            "10.9.0.1:80",
            "10.9.0.2:80",
            "0.0.0.0:0",
            "[::]:80",
            "[::1]:81",
            "[fd09::2]:80",
            "8.8.8.8:53",
        ];
        for _ in 0..400 {
            let now = world.now;
            let place: SocketAddr = address(places[random.below(places.len())]);
            if ids.len() < 4 || random.below(6) == 0 {
                let at = random.below(2);
                let (family, ty) = ([2, 10][random.below(2)], [STREAM, DGRAM][random.below(2)]);
                ids.push((at, world.hosts[at].socket(family, ty, 0).unwrap()));
            }
            let which = random.below(ids.len());
            let (at, id) = ids[which];
            let host: &mut Sockets = &mut world.hosts[at];
            match random.below(11) {
                0 => drop(host.bind(id, place)),
                1 => drop(host.listen(now, id, 5)),
                2 | 3 => drop(host.connect(now, id, ConnectTo::Address(place))),
                4 => drop(host.connect(now, id, ConnectTo::Unspecified)),
                5 => drop(host.shutdown(now, id, i32::try_from(random.below(4)).unwrap())),
                6 => drop(
                    host.udp_send(now, id, (random.below(2) == 0).then_some(place), b"hello")
                        .map_err(|errno| errno.to_string()),
                ),
                7 => drop(set(
                    host,
                    now,
                    id,
                    SOL_SOCKET,
                    [SO_REUSEADDR, SO_REUSEPORT][random.below(2)],
                    1,
                )),
                8 => drop((
                    host.udp_recv(id),
                    host.take_error(id),
                    host.local_address(id),
                    host.peer_address(id),
                )),
                9 => {
                    host.close(
                        now,
                        id,
                        [CloseHow::Graceful, CloseHow::Reset][random.below(2)],
                    );
                    ids.swap_remove(which);
                }
                _ => world.run(),
            }
            for at in 0..2 {
                for event in world.take(at) {
                    if let SocketEvent::Incoming { socket, .. } = event {
                        ids.push((at, socket));
                    }
                }
            }
        }
        for (at, id) in ids {
            world.hosts[at].close(world.now, id, CloseHow::Reset);
        }
        world.run();
        for at in 0..2 {
            for event in world.take(at) {
                let SocketEvent::Incoming { socket, .. } = event else {
                    continue;
                };
                world.hosts[at].close(world.now, socket, CloseHow::Reset);
            }
            assert_eq!(world.hosts[at].rows().count(), 0);
            // Every claim on a port is gone.
            for port in [80, 81] {
                let id = world.hosts[at].socket(10, STREAM, 0).unwrap();
                assert_eq!(
                    world.hosts[at].bind(id, SocketAddr::new("::".parse().unwrap(), port)),
                    Ok(())
                );
            }
        }
    }
}
