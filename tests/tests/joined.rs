// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two and more hosts, netstack over overlay, in simulated time.

use netcon_netstack::stack::{Event, Families, FlowId, LocalAddr, Recv, TcpOptions};
use netcon_tests::world::{Link, World};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const OPTIONS: TcpOptions = TcpOptions {
    keepalive: None,
    user_timeout: None,
    nodelay: true,
    hop_limit: 64,
    connect_timeout: Duration::from_secs(127),
    send_buffer: None,
    receive_buffer: None,
};

fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..=250)
        .cycle()
        .take(len)
        .map(|byte: u8| byte ^ salt)
        .collect()
}

/// Connects host 1 to host 0 and gives both flows.
fn connect(world: &mut World, v6: bool) -> (FlowId, FlowId) {
    let at = LocalAddr {
        ip: None,
        families: Families::Both,
        port: 80,
    };
    world.hosts[0].stack.listen(at, 16, &OPTIONS);
    let (server, client): (IpAddr, IpAddr) = if v6 {
        (world.hosts[0].v6.into(), world.hosts[1].v6.into())
    } else {
        (world.hosts[0].v4.into(), world.hosts[1].v4.into())
    };
    let now = world.now;
    let flow = world.hosts[1]
        .stack
        .connect(
            now,
            SocketAddr::new(client, 40_000),
            SocketAddr::new(server, 80),
            &OPTIONS,
        )
        .expect("a fresh stack connects");
    let mut accepted = None;
    let mut connected = false;
    let done = world.run_until(Duration::from_secs(120), |w| {
        for event in w.hosts[0].events.drain(..) {
            if let Event::Accepted { flow, .. } = event {
                accepted = Some(flow);
            }
        }
        connected |= w.hosts[1]
            .events
            .drain(..)
            .any(|e| e == Event::Connected(flow));
        accepted.is_some() && connected
    });
    assert!(done, "no connection within two minutes");
    (accepted.expect("accepted"), flow)
}

/// Sends `data` from `from`, reads it at `to` until FIN; both directions are checked byte by byte.
fn transfer(
    world: &mut World,
    from: (usize, FlowId),
    to: (usize, FlowId),
    data: &[u8],
    limit: Duration,
) {
    let mut sent = 0;
    let mut received = Vec::new();
    let mut finished = false;
    let mut ended = false;
    let done = world.run_until(limit, |w| {
        let now = w.now;
        while sent < data.len() {
            let n = w.hosts[from.0].stack.send(now, from.1, |space| {
                let n = space.len().min(data.len() - sent);
                space[..n].copy_from_slice(&data[sent..sent + n]);
                n
            });
            match n {
                Some(n) if n > 0 => sent += n,
                _ => break,
            }
        }
        if sent == data.len() && !finished {
            finished = true;
            w.hosts[from.0].stack.finish(now, from.1);
        }
        loop {
            match w.hosts[to.0].stack.recv(now, to.1, |bytes| {
                received.extend_from_slice(bytes);
                bytes.len()
            }) {
                Recv::Data(n) if n > 0 => {}
                Recv::Finished => {
                    ended = true;
                    break;
                }
                Recv::Data(_) | Recv::Empty | Recv::Dead => break,
            }
        }
        ended
    });
    assert!(
        done,
        "{} of {} bytes after {:?}",
        received.len(),
        data.len(),
        world.elapsed()
    );
    assert!(received == data, "bytes differ");
}

#[test]
fn both_families_both_directions() {
    for v6 in [false, true] {
        let mut world = World::new(1, 2, Link::CLEAN);
        let (server, client) = connect(&mut world, v6);
        transfer(
            &mut world,
            (1, client),
            (0, server),
            &pattern(300_000, 1),
            Duration::from_secs(60),
        );
        transfer(
            &mut world,
            (0, server),
            (1, client),
            &pattern(300_000, 2),
            Duration::from_secs(60),
        );
    }
}

#[test]
fn loss_reordering_duplication_and_corruption_change_no_byte() {
    for seed in 0..20 {
        let link = Link {
            delay: Duration::from_millis(3),
            jitter: Duration::from_millis(4),
            loss: 20,
            duplicate: 20,
            corrupt: 10,
        };
        let mut world = World::new(seed, 2, link);
        let (server, client) = connect(&mut world, seed % 2 == 0);
        transfer(
            &mut world,
            (1, client),
            (0, server),
            &pattern(60_000, 3),
            Duration::from_secs(900),
        );
        transfer(
            &mut world,
            (0, server),
            (1, client),
            &pattern(60_000, 4),
            Duration::from_secs(900),
        );
    }
}

#[test]
fn a_session_is_renewed_under_a_connection_that_lives_on() {
    let mut world = World::new(7, 2, Link::CLEAN);
    let (server, client) = connect(&mut world, false);
    for minute in 0..15_u8 {
        let data = pattern(2_000, minute);
        let mut got = Vec::new();
        let now = world.now;
        let sent = world.hosts[1].stack.send(now, client, |space| {
            space[..data.len()].copy_from_slice(&data);
            data.len()
        });
        assert_eq!(sent, Some(data.len()));
        let done = world.run_until(Duration::from_secs(30), |w| {
            let now = w.now;
            w.hosts[0].stack.recv(now, server, |bytes| {
                got.extend_from_slice(bytes);
                bytes.len()
            });
            got.len() >= data.len()
        });
        assert!(done && got == data, "minute {minute}");
        world.run_until(Duration::from_secs(60), |_| false);
        let idle_end = world.now + Duration::from_secs(60);
        world.now = world.now.max(idle_end - Duration::from_secs(1));
    }
}

#[test]
fn a_partition_heals() {
    let mut world = World::new(3, 2, Link::CLEAN);
    let (server, client) = connect(&mut world, true);
    world.partitioned = true;
    let now = world.now;
    world.hosts[1].stack.send(now, client, |space| {
        space[..5].copy_from_slice(b"hello");
        5
    });
    world.run_until(Duration::from_secs(30), |_| false);
    world.partitioned = false;
    let mut got = Vec::new();
    let done = world.run_until(Duration::from_secs(120), |w| {
        let now = w.now;
        w.hosts[0].stack.recv(now, server, |bytes| {
            got.extend_from_slice(bytes);
            bytes.len()
        });
        got == b"hello"
    });
    assert!(done);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let link = Link {
            loss: 30,
            jitter: Duration::from_millis(7),
            ..Link::CLEAN
        };
        let mut world = World::new(11, 2, link);
        let (server, client) = connect(&mut world, false);
        transfer(
            &mut world,
            (1, client),
            (0, server),
            &pattern(100_000, 5),
            Duration::from_secs(900),
        );
        (world.sent, world.elapsed())
    };
    assert_eq!(run(), run());
}
