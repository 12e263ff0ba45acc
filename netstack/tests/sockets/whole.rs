// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All sockets together: the table of them, and any call in any order.

use std::net::SocketAddr;

use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{CloseHow, ConnectTo, SocketEvent, SocketId, Sockets, Traffic};

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

#[test]
fn rows_come_in_pages() {
    let mut world = World::new();
    let ids: Vec<SocketId> = (0..10)
        .map(|_| world.hosts[0].socket(2, STREAM, 0).unwrap())
        .collect();
    let page = |after| -> Vec<SocketId> {
        let rows = world.hosts[0].rows_after(after);
        rows.take(4).map(|row| row.id).collect()
    };
    assert_eq!(page(None), ids[..4]);
    assert_eq!(page(Some(ids[3])), ids[4..8]);
    // One that is gone is still a place to go on from.
    world.hosts[0].close(world.now, ids[7], CloseHow::Graceful);
    let rows = world.hosts[0].rows_after(Some(ids[7]));
    assert_eq!(rows.map(|row| row.id).collect::<Vec<_>>(), ids[8..]);
    assert_eq!(world.hosts[0].row_of(ids[7]), None);
}

#[test]
fn payload_is_counted() {
    let mut world = World::new();
    let server = world.hosts[1].socket(10, DGRAM, 0).unwrap();
    world.hosts[1].bind(server, address("[::]:53")).unwrap();
    let client = world.hosts[0].socket(2, DGRAM, 0).unwrap();
    let now = world.now;
    let to = Some(address("10.9.0.2:53"));
    world.hosts[0].udp_send(now, client, to, b"12345").unwrap();
    world.hosts[0].udp_send(now, client, to, b"").unwrap();
    world.run();
    world.hosts[1].udp_recv(server).unwrap();
    let expected = |received, sent| Traffic { received, sent };
    assert_eq!(world.hosts[0].traffic(client), expected(0, 5));
    assert_eq!(world.hosts[1].traffic(server), expected(5, 0));
    let stream = world.hosts[0].socket(2, STREAM, 0).unwrap();
    world.hosts[0].count_stream(stream, 7, 9);
    world.hosts[0].count_stream(stream, 1, 0);
    let row = world.hosts[0].row_of(stream).unwrap();
    assert_eq!(row.traffic, expected(8, 9));
    world.hosts[0].close(now, stream, CloseHow::Graceful);
    assert_eq!(world.hosts[0].traffic(stream), expected(0, 0));
}

/// From a packet to the sockets it travels between, on either side.
#[test]
fn packets_have_owners() {
    let mut world = World::new();
    let listener = world.listener(1, 10, "[::]:80");
    let (client, server) = world.connected(0, "10.9.0.2:80", 1);
    let port = world.hosts[0].local_address(client).unwrap().port();
    let tcp = |from: (u8, u16), to: (u8, u16), flags: u8| {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
        packet.extend_from_slice(&[10, 9, 0, from.0, 10, 9, 0, to.0]);
        packet.extend_from_slice(&from.1.to_be_bytes());
        packet.extend_from_slice(&to.1.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        packet
    };
    let data = tcp((1, port), (2, 80), 0x10);
    let owners = |at: usize, packet: &[u8]| {
        let owners = world.hosts[at].owners(packet);
        (owners.sender, owners.receiver)
    };
    assert_eq!(owners(0, &data), (Some(client), None));
    assert_eq!(owners(1, &data), (None, Some(server)));
    let syn = tcp((1, 999), (2, 80), 0x02);
    assert_eq!(owners(1, &syn), (None, Some(listener)));
    // Late data of a connection that is over is not the listener's.
    assert_eq!(owners(1, &tcp((1, 999), (2, 80), 0x10)), (None, None));
    for cut in 0..data.len() {
        assert_eq!(owners(0, &data[..cut]), (None, None));
    }
    let udp = world.hosts[1].socket(2, DGRAM, 0).unwrap();
    world.hosts[1].bind(udp, address("0.0.0.0:53")).unwrap();
    let mut question = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    question.extend_from_slice(&[10, 9, 0, 1, 10, 9, 0, 2]);
    question.extend_from_slice(&[1, 0, 0, 53, 0, 8, 0, 0]);
    let owners = world.hosts[1].owners(&question);
    assert_eq!((owners.sender, owners.receiver), (None, Some(udp)));
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
