// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/socket-options.md` is written from the tables and from what the code answers, and cannot differ from it: the test
//! compares, and writes the page when `NETCON_WRITE_DOCS` is set.

use std::fmt::Write;

use super::*;

const HEAD: &str = "<!-- SPDX-License-Identifier: Apache-2.0 OR MIT -->
# Socket options

What `getsockopt` and `setsockopt` answer on a virtual network, for every option there is. What is not listed is ENOPROTOOPT.
Written from the tables and the code in `netstack/src/sockets/`; a test fails when they differ:

    NETCON_WRITE_DOCS=1 cargo test -p netcon-netstack --lib options_page

An option without a note is kept and shown again, and nothing on a virtual network depends on it. `—`: there is no such option on
that kind of socket, or it cannot be read. SO_RCVTIMEO, SO_SNDTIMEO and SO_PEEK_OFF are the kernel's own, on the program's end.
";

/// Sockets of ICMP: short enough to be said by hand; `tests/sockets/icmp.rs` holds the code to it.
const ICMP: &str = "
## icmp(7), raw(7): sockets of ICMP

Echo sockets (SOCK_DGRAM) and raw sockets (SOCK_RAW) of IPPROTO_ICMP and IPPROTO_ICMPV6 have the options of UDP sockets, without
IPPROTO_UDP. SO_REUSEADDR is on from the start; IPV6_V6ONLY is shown as 1 on an echo socket of IPv6, IPPROTO_IP is absent on a raw
one. Beside them, on raw sockets only:

| level | option | number | family | default | setsockopt takes | note |
|---|---|---|---|---|---|---|
| IPPROTO_RAW | ICMP_FILTER | 1 | IPv4 | 0 | up to 4 bytes | types that are not heard; from 32 on all are |
| IPPROTO_IP | IP_HDRINCL | 3 | IPv4 | 0 | 0 or 1 | the program writes the header; source and protocol are checked |
| IPPROTO_ICMPV6 | ICMPV6_FILTER | 1 | IPv6 | 0 | up to 32 bytes | types that are not heard |
| IPPROTO_RAW | IPV6_CHECKSUM | 7 | IPv6 | 2 | even, or negative | where the checksum goes; IPPROTO_IPV6 reads it, setting there is EINVAL |
| IPPROTO_IPV6 | IPV6_HDRINCL | 36 | IPv6 | — | ENOPROTOOPT | |
";

/// Options that do something, or are more than one number.
const NOTES: &[(i32, i32, &str)] = &[
    (SOL_SOCKET, SO_REUSEADDR, "decides who may bind a port"),
    (
        SOL_SOCKET,
        SO_REUSEPORT,
        "decides who may bind a port; listeners share what comes",
    ),
    (
        SOL_SOCKET,
        SO_KEEPALIVE,
        "probes by TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT",
    ),
    (
        SOL_SOCKET,
        SO_LINGER,
        "two numbers; 0 resets on close, a time lets close wait",
    ),
    (SOL_SOCKET, SO_OOBINLINE, "urgent data in line"),
    (SOL_SOCKET, SO_RCVLOWAT, "a blocking read waits for so much"),
    (
        SOL_SOCKET,
        SO_RCVBUF,
        "bounds the window, and what waits unread",
    ),
    (SOL_SOCKET, SO_SNDBUF, "bounds what is on its way"),
    (SOL_SOCKET, SO_BROADCAST, "without it broadcast is EACCES"),
    (
        SOL_IP,
        IP_MULTICAST_IF,
        "struct in_addr, ip_mreq or ip_mreqn; shows the address",
    ),
    (
        SOL_IP,
        IP_MULTICAST_ALL,
        "1 for AF_INET: also groups that others have joined",
    ),
    (
        SOL_IP,
        IP_ADD_MEMBERSHIP,
        "20 groups of one socket, then ENOBUFS; 10 sources of one group",
    ),
    (
        SOL_IP,
        IP_MSFILTER,
        "can be read; what is there says which group",
    ),
    (SOL_IP, MCAST_JOIN_GROUP, "of SOL_IPV6 too, as the next six"),
    (
        SOL_IP,
        MCAST_MSFILTER,
        "can be read; what is there says which group",
    ),
    (
        SOL_IPV6,
        IPV6_MULTICAST_IF,
        "an index: there is no route for groups on lo",
    ),
    (
        SOL_IPV6,
        IPV6_ADD_MEMBERSHIP,
        "2340 groups of one socket, then ENOMEM; 64 sources of one group",
    ),
    (
        SOL_SOCKET,
        SO_BINDTODEVICE,
        "a name: lo or netcon0; once set it stays",
    ),
    (SOL_SOCKET, SO_ERROR, "reading takes the error away"),
    (SOL_SOCKET, SO_LOCK_FILTER, "once set it stays"),
    (
        SOL_TCP,
        TCP_MAXSEG,
        "bounds segments either way, from the next connection on; 88 to 32767, or 0",
    ),
    (SOL_TCP, TCP_KEEPIDLE, "seconds"),
    (SOL_TCP, TCP_KEEPINTVL, "seconds"),
    (
        SOL_TCP,
        TCP_KEEPCNT,
        "probes before the connection is given up",
    ),
    (
        SOL_TCP,
        TCP_SYNCNT,
        "decides when an attempt to connect is given up",
    ),
    (
        SOL_TCP,
        TCP_USER_TIMEOUT,
        "milliseconds until unanswered data ends the connection",
    ),
    (SOL_TCP, TCP_WINDOW_CLAMP, "bounds the window"),
    (
        SOL_TCP,
        TCP_LINGER2,
        "how long the peer's FIN is waited for after close; seconds, at most 120; negative is -1, 0 the default",
    ),
    (
        SOL_TCP,
        TCP_DEFER_ACCEPT,
        "seconds, rounded up to whole retransmissions: so long a listener keeps quiet about a connection without data",
    ),
    (SOL_TCP, TCP_CONGESTION, "a name: cubic"),
    (SOL_TCP, TCP_INFO, "struct tcp_info"),
    (SOL_TCP, TCP_ULP, "refused: ENOENT"),
    (SOL_TCP, TCP_MD5SIG, "refused"),
    (
        SOL_TCP,
        TCP_FASTOPEN,
        "at most 4096; every connection opens with three segments",
    ),
    (
        SOL_TCP,
        TCP_FASTOPEN_CONNECT,
        "no peer grants a cookie: connect makes the connection",
    ),
    (SOL_TCP, TCP_FASTOPEN_KEY, "16 or 32 bytes; kept"),
    (
        SOL_TCP,
        TCP_SAVE_SYN,
        "of a listener: TCP_SAVED_SYN gives the IP and TCP header, once",
    ),
    (SOL_TCP, TCP_INQ, "recvmsg tells how much is left"),
    (
        SOL_TCP,
        TCP_NODELAY,
        "small segments never wait for others, on or off",
    ),
    (
        SOL_IP,
        IP_MINTTL,
        "packets of a smaller hop limit are dropped",
    ),
    (SOL_IP, IP_OPTIONS, "fillers only; they are not sent"),
    (SOL_IP, IP_PROTOCOL, "the local port, as Linux shows it"),
    (
        SOL_IPV6,
        IPV6_MINHOPCOUNT,
        "packets of a smaller hop limit are dropped",
    ),
    (
        SOL_IPV6,
        IPV6_ADDRFORM,
        "AF_INET, of a connection to a v4-mapped address",
    ),
    (SOL_IPV6, IPV6_PATHMTU, "struct ip6_mtuinfo; needs a peer"),
    (SOL_IP, IP_TTL, "hop limit of what is sent"),
    (SOL_IP, IP_TOS, "TCP keeps the two ECN bits"),
    (SOL_IP, IP_FREEBIND, "bind to any address"),
    (SOL_IP, IP_BIND_ADDRESS_NO_PORT, "connect chooses the port"),
    (
        SOL_IP,
        IP_LOCAL_PORT_RANGE,
        "two 16-bit numbers: where ports are chosen from",
    ),
    (SOL_IP, IP_MTU, "of the path; needs a peer"),
    (SOL_IPV6, IPV6_MTU, "of the path; needs a peer"),
    (SOL_IPV6, IPV6_UNICAST_HOPS, "hop limit of what is sent"),
    (SOL_IPV6, IPV6_V6ONLY, "before bind"),
    (SOL_IPV6, IPV6_FREEBIND, "bind to any address"),
];

#[test]
fn page_is_the_code() {
    let mut page = String::from(HEAD);
    for (level, title) in [
        (SOL_SOCKET, "socket(7): SOL_SOCKET"),
        (SOL_TCP, "tcp(7): IPPROTO_TCP"),
        (SOL_UDP, "udp(7): IPPROTO_UDP"),
        (SOL_IP, "ip(7): IPPROTO_IP"),
        (SOL_IPV6, "ipv6(7): IPPROTO_IPV6"),
    ] {
        write!(page, "\n## {title}\n\n").unwrap();
        page.push_str("| option | number | TCP | UDP | setsockopt takes | note |\n|---|---|---|---|---|---|\n");
        for (name, number) in names_of(level) {
            let note = NOTES
                .iter()
                .find(|(of, option, _)| (*of, *option) == (level, number))
                .map_or("", |(_, _, note)| note);
            writeln!(
                page,
                "| {name} | {number} | {} | {} | {} | {note} |",
                default(Kind::Stream, level, number),
                default(Kind::Datagram, level, number),
                takes(level, number)
            )
            .unwrap();
        }
    }
    page.push_str(ICMP);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/socket-options.md");
    if std::env::var_os("NETCON_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == page,
        "{path} is not what the code says; NETCON_WRITE_DOCS=1 writes it"
    );
}

/// The constants of a level in `names.rs`, in its order.
fn names_of(level: i32) -> Vec<(&'static str, i32)> {
    let prefixes: &[&str] = match level {
        SOL_SOCKET => &["SO_"],
        SOL_TCP => &["TCP_"],
        SOL_UDP => &["UDP_"],
        SOL_IP => &["IP_"],
        _ => &["IPV6_"],
    };
    let mut names: Vec<(&str, i32)> = include_str!("../names.rs")
        .lines()
        .filter_map(|line| {
            let (name, number) = line.strip_prefix("pub const ")?.split_once(": i32 = ")?;
            let known = prefixes.iter().any(|prefix| name.starts_with(prefix));
            known.then_some(())?;
            Some((name, number.strip_suffix(';')?.parse().ok()?))
        })
        .collect();
    names.sort_by_key(|(_, number)| *number);
    names
}

/// Options that show the state of a socket, and have no default.
const STATE: &[(i32, i32)] = &[
    (SOL_SOCKET, SO_TYPE),
    (SOL_SOCKET, SO_ERROR),
    (SOL_SOCKET, SO_PEERNAME),
    (SOL_SOCKET, SO_ACCEPTCONN),
    (SOL_SOCKET, SO_PROTOCOL),
    (SOL_SOCKET, SO_DOMAIN),
    (SOL_SOCKET, SO_COOKIE),
    (SOL_IP, IP_MTU),
    (SOL_IPV6, IPV6_MTU),
];

/// What a fresh socket shows.
fn default(kind: Kind, level: i32, name: i32) -> String {
    if STATE.contains(&(level, name))
        || kind == Kind::Stream && (level, name) == (SOL_TCP, TCP_INFO)
    {
        return "state".to_owned();
    }
    match Options::new(kind, Family::V6).get(level, name) {
        Err(Errno::ENOPROTOOPT) => "—".to_owned(),
        Err(errno) => errno.to_string(),
        Ok(value) => value
            .as_int()
            .map_or_else(|| "bytes".to_owned(), |number| number.to_string()),
    }
}

fn takes(level: i32, name: i32) -> String {
    let row = find(Kind::Stream, level, name).or_else(|| find(Kind::Datagram, level, name));
    if matches!(
        (level, name),
        (SOL_IP, IP_MULTICAST_IF | IP_ADD_MEMBERSHIP..=MCAST_MSFILTER)
            | (SOL_IPV6, IPV6_ADD_MEMBERSHIP | IPV6_DROP_MEMBERSHIP)
    ) {
        return "a structure".to_owned();
    }
    let Some(row) = row else {
        return match Options::new(Kind::Stream, Family::V6).set(level, name, &[0; 16]) {
            Ok(()) => "see note".to_owned(),
            Err(errno) => errno.to_string(),
        };
    };
    match row.rule {
        Flag => "0 or 1".to_owned(),
        Range(low, high, errno) => format!("{}, else {}", range(low, high), errno),
        RangeOrDefault(low, high) => format!("{}, -1: the default", range(low, high)),
        LowWater(_) => "at least 1".to_owned(),
        OnlyZero(errno) => format!("0, else {}", errno),
        Ignored => "a number".to_owned(),
        ReadOnly(errno) | Absent(errno) | Refused(errno) => errno.to_string(),
    }
}

fn range(low: i32, high: i32) -> String {
    match (low, high) {
        (i32::MIN, i32::MAX) => "any number".to_owned(),
        (low, i32::MAX) => format!("{low} and more"),
        (low, high) => format!("{low} to {high}"),
    }
}
