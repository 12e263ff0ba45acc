// SPDX-License-Identifier: Apache-2.0 OR MIT
//! TCP_INFO, and options of TCP that show on the wire.

use std::time::Duration;

use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{SocketEvent, SocketId};

use crate::world::*;

const DELAY: Duration = Duration::from_millis(10);
/// Offsets in struct tcp_info (linux/tcp.h).
const RETRANSMITS: usize = 2;
const OPTIONS: usize = 5;
const RTO: usize = 8;
const SND_MSS: usize = 16;
const UNACKED: usize = 24;
const SACKED: usize = 28;
const LAST_DATA_SENT: usize = 44;
const LAST_DATA_RECEIVED: usize = 52;
const PMTU: usize = 60;
const RTT: usize = 68;
const ADVMSS: usize = 84;
const TOTAL_RETRANS: usize = 100;
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
const SEGMENTS_OUT: usize = 136;
const SEGMENTS_IN: usize = 140;
const NOT_SENT: usize = 144;
const LEAST_RTT: usize = 148;
const DATA_IN: usize = 152;
const DATA_OUT: usize = 156;
const BUSY: usize = 168;
const BYTES_SENT: usize = 200;
const BYTES_AGAIN: usize = 208;
const TIMEOUTS: usize = 240;

struct Info(Vec<u8>);

impl Info {
    fn of(world: &mut World, at: usize, id: SocketId) -> Self {
        let now = world.now;
        let value = world.hosts[at].get_option(now, id, SOL_TCP, TCP_INFO);
        Self(value.unwrap().as_bytes().to_vec())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }
}

fn send(world: &mut World, at: usize, id: SocketId, bytes: usize) {
    let flow = world.hosts[at].flow(id).unwrap();
    let now = world.now;
    let sent = world.hosts[at]
        .stack_mut()
        .send(now, flow, |room| room.len().min(bytes));
    assert_eq!(sent, Some(bytes));
}

/// Both ends of a connection over a path of 20 ms.
fn pair(world: &mut World) -> (SocketId, SocketId) {
    world.listener(1, 2, "0.0.0.0:80");
    let client = world.hosts[0].socket(2, STREAM, 0).unwrap();
    world.connect(0, client, "10.9.0.2:80").unwrap();
    world.run_slowly(DELAY, 4, |_, _| false);
    (client, incoming(world).unwrap())
}

fn incoming(world: &mut World) -> Option<SocketId> {
    world.take(1).iter().find_map(|event| {
        if let SocketEvent::Incoming { socket, .. } = event {
            Some(*socket)
        } else {
            None
        }
    })
}

#[test]
fn a_connection_is_measured() {
    let mut world = World::new();
    let (client, server) = pair(&mut world);
    let info = Info::of(&mut world, 0, client);
    assert_eq!(info.0.len(), 280);
    assert_eq!(
        (info.0[0], info.0[OPTIONS]),
        (1, 2 | 4),
        "SACK, window shift"
    );
    assert_eq!((info.u32(SND_MSS), info.u32(ADVMSS)), (1_380, 1_380));
    assert_eq!(info.u32(PMTU), 1_420);
    assert_eq!((info.u32(RTT), info.u32(LEAST_RTT)), (20_000, 20_000));
    assert_eq!(info.u32(RTO), 1_000_000);
    assert_eq!((info.u32(SEGMENTS_OUT), info.u32(SEGMENTS_IN)), (2, 1));
    // Linux counts the SYN of an active open as a byte that was acknowledged.
    assert_eq!(info.u64(BYTES_ACKED), 1);
    assert_eq!(Info::of(&mut world, 1, server).u64(BYTES_ACKED), 0);

    send(&mut world, 0, client, 3_000);
    world.run_slowly(DELAY, 1, |_, _| false);
    let info = Info::of(&mut world, 0, client);
    assert_eq!(
        (info.u32(UNACKED), info.u32(NOT_SENT)),
        (2, 952),
        "the first window is small"
    );
    world.run_slowly(DELAY, 8, |_, _| false);
    let info = Info::of(&mut world, 0, client);
    assert_eq!((info.u32(UNACKED), info.u32(NOT_SENT)), (0, 0));
    assert_eq!(
        (info.u64(BYTES_ACKED), info.u64(BYTES_SENT)),
        (3_001, 3_000)
    );
    assert_eq!(info.u32(DATA_OUT), 3);
    assert!(info.u64(BUSY) >= 40_000, "{}", info.u64(BUSY));
    let info = Info::of(&mut world, 1, server);
    assert_eq!((info.u64(BYTES_RECEIVED), info.u32(DATA_IN)), (3_000, 3));
    world.run_for(Duration::from_millis(500));
    let sent = Info::of(&mut world, 0, client).u32(LAST_DATA_SENT);
    let received = Info::of(&mut world, 1, server).u32(LAST_DATA_RECEIVED);
    assert!((500..700).contains(&sent) && (500..700).contains(&received));
}

#[test]
fn what_is_lost_is_counted() {
    let mut world = World::new();
    let (client, _server) = pair(&mut world);
    send(&mut world, 0, client, 1_000);
    world.run_slowly(DELAY, 1, |at, _| at == 0);
    // Nothing arrives for two time-outs.
    world.run_slowly(DELAY, 310, |at, _| at == 0);
    let info = Info::of(&mut world, 0, client);
    assert_eq!((info.0[1], info.0[RETRANSMITS]), (4, 2), "TCP_CA_Loss");
    assert_eq!(info.u32(TOTAL_RETRANS), 2);
    assert_eq!(
        (info.u64(BYTES_SENT), info.u64(BYTES_AGAIN)),
        (3_000, 2_000)
    );
    assert_eq!(info.u32(RTO), 4_000_000);
    assert_eq!(info.u32(TIMEOUTS) & 0xffff, 2);
    world.run_slowly(DELAY, 500, |_, _| false);
    let info = Info::of(&mut world, 0, client);
    assert_eq!((info.0[1], info.0[RETRANSMITS]), (0, 0));
    assert_eq!(info.u64(BYTES_ACKED), 1_001);
    assert_eq!(
        info.u32(RTT),
        20_000,
        "none was sampled of what was sent again"
    );
}

#[test]
fn a_listener_tells_its_backlog() {
    let mut world = World::new();
    let listener = world.listener(1, 2, "0.0.0.0:80");
    let now = world.now;
    world.hosts[1].listen(now, listener, 7).unwrap();
    let info = Info::of(&mut world, 1, listener);
    assert_eq!((info.0[0], info.u32(SACKED)), (10, 7));
}

#[test]
fn maxseg_bounds_segments_either_way() {
    let mut world = World::new();
    let listener = world.listener(1, 2, "0.0.0.0:80");
    let now = world.now;
    let client = world.hosts[0].socket(2, STREAM, 0).unwrap();
    set(&mut world.hosts[0], now, client, SOL_TCP, TCP_MAXSEG, 500).unwrap();
    world.connect(0, client, "10.9.0.2:80").unwrap();
    let mut largest = [0, 0];
    let mut note = |at: usize, packet: &[u8]| {
        largest[at] = largest[at].max(packet.len());
        false
    };
    world.run_slowly(DELAY, 4, &mut note);
    let server = incoming(&mut world).unwrap();
    send(&mut world, 0, client, 5_000);
    send(&mut world, 1, server, 5_000);
    world.run_slowly(DELAY, 20, &mut note);
    assert_eq!(largest, [540, 540]);
    let info = Info::of(&mut world, 0, client);
    assert_eq!((info.u32(SND_MSS), info.u32(ADVMSS)), (500, 500));
    assert_eq!(Info::of(&mut world, 1, server).u32(SND_MSS), 500);

    // And asked for by the listener.
    set(&mut world.hosts[1], now, listener, SOL_TCP, TCP_MAXSEG, 300).unwrap();
    let client = world.hosts[0].socket(2, STREAM, 0).unwrap();
    world.connect(0, client, "10.9.0.2:80").unwrap();
    let mut largest = [0, 0];
    let mut note = |at: usize, packet: &[u8]| {
        largest[at] = largest[at].max(packet.len());
        false
    };
    world.run_slowly(DELAY, 4, &mut note);
    let server = incoming(&mut world).unwrap();
    send(&mut world, 0, client, 5_000);
    send(&mut world, 1, server, 5_000);
    world.run_slowly(DELAY, 20, &mut note);
    assert_eq!(largest, [340, 340]);
}

#[test]
fn a_deferred_connection_comes_with_its_data_or_when_the_time_is_over() {
    let mut world = World::new();
    let listener = world.listener(1, 2, "0.0.0.0:80");
    let now = world.now;
    set(
        &mut world.hosts[1],
        now,
        listener,
        SOL_TCP,
        TCP_DEFER_ACCEPT,
        3,
    )
    .unwrap();
    let client = world.hosts[0].socket(2, STREAM, 0).unwrap();
    world.connect(0, client, "10.9.0.2:80").unwrap();
    world.run_slowly(DELAY, 100, |_, _| false);
    assert_eq!(
        Info::of(&mut world, 0, client).0[0],
        1,
        "established for its client"
    );
    assert_eq!(incoming(&mut world), None);
    send(&mut world, 0, client, 1);
    world.run_slowly(DELAY, 4, |_, _| false);
    let server = incoming(&mut world).unwrap();
    let flow = world.hosts[1].flow(server).unwrap();
    assert_eq!(world.hosts[1].stack().recv_queue(flow), 1);

    let silent = world.hosts[0].socket(2, STREAM, 0).unwrap();
    world.connect(0, silent, "10.9.0.2:80").unwrap();
    world.run_slowly(DELAY, 250, |_, _| false);
    assert_eq!(incoming(&mut world), None);
    world.run_slowly(DELAY, 100, |_, _| false);
    assert!(incoming(&mut world).is_some(), "three seconds are over");

    // One that ends without data is still accepted.
    let hasty = world.hosts[0].socket(2, STREAM, 0).unwrap();
    world.connect(0, hasty, "10.9.0.2:80").unwrap();
    world.run_slowly(DELAY, 10, |_, _| false);
    let now = world.now;
    world.hosts[0].finish(now, hasty);
    world.run_slowly(DELAY, 4, |_, _| false);
    assert!(incoming(&mut world).is_some());
}

#[test]
fn packets_from_too_far_away_are_dropped() {
    let mut world = World::new();
    let listener = world.listener(1, 2, "0.0.0.0:80");
    let now = world.now;
    set(&mut world.hosts[1], now, listener, SOL_IP, IP_MINTTL, 255).unwrap();
    let far = world.hosts[0].socket(2, STREAM, 0).unwrap();
    world.connect(0, far, "10.9.0.2:80").unwrap();
    world.run_slowly(DELAY, 10, |_, _| false);
    assert_eq!(incoming(&mut world), None);
    let near = world.hosts[0].socket(2, STREAM, 0).unwrap();
    let now = world.now;
    set(&mut world.hosts[0], now, near, SOL_IP, IP_TTL, 255).unwrap();
    world.connect(0, near, "10.9.0.2:80").unwrap();
    world.run_slowly(DELAY, 4, |_, _| false);
    assert!(incoming(&mut world).is_some());
    // Of a connection, too.
    let now = world.now;
    set(&mut world.hosts[0], now, near, SOL_IP, IP_MINTTL, 65).unwrap();
    send(&mut world, 0, near, 10);
    world.run_slowly(DELAY, 10, |_, _| false);
    assert_eq!(Info::of(&mut world, 0, near).u32(UNACKED), 1);
}

#[test]
fn the_syn_is_kept_where_it_is_asked_for() {
    let mut world = World::new();
    let listener = world.listener(1, 2, "0.0.0.0:80");
    let now = world.now;
    set(&mut world.hosts[1], now, listener, SOL_TCP, TCP_SAVE_SYN, 1).unwrap();
    let client = world.hosts[0].socket(2, STREAM, 0).unwrap();
    world.connect(0, client, "10.9.0.2:80").unwrap();
    let mut syn = Vec::new();
    world.run_slowly(DELAY, 4, |_, packet| {
        if syn.is_empty() {
            syn = packet.to_vec();
        }
        false
    });
    let server = incoming(&mut world).unwrap();
    let now = world.now;
    let mut saved = || {
        let value = world.hosts[1].get_option(now, server, SOL_TCP, TCP_SAVED_SYN);
        let value = value.unwrap();
        assert!(value.as_bytes().is_empty() || value.fit(SOL_TCP, TCP_SAVED_SYN, 10).is_err());
        world.hosts[1].forget_saved_syn(server);
        value.as_bytes().to_vec()
    };
    assert_eq!(saved(), syn);
    assert_eq!(saved(), b"", "it is given once");
}
