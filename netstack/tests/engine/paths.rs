// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Paths that carry less than the network's MTU: whose word is taken for it, and for how long.
use super::world::*;
use netcon_netstack::stack::{DatagramProtocol, Event, Failure, FlowId, SendOptions};
use std::net::IpAddr;
use std::time::Duration;

/// "Fragmentation needed" or "packet too big" for A about the packet that `quoted` begins.
fn too_big(quoted: &[u8], mtu: u16) -> Vec<u8> {
    if quoted[0] >> 4 == 4 {
        let mut error = vec![
            0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1, 3, 4, 0, 0, 0, 0,
        ];
        error.extend_from_slice(&mtu.to_be_bytes());
        error.extend_from_slice(&quoted[..28]);
        return summed(error);
    }
    let mut error = vec![0x60, 0, 0, 0, 0, 56, 58, 64];
    for address in ["fd00::9", "fd00::1"] {
        let address: std::net::Ipv6Addr = address.parse().unwrap();
        error.extend_from_slice(&address.octets());
    }
    error.extend_from_slice(&[2, 0, 0, 0, 0, 0]);
    error.extend_from_slice(&mtu.to_be_bytes());
    error.extend_from_slice(&quoted[..48]);
    summed(error)
}

/// Lets A send `bytes` and B read them; the largest packet of A.
fn largest(world: &mut World, flows: (FlowId, FlowId), bytes: usize) -> usize {
    world.log.clear();
    world.keep_log = true;
    let written = world.write(A, flows.0, &vec![1; bytes]);
    let mut read = 0;
    world.run_until(Duration::from_secs(30), |world| {
        read += world.read(B, flows.1).0.len();
        read == written
    });
    let sizes = world.log.iter().filter(|(from, _)| *from == A);
    sizes.map(|(_, packet)| packet.len()).max().unwrap()
}

/// A packet of full size that A has just sent and nobody has acknowledged.
fn under_way(world: &mut World, flow: FlowId) -> Vec<u8> {
    world.log.clear();
    world.keep_log = true;
    world.write(A, flow, &[1; 3000]);
    world.flush();
    let full = world.log.iter().find(|(_, packet)| packet.len() > 1400);
    full.unwrap().1.clone()
}

#[test]
fn both_families_adapt_and_so_do_later_connections_there() {
    for (ip, mtu, class) in [
        (v4(B), 1300, 1280),
        (v4(B), 1006, 1006),
        (v6(B), 1300, 1280),
        (v6(B), 600, 1280),
    ] {
        let mut world = World::new(1, Link::GOOD);
        let (a, b, listener) = world.connected(80);
        let _ = (a, b, listener);
        let flows = world.connect_to(40_001, at(ip, 80));
        assert_eq!(largest(&mut world, flows, 20_000), 1420);
        let packet = under_way(&mut world, flows.0);
        world.hosts[A].handle_packet(world.now, &too_big(&packet, mtu));
        let told = usize::from(mtu).max(if ip.is_ipv4() { 576 } else { 1280 });
        assert_eq!(world.hosts[A].path_mtu(world.now, ip), told);
        world.run_for(Duration::from_secs(5));
        world.read(B, flows.1);
        assert_eq!(largest(&mut world, flows, 20_000), class, "{ip} {mtu}");
        let later = world.connect_to(40_002, at(ip, 80));
        assert_eq!(largest(&mut world, later, 20_000), class, "{ip} {mtu}");
        // The other family is another destination.
        let other: IpAddr = if ip.is_ipv4() { v6(B) } else { v4(B) };
        let other = world.connect_to(40_003, at(other, 80));
        assert_eq!(largest(&mut world, other, 20_000), 1420);
    }
}

#[test]
fn an_error_about_what_is_not_under_way_is_ignored() {
    let mut world = World::new(2, Link::GOOD);
    let (a, b, _) = world.connected(80);
    let packet = under_way(&mut world, a);
    let numbered = |add: u32| {
        let mut packet = packet.clone();
        let seq = u32::from_be_bytes(packet[24..28].try_into().unwrap());
        packet[24..28].copy_from_slice(&seq.wrapping_add(add).to_be_bytes());
        packet
    };
    let mut stranger = packet.clone();
    stranger[22] ^= 1;
    let mut ignored = 0;
    for quoted in [
        numbered(3_100),
        numbered(1 << 31),
        numbered(0u32.wrapping_sub(100)),
        stranger,
    ] {
        world.hosts[A].handle_packet(world.now, &too_big(&quoted, 600));
        ignored += 1;
        assert_eq!(world.hosts[A].counters().errors_ignored, ignored);
        assert_eq!(world.hosts[A].path_mtu(world.now, v4(B)), 1420);
    }
    // Once it is acknowledged, nothing about it can be true.
    world.run_for(Duration::from_secs(1));
    world.read(B, b);
    world.hosts[A].handle_packet(world.now, &too_big(&packet, 600));
    assert_eq!(world.hosts[A].counters().errors_ignored, ignored + 1);
    assert_eq!(largest(&mut world, (a, b), 20_000), 1420);
    assert_eq!(world.hosts[A].sizes().narrow_paths, 0);
}

#[test]
fn a_path_grows_again_after_ten_minutes() {
    let mut world = World::new(3, Link::GOOD);
    let (a, b, _) = world.connected(80);
    let packet = under_way(&mut world, a);
    world.hosts[A].handle_packet(world.now, &too_big(&packet, 1300));
    world.run_for(Duration::from_secs(5));
    world.read(B, b);
    // Word of a wider path is not taken meanwhile.
    world.hosts[A].set_path_mtu(world.now, v4(B), 1400);
    assert_eq!(largest(&mut world, (a, b), 20_000), 1280);
    world.run_for(Duration::from_secs(600));
    assert_eq!(largest(&mut world, (a, b), 20_000), 1420);
}

#[test]
fn a_router_that_tells_no_mtu_means_the_next_smaller_one() {
    let mut world = World::new(4, Link::GOOD);
    let (a, b, _) = world.connected(80);
    for expected in [1280, 1006, 576, 576] {
        let full = world.hosts[A].path_mtu(world.now, v4(B));
        world.log.clear();
        world.keep_log = true;
        world.write(A, a, &[1; 5000]);
        world.flush();
        let packet = world.log.iter().find(|(_, packet)| packet.len() == full);
        let packet = packet.unwrap().1.clone();
        world.hosts[A].handle_packet(world.now, &too_big(&packet, 0));
        assert_eq!(world.hosts[A].path_mtu(world.now, v4(B)), expected);
        world.run_for(Duration::from_secs(5));
        world.read(B, b);
    }
}

#[test]
fn a_packet_that_could_not_leave_makes_its_flow_adapt_without_loss() {
    let mut world = World::new(5, Link::GOOD);
    let (a, b, _) = world.connected(80);
    // What the caller does when the overlay refuses a packet: the packet is lost, the engine told.
    world.keep_log = true;
    world.link.loss = 1.0;
    world.write(A, a, &[7; 30_000]);
    world.flush();
    world.link.loss = 0.0;
    let packets = std::mem::take(&mut world.log);
    assert!(packets.iter().any(|(_, packet)| packet.len() == 1420));
    for (_, packet) in packets {
        world.hosts[A].packet_too_big(world.now, &packet[..64], 1312);
    }
    let mut read = Vec::new();
    world.run_until(Duration::from_secs(20), |world| {
        read.extend(world.read(B, b).0);
        read.len() == 30_000
    });
    assert!(read.iter().all(|byte| *byte == 7));
    assert!(world.log.iter().all(|(_, packet)| packet.len() <= 1312));
}

#[test]
fn the_sender_of_a_datagram_hears_that_it_was_too_big() {
    let mut world = World::new(6, Link::GOOD);
    let id = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(53));
    world.keep_log = true;
    let to = at(v4(B), 9);
    world.hosts[A]
        .datagram_send(world.now, id, v4(A), to, &[0; 1390], SendOptions::default())
        .unwrap();
    world.flush();
    let packet = world.log[0].1.clone();
    world.events[A].clear();
    world.hosts[A].handle_packet(world.now, &too_big(&packet, 1300));
    world.flush();
    let told = world.events[A].iter().find_map(|event| {
        let Event::DatagramError {
            id: whose,
            to: where_to,
            failure: Failure::PacketTooBig,
            error,
        } = event
        else {
            return None;
        };
        ((*whose, *where_to) == (id, to)).then_some(error)
    });
    let told = told.unwrap();
    assert_eq!((told.kind, told.code, told.info), (3, 4, 1300));
    assert_eq!(world.hosts[A].path_mtu(world.now, v4(B)), 1300);
}

#[test]
fn the_table_of_narrow_paths_is_bounded() {
    let mut world = World::new(7, Link::GOOD);
    for number in 0..5000u32 {
        let ip = IpAddr::from([10, 1, number.to_be_bytes()[2], number.to_be_bytes()[3]]);
        world.hosts[A].set_path_mtu(world.now, ip, 1300);
        world.now += Duration::from_millis(1);
        assert_eq!(world.hosts[A].path_mtu(world.now, ip), 1300);
    }
    assert_eq!(world.hosts[A].sizes().narrow_paths, 1024);
}
