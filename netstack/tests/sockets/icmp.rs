// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Echo sockets and raw sockets, against what Linux 6.18 answered.

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{BindError, SocketId, Sockets};
use netcon_netstack::stack::Datagram;

use crate::world::{DGRAM, World, address, set, to};

const RAW: i32 = 3;
const INET: i32 = 2;
const INET6: i32 = 10;
const ICMP: i32 = 1;
const ICMPV6: i32 = 58;

fn echo(host: &mut Sockets) -> SocketId {
    host.socket(INET, DGRAM, ICMP).unwrap()
}

fn request(kind: u8, code: u8) -> Vec<u8> {
    vec![kind, code, 0, 0, 0x12, 0x34, 0, 1, b'h', b'i']
}

fn all(host: &mut Sockets, id: SocketId) -> Vec<Datagram> {
    std::iter::from_fn(|| host.udp_recv(id)).collect()
}

#[test]
fn which_sockets_there_are() {
    let mut world = World::new();
    let host = &mut world.hosts[0];
    for (family, kind, protocol, expected) in [
        (INET, DGRAM, ICMP, Ok(())),
        (INET6, DGRAM, ICMPV6, Ok(())),
        (INET, DGRAM, ICMPV6, Err(Errno::EPROTONOSUPPORT)),
        (INET6, DGRAM, ICMP, Err(Errno::EPROTONOSUPPORT)),
        (INET, RAW, ICMP, Ok(())),
        (INET6, RAW, ICMPV6, Ok(())),
        (INET, RAW, ICMPV6, Err(Errno::EPERM)),
        (INET6, RAW, ICMP, Err(Errno::EPERM)),
        (INET, RAW, 255, Err(Errno::EPERM)),
        (INET, RAW, 17, Err(Errno::EPERM)),
        (INET, RAW, 6, Err(Errno::EPERM)),
        (INET, RAW, 0, Err(Errno::EPROTONOSUPPORT)),
        (INET6, RAW, 0, Err(Errno::EPROTONOSUPPORT)),
        (INET, RAW, 262, Err(Errno::EPERM)),
        (INET, RAW, 263, Err(Errno::EINVAL)),
        (INET, 1, ICMP, Err(Errno::EPROTONOSUPPORT)),
    ] {
        let made = host.socket(family, kind, protocol).map(|_| ());
        assert_eq!(made, expected, "{family} {kind} {protocol}");
    }
}

/// The setting of the network: no new raw sockets, echo sockets as before, and what is open goes on.
#[test]
fn raw_sockets_can_be_forbidden() {
    let mut world = World::new();
    let host = &mut world.hosts[0];
    let before = host.socket(INET, RAW, ICMP).unwrap();
    host.set_raw(false);
    for (family, protocol) in [(INET, ICMP), (INET6, ICMPV6)] {
        assert_eq!(host.socket(family, RAW, protocol), Err(Errno::EPERM));
    }
    let id = echo(host);
    host.udp_send(world.now, id, Some(address("127.0.0.1:0")), &request(8, 0))
        .unwrap();
    assert_eq!(all(host, id).len(), 1);
    assert_eq!(all(host, before).len(), 2, "request and reply");
    host.set_raw(true);
    assert!(host.socket(INET, RAW, ICMP).is_ok());
}

#[test]
fn raw_sockets_are_bounded_and_come_back() {
    let mut world = World::new();
    let host = &mut world.hosts[0];
    let made: Vec<SocketId> = (0..256)
        .map(|_| host.socket(INET, RAW, ICMP).unwrap())
        .collect();
    assert_eq!(host.socket(INET6, RAW, ICMPV6), Err(Errno::ENFILE));
    host.close(
        world.now,
        made[9],
        netcon_netstack::sockets::CloseHow::Graceful,
    );
    assert!(host.socket(INET6, RAW, ICMPV6).is_ok());
    assert_eq!(host.socket(INET, RAW, ICMP), Err(Errno::ENFILE));
}

#[test]
fn an_echo_socket_sends_echo_requests_only() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    for (family, protocol, local, good, bad) in [
        (INET, ICMP, "127.0.0.1:0", [8, 42], [0, 3, 10, 13, 128]),
        (INET6, ICMPV6, "[::1]:0", [128, 160], [129, 1, 133, 135, 8]),
    ] {
        let id = host.socket(family, DGRAM, protocol).unwrap();
        let there = Some(address(local));
        for kind in good {
            assert_eq!(host.udp_send(now, id, there, &request(kind, 0)), Ok(10));
            assert_eq!(
                host.udp_send(now, id, there, &request(kind, 1)),
                Err(Errno::EINVAL)
            );
            assert_eq!(
                host.udp_send(now, id, None, &request(kind, 0)),
                Err(Errno::EDESTADDRREQ)
            );
        }
        for kind in bad {
            assert_eq!(
                host.udp_send(now, id, there, &request(kind, 0)),
                Err(Errno::EINVAL),
                "{kind}"
            );
        }
        assert_eq!(
            host.udp_send(now, id, there, &request(good[0], 0)[..7]),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            host.udp_send(now, id, there, &request(good[0], 0)[..8]),
            Ok(8)
        );
        let longest = if family == INET { 65_515 } else { 65_535 };
        let mut long = request(good[0], 0);
        long.resize(longest, 0);
        assert_eq!(host.udp_send(now, id, there, &long), Ok(longest));
        long.push(0);
        assert_eq!(host.udp_send(now, id, there, &long), Err(Errno::EMSGSIZE));
        let number = host.local_address(id).unwrap().port();
        let replies = all(host, id);
        assert_eq!(replies.len(), 3, "two short ones and the long one");
        for reply in replies {
            assert_eq!(reply.from, address(local));
            assert_eq!(reply.payload[4..6], number.to_be_bytes());
        }
    }
    let six = host.socket(INET6, DGRAM, ICMPV6).unwrap();
    for (there, errno) in [
        ("[::ffff:127.0.0.1]:0", Errno::EINVAL),
        ("[::]:0", Errno::ENETUNREACH),
        ("127.0.0.1:0", Errno::EAFNOSUPPORT),
    ] {
        let sent = host.udp_send(now, six, Some(address(there)), &request(128, 0));
        assert_eq!(sent, Err(errno), "{there}");
    }
    assert_eq!(
        host.connect(now, six, to("[::ffff:127.0.0.1]:7")).err(),
        Some(Errno::ENETUNREACH)
    );
}

/// One table for all addresses and both families; sockets share unless one does not want to; the newest hears.
#[test]
fn identifiers_are_shared_unless_somebody_minds() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let (first, second) = (echo(host), echo(host));
    let six = host.socket(INET6, DGRAM, ICMPV6).unwrap();
    host.bind(first, address("0.0.0.0:500")).unwrap();
    host.bind(second, address("0.0.0.0:500")).unwrap();
    host.bind(six, address("[::]:500")).unwrap();
    host.udp_send(now, first, Some(address("127.0.0.1:0")), &request(8, 0))
        .unwrap();
    assert_eq!((all(host, first).len(), all(host, second).len()), (0, 1));
    host.close(now, second, netcon_netstack::sockets::CloseHow::Graceful);
    host.udp_send(now, first, Some(address("127.0.0.1:0")), &request(8, 0))
        .unwrap();
    assert_eq!(all(host, first).len(), 1);

    set(host, now, first, 1, 2, 0).unwrap();
    let third = echo(host);
    for there in ["0.0.0.0:500", "127.0.0.2:500"] {
        let bound = host.bind(third, address(there));
        assert_eq!(
            bound,
            Err(BindError::InUse {
                holders: vec![first]
            }),
            "{there}"
        );
    }
    set(host, now, first, 1, 2, 1).unwrap();
    set(host, now, third, 1, 2, 0).unwrap();
    assert_eq!(
        host.bind(third, address("127.0.0.2:500"))
            .map_err(|error| error.errno()),
        Err(Errno::EADDRINUSE)
    );
    host.bind(third, address("127.0.0.2:0")).unwrap();
    let chosen = host.local_address(third).unwrap().port();
    assert!(
        chosen != 0 && chosen < 0xff00,
        "{chosen}: not the supervisor's own"
    );
    for (there, errno) in [
        ("192.0.2.1:1", Errno::EADDRNOTAVAIL),
        ("224.0.0.1:1", Errno::EADDRNOTAVAIL),
        ("255.255.255.255:1", Errno::EADDRNOTAVAIL),
    ] {
        let id = echo(host);
        assert_eq!(
            host.bind(id, address(there)),
            Err(BindError::Errno(errno)),
            "{there}"
        );
    }
    let mapped = host.socket(INET6, DGRAM, ICMPV6).unwrap();
    assert_eq!(
        host.bind(mapped, address("[::ffff:127.0.0.1]:7")),
        Err(BindError::Errno(Errno::EINVAL))
    );
}

#[test]
fn a_connected_echo_socket_hears_whoever_knows_its_identifier() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let id = echo(host);
    host.connect(now, id, to("127.0.0.1:0")).unwrap();
    assert_eq!(host.peer_address(id), Err(Errno::ENOTCONN), "port 0");
    assert_eq!(host.udp_send(now, id, None, &request(8, 0)), Ok(10));
    host.udp_send(now, id, Some(address("127.0.0.2:0")), &request(8, 0))
        .unwrap();
    let sources: Vec<_> = all(host, id).iter().map(|reply| reply.from).collect();
    assert_eq!(sources, [address("127.0.0.1:0"), address("127.0.0.2:0")]);
    host.connect(now, id, to("127.0.0.1:9")).unwrap();
    assert_eq!(host.peer_address(id), Ok(address("127.0.0.1:9")));
    host.connect(now, id, netcon_netstack::sockets::ConnectTo::Unspecified)
        .unwrap();
    assert_eq!(host.local_address(id), Ok(address("0.0.0.0:0")));
    assert_eq!(
        host.udp_send(now, id, Some(address("127.0.0.1:0")), &request(8, 0)),
        Ok(10)
    );
}

#[test]
fn a_raw_socket_has_no_ports() {
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let id = host.socket(INET, RAW, ICMP).unwrap();
    assert_eq!(host.local_address(id), Ok(address("0.0.0.0:1")));
    host.bind(id, address("127.0.0.2:55")).unwrap();
    host.bind(id, address("127.0.0.3:0")).unwrap();
    assert_eq!(host.local_address(id), Ok(address("127.0.0.3:1")));
    assert_eq!(
        host.bind(id, address("192.0.2.1:0")),
        Err(BindError::Errno(Errno::EADDRNOTAVAIL))
    );
    let mut message = request(8, 0);
    message[2..4].copy_from_slice(&[0x7d, 0x61]);
    host.udp_send(now, id, Some(address("127.0.0.1:99")), &message)
        .unwrap();
    let heard = all(host, id);
    assert_eq!(heard.len(), 1, "only what is sent to its address");
    assert_eq!(
        (heard[0].from, heard[0].payload[20]),
        (address("127.0.0.1:0"), 0)
    );
    host.connect(now, id, to("127.0.0.1:5")).unwrap();
    assert_eq!(host.peer_address(id), Ok(address("127.0.0.1:5")));
    assert_eq!(host.local_address(id), Ok(address("127.0.0.3:1")));
    assert_eq!(
        host.bind(id, address("127.0.0.1:0")),
        Err(BindError::Errno(Errno::EINVAL))
    );

    let six = host.socket(INET6, RAW, ICMPV6).unwrap();
    assert_eq!(host.local_address(six), Ok(address("[::]:58")));
    for (there, expected) in [
        ("[::1]:0", Ok(10)),
        ("[::1]:58", Ok(10)),
        ("[::]:0", Ok(10)),
        ("[::1]:59", Err(Errno::EINVAL)),
        ("[::ffff:127.0.0.1]:0", Err(Errno::ENETUNREACH)),
        ("127.0.0.1:0", Err(Errno::EAFNOSUPPORT)),
    ] {
        assert_eq!(
            host.udp_send(now, six, Some(address(there)), &request(128, 0)),
            expected,
            "{there}"
        );
    }
    assert_eq!(all(host, six).len(), 6);
    assert_eq!(
        host.udp_send(now, six, Some(address("[::1]:0")), &[128, 0, 0]),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        host.udp_send(now, six, Some(address("[::1]:0")), &[]),
        Err(Errno::EFAULT)
    );
    assert_eq!(
        host.udp_send(now, six, None, &request(128, 0)),
        Err(Errno::EDESTADDRREQ)
    );
    assert_eq!(
        host.bind(six, address("[::ffff:127.0.0.1]:0")),
        Err(BindError::Errno(Errno::EADDRNOTAVAIL))
    );
}

/// Level, name, value, and what setsockopt(2) said: on a raw socket of IPv4, of IPv6, an echo socket of each.
#[test]
fn options_of_icmp() {
    use Errno as E;
    let mut world = World::new();
    let now = world.now;
    let host = &mut world.hosts[0];
    let ids = [
        host.socket(INET, RAW, ICMP).unwrap(),
        host.socket(INET6, RAW, ICMPV6).unwrap(),
        host.socket(INET, DGRAM, ICMP).unwrap(),
        host.socket(INET6, DGRAM, ICMPV6).unwrap(),
    ];
    let absent = Err(E::ENOPROTOOPT);
    for (level, name, value, expected) in [
        (0, 3, 1_i32, [Ok(()), absent, absent, absent]),
        (255, 1, -2, [Ok(()), absent, absent, absent]),
        (255, 2, 1, [absent; 4]),
        (58, 1, -1, [absent, Ok(()), absent, absent]),
        (58, 2, 1, [absent; 4]),
        (255, 7, 4, [absent, Ok(()), absent, absent]),
        (255, 7, 3, [absent, Err(E::EINVAL), absent, absent]),
        (255, 7, -5, [absent, Ok(()), absent, absent]),
        (41, 7, 2, [absent, Err(E::EINVAL), absent, absent]),
        (17, 1, 0, [absent; 4]),
    ] {
        for (id, expected) in ids.into_iter().zip(expected) {
            let done = host.set_option(now, id, level, name, &value.to_ne_bytes());
            assert_eq!(done, expected, "{level} {name} {value} {id:?}");
        }
    }
    let none = Err(E::ENOPROTOOPT);
    for (level, name, expected) in [
        (0, 3, [Ok(1), none, Ok(0), Ok(0)]),
        (255, 1, [Ok(-2), none, Err(E::EOPNOTSUPP), none]),
        (255, 7, [none, Ok(-1), Err(E::EOPNOTSUPP), none]),
        (
            41,
            7,
            [Err(E::EOPNOTSUPP), Ok(-1), Err(E::EOPNOTSUPP), none],
        ),
        (
            41,
            26,
            [Err(E::EOPNOTSUPP), Ok(0), Err(E::EOPNOTSUPP), Ok(1)],
        ),
        (1, 2, [Ok(1); 4]),
        (1, 3, [Ok(3), Ok(3), Ok(2), Ok(2)]),
        (1, 38, [Ok(1), Ok(58), Ok(1), Ok(58)]),
    ] {
        for (id, expected) in ids.into_iter().zip(expected) {
            let read = host
                .get_option(now, id, level, name)
                .map(|value| value.as_int().unwrap());
            assert_eq!(read, expected, "{level} {name} {id:?}");
        }
    }
    let filter = host.get_option(now, ids[1], 58, 1).unwrap();
    assert_eq!(filter.as_bytes()[..4], [255; 4]);
    assert_eq!(filter.as_bytes()[4..], [0; 28]);
    // Types 0 to 31 are not heard, all others are; and of IPv4 type 0 alone.
    host.set_option(now, ids[1], 255, 7, &2_i32.to_ne_bytes())
        .unwrap();
    host.set_option(now, ids[0], 0, 3, &[0]).unwrap();
    for kind in [1, 30, 128] {
        host.udp_send(now, ids[1], Some(address("[::1]:0")), &request(kind, 0))
            .unwrap();
    }
    let heard = all(host, ids[1]);
    assert_eq!(
        heard.iter().map(|one| one.payload[0]).collect::<Vec<_>>(),
        [128, 129]
    );
    host.udp_send(now, ids[2], Some(address("127.0.0.1:0")), &request(8, 0))
        .unwrap();
    assert_eq!(
        all(host, ids[0])
            .iter()
            .map(|one| one.payload[20])
            .collect::<Vec<_>>(),
        [0]
    );
}

/// raw(7): with IP_HDRINCL the program writes the header; whose packet it is stays the stack's to say.
#[test]
fn a_written_header_cannot_name_another_source() {
    let mut world = World::new();
    let now = world.now;
    let raw = world.hosts[0].socket(INET, RAW, ICMP).unwrap();
    let other = world.hosts[1].socket(INET, RAW, ICMP).unwrap();
    set(&mut world.hosts[0], now, raw, 0, 3, 1).unwrap();
    let packet = |src: [u8; 4], protocol: u8| {
        let mut packet = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 9, protocol, 0, 0];
        packet.extend_from_slice(&src);
        packet.extend_from_slice(&[10, 9, 0, 2]);
        packet.extend_from_slice(&[13, 0, 0xf2, 0xff, 0, 0, 0, 0]);
        packet
    };
    let there = Some(address("10.9.0.2:0"));
    for (src, protocol, expected) in [
        ([0; 4], 1, Ok(28)),
        ([10, 9, 0, 1], 1, Ok(28)),
        ([10, 9, 0, 2], 1, Err(Errno::EPERM)),
        ([127, 0, 0, 1], 1, Err(Errno::EPERM)),
        ([10, 9, 0, 1], 6, Err(Errno::EPERM)),
    ] {
        let sent = world.hosts[0].udp_send(now, raw, there, &packet(src, protocol));
        assert_eq!(sent, expected, "{src:?} {protocol}");
    }
    assert_eq!(
        world.hosts[0].udp_send(now, raw, there, &packet([0; 4], 1)[..19]),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        world.hosts[0].udp_send(now, raw, Some(address("10.9.0.3:0")), &packet([0; 4], 1)),
        Err(Errno::EINVAL)
    );
    world.run();
    let heard = all(&mut world.hosts[1], other);
    assert_eq!(heard.len(), 2);
    for one in heard {
        assert_eq!((one.from, one.hop_limit), (address("10.9.0.1:0"), 9));
        assert_eq!(one.payload[2..6], [0, 28, 0, 7]);
    }
}
