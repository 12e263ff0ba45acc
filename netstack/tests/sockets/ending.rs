// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shutdown, linger and close.

use std::time::Duration;

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{BindError, CloseHow, Connect, Listen, Shutdown, SocketEvent};

use crate::world::*;

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
    let at = world.now;
    assert_eq!(
        world.hosts[0]
            .get_option(at, client, SOL_TCP, TCP_INFO)
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
