// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Connections from the call to the end of the stream, and all that keeps one from coming about.

use std::time::Duration;

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{
    BindError, CloseHow, Connect, ConnectTo, Shutdown, SocketEvent, SocketId,
};
use netcon_netstack::stack::Recv;

use crate::world::*;

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
    let at = world.now;
    assert_eq!(
        world.hosts[0]
            .get_option(at, client, SOL_TCP, TCP_INFO)
            .unwrap()
            .as_bytes()[0],
        1
    );
    let at = world.now;
    assert_eq!(
        world.hosts[1]
            .get_option(at, listener, SOL_TCP, TCP_INFO)
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
    let at = world.now;
    assert_eq!(
        world.hosts[0]
            .get_option(at, client, SOL_TCP, TCP_INFO)
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
