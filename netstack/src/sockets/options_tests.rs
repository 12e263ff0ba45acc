// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options against what Linux 6.18 answered an unprivileged program.

use super::super::option_table::TABLE;
use super::*;

/// Socket, level, name, value set, value read.
type Case = ((Kind, Family), i32, i32, i32, Result<i32, Errno>);

const T4: (Kind, Family) = (Kind::Stream, Family::V4);
const U4: (Kind, Family) = (Kind::Datagram, Family::V4);
const T6: (Kind, Family) = (Kind::Stream, Family::V6);
const U6: (Kind, Family) = (Kind::Datagram, Family::V6);

fn options((kind, family): (Kind, Family)) -> Options {
    Options::new(kind, family)
}

/// Sets an `int`, then reads it.
fn set_get(of: (Kind, Family), level: i32, name: i32, value: i32) -> Result<i32, Errno> {
    let mut options = options(of);
    options.set(level, name, &value.to_ne_bytes())?;
    options
        .get(level, name)
        .map(|value| value.as_int().expect("an int option"))
}

#[test]
fn table_is_sorted_and_defaults_obey_their_rule() {
    assert!(TABLE.is_sorted_by_key(|row| (row.level, row.name)));
    for row in TABLE {
        let (low, high) = match row.rule {
            Flag => (0, 1),
            Range(low, high, _) | RangeOrDefault(low, high) => (low, high),
            OnlyZero(_) => (0, 0),
            LowWater(_) | Ignored | ReadOnly(_) | Absent(_) | Refused(_) => continue,
        };
        assert!(
            (low..=high).contains(&row.default),
            "{} {}",
            row.level,
            row.name
        );
    }
}

#[test]
fn values_as_linux_takes_and_shows_them() {
    let inval = Err(Errno::EINVAL);
    let rows: &[Case] = &[
        (T4, SOL_SOCKET, SO_REUSEADDR, 5, Ok(1)),
        (U4, SOL_SOCKET, SO_REUSEPORT, -1, Ok(1)),
        (T4, SOL_SOCKET, SO_KEEPALIVE, 300, Ok(1)),
        (U4, SOL_SOCKET, SO_BROADCAST, 1, Ok(1)),
        (T4, SOL_SOCKET, SO_OOBINLINE, 1, Ok(1)),
        (T4, SOL_SOCKET, SO_DEBUG, 0, Ok(0)),
        (T4, SOL_SOCKET, SO_DEBUG, 1, Err(Errno::EACCES)),
        (T4, SOL_SOCKET, SO_PRIORITY, 6, Ok(6)),
        (T4, SOL_SOCKET, SO_PRIORITY, 7, Err(Errno::EPERM)),
        (T4, SOL_SOCKET, SO_MARK, 1, Err(Errno::EPERM)),
        (U4, SOL_SOCKET, SO_RCVBUFFORCE, 1, Err(Errno::EPERM)),
        (T4, SOL_SOCKET, SO_SNDBUF, 0, Ok(4_608)),
        (T4, SOL_SOCKET, SO_SNDBUF, 40_000, Ok(80_000)),
        (T4, SOL_SOCKET, SO_SNDBUF, -1, Ok(425_984)),
        (U4, SOL_SOCKET, SO_RCVBUF, 1, Ok(2_304)),
        (U4, SOL_SOCKET, SO_RCVBUF, i32::MAX, Ok(425_984)),
        (T4, SOL_SOCKET, SO_RCVLOWAT, 0, Ok(1)),
        (T4, SOL_SOCKET, SO_RCVLOWAT, -1, Ok(16_777_216)),
        (U4, SOL_SOCKET, SO_RCVLOWAT, -1, Ok(i32::MAX)),
        (T4, SOL_SOCKET, SO_SNDLOWAT, 1, Err(Errno::ENOPROTOOPT)),
        (T4, SOL_SOCKET, SO_TYPE, 1, Err(Errno::ENOPROTOOPT)),
        (T4, SOL_SOCKET, SO_ERROR, 1, Err(Errno::ENOPROTOOPT)),
        (T4, SOL_SOCKET, SO_ACCEPTCONN, 1, Err(Errno::ENOPROTOOPT)),
        (T4, SOL_SOCKET, SO_PASSCRED, 1, Err(Errno::EOPNOTSUPP)),
        (T4, SOL_SOCKET, SO_BSDCOMPAT, 1, Ok(0)),
        (T4, SOL_SOCKET, SO_INCOMING_CPU, -1, Ok(-1)),
        (T4, SOL_SOCKET, SO_BUSY_POLL, -1, inval),
        (T4, SOL_SOCKET, SO_TIMESTAMPNS, 2, Ok(1)),
        // Linux does not look whether there is one.
        (T4, SOL_SOCKET, SO_BINDTOIFINDEX, 3, Ok(3)),
        (T4, SOL_SOCKET, SO_BINDTOIFINDEX, -1, inval),
        (T4, SOL_SOCKET, SO_TXREHASH, -1, Ok(1)),
        (T4, SOL_TCP, TCP_INQ, 1, Ok(1)),
        (T4, SOL_TCP, TCP_INQ, 2, inval),
        (T4, SOL_TCP, TCP_TX_DELAY, 1_000, Ok(1_000)),
        (T4, SOL_TCP, TCP_TX_DELAY, i32::MAX, inval),
        (T4, SOL_IP, IP_OPTIONS, 0x0101_0101, Ok(0x0101_0101)),
        (T4, SOL_IP, IP_OPTIONS, 0x0101_0001, Ok(1)),
        (T4, SOL_IP, IP_OPTIONS, 7, inval),
        (T4, SOL_SOCKET, 250, 1, Err(Errno::ENOPROTOOPT)),
        (T4, SOL_TCP, TCP_NODELAY, 7, Ok(1)),
        (T4, SOL_TCP, TCP_CORK, 1, Ok(1)),
        (T4, SOL_TCP, TCP_MAXSEG, 300, Ok(300)),
        (T4, SOL_TCP, TCP_MAXSEG, 5, inval),
        (T4, SOL_TCP, TCP_MAXSEG, 40_000, inval),
        (T4, SOL_TCP, TCP_KEEPIDLE, 0, inval),
        (T4, SOL_TCP, TCP_KEEPIDLE, 300, Ok(300)),
        (T4, SOL_TCP, TCP_KEEPIDLE, 40_000, inval),
        (T4, SOL_TCP, TCP_KEEPINTVL, 1, Ok(1)),
        (T4, SOL_TCP, TCP_KEEPCNT, 300, inval),
        (T4, SOL_TCP, TCP_SYNCNT, 5, Ok(5)),
        (T4, SOL_TCP, TCP_LINGER2, 0, Ok(60)),
        (T4, SOL_TCP, TCP_LINGER2, -1, Ok(-1)),
        (T4, SOL_TCP, TCP_LINGER2, 300, Ok(120)),
        (T4, SOL_TCP, TCP_DEFER_ACCEPT, 5, Ok(7)),
        (T4, SOL_TCP, TCP_DEFER_ACCEPT, 300, Ok(367)),
        (T4, SOL_TCP, TCP_DEFER_ACCEPT, -1, Ok(0)),
        (T4, SOL_TCP, TCP_DEFER_ACCEPT, 40_000, Ok(29_887)),
        (T4, SOL_TCP, TCP_WINDOW_CLAMP, 5, Ok(1_152)),
        (T4, SOL_TCP, TCP_WINDOW_CLAMP, 40_000, Ok(40_000)),
        (T4, SOL_TCP, TCP_QUICKACK, 5, Ok(1)),
        (T4, SOL_TCP, TCP_USER_TIMEOUT, -1, inval),
        (T4, SOL_TCP, TCP_USER_TIMEOUT, 40_000, Ok(40_000)),
        (T4, SOL_TCP, TCP_REPAIR, 1, Err(Errno::EPERM)),
        (T4, SOL_TCP, TCP_FASTOPEN, 5, Ok(5)),
        (T4, SOL_TCP, TCP_FASTOPEN_CONNECT, 5, inval),
        (T4, SOL_TCP, TCP_INFO, 1, Err(Errno::ENOPROTOOPT)),
        (T4, SOL_TCP, 14, 1, Err(Errno::EINVAL)), // TCP_MD5SIG: too short
        (U4, SOL_TCP, TCP_NODELAY, 1, Err(Errno::ENOPROTOOPT)),
        (T6, SOL_TCP, TCP_NODELAY, 1, Ok(1)),
        (T4, SOL_IP, IP_TOS, 5, Ok(4)),
        (T4, SOL_IP, IP_TOS, -1, Ok(252)),
        (U4, SOL_IP, IP_TOS, 5, Ok(5)),
        (U4, SOL_IP, IP_TOS, 300, Ok(44)),
        (U4, SOL_IP, IP_TTL, 0, inval),
        (U4, SOL_IP, IP_TTL, -1, Ok(64)),
        (U4, SOL_IP, IP_TTL, 300, inval),
        (U6, SOL_IP, IP_TTL, 9, Ok(9)),
        (U4, SOL_IP, IP_MTU_DISCOVER, 5, Ok(5)),
        (U4, SOL_IP, IP_MTU_DISCOVER, -1, inval),
        (U4, SOL_IP, IP_RECVERR, 1, Ok(1)),
        (U4, SOL_IP, IP_PKTINFO, 1, Ok(1)),
        (U4, SOL_IP, IP_FREEBIND, 1, Ok(1)),
        (U4, SOL_IP, IP_TRANSPARENT, 0, Ok(0)),
        (U4, SOL_IP, IP_TRANSPARENT, 1, Err(Errno::EPERM)),
        (T4, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1, Ok(1)),
        (U4, SOL_IP, IP_MULTICAST_TTL, -1, Ok(1)),
        (U4, SOL_IP, IP_MULTICAST_TTL, 300, inval),
        (T6, SOL_IPV6, IPV6_V6ONLY, 5, Ok(1)),
        (T6, SOL_IPV6, IPV6_UNICAST_HOPS, -1, Ok(64)),
        (T6, SOL_IPV6, IPV6_UNICAST_HOPS, 300, inval),
        (T6, SOL_IPV6, IPV6_TCLASS, 5, Ok(4)),
        (U6, SOL_IPV6, IPV6_TCLASS, 5, Ok(5)),
        (U6, SOL_IPV6, IPV6_TCLASS, 300, inval),
        (U6, SOL_IPV6, IPV6_RECVPKTINFO, 1, Ok(1)),
        (U6, SOL_IPV6, IPV6_RECVERR, 1, Ok(1)),
        (U6, SOL_IPV6, IPV6_MULTICAST_HOPS, 5, Ok(5)),
        (U6, SOL_IPV6, IPV6_MULTICAST_LOOP, 5, inval),
        (U6, SOL_IPV6, IPV6_MULTICAST_IF, 5, Err(Errno::ENODEV)),
        (T4, SOL_IPV6, IPV6_V6ONLY, 1, Err(Errno::ENOPROTOOPT)),
    ];
    for (of, level, name, value, expected) in rows {
        assert_eq!(
            set_get(*of, *level, *name, *value),
            *expected,
            "{of:?} {level} {name} = {value}"
        );
    }
}

#[test]
fn lengths() {
    // SOL_SOCKET and SOL_TCP want a whole int; SOL_IP takes a byte.
    for of in [T4, U4, T6, U6] {
        let mut options = options(of);
        for short in [&b""[..], b"\x01", b"\x01\x00\x00"] {
            assert_eq!(
                options.set(SOL_SOCKET, SO_REUSEADDR, short),
                Err(Errno::EINVAL)
            );
        }
        assert_eq!(
            options.set(SOL_SOCKET, SO_LINGER, &1_i32.to_ne_bytes()),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            options.set(SOL_SOCKET, 250, &1_i32.to_ne_bytes()),
            Err(Errno::ENOPROTOOPT)
        );
        options.set(SOL_IP, IP_TTL, &[7]).unwrap();
        assert_eq!(options.value(SOL_IP, IP_TTL), 7);
        assert_eq!(options.set(SOL_IP, IP_TTL, &[]), Err(Errno::EINVAL));
        options.set(SOL_IP, IP_TOS, &[]).unwrap();
        options.set(SOL_IP, IP_OPTIONS, &[]).unwrap();
    }
    let options = options(U4);
    let get = |level, name, len| {
        options
            .get(level, name)
            .unwrap()
            .fit(level, name, len)
            .map(<[u8]>::to_vec)
    };
    assert_eq!(get(SOL_IP, IP_TTL, 4), Ok(64_i32.to_ne_bytes().to_vec()));
    assert_eq!(get(SOL_IP, IP_TTL, 3), Ok(vec![64]));
    assert_eq!(get(SOL_IP, IP_TTL, 0), Ok(vec![]));
    assert_eq!(get(SOL_SOCKET, SO_REUSEADDR, 3), Ok(vec![0; 3]));
    assert_eq!(get(SOL_SOCKET, SO_LINGER, 4), Ok(vec![0; 4]));
    assert_eq!(get(SOL_SOCKET, SO_LINGER, 100), Ok(vec![0; 8]));
    assert_eq!(get(SOL_SOCKET, SO_LINGER, -1), Err(Errno::EINVAL));
}

#[test]
fn levels_that_a_socket_does_not_have() {
    for (of, level, expected) in [
        (U4, SOL_TCP, Errno::EOPNOTSUPP),
        (T4, SOL_UDP, Errno::EOPNOTSUPP),
        (T4, SOL_IPV6, Errno::EOPNOTSUPP),
        (T4, 284, Errno::EOPNOTSUPP), // SOL_MPTCP
        (U6, SOL_TCP, Errno::ENOPROTOOPT),
        (T6, SOL_UDP, Errno::ENOPROTOOPT),
        (T6, 284, Errno::ENOPROTOOPT),
    ] {
        assert_eq!(options(of).get(level, 1), Err(expected), "{of:?} {level}");
        assert_eq!(
            options(of).set(level, 1, &1_i32.to_ne_bytes()),
            Err(Errno::ENOPROTOOPT)
        );
    }
}

#[test]
fn names_devices_and_lists() {
    let mut options = options(T4);
    assert_eq!(
        options
            .get(SOL_TCP, TCP_CONGESTION)
            .unwrap()
            .fit(SOL_TCP, TCP_CONGESTION, 3),
        Ok(&b"cub"[..])
    );
    assert_eq!(options.set(SOL_TCP, TCP_CONGESTION, b"cubic"), Ok(()));
    assert_eq!(options.set(SOL_TCP, TCP_CONGESTION, b"cubic\0rest"), Ok(()));
    assert_eq!(
        options.set(SOL_TCP, TCP_CONGESTION, b"nope"),
        Err(Errno::ENOENT)
    );
    assert_eq!(
        options.set(SOL_TCP, TCP_CONGESTION, b""),
        Err(Errno::EINVAL)
    );
    assert_eq!(options.set(SOL_TCP, TCP_ULP, b"tls"), Err(Errno::ENOENT));
    let device = |options: &Options, len| {
        options
            .get(SOL_SOCKET, SO_BINDTODEVICE)
            .unwrap()
            .fit(SOL_SOCKET, SO_BINDTODEVICE, len)
            .map(<[u8]>::to_vec)
    };
    assert_eq!(device(&options, 4), Ok(vec![]));
    assert_eq!(
        options.set(SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0"),
        Err(Errno::ENODEV)
    );
    options
        .set(SOL_SOCKET, SO_BINDTODEVICE, b"netcon0\0\0\0")
        .unwrap();
    assert_eq!(device(&options, 16), Ok(b"netcon0\0".to_vec()));
    assert_eq!(device(&options, 4), Err(Errno::EINVAL));
    assert_eq!(
        options.get(SOL_SOCKET, SO_BINDTOIFINDEX),
        Ok(OptionValue::int(2))
    );
    assert_eq!(
        options.set(SOL_SOCKET, SO_BINDTODEVICE, b""),
        Err(Errno::EPERM),
        "bound for good"
    );
    assert_eq!(device(&options, 16), Ok(b"netcon0\0".to_vec()));
    assert_eq!(options.get(SOL_SOCKET, SO_PEERGROUPS), Err(Errno::ENODATA));
    assert_eq!(
        options.get(SOL_SOCKET, SO_PEERCRED),
        Ok(OptionValue::bytes(ints(&[0, -1, -1])))
    );
}

#[test]
fn what_the_engine_is_told() {
    let mut options = options(T4);
    let plain = options.tcp(false);
    assert_eq!(
        (plain.keepalive, plain.user_timeout, plain.hop_limit),
        (None, None, 64)
    );
    assert_eq!(plain.connect_timeout, Duration::from_secs(127));
    for (level, name, value) in [
        (SOL_SOCKET, SO_KEEPALIVE, 1_i32),
        (SOL_TCP, TCP_KEEPIDLE, 10),
        (SOL_TCP, TCP_KEEPINTVL, 3),
        (SOL_TCP, TCP_KEEPCNT, 2),
        (SOL_TCP, TCP_SYNCNT, 2),
        (SOL_TCP, TCP_NODELAY, 1),
        (SOL_IP, IP_TTL, 5),
    ] {
        options.set(level, name, &value.to_ne_bytes()).unwrap();
    }
    let told = options.tcp(false);
    assert_eq!(
        told.keepalive,
        Some((Duration::from_secs(10), Duration::from_secs(3), 2))
    );
    assert_eq!(
        (told.connect_timeout, told.nodelay, told.hop_limit),
        (Duration::from_secs(7), true, 5)
    );
    options
        .set(SOL_TCP, TCP_USER_TIMEOUT, &1_500_i32.to_ne_bytes())
        .unwrap();
    assert_eq!(
        options.tcp(false).connect_timeout,
        Duration::from_millis(1_500)
    );
    options
        .set(SOL_TCP, TCP_SYNCNT, &127_i32.to_ne_bytes())
        .unwrap();
    assert_eq!(options.tcp(true).hop_limit, 64);
}

#[test]
fn linger_ports_and_pacing() {
    let mut options = options(T4);
    assert_eq!(options.linger(), None);
    options.set(SOL_SOCKET, SO_LINGER, &ints(&[3, 0])).unwrap();
    assert_eq!(options.linger(), Some(Duration::ZERO));
    assert_eq!(
        options.get(SOL_SOCKET, SO_LINGER),
        Ok(OptionValue::bytes(ints(&[1, 0])))
    );
    options.set(SOL_SOCKET, SO_LINGER, &ints(&[0, 9])).unwrap();
    assert_eq!(options.linger(), None);
    assert_eq!(options.ephemeral(), (32_768, 60_999));
    options
        .set(
            SOL_IP,
            IP_LOCAL_PORT_RANGE,
            &(40_000_u32 | 40_010 << 16).to_ne_bytes(),
        )
        .unwrap();
    assert_eq!(options.ephemeral(), (40_000, 40_010));
    assert_eq!(
        options.set(
            SOL_IP,
            IP_LOCAL_PORT_RANGE,
            &(2_u32 | 1 << 16).to_ne_bytes()
        ),
        Err(Errno::EINVAL)
    );
    options
        .set(SOL_SOCKET, SO_MAX_PACING_RATE, &1_000_i32.to_ne_bytes())
        .unwrap();
    assert_eq!(
        options
            .get(SOL_SOCKET, SO_MAX_PACING_RATE)
            .unwrap()
            .as_bytes(),
        1_000_u64.to_ne_bytes()
    );
}

/// No option, value or length a program can pass makes a panic.
#[test]
fn every_option_and_length_is_harmless() {
    for of in [T4, U4, T6, U6] {
        let mut options = options(of);
        for level in [SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP, SOL_IPV6, -1, i32::MAX] {
            for name in (-2..120).chain([i32::MAX, i32::MIN]) {
                for length in [0, 1, 3, 4, 8, 12, 20, 64] {
                    for byte in [0, 1, 0x7f, 0xff] {
                        let _ = options.set(level, name, &vec![byte; length]);
                    }
                }
                for length in [-1, 0, 1, 4, 16, 4_096] {
                    let _ = options
                        .get(level, name)
                        .map(|value| value.fit(level, name, length).map(<[u8]>::len));
                }
                let _ = (
                    options.tcp(false),
                    options.tcp(true),
                    options.linger(),
                    options.ephemeral(),
                );
            }
        }
    }
}
