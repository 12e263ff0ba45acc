// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All sockets together: the table of them, and any call in any order.

use std::net::SocketAddr;

use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{CloseHow, ConnectTo, SocketEvent, SocketId, Sockets};

use crate::world::*;

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
