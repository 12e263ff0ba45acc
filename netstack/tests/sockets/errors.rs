// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The error queue, and which error is pending.
use std::time::Duration;

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{QueuedError, SocketId, Sockets};

use super::world::{DGRAM, World, address, int_option, set};

fn socket(world: &mut World, family: i32) -> SocketId {
    let now = world.now;
    let id = world.hosts[0].socket(family, DGRAM, 0).unwrap();
    let (level, name) = option(family);
    set(&mut world.hosts[0], now, id, level, name, 1).unwrap();
    id
}

const fn option(family: i32) -> (i32, i32) {
    if family == 2 {
        (SOL_IP, IP_RECVERR)
    } else {
        (SOL_IPV6, IPV6_RECVERR)
    }
}

fn send(world: &mut World, id: SocketId, to: &str, payload: &[u8]) -> Result<usize, Errno> {
    let now = world.now;
    let sent = world.hosts[0].udp_send(now, id, Some(address(to)), payload);
    world.run();
    sent
}

/// struct sock_extended_err and what follows, without its errno.
fn told(host: &Sockets, id: SocketId, error: &QueuedError) -> (i32, Vec<u8>, usize) {
    let message = host.error_control(id, error, Duration::ZERO).pop().unwrap();
    let number = i32::from_ne_bytes(message.data[..4].try_into().unwrap());
    (number, message.data[4..16].to_vec(), message.data.len())
}

#[test]
fn an_error_is_queued_with_its_origin_and_what_it_is_about() {
    for (family, to, origin, length) in [
        (2, "10.9.0.2:9", [2, 3, 3], 32),
        (2, "127.0.0.1:9", [2, 3, 3], 32),
        (10, "[fd09::2]:9", [3, 1, 4], 44),
        (10, "[::1]:9", [3, 1, 4], 44),
    ] {
        let mut world = World::new();
        let id = socket(&mut world, family);
        assert_eq!(world.hosts[0].take_queued_error(id), None);
        assert_eq!(send(&mut world, id, to, b"hello"), Ok(5));
        assert!(world.hosts[0].shows_error(id));
        let error = world.hosts[0].take_queued_error(id).unwrap();
        let host = &world.hosts[0];
        assert_eq!(error.payload, b"hello");
        assert_eq!(host.error_destination(id, &error), Some(address(to)));
        let (number, rest, total) = told(host, id, &error);
        assert_eq!((number, total), (Errno::ECONNREFUSED.0, length));
        assert_eq!(rest[..3], origin);
        assert_eq!(rest[3..], [0; 9]);
        assert!(
            !host.shows_error(id),
            "with the last one nothing is pending"
        );
    }
}

#[test]
fn taking_errors_out_decides_what_is_pending() {
    let mut world = World::new();
    let id = socket(&mut world, 2);
    let refused = Err(Errno::ECONNREFUSED);
    assert_eq!(send(&mut world, id, "10.9.0.2:9", b"0"), Ok(1));
    assert_eq!(send(&mut world, id, "10.9.0.2:9", b"1"), refused);
    assert_eq!(send(&mut world, id, "10.9.0.2:9", b"2"), Ok(1));
    let host = &mut world.hosts[0];
    let error = |host: &mut Sockets| int_option(host, id, SOL_SOCKET, SO_ERROR);
    assert_eq!(error(host), Errno::ECONNREFUSED.0);
    assert_eq!(error(host), 0);
    assert!(host.shows_error(id) && !host.has_pending_error(id));
    assert_eq!(host.take_queued_error(id).unwrap().payload, b"0");
    assert!(host.has_pending_error(id), "the next one is");
    assert_eq!(host.take_queued_error(id).unwrap().payload, b"2");
    assert!(!host.has_pending_error(id));
    assert_eq!(host.take_queued_error(id), None);
}

#[test]
fn what_this_host_refuses_is_queued_and_not_pending() {
    for (family, to, port) in [
        (2, "10.9.0.2:9", "10.9.0.2:0"),
        (10, "[fd09::2]:9", "[fd09::2]:9"),
    ] {
        let mut world = World::new();
        let id = socket(&mut world, family);
        let now = world.now;
        let (level, name) = if family == 2 {
            (SOL_IP, IP_MTU_DISCOVER)
        } else {
            (SOL_IPV6, IPV6_MTU_DISCOVER)
        };
        for discover in [2, 3] {
            set(&mut world.hosts[0], now, id, level, name, discover).unwrap();
            let sent = send(&mut world, id, to, &[0; 1_393]);
            assert_eq!(sent, Err(Errno::EMSGSIZE));
            assert!(!world.hosts[0].has_pending_error(id));
            let error = world.hosts[0].take_queued_error(id).unwrap();
            let (number, rest, _) = told(&world.hosts[0], id, &error);
            assert_eq!(number, Errno::EMSGSIZE.0);
            assert_eq!(rest[..4], [1, 0, 0, 0]);
            assert_eq!(rest[4..8], 1_420_u32.to_ne_bytes());
            assert!(error.payload.is_empty());
            let destination = world.hosts[0].error_destination(id, &error);
            // IPv4 tells the port of connect(2), and there is none.
            assert_eq!(destination, Some(address(port)));
        }
    }
}

#[test]
fn the_queue_is_bounded_and_goes_with_the_option() {
    let mut world = World::new();
    let id = socket(&mut world, 2);
    let now = world.now;
    set(&mut world.hosts[0], now, id, SOL_SOCKET, SO_RCVBUF, 8_192).unwrap();
    let fill = |world: &mut World| {
        for _ in 0..60 {
            send(world, id, "127.0.0.1:9", b"x").unwrap();
            world.hosts[0].take_error(id);
        }
    };
    fill(&mut world);
    let count = std::iter::from_fn(|| world.hosts[0].take_queued_error(id)).count();
    assert_eq!(count, 19, "as many as Linux 6.18 keeps");
    fill(&mut world);
    set(&mut world.hosts[0], now, id, SOL_IP, IP_RECVERR, 0).unwrap();
    assert_eq!(world.hosts[0].take_queued_error(id), None);
    fill(&mut world);
    assert!(!world.hosts[0].shows_error(id));
}

#[test]
fn each_family_has_an_option_of_its_own() {
    let mut world = World::new();
    let id = socket(&mut world, 10);
    send(&mut world, id, "[::ffff:127.0.0.1]:9", b"x").unwrap();
    assert!(!world.hosts[0].shows_error(id));
    let now = world.now;
    set(&mut world.hosts[0], now, id, SOL_IP, IP_RECVERR, 1).unwrap();
    send(&mut world, id, "[::ffff:127.0.0.1]:9", b"x").unwrap();
    let error = world.hosts[0].take_queued_error(id).unwrap();
    let (_, rest, total) = told(&world.hosts[0], id, &error);
    assert_eq!((&rest[..3], total), (&[2, 3, 3][..], 44));
}
