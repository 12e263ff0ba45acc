// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Socket options: which exist on which socket, their defaults, the values and lengths Linux takes.
//!
//! Most options are one `int` and one row of `option_table.rs`. What the table cannot say is decided in [`Options::set`] and
//! [`Options::get`]; what depends on the state of the socket is decided by their caller. Defaults and limits are those of
//! Linux 6.x, unprivileged (socket(7), ip(7), ipv6(7), tcp(7), udp(7)).

use std::collections::BTreeMap;
use std::time::Duration;

use super::names::*;
use super::option_bytes::Bytes;
use super::option_table::Rule::{
    Absent, Flag, Ignored, LowWater, OnlyZero, Range, RangeOrDefault, ReadOnly, Refused,
};
use super::option_table::{Row, find};
use super::raw::RawOptions;
use super::{Family, Kind, OptionValue, SendControl};
use crate::errno::Errno;
use crate::stack::{DatagramProtocol, Link, SendOptions, TcpOptions};

/// Interface indexes a program sees: lo is 1, netcon0 is 2.
const INTERFACES: [&str; 2] = ["lo", "netcon0"];
/// net.core.rmem_max and wmem_max of a machine as distributed.
const BUFFER_MAX: i32 = 212_992;
/// SOCK_MIN_RCVBUF and SOCK_MIN_SNDBUF (x86_64).
const RCVBUF_MIN: i32 = 2_304;
const SNDBUF_MIN: i32 = 4_608;
/// IPV6_ADDR_PREFERENCES: temporary, public or either; care-of or home address; cryptographically generated or not.
const PREFER_TEMPORARY: i32 = 0x1 | 0x2 | 0x100;
const PREFER_HOME: i32 = 0x4 | 0x400;
const PREFER_CGA: i32 = 0x8 | 0x800;
const PREFER_DEFAULT: i32 = 0x100 | 0x400;
/// Forms in which the time a datagram came is told.
const STAMPS: [i32; 4] = [
    SO_TIMESTAMP,
    SO_TIMESTAMPNS,
    SO_TIMESTAMP_NEW,
    SO_TIMESTAMPNS_NEW,
];
/// Longest interval between retransmissions that TCP_DEFER_ACCEPT counts with, seconds (TCP_RTO_MAX).
const RTO_MAX: i32 = 120;

/// The options of one socket.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    kind: Kind,
    family: Family,
    /// Of a datagram socket.
    protocol: DatagramProtocol,
    /// Of a raw socket.
    pub(super) raw: RawOptions,
    /// What differs from the default.
    ints: BTreeMap<(i32, i32), i32>,
    /// SO_LINGER: l_onoff, l_linger.
    linger: (i32, i32),
    /// SO_BINDTODEVICE, SO_BINDTOIFINDEX: index into [`INTERFACES`], or of one that there is not.
    device: Option<usize>,
    /// SO_MAX_PACING_RATE, bytes per second. Stored without effect.
    pacing: u64,
    /// IP_LOCAL_PORT_RANGE: low, high; 0: not set.
    port_range: (u16, u16),
    /// Those of `option_bytes.rs`.
    bytes: Bytes,
}

impl Options {
    pub(crate) fn new(kind: Kind, family: Family) -> Self {
        Self {
            kind,
            family,
            protocol: DatagramProtocol::Udp,
            raw: RawOptions::new(),
            ints: BTreeMap::new(),
            linger: (0, 0),
            device: None,
            pacing: u64::MAX,
            port_range: (0, 0),
            bytes: Bytes::default(),
        }
    }

    /// As [`Self::new`], for a datagram socket of that protocol.
    pub(crate) fn of(kind: Kind, family: Family, protocol: DatagramProtocol) -> Self {
        let mut options = Self::new(kind, family);
        options.protocol = protocol;
        if !protocol.is_udp() {
            // Shared unless the program says otherwise (the kernel's INET_PROTOSW_REUSE).
            options.ints.insert((SOL_SOCKET, SO_REUSEADDR), 1);
        }
        if protocol == DatagramProtocol::Echo && family == Family::V6 {
            options.ints.insert((SOL_IPV6, IPV6_V6ONLY), 1);
        }
        options
    }

    pub(crate) const fn family(&self) -> Family {
        self.family
    }

    pub(crate) const fn protocol(&self) -> DatagramProtocol {
        self.protocol
    }

    /// How a datagram of that family is sent.
    pub(crate) fn sending(&self, v6: bool, control: &SendControl) -> SendOptions {
        // IP_PMTUDISC_WANT and DONT cut what is too large, OMIT too; DO, PROBE and INTERFACE refuse it (ip(7)).
        let (level, discover, class) = if v6 {
            (SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_TCLASS)
        } else {
            (SOL_IP, IP_MTU_DISCOVER, IP_TOS)
        };
        let cut = matches!(self.value(level, discover), 0 | 1 | 5);
        let whole = control
            .whole
            .unwrap_or_else(|| v6 && self.is_on(SOL_IPV6, IPV6_DONTFRAG));
        let own_class = u8::try_from(self.value(level, class)).unwrap_or(0);
        let coverage = self.value(SOL_UDPLITE, UDPLITE_SEND_CSCOV);
        SendOptions {
            hop_limit: control.hop_limit.unwrap_or_else(|| self.hop_limit(v6)),
            traffic_class: control.traffic_class.unwrap_or(own_class),
            fragment: cut && !whole,
            coverage: u16::try_from(coverage).unwrap_or(0),
            checksum_at: self.checksum_at(),
        }
    }

    /// The socket is one of AF_INET from now on.
    pub(crate) const fn become_v4(&mut self) {
        self.family = Family::V4;
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// An `int` option: what was set, else the default; 0 if there is no such option.
    pub(crate) fn value(&self, level: i32, name: i32) -> i32 {
        self.ints
            .get(&(level, name))
            .copied()
            .or_else(|| find(self.kind, level, name).map(|row| row.default))
            .unwrap_or(0)
    }

    /// An `int` option that is on or off.
    pub(crate) fn is_on(&self, level: i32, name: i32) -> bool {
        self.value(level, name) != 0
    }

    /// SO_LINGER as far as it is on.
    pub(crate) fn linger(&self) -> Option<Duration> {
        let (on, seconds) = self.linger;
        // The kernel keeps it unsigned: a negative time is a very long one.
        (on != 0).then(|| Duration::from_secs(u64::from(seconds.cast_unsigned())))
    }

    /// The range bind(2) and connect(2) take ports from.
    pub(crate) fn ephemeral(&self) -> (u16, u16) {
        let (low, high) = super::ports::EPHEMERAL;
        let (own_low, own_high) = self.port_range;
        let range = (
            if own_low == 0 { low } else { own_low },
            if own_high == 0 { high } else { own_high },
        );
        if range.0 <= range.1 {
            range
        } else {
            (low, high)
        }
    }

    /// SO_BINDTODEVICE.
    pub(crate) fn link(&self) -> Option<Link> {
        let index = u32::try_from(self.device? + 1).ok()?;
        Link::of_index(index)
    }

    /// Bind to any address (IP_FREEBIND, IPV6_FREEBIND).
    pub(crate) fn freebind(&self) -> bool {
        self.is_on(SOL_IP, IP_FREEBIND) || self.is_on(SOL_IPV6, IPV6_FREEBIND)
    }

    /// IP_RECVERR, IPV6_RECVERR: every ICMP error counts.
    pub(crate) fn recverr(&self, v6: bool) -> bool {
        if v6 {
            self.is_on(SOL_IPV6, IPV6_RECVERR)
        } else {
            self.is_on(SOL_IP, IP_RECVERR)
        }
    }

    /// IP_TTL or IPV6_UNICAST_HOPS for a packet of that family.
    pub(crate) fn hop_limit(&self, v6: bool) -> u8 {
        let value = if v6 {
            self.value(SOL_IPV6, IPV6_UNICAST_HOPS)
        } else {
            self.value(SOL_IP, IP_TTL)
        };
        // A hop limit of 0 would not leave the host.
        u8::try_from(value).unwrap_or(64).max(1)
    }

    /// IP_MINTTL or IPV6_MINHOPCOUNT for packets of that family.
    fn least_hops(&self, v6: bool) -> u8 {
        let value = if v6 {
            self.value(SOL_IPV6, IPV6_MINHOPCOUNT)
        } else {
            self.value(SOL_IP, IP_MINTTL)
        };
        u8::try_from(value).unwrap_or(0)
    }

    /// SO_MAX_PACING_RATE, bytes per second.
    pub(crate) const fn pacing(&self) -> u64 {
        self.pacing
    }

    /// What the engine is told for a flow of that family.
    pub(crate) fn tcp(&self, v6: bool) -> TcpOptions {
        let seconds =
            |name| Duration::from_secs(u64::from(self.value(SOL_TCP, name).cast_unsigned()));
        let timeout = self.value(SOL_TCP, TCP_USER_TIMEOUT);
        let user_timeout =
            (timeout > 0).then(|| Duration::from_millis(u64::from(timeout.cast_unsigned())));
        // The first SYN waits one second, each later one twice as long (RFC 6298), at most 120 s (TCP_RTO_MAX).
        let retries = self.value(SOL_TCP, TCP_SYNCNT).cast_unsigned();
        let doubling = retries.min(6);
        let syn = Duration::from_secs(u64::from(
            (1 << (doubling + 1)) - 1 + (retries - doubling) * RTO_MAX.cast_unsigned(),
        ));
        TcpOptions {
            keepalive: self.is_on(SOL_SOCKET, SO_KEEPALIVE).then(|| {
                (
                    seconds(TCP_KEEPIDLE),
                    seconds(TCP_KEEPINTVL),
                    self.value(SOL_TCP, TCP_KEEPCNT).cast_unsigned(),
                )
            }),
            user_timeout,
            nodelay: self.is_on(SOL_TCP, TCP_NODELAY),
            hop_limit: self.hop_limit(v6),
            connect_timeout: user_timeout.map_or(syn, |limit| limit.min(syn)),
            send_buffer: self.set_buffer(SO_SNDBUF),
            receive_buffer: self.window(),
            segment: u16::try_from(self.value(SOL_TCP, TCP_MAXSEG))
                .ok()
                .filter(|bytes| *bytes > 0),
            least_hops: self.least_hops(v6),
            defer: self
                .is_on(SOL_TCP, TCP_DEFER_ACCEPT)
                .then(|| seconds(TCP_DEFER_ACCEPT)),
            save_syn: self.is_on(SOL_TCP, TCP_SAVE_SYN),
            fin_wait: Duration::from_secs(
                u64::try_from(self.value(SOL_TCP, TCP_LINGER2)).unwrap_or(0),
            ),
        }
    }

    /// SO_RCVBUF or SO_SNDBUF as shown, if it was set.
    pub(crate) fn set_buffer(&self, name: i32) -> Option<usize> {
        let shown = self.ints.get(&(SOL_SOCKET, name))?;
        usize::try_from(*shown).ok()
    }

    /// What may wait to be received, bytes; of errors as much again.
    pub(crate) fn receive_room(&self) -> usize {
        usize::try_from(self.buffer(SO_RCVBUF)).unwrap_or(0)
    }

    /// Largest receive window: half of SO_RCVBUF (tcp_adv_win_scale), at most TCP_WINDOW_CLAMP.
    fn window(&self) -> Option<usize> {
        let buffer = self.set_buffer(SO_RCVBUF).map(|bytes| bytes / 2);
        let clamp = usize::try_from(self.value(SOL_TCP, TCP_WINDOW_CLAMP)).ok();
        let clamp = clamp.filter(|clamp| *clamp > 0);
        match (buffer, clamp) {
            (Some(buffer), Some(clamp)) => Some(buffer.min(clamp)),
            (buffer, clamp) => buffer.or(clamp),
        }
    }

    /// What an accepted socket starts with.
    pub(crate) fn inherited(&self) -> Self {
        let mut child = self.clone();
        for (level, name) in [
            (SOL_TCP, TCP_DEFER_ACCEPT),
            (SOL_TCP, TCP_FASTOPEN),
            (SOL_SOCKET, SO_PRIORITY),
        ] {
            child.ints.remove(&(level, name));
        }
        child
    }

    /// setsockopt(2), apart from what depends on the state of the socket.
    ///
    /// # Errors
    /// As Linux for an unprivileged program: EINVAL (length, value), ENOPROTOOPT, EPERM, EACCES, ENODEV, ENOENT, EOPNOTSUPP …
    pub(crate) fn set(&mut self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        if let Some(done) = self.set_raw(level, name, value) {
            return done;
        }
        if !self.has_level(level) {
            return Err(Errno::ENOPROTOOPT);
        }
        match (level, name) {
            // Everything but names is an int at least, whatever the option.
            (SOL_SOCKET, _) if name != SO_BINDTODEVICE && value.len() < 4 => {
                return Err(Errno::EINVAL);
            }
            (SOL_TCP, _)
                if !matches!(name, TCP_CONGESTION | TCP_ULP | TCP_FASTOPEN_KEY)
                    && value.len() < 4 =>
            {
                return Err(Errno::EINVAL);
            }
            _ => {}
        }
        if (level, name) == (SOL_IPV6, IPV6_ROUTER_ALERT) && value.len() < 4 {
            return Err(Errno::EINVAL);
        }
        if let Some(done) = self.bytes.set(self.kind, level, name, value) {
            return done;
        }
        match (level, name) {
            (SOL_TCP, TCP_THIN_DUPACK) => {
                return match int_at(value, 0)? {
                    0 | 1 => Ok(()),
                    _ => Err(Errno::EINVAL),
                };
            }
            (SOL_SOCKET, SO_BUSY_POLL_BUDGET) => {
                return match int_at(value, 0)? {
                    0 => Ok(()),
                    1.. => Err(Errno::EPERM),
                    _ => Err(Errno::EINVAL),
                };
            }
            (SOL_SOCKET, SO_DETACH_REUSEPORT_BPF) => return Err(Errno::EINVAL),
            // ip(7): of raw and datagram sockets.
            (SOL_IP, IP_RECVFRAGSIZE) if self.kind == Kind::Stream => return Err(Errno::EINVAL),
            (SOL_SOCKET, SO_LINGER) => {
                self.linger = (int_at(value, 0)?, int_at(value, 4)?);
                self.linger.0 = i32::from(self.linger.0 != 0);
                return Ok(());
            }
            (SOL_SOCKET, SO_BINDTODEVICE) => return self.bind_to_device(value),
            (SOL_SOCKET, SO_BINDTOIFINDEX) => {
                let index = int_at(value, 0)?;
                if self.device.is_some() {
                    return Err(Errno::EPERM);
                }
                let index = usize::try_from(index).map_err(|_| Errno::EINVAL)?;
                self.device = index.checked_sub(1);
                return Ok(());
            }
            (SOL_SOCKET, SO_MAX_PACING_RATE) => {
                let rate = int_at(value, 0)?;
                self.pacing = match value.get(..8).and_then(|bytes| bytes.try_into().ok()) {
                    Some(bytes) => u64::from_ne_bytes(bytes),
                    None if rate == -1 => u64::MAX,
                    None => u64::from(rate.cast_unsigned()),
                };
                return Ok(());
            }
            (SOL_SOCKET, SO_RCVBUF | SO_SNDBUF) => {
                let minimum = if name == SO_RCVBUF {
                    RCVBUF_MIN
                } else {
                    SNDBUF_MIN
                };
                // Negative is a very large unsigned number; the kernel doubles for its own overhead (socket(7)).
                let asked = int_at(value, 0)?;
                let asked = if asked < 0 {
                    BUFFER_MAX
                } else {
                    asked.min(BUFFER_MAX)
                };
                self.ints.insert((level, name), (asked * 2).max(minimum));
                return Ok(());
            }
            (SOL_TCP, TCP_CONGESTION) => {
                let end = value
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(value.len())
                    .min(15);
                return match &value[..end] {
                    [] if value.is_empty() => Err(Errno::EINVAL),
                    b"cubic" => Ok(()),
                    // The only algorithm there is; tcp(7): an unknown name is ENOENT.
                    _ => Err(Errno::ENOENT),
                };
            }
            (SOL_TCP, TCP_ULP) => {
                return Err(if value.is_empty() {
                    Errno::EINVAL
                } else {
                    Errno::ENOENT
                });
            }
            (SOL_IP, IP_LOCAL_PORT_RANGE) => return self.set_port_range(value),
            // socket(7): a socket bound to an interface sends nowhere else.
            (SOL_IPV6, IPV6_MULTICAST_IF)
                if self.kind == Kind::Datagram
                    && self.link().is_some_and(|link| {
                        int_at(value, 0).is_ok_and(|index| {
                            matches!(index, 1 | 2) && index.cast_unsigned() != link.index()
                        })
                    }) =>
            {
                return Err(Errno::EINVAL);
            }
            (SOL_IPV6, IPV6_MTU) => {
                let mtu = int_at(value, 0)?;
                return if mtu == 0 || mtu >= 1_280 {
                    Ok(())
                } else {
                    Err(Errno::EINVAL)
                };
            }
            _ => {}
        }
        match (level, name) {
            // Memory is reserved in a memory cgroup only.
            (SOL_SOCKET, SO_RESERVE_MEM) => {
                return Err(if int_at(value, 0)? < 0 {
                    Errno::EINVAL
                } else {
                    Errno::EOPNOTSUPP
                });
            }
            // socket(7): once locked, only a privileged program unlocks.
            (SOL_SOCKET, SO_LOCK_FILTER) if self.is_on(level, name) && int_at(value, 0)? == 0 => {
                return Err(Errno::EPERM);
            }
            // What is too short for a number is 0.
            (SOL_IPV6, IPV6_AUTOFLOWLABEL | IPV6_DONTFRAG | IPV6_RECVFRAGSIZE)
                if value.len() < 4 =>
            {
                self.ints.insert((level, name), 0);
                return Ok(());
            }
            (SOL_IPV6, IPV6_ADDR_PREFERENCES) => return self.set_preferences(value),
            // The four are one: the last says which form is told, and turning one off turns all off.
            (SOL_SOCKET, SO_TIMESTAMP | SO_TIMESTAMPNS | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_NEW) => {
                let on = int_at(value, 0)? != 0;
                for form in STAMPS {
                    self.ints.remove(&(SOL_SOCKET, form));
                }
                if on {
                    self.ints.insert((level, name), 1);
                }
                return Ok(());
            }
            _ => {}
        }
        let row = find(self.kind, level, name).ok_or(Errno::ENOPROTOOPT)?;
        if let (SOL_IP | SOL_IPV6 | SOL_TCP, Absent(errno) | Refused(errno)) = (level, row.rule) {
            return Err(errno);
        }
        let number = number(
            level,
            value,
            matches!(row.rule, Flag | Ignored) && name != IP_FREEBIND
                || matches!(name, IP_MTU_DISCOVER | IP_RECVERR_RFC4884),
        )?;
        let stored = match (level, name) {
            (SOL_IP, IP_TOS) => self.traffic_class(number & 255, self.value(level, name)),
            (SOL_IPV6, IPV6_TCLASS) if (-1..=255).contains(&number) => {
                self.traffic_class(number.max(0), self.value(level, name))
            }
            (SOL_TCP, TCP_MAXSEG) if number == 0 || (88..=32_767).contains(&number) => number,
            (SOL_TCP, TCP_MAXSEG) => return Err(Errno::EINVAL),
            // Seconds; negative: no FIN_WAIT2 at all.
            (SOL_TCP, TCP_LINGER2) if number < 0 => -1,
            (SOL_TCP, TCP_LINGER2) if number == 0 => row.default,
            (SOL_TCP, TCP_LINGER2) => number.min(120),
            // The queue of a listener is no longer than net.core.somaxconn.
            (SOL_TCP, TCP_FASTOPEN) if number >= 0 => number.min(4_096),
            (SOL_TCP, TCP_DEFER_ACCEPT) => whole_retransmissions(number),
            (SOL_UDPLITE, _) => match number {
                0 => 0,
                _ => number.clamp(8, 65_535),
            },
            (SOL_TCP, TCP_WINDOW_CLAMP) if number == 0 => 0, // of a closed socket; see may_set()
            (SOL_TCP, TCP_WINDOW_CLAMP) => number.max(RCVBUF_MIN / 2),
            _ => match row.rule {
                Flag => i32::from(number != 0),
                Range(low, high, _) | RangeOrDefault(low, high)
                    if (low..=high).contains(&number) =>
                {
                    number
                }
                RangeOrDefault(..) if number == -1 => row.default,
                Range(_, _, errno) => return Err(errno),
                RangeOrDefault(..) => return Err(Errno::EINVAL),
                LowWater(limit) => if number < 0 { i32::MAX } else { number.max(1) }.min(limit),
                OnlyZero(_) if number == 0 => 0,
                OnlyZero(errno) | ReadOnly(errno) | Absent(errno) | Refused(errno) => {
                    return Err(errno);
                }
                Ignored => return Ok(()),
            },
        };
        self.ints.insert((level, name), stored);
        Ok(())
    }

    /// False: setsockopt(2) answers ENOPROTOOPT before it looks at the value.
    pub(crate) fn may_be_set(&self, level: i32, name: i32) -> bool {
        self.has_level(level)
            && (find(self.kind, level, name).is_some()
                || self.clone().set(level, name, &[0; 4]) != Err(Errno::ENOPROTOOPT))
    }

    /// getsockopt(2), apart from what depends on the state of the socket.
    ///
    /// # Errors
    /// ENOPROTOOPT: no such option. EOPNOTSUPP: no such level on an IPv4 socket. Otherwise the option's own.
    pub(crate) fn get(&self, level: i32, name: i32) -> Result<OptionValue, Errno> {
        if let Some(value) = self.get_raw(level, name) {
            return value;
        }
        if !self.has_level(level) {
            return Err(match self.family {
                Family::V4 => Errno::EOPNOTSUPP,
                Family::V6 => Errno::ENOPROTOOPT,
            });
        }
        if let Some(value) = self.bytes.get(self.kind, level, name) {
            return value;
        }
        let value = match (level, name) {
            (SOL_SOCKET, SO_LINGER) => OptionValue::bytes(ints(&[self.linger.0, self.linger.1])),
            (SOL_SOCKET, SO_BINDTODEVICE) => {
                OptionValue::bytes(self.device.map_or_else(Vec::new, |index| {
                    let name = INTERFACES.get(index).map_or("", |name| name);
                    format!("{name}\0").into_bytes()
                }))
            }
            (SOL_SOCKET, SO_BINDTOIFINDEX) => OptionValue::int(match self.device {
                Some(index) => i32::try_from(index).map_or(0, |index| index + 1),
                None => 0,
            }),
            (SOL_SOCKET, SO_MAX_PACING_RATE) => {
                OptionValue::bytes(self.pacing.to_ne_bytes().to_vec())
            }
            (SOL_SOCKET, SO_TIMESTAMPING | SO_TIMESTAMPING_NEW) => {
                OptionValue::bytes(ints(&[0, 0]))
            }
            (SOL_SOCKET, SO_RCVBUF | SO_SNDBUF) => OptionValue::int(self.buffer(name)),
            (SOL_SOCKET, SO_MEMINFO) => {
                let (receive, send) = (self.buffer(SO_RCVBUF), self.buffer(SO_SNDBUF));
                OptionValue::bytes(ints(&[0, receive, 0, send, 0, 0, 0, 0, 0]))
            }
            // Credentials exist on AF_UNIX only: pid 0, uid and gid -1.
            (SOL_SOCKET, SO_PEERCRED) => OptionValue::bytes(ints(&[0, -1, -1])),
            (SOL_SOCKET, SO_PEERGROUPS | SO_PEERPIDFD) => return Err(Errno::ENODATA),
            (SOL_SOCKET, SO_ATTACH_FILTER) => OptionValue::bytes(Vec::new()),
            (SOL_TCP, TCP_CONGESTION) => {
                OptionValue::bytes(b"cubic\0\0\0\0\0\0\0\0\0\0\0".to_vec())
            }
            (SOL_SOCKET, SO_RESERVE_MEM) | (SOL_IP, IP_RECVFRAGSIZE)
                if self.kind == Kind::Stream || name == SO_RESERVE_MEM =>
            {
                OptionValue::int(0)
            }
            // An IPv6 socket keeps its own (ipv6(7), IPV6_MULTICAST_ALL).
            (SOL_IP, IP_MULTICAST_ALL)
                if self.family == Family::V6 && !self.ints.contains_key(&(level, name)) =>
            {
                OptionValue::int(0)
            }
            (SOL_IPV6, IPV6_ADDR_PREFERENCES) => OptionValue::int(self.preferences()),
            (SOL_IP, IP_LOCAL_PORT_RANGE) => {
                let (low, high) = self.port_range;
                OptionValue::bytes(
                    (u32::from(low) | u32::from(high) << 16)
                        .to_ne_bytes()
                        .to_vec(),
                )
            }
            // INADDR_ANY, until it is set.
            (SOL_IP, IP_MULTICAST_IF) => OptionValue::bytes(vec![0; 4]),
            (SOL_IP, IP_MULTICAST_TTL) | (SOL_IPV6, IPV6_MULTICAST_HOPS)
                if self.kind == Kind::Stream =>
            {
                OptionValue::int(1)
            }
            (SOL_IPV6, IPV6_MULTICAST_IF) if self.kind == Kind::Stream => OptionValue::int(0),
            _ => match find(self.kind, level, name) {
                Some(Row {
                    rule: Absent(errno),
                    ..
                }) => return Err(absent_on_read(*errno)),
                Some(_) => OptionValue::int(self.value(level, name)),
                None => return Err(Errno::ENOPROTOOPT),
            },
        };
        Ok(value)
    }

    pub(crate) fn has_level(&self, level: i32) -> bool {
        match level {
            SOL_SOCKET | SOL_IP => true,
            SOL_TCP => self.kind == Kind::Stream,
            SOL_UDP => self.kind == Kind::Datagram && self.protocol.is_udp(),
            SOL_UDPLITE => {
                self.kind == Kind::Datagram && self.protocol == DatagramProtocol::UdpLite
            }
            SOL_IPV6 => self.family == Family::V6,
            _ => false,
        }
    }

    /// SO_RCVBUF or SO_SNDBUF, doubled as Linux shows them.
    fn buffer(&self, name: i32) -> i32 {
        let default = match (self.kind, name) {
            (Kind::Stream, SO_RCVBUF) => 131_072,
            (Kind::Stream, _) => 16_384,
            (Kind::Datagram, _) => BUFFER_MAX,
        };
        self.ints
            .get(&(SOL_SOCKET, name))
            .copied()
            .unwrap_or(default)
    }

    /// TCP owns the two ECN bits.
    const fn traffic_class(&self, new: i32, old: i32) -> i32 {
        match self.kind {
            Kind::Stream => new & !3 | old & 3,
            Kind::Datagram => new,
        }
    }

    /// IPV6_ADDR_PREFERENCES (RFC 5014): of each pair at most one; without effect, there is one source address.
    fn set_preferences(&mut self, value: &[u8]) -> Result<(), Errno> {
        let asked = int_at(value, 0)?;
        let one_of = |bits: i32| (asked & bits).count_ones() <= 1;
        if !one_of(PREFER_TEMPORARY) || !one_of(PREFER_HOME) || !one_of(PREFER_CGA) {
            return Err(Errno::EINVAL);
        }
        let pick = |bits: i32| {
            if asked & bits == 0 {
                PREFER_DEFAULT & bits
            } else {
                asked & bits
            }
        };
        self.ints.insert(
            (SOL_IPV6, IPV6_ADDR_PREFERENCES),
            pick(PREFER_TEMPORARY) | pick(PREFER_HOME),
        );
        Ok(())
    }

    fn preferences(&self) -> i32 {
        let key = (SOL_IPV6, IPV6_ADDR_PREFERENCES);
        self.ints.get(&key).copied().unwrap_or(PREFER_DEFAULT)
    }

    fn bind_to_device(&mut self, value: &[u8]) -> Result<(), Errno> {
        let end = value
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(value.len())
            .min(15);
        let name = &value[..end];
        let device = if name.is_empty() {
            None
        } else {
            Some(
                INTERFACES
                    .iter()
                    .position(|known| known.as_bytes() == name)
                    .ok_or(Errno::ENODEV)?,
            )
        };
        if self.device.is_some() {
            // socket(7): a bound socket is bound elsewhere by privileged programs only.
            return Err(Errno::EPERM);
        }
        self.device = device;
        Ok(())
    }

    fn set_port_range(&mut self, value: &[u8]) -> Result<(), Errno> {
        let range = <[u8; 4]>::try_from(value)
            .map(u32::from_ne_bytes)
            .map_err(|_| Errno::EINVAL)?;
        let (low, high) = ((range & 0xffff) as u16, (range >> 16) as u16);
        if low != 0 && high != 0 && low > high {
            return Err(Errno::EINVAL);
        }
        self.port_range = (low, high);
        Ok(())
    }
}

/// Write-only options answer differently when read.
fn absent_on_read(errno: Errno) -> Errno {
    if errno == Errno::EPERM || errno == Errno::ENOENT {
        Errno::ENOPROTOOPT
    } else {
        errno
    }
}

/// The number in `value`: SOL_IP also takes one byte, and nothing at all (0) where `empty` says so.
pub(super) fn number(level: i32, value: &[u8], empty: bool) -> Result<i32, Errno> {
    match (level, value) {
        (SOL_IP, []) if empty => Ok(0),
        (SOL_IP, [byte] | [byte, _] | [byte, _, _]) => Ok(i32::from(*byte)),
        _ => int_at(value, 0),
    }
}

pub(super) fn int_at(value: &[u8], at: usize) -> Result<i32, Errno> {
    let bytes = value
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map(i32::from_ne_bytes).ok_or(Errno::EINVAL)
}

fn ints(values: &[i32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}

/// TCP_DEFER_ACCEPT counts in retransmissions of 1, 2, 4 … seconds: the time is rounded up to a sum of them.
fn whole_retransmissions(seconds: i32) -> i32 {
    let (mut period, mut timeout, mut count) = (0, 1, 0);
    while seconds > period && count < 255 {
        period += timeout;
        timeout = (timeout * 2).min(RTO_MAX);
        count += 1;
    }
    period
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "tests/options_page.rs"]
mod options_page;
