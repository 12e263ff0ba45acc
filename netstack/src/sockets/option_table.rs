// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The options that are one `int`: on which sockets, default, and what setsockopt(2) takes.

use super::Kind;
use super::names::*;
use crate::errno::Errno;

/// Which sockets have an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Any,
    Stream,
    Datagram,
}

/// What setsockopt(2) does with the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// 0 stays 0, everything else is 1.
    Flag,
    /// A number within bounds; else that error.
    Range(i32, i32, Errno),
    /// As `Range`; -1 brings the default back.
    RangeOrDefault(i32, i32),
    /// Negative is INT_MAX, 0 is 1, at most that much.
    LowWater(i32),
    /// 0 is taken (it changes nothing), everything else refused.
    OnlyZero(Errno),
    /// Taken and forgotten.
    Ignored,
    /// Cannot be set.
    ReadOnly(Errno),
    /// Neither set nor read.
    Absent(Errno),
    /// Setting refused whatever the value; reading gives the default.
    Refused(Errno),
}

pub(super) struct Row {
    pub(super) level: i32,
    pub(super) name: i32,
    pub(super) of: Of,
    pub(super) default: i32,
    pub(super) rule: Rule,
}

const fn row(level: i32, name: i32, of: Of, default: i32, rule: Rule) -> Row {
    Row {
        level,
        name,
        of,
        default,
        rule,
    }
}

use Of::{Any, Datagram, Stream};
use Rule::{Absent, Flag, Ignored, LowWater, OnlyZero, Range, RangeOrDefault, ReadOnly, Refused};

const INVALID: Errno = Errno::EINVAL;
const MAX: i32 = i32::MAX;

/// The options that are one `int`. Sorted by level and name.
pub(super) static TABLE: &[Row] = &[
    row(SOL_IP, IP_TOS, Any, 0, Ignored), // see set()
    row(SOL_IP, IP_TTL, Any, 64, RangeOrDefault(1, 255)),
    row(SOL_IP, IP_HDRINCL, Any, 0, Refused(Errno::ENOPROTOOPT)),
    row(SOL_IP, IP_ROUTER_ALERT, Any, 0, Refused(Errno::ENOPROTOOPT)),
    row(SOL_IP, IP_RECVOPTS, Any, 0, Flag),
    row(SOL_IP, IP_RETOPTS, Any, 0, Flag),
    row(SOL_IP, IP_PKTINFO, Any, 0, Flag),
    row(SOL_IP, IP_MTU_DISCOVER, Any, 1, Range(0, 5, INVALID)),
    row(SOL_IP, IP_RECVERR, Any, 0, Flag),
    row(SOL_IP, IP_RECVTTL, Any, 0, Flag),
    row(SOL_IP, IP_RECVTOS, Any, 0, Flag),
    row(SOL_IP, IP_FREEBIND, Any, 0, Flag),
    row(SOL_IP, IP_IPSEC_POLICY, Any, 0, Refused(Errno::EPERM)),
    row(SOL_IP, IP_XFRM_POLICY, Any, 0, Refused(Errno::EPERM)),
    row(SOL_IP, IP_PASSSEC, Any, 0, Flag),
    row(SOL_IP, IP_TRANSPARENT, Any, 0, OnlyZero(Errno::EPERM)),
    row(SOL_IP, IP_RECVORIGDSTADDR, Any, 0, Flag),
    row(SOL_IP, IP_MINTTL, Any, 0, Range(0, 255, INVALID)),
    row(SOL_IP, IP_NODEFRAG, Any, 0, Refused(Errno::ENOPROTOOPT)),
    row(SOL_IP, IP_CHECKSUM, Any, 0, Flag),
    row(SOL_IP, IP_BIND_ADDRESS_NO_PORT, Any, 0, Flag),
    row(SOL_IP, IP_RECVFRAGSIZE, Datagram, 0, Flag),
    row(SOL_IP, IP_RECVERR_RFC4884, Any, 0, Range(0, 1, INVALID)),
    row(
        SOL_IP,
        IP_MULTICAST_TTL,
        Datagram,
        1,
        RangeOrDefault(0, 255),
    ),
    row(SOL_IP, IP_MULTICAST_LOOP, Any, 1, Flag),
    row(SOL_IP, IP_MULTICAST_ALL, Any, 1, Range(0, 1, INVALID)),
    row(
        SOL_IP,
        IP_UNICAST_IF,
        Any,
        0,
        OnlyZero(Errno::EADDRNOTAVAIL),
    ),
    row(SOL_SOCKET, SO_DEBUG, Any, 0, OnlyZero(Errno::EACCES)),
    row(SOL_SOCKET, SO_REUSEADDR, Any, 0, Flag),
    row(SOL_SOCKET, SO_DONTROUTE, Any, 0, Flag),
    row(SOL_SOCKET, SO_BROADCAST, Any, 0, Flag),
    row(SOL_SOCKET, SO_KEEPALIVE, Any, 0, Flag),
    row(SOL_SOCKET, SO_OOBINLINE, Any, 0, Flag),
    row(SOL_SOCKET, SO_NO_CHECK, Any, 0, Flag),
    row(SOL_SOCKET, SO_PRIORITY, Any, 0, Range(0, 6, Errno::EPERM)),
    row(SOL_SOCKET, SO_BSDCOMPAT, Any, 0, Ignored),
    row(SOL_SOCKET, SO_REUSEPORT, Any, 0, Flag),
    row(SOL_SOCKET, SO_PASSCRED, Any, 0, Absent(Errno::EOPNOTSUPP)),
    row(SOL_SOCKET, SO_RCVLOWAT, Stream, 1, LowWater(16_777_216)),
    row(SOL_SOCKET, SO_RCVLOWAT, Datagram, 1, LowWater(MAX)),
    row(
        SOL_SOCKET,
        SO_SNDLOWAT,
        Any,
        1,
        ReadOnly(Errno::ENOPROTOOPT),
    ),
    row(SOL_SOCKET, SO_DETACH_FILTER, Any, 0, Absent(Errno::ENOENT)),
    row(SOL_SOCKET, SO_TIMESTAMP, Any, 0, Flag),
    row(SOL_SOCKET, SO_SNDBUFFORCE, Any, 0, Absent(Errno::EPERM)),
    row(SOL_SOCKET, SO_RCVBUFFORCE, Any, 0, Absent(Errno::EPERM)),
    row(SOL_SOCKET, SO_PASSSEC, Any, 0, Absent(Errno::EOPNOTSUPP)),
    row(SOL_SOCKET, SO_TIMESTAMPNS, Any, 0, Flag),
    row(SOL_SOCKET, SO_MARK, Any, 0, Refused(Errno::EPERM)),
    // Hardware and transmit time stamps do not exist here.
    row(
        SOL_SOCKET,
        SO_TIMESTAMPING,
        Any,
        0,
        OnlyZero(Errno::EOPNOTSUPP),
    ),
    row(SOL_SOCKET, SO_RXQ_OVFL, Any, 0, Flag),
    row(SOL_SOCKET, SO_WIFI_STATUS, Any, 0, Flag),
    // Reads are native: a peek offset could not be honoured.
    row(
        SOL_SOCKET,
        SO_PEEK_OFF,
        Any,
        -1,
        Range(-1, -1, Errno::EOPNOTSUPP),
    ),
    row(SOL_SOCKET, SO_NOFCS, Any, 0, Flag),
    row(SOL_SOCKET, SO_LOCK_FILTER, Any, 0, Flag),
    row(SOL_SOCKET, SO_SELECT_ERR_QUEUE, Any, 0, Flag),
    row(SOL_SOCKET, SO_BUSY_POLL, Any, 0, Range(0, MAX, INVALID)),
    row(
        SOL_SOCKET,
        SO_BPF_EXTENSIONS,
        Any,
        64,
        ReadOnly(Errno::ENOPROTOOPT),
    ),
    row(
        SOL_SOCKET,
        SO_INCOMING_CPU,
        Any,
        -1,
        Range(i32::MIN, MAX, INVALID),
    ),
    row(
        SOL_SOCKET,
        SO_INCOMING_NAPI_ID,
        Any,
        0,
        ReadOnly(Errno::ENOPROTOOPT),
    ),
    // Completions would be due on the error queue.
    row(SOL_SOCKET, SO_ZEROCOPY, Any, 0, OnlyZero(Errno::EOPNOTSUPP)),
    row(SOL_SOCKET, SO_BINDTOIFINDEX, Any, 0, Ignored), // see set()
    row(SOL_SOCKET, SO_TIMESTAMP_NEW, Any, 0, Flag),
    row(SOL_SOCKET, SO_TIMESTAMPNS_NEW, Any, 0, Flag),
    row(
        SOL_SOCKET,
        SO_TIMESTAMPING_NEW,
        Any,
        0,
        OnlyZero(Errno::EOPNOTSUPP),
    ),
    row(
        SOL_SOCKET,
        SO_PREFER_BUSY_POLL,
        Any,
        0,
        OnlyZero(Errno::EPERM),
    ),
    row(SOL_SOCKET, SO_BUF_LOCK, Any, 0, Range(0, 3, INVALID)),
    row(SOL_SOCKET, SO_TXREHASH, Stream, 1, RangeOrDefault(0, 1)),
    row(
        SOL_SOCKET,
        SO_TXREHASH,
        Datagram,
        0,
        Absent(Errno::EOPNOTSUPP),
    ),
    row(SOL_SOCKET, SO_RCVMARK, Any, 0, Flag),
    row(SOL_SOCKET, SO_PASSPIDFD, Any, 0, Absent(Errno::EOPNOTSUPP)),
    row(
        SOL_SOCKET,
        SO_PEERPIDFD,
        Any,
        0,
        ReadOnly(Errno::ENOPROTOOPT),
    ), // see get()
    row(SOL_SOCKET, SO_RCVPRIORITY, Any, 0, Flag),
    row(SOL_SOCKET, SO_PASSRIGHTS, Any, 0, Absent(Errno::EOPNOTSUPP)),
    row(SOL_TCP, TCP_NODELAY, Stream, 0, Flag),
    row(SOL_TCP, TCP_MAXSEG, Stream, 0, Ignored), // see set()
    row(SOL_TCP, TCP_CORK, Stream, 0, Flag),
    row(
        SOL_TCP,
        TCP_KEEPIDLE,
        Stream,
        7_200,
        Range(1, 32_767, INVALID),
    ),
    row(
        SOL_TCP,
        TCP_KEEPINTVL,
        Stream,
        75,
        Range(1, 32_767, INVALID),
    ),
    row(SOL_TCP, TCP_KEEPCNT, Stream, 9, Range(1, 127, INVALID)),
    row(SOL_TCP, TCP_SYNCNT, Stream, 6, Range(1, 127, INVALID)),
    row(SOL_TCP, TCP_LINGER2, Stream, 60, Ignored), // see set()
    row(SOL_TCP, TCP_DEFER_ACCEPT, Stream, 0, Ignored), // see set()
    row(SOL_TCP, TCP_WINDOW_CLAMP, Stream, 0, Ignored), // see set()
    row(SOL_TCP, TCP_QUICKACK, Stream, 1, Flag),
    row(
        SOL_TCP,
        TCP_THIN_LINEAR_TIMEOUTS,
        Stream,
        0,
        Range(0, 1, INVALID),
    ),
    row(SOL_TCP, TCP_THIN_DUPACK, Stream, 0, OnlyZero(INVALID)),
    row(SOL_TCP, TCP_USER_TIMEOUT, Stream, 0, Range(0, MAX, INVALID)),
    row(SOL_TCP, TCP_REPAIR, Stream, 0, Refused(Errno::EPERM)),
    row(SOL_TCP, TCP_REPAIR_QUEUE, Stream, 0, Absent(Errno::EPERM)),
    row(SOL_TCP, TCP_QUEUE_SEQ, Stream, 0, Absent(Errno::EPERM)),
    // Stored without effect: a cookie is never granted, so every connection opens with three segments.
    row(SOL_TCP, TCP_FASTOPEN, Stream, 0, Range(0, MAX, INVALID)),
    row(SOL_TCP, TCP_TIMESTAMP, Stream, 0, Refused(Errno::EPERM)),
    row(
        SOL_TCP,
        TCP_NOTSENT_LOWAT,
        Stream,
        0,
        Range(i32::MIN, MAX, INVALID),
    ),
    row(SOL_TCP, TCP_SAVE_SYN, Stream, 0, Range(0, 2, INVALID)),
    row(
        SOL_TCP,
        TCP_FASTOPEN_CONNECT,
        Stream,
        0,
        Range(0, 1, INVALID),
    ),
    row(
        SOL_TCP,
        TCP_FASTOPEN_NO_COOKIE,
        Stream,
        0,
        Range(0, 1, INVALID),
    ),
    row(SOL_TCP, TCP_INQ, Stream, 0, Range(0, 1, INVALID)),
    // Without effect, as on an interface without the fq queue.
    row(
        SOL_TCP,
        TCP_TX_DELAY,
        Stream,
        0,
        Range(0, 0x0fff_ffff, INVALID),
    ),
    row(SOL_UDP, UDP_CORK, Datagram, 0, Flag),
    row(SOL_UDP, UDP_NO_CHECK6_TX, Datagram, 0, Flag),
    row(SOL_UDP, UDP_NO_CHECK6_RX, Datagram, 0, Flag),
    row(SOL_UDP, UDP_SEGMENT, Datagram, 0, Range(0, 65_535, INVALID)),
    // Nothing is put together: each datagram is given as it came, as Linux does when it has nothing to join.
    row(SOL_UDP, UDP_GRO, Datagram, 0, Flag),
    row(SOL_IPV6, IPV6_2292PKTINFO, Any, 0, Flag),
    row(SOL_IPV6, IPV6_2292HOPOPTS, Any, 0, Flag),
    row(SOL_IPV6, IPV6_2292DSTOPTS, Any, 0, Flag),
    row(SOL_IPV6, IPV6_2292RTHDR, Any, 0, Flag),
    row(SOL_IPV6, IPV6_2292HOPLIMIT, Any, 0, Flag),
    row(SOL_IPV6, IPV6_FLOWINFO, Any, 0, Flag),
    row(SOL_IPV6, IPV6_UNICAST_HOPS, Any, 64, RangeOrDefault(0, 255)),
    row(
        SOL_IPV6,
        IPV6_MULTICAST_IF,
        Datagram,
        0,
        Range(0, 2, Errno::ENODEV),
    ),
    row(
        SOL_IPV6,
        IPV6_MULTICAST_HOPS,
        Datagram,
        1,
        RangeOrDefault(0, 255),
    ),
    row(SOL_IPV6, IPV6_MULTICAST_LOOP, Any, 1, Range(0, 1, INVALID)),
    row(
        SOL_IPV6,
        IPV6_ROUTER_ALERT,
        Any,
        0,
        Refused(Errno::ENOPROTOOPT),
    ),
    row(SOL_IPV6, IPV6_MTU_DISCOVER, Any, 1, Range(0, 5, INVALID)),
    row(SOL_IPV6, IPV6_RECVERR, Any, 0, Flag),
    row(SOL_IPV6, IPV6_V6ONLY, Any, 0, Flag),
    row(SOL_IPV6, IPV6_MULTICAST_ALL, Any, 1, Flag),
    row(SOL_IPV6, IPV6_ROUTER_ALERT_ISOLATE, Any, 0, Flag),
    row(SOL_IPV6, IPV6_RECVERR_RFC4884, Any, 0, Range(0, 1, INVALID)),
    row(SOL_IPV6, IPV6_FLOWINFO_SEND, Any, 0, Flag),
    row(SOL_IPV6, IPV6_IPSEC_POLICY, Any, 0, Absent(Errno::EPERM)),
    row(SOL_IPV6, IPV6_XFRM_POLICY, Any, 0, Absent(Errno::EPERM)),
    row(SOL_IPV6, IPV6_RECVPKTINFO, Any, 0, Flag),
    row(SOL_IPV6, IPV6_RECVHOPLIMIT, Any, 0, Flag),
    row(SOL_IPV6, IPV6_RECVHOPOPTS, Any, 0, Flag),
    row(SOL_IPV6, IPV6_RECVRTHDR, Any, 0, Flag),
    row(SOL_IPV6, IPV6_RECVDSTOPTS, Any, 0, Flag),
    row(SOL_IPV6, IPV6_RECVPATHMTU, Any, 0, Flag),
    row(SOL_IPV6, IPV6_DONTFRAG, Any, 0, Flag),
    row(SOL_IPV6, IPV6_RECVTCLASS, Any, 0, Flag),
    row(SOL_IPV6, IPV6_TCLASS, Any, 0, RangeOrDefault(0, 255)),
    row(SOL_IPV6, IPV6_AUTOFLOWLABEL, Any, 1, Flag),
    row(SOL_IPV6, IPV6_MINHOPCOUNT, Any, 0, Range(0, 255, INVALID)),
    row(SOL_IPV6, IPV6_RECVORIGDSTADDR, Any, 0, Flag),
    row(SOL_IPV6, IPV6_TRANSPARENT, Any, 0, OnlyZero(Errno::EPERM)),
    row(
        SOL_IPV6,
        IPV6_UNICAST_IF,
        Any,
        0,
        OnlyZero(Errno::EADDRNOTAVAIL),
    ),
    row(SOL_IPV6, IPV6_RECVFRAGSIZE, Any, 0, Flag),
    row(SOL_IPV6, IPV6_FREEBIND, Any, 0, Flag),
    // Below 8 the kernel takes 8, above 65,535 that; see set().
    row(SOL_UDPLITE, UDPLITE_SEND_CSCOV, Datagram, 0, Ignored),
    row(SOL_UDPLITE, UDPLITE_RECV_CSCOV, Datagram, 0, Ignored),
];

/// The row of an option on a socket of that kind.
pub(super) fn find(kind: Kind, level: i32, name: i32) -> Option<&'static Row> {
    let start = TABLE.partition_point(|row| (row.level, row.name) < (level, name));
    TABLE[start..]
        .iter()
        .take_while(|row| (row.level, row.name) == (level, name))
        .find(|row| row.of == Any || (row.of == Stream) == (kind == Kind::Stream))
}
