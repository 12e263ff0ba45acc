// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sockets of ICMP: echo sockets (icmp(7)) and raw sockets of IPPROTO_ICMP and IPPROTO_ICMPV6 (raw(7)). They are datagram
//! sockets; what they do otherwise than UDP stands here.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::names::*;
use super::options::Options;
use super::state::Socket;
use super::{Family, OptionValue, SocketId, Sockets};
use crate::errno::Errno;
use crate::stack::{DatagramProtocol, IcmpFilter, RAW_ENDPOINTS};

/// Identifiers that the model gives to echo sockets: none that the host's own echo requests have
/// ([`crate::stack::PING_IDENTIFIERS`]).
pub(super) const IDENTIFIERS: (u16, u16) = (1, 0xfeff);
/// Header of ICMP and ICMPv6, bytes.
const HEADER: usize = 8;
/// Largest message an echo socket takes, bytes (icmp(7)); the family may allow less.
const MESSAGE_MAX: usize = 0xffff;
/// struct icmp_filter and struct icmp6_filter, bytes.
const FILTER_V4: usize = 4;
const FILTER_V6: usize = 32;

/// What a raw socket has beside the options of every socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawOptions {
    /// ICMP_FILTER, ICMPV6_FILTER.
    pub(crate) filter: IcmpFilter,
    /// IP_HDRINCL.
    header: bool,
    /// IPV6_CHECKSUM; -1: none.
    checksum: i32,
}

impl RawOptions {
    pub(crate) const fn new() -> Self {
        Self {
            filter: IcmpFilter([0; 8]),
            header: false,
            checksum: 2,
        }
    }
}

impl DatagramProtocol {
    /// IPPROTO_ of a socket of that family (SO_PROTOCOL).
    pub(crate) const fn number(self, family: Family) -> i32 {
        match (self, family) {
            (Self::Udp, _) => 17,
            (Self::UdpLite, _) => 136,
            (Self::Echo | Self::Icmp, Family::V4) => 1,
            (Self::Echo | Self::Icmp, Family::V6) => 58,
        }
    }

    pub(crate) const fn is_udp(self) -> bool {
        match self {
            Self::Udp | Self::UdpLite => true,
            Self::Echo | Self::Icmp => false,
        }
    }
}

impl Options {
    /// IPV6_CHECKSUM: where the checksum of a message goes.
    pub(crate) fn checksum_at(&self) -> Option<u16> {
        u16::try_from(self.raw.checksum).ok()
    }

    /// setsockopt(2) on a raw socket; `None`: an option like on any socket.
    pub(super) fn set_raw(
        &mut self,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Option<Result<(), Errno>> {
        if self.protocol() != DatagramProtocol::Icmp {
            return None;
        }
        let v4 = self.family() == Family::V4;
        Some(match (level, name) {
            (SOL_IP, _) if !v4 => Err(Errno::ENOPROTOOPT),
            (SOL_IP, IP_HDRINCL) => super::options::number(level, value, true).map(|number| {
                self.raw.header = number != 0;
            }),
            (SOL_RAW, ICMP_FILTER) if v4 => {
                self.set_filter(value, FILTER_V4);
                Ok(())
            }
            (SOL_ICMPV6, ICMPV6_FILTER) if !v4 => {
                self.set_filter(value, FILTER_V6);
                Ok(())
            }
            // ipv6(7), RFC 3542 §3.1: ICMPv6 has its checksum where it has it; the level of raw(7) is let through.
            (SOL_IPV6, IPV6_CHECKSUM) if !v4 => Err(Errno::EINVAL),
            (SOL_RAW, IPV6_CHECKSUM) if !v4 => super::options::number(level, value, false)
                .and_then(|offset| {
                    if offset > 0 && offset % 2 != 0 {
                        return Err(Errno::EINVAL);
                    }
                    self.raw.checksum = offset.max(-1);
                    Ok(())
                }),
            (SOL_RAW, _) => Err(Errno::ENOPROTOOPT),
            (SOL_ICMPV6, _) => Err(Errno::ENOPROTOOPT),
            _ => return None,
        })
    }

    /// getsockopt(2) on a raw socket; `None`: an option like on any socket.
    pub(super) fn get_raw(&self, level: i32, name: i32) -> Option<Result<OptionValue, Errno>> {
        if self.protocol() != DatagramProtocol::Icmp {
            return None;
        }
        let v4 = self.family() == Family::V4;
        Some(match (level, name) {
            (SOL_IP, _) if !v4 => Err(Errno::ENOPROTOOPT),
            (SOL_IP, IP_HDRINCL) => Ok(OptionValue::int(i32::from(self.raw.header))),
            (SOL_RAW, ICMP_FILTER) if v4 => Ok(self.filter(FILTER_V4)),
            (SOL_ICMPV6, ICMPV6_FILTER) if !v4 => Ok(self.filter(FILTER_V6)),
            (SOL_IPV6 | SOL_RAW, IPV6_CHECKSUM) if !v4 => Ok(OptionValue::int(self.raw.checksum)),
            (SOL_RAW, _) => Err(Errno::ENOPROTOOPT),
            (SOL_ICMPV6, _) if !v4 => Err(Errno::ENOPROTOOPT),
            _ => return None,
        })
    }

    /// What is shorter changes the first bytes only.
    fn set_filter(&mut self, value: &[u8], size: usize) {
        let mut bytes = self.filter_bytes();
        let used = value.len().min(size);
        bytes[..used].copy_from_slice(&value[..used]);
        for (word, part) in self.raw.filter.0.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(part.try_into().unwrap_or_default());
        }
    }

    fn filter(&self, size: usize) -> OptionValue {
        OptionValue::bytes(self.filter_bytes()[..size].to_vec())
    }

    fn filter_bytes(&self) -> [u8; FILTER_V6] {
        let mut bytes = [0; FILTER_V6];
        for (part, word) in bytes.chunks_exact_mut(4).zip(self.raw.filter.0) {
            part.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

impl Socket {
    /// A message that this socket may send, as far as the message alone decides it; and the destination as it is written.
    ///
    /// # Errors
    /// EMSGSIZE: longer than a packet. EINVAL: no message of an echo socket (icmp(7): an echo request), a mapped address, or a
    /// protocol in sin6_port (raw(7)). EFAULT: no type and code.
    pub(super) fn check_icmp(&self, to: Option<SocketAddr>, payload: &[u8]) -> Result<(), Errno> {
        let v4 = self.family == Family::V4;
        let other_family = matches!(to, Some(SocketAddr::V4(_))) && !v4;
        match self.options.protocol() {
            DatagramProtocol::Udp | DatagramProtocol::UdpLite => Ok(()),
            DatagramProtocol::Echo | DatagramProtocol::Icmp if other_family => {
                Err(Errno::EAFNOSUPPORT)
            }
            DatagramProtocol::Echo => {
                if payload.len() > MESSAGE_MAX {
                    return Err(Errno::EMSGSIZE);
                }
                // Echo, and extended echo (RFC 8335).
                let types: [u8; 2] = if v4 { [8, 42] } else { [128, 160] };
                let asks =
                    payload.len() >= HEADER && types.contains(&payload[0]) && payload[1] == 0;
                match to {
                    _ if !asks => Err(Errno::EINVAL),
                    Some(to) if !v4 && is_mapped(to.ip()) => Err(Errno::EINVAL),
                    Some(to) if !v4 && to.ip() == Ipv6Addr::UNSPECIFIED => Err(Errno::ENETUNREACH),
                    Some(_) | None => Ok(()),
                }
            }
            DatagramProtocol::Icmp => {
                if payload.len() > MESSAGE_MAX {
                    return Err(Errno::EMSGSIZE);
                }
                if to.is_some_and(|to| !v4 && !matches!(to.port(), 0 | 58)) {
                    return Err(Errno::EINVAL);
                }
                // The kernel reads type and code for its routing.
                if payload.len() < 2 && !self.options.raw.header {
                    return Err(Errno::EFAULT);
                }
                let field = self.options.checksum_at().filter(|_| !v4);
                if field.is_some_and(|at| payload.len() < usize::from(at) + 2) {
                    return Err(Errno::EINVAL);
                }
                Ok(())
            }
        }
    }

    /// IP_HDRINCL is on.
    pub(super) const fn brings_header(&self) -> bool {
        matches!(self.options.protocol(), DatagramProtocol::Icmp) && self.options.raw.header
    }

    /// What bind(2) says of an address before the rules of UDP do.
    pub(super) fn check_icmp_address(&self, ip: IpAddr) -> Result<(), Errno> {
        let refused = match self.options.protocol() {
            DatagramProtocol::Udp | DatagramProtocol::UdpLite => None,
            DatagramProtocol::Echo if is_mapped(ip) => Some(Errno::EINVAL),
            DatagramProtocol::Echo => {
                let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
                (ip.is_multicast() || broadcast).then_some(Errno::EADDRNOTAVAIL)
            }
            DatagramProtocol::Icmp => is_mapped(ip).then_some(Errno::EADDRNOTAVAIL),
        };
        refused.map_or(Ok(()), Err)
    }
}

impl Sockets {
    /// Whether programs may open raw sockets; those that are open stay.
    pub const fn set_raw(&mut self, allowed: bool) {
        self.raw = allowed;
    }

    /// Whether a socket hears from the moment it is made, without bind(2): a raw one.
    #[must_use]
    pub fn hears_at_once(&self, id: SocketId) -> bool {
        self.udp_protocol(id) == DatagramProtocol::Icmp
    }

    /// Whether each datagram's source has to be told from the others' even on a connected socket: a socket of ICMP hears more
    /// than its peer, and nobody's port.
    #[must_use]
    pub fn tells_sources(&self, id: SocketId) -> bool {
        !self.udp_protocol(id).is_udp()
    }

    /// Whether one more raw socket may be opened.
    ///
    /// # Errors
    /// EPERM: the network's setting forbids it (raw(7): CAP_NET_RAW). ENFILE: 256 are open.
    pub(super) fn admit_raw(&self) -> Result<(), Errno> {
        if !self.raw {
            return Err(Errno::EPERM);
        }
        if self.stack.raw_endpoints() >= RAW_ENDPOINTS {
            return Err(Errno::ENFILE);
        }
        Ok(())
    }

    /// Tells the engine what a raw socket hears.
    pub(super) fn apply_filter(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(&id) else {
            return;
        };
        if let (DatagramProtocol::Icmp, Some(endpoint)) =
            (socket.options.protocol(), socket.endpoint())
        {
            self.stack
                .datagram_filter(endpoint, socket.options.raw.filter);
        }
    }

    /// Sends a packet whose header the program has written.
    pub(super) fn send_header(
        &mut self,
        now: Instant,
        id: SocketId,
        from: IpAddr,
        to: IpAddr,
        packet: &[u8],
    ) -> Result<(), crate::stack::SendError> {
        let endpoint = self.sockets.get(&id).and_then(Socket::endpoint);
        let endpoint = endpoint.ok_or(crate::stack::SendError::NoRoute)?;
        self.stack
            .datagram_send_header(now, endpoint, from, to, packet)
    }
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}
