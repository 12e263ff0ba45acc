// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Making sockets, and the addresses and ports they are bound to.

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{BindError, CloseHow, Listen, SocketEvent, SocketId};

use crate::world::*;

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
        (2, 3, 17, Err(Errno::EPERM)),
        (2, 5, 0, Err(Errno::ESOCKTNOSUPPORT)),
        (2, 11, 0, Err(Errno::EINVAL)),
        (2, 2, 1, Ok(())),
        (10, 2, 58, Ok(())),
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
        // A group of the link wants its scope.
        (10, DGRAM, "[ff02::fb]:5353", Err(Errno::EINVAL)),
        (10, DGRAM, "[ff05::fb]:5353", Ok("[ff05::fb]:5353")),
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
