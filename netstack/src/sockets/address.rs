// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Addresses as a program writes them and as the engine wants them.
//!
//! Inside, every address is *canonical*: an IPv4 address is [`IpAddr::V4`], also when it came in or goes out as `::ffff:a.b.c.d`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::errno::Errno;
use crate::stack::{Families, Stack};

/// Address family of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6; serves IPv4 too unless IPV6_V6ONLY is set (ipv6(7)).
    V6,
}

/// AF_INET.
pub(crate) const AF_INET: i32 = 2;
/// AF_INET6.
pub(crate) const AF_INET6: i32 = 10;

impl Family {
    /// The AF_ constant (SO_DOMAIN).
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }
}

/// The canonical form: v4-mapped becomes IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => address,
        },
    }
}

/// A canonical address as a socket of `family` shows it.
pub(crate) fn present(family: Family, address: SocketAddr) -> SocketAddr {
    match (family, address) {
        (Family::V6, SocketAddr::V4(v4)) => {
            SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
        }
        (Family::V4 | Family::V6, _) => address,
    }
}

/// A bound address as a socket of `family` shows it (getsockname(2)): the wildcard in the form it was bound with.
pub(crate) fn present_bound(
    family: Family,
    ip: Option<IpAddr>,
    families: Families,
    port: u16,
) -> SocketAddr {
    let ip = ip.unwrap_or_else(|| match (family, families) {
        (Family::V4, _) | (Family::V6, Families::V4) => Ipv4Addr::UNSPECIFIED.into(),
        (Family::V6, Families::V6 | Families::Both) => Ipv6Addr::UNSPECIFIED.into(),
    });
    present(family, SocketAddr::new(ip, port))
}

/// What a destination is, decided once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// One host; canonical; the unspecified address has become the loopback address.
    Unicast(SocketAddr),
    /// 255.255.255.255, or an interface's own.
    Broadcast(SocketAddr),
    /// A multicast group.
    Multicast(SocketAddr),
}

impl Destination {
    /// With the broadcast addresses of this network's interfaces in mind.
    pub(crate) fn among(self, stack: &Stack) -> Self {
        match self {
            Self::Unicast(to) if stack.broadcast_link(to.ip()).is_some() => Self::Broadcast(to),
            other @ (Self::Unicast(_) | Self::Broadcast(_) | Self::Multicast(_)) => other,
        }
    }
}

/// Reads the destination of connect(2) or sendto(2) on a socket of `family`. `families` are those the socket can reach now.
///
/// # Errors
/// EAFNOSUPPORT: IPv6 address on an IPv4 socket, or on a socket bound to a v4-mapped address. ENETUNREACH: IPv4 destination on
/// an IPv6-only socket. EINVAL: link-local IPv6 address without scope.
pub(crate) fn destination(
    family: Family,
    families: Families,
    to: SocketAddr,
) -> Result<Destination, Errno> {
    if family == Family::V4 && to.is_ipv6() {
        return Err(Errno::EAFNOSUPPORT);
    }
    // `::` on a socket bound to a v4-mapped address means the IPv4 loopback, as 0.0.0.0 does (RFC 4291 §2.5.2 leaves it open).
    let to = if to.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && families == Families::V4 {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.port())
    } else {
        canonical(to)
    };
    match to {
        SocketAddr::V4(v4) => {
            if families == Families::V6 {
                return Err(Errno::ENETUNREACH);
            }
            Ok(if v4.ip().is_unspecified() {
                Destination::Unicast(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), v4.port()))
            } else if v4.ip().is_broadcast() {
                Destination::Broadcast(to)
            } else if v4.ip().is_multicast() {
                Destination::Multicast(to)
            } else {
                Destination::Unicast(to)
            })
        }
        SocketAddr::V6(v6) => {
            if families == Families::V4 {
                return Err(Errno::EAFNOSUPPORT);
            }
            if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 {
                return Err(Errno::EINVAL);
            }
            Ok(if v6.ip().is_unspecified() {
                Destination::Unicast(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), v6.port()))
            } else if v6.ip().is_multicast() {
                Destination::Multicast(to)
            } else {
                // Scope and flow label of a global address carry nothing here.
                Destination::Unicast(SocketAddr::new((*v6.ip()).into(), v6.port()))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn destinations_by_family() {
        use Destination::{Broadcast, Multicast, Unicast};
        use Families::{Both, V4, V6};
        let rows: [(Family, Families, &str, Result<Destination, Errno>); 14] = [
            (
                Family::V4,
                V4,
                "10.0.0.1:80",
                Ok(Unicast(address("10.0.0.1:80"))),
            ),
            (
                Family::V4,
                V4,
                "0.0.0.0:80",
                Ok(Unicast(address("127.0.0.1:80"))),
            ),
            (Family::V4, V4, "[::1]:80", Err(Errno::EAFNOSUPPORT)),
            (
                Family::V4,
                V4,
                "255.255.255.255:80",
                Ok(Broadcast(address("255.255.255.255:80"))),
            ),
            (
                Family::V4,
                V4,
                "224.0.0.251:5353",
                Ok(Multicast(address("224.0.0.251:5353"))),
            ),
            (
                Family::V6,
                Both,
                "[::]:80",
                Ok(Unicast(address("[::1]:80"))),
            ),
            (
                Family::V6,
                V4,
                "[::]:80",
                Ok(Unicast(address("127.0.0.1:80"))),
            ),
            (
                Family::V6,
                Both,
                "[::ffff:10.0.0.1]:80",
                Ok(Unicast(address("10.0.0.1:80"))),
            ),
            (
                Family::V6,
                Both,
                "[::ffff:0.0.0.0]:80",
                Ok(Unicast(address("127.0.0.1:80"))),
            ),
            (
                Family::V6,
                V6,
                "[::ffff:10.0.0.1]:80",
                Err(Errno::ENETUNREACH),
            ),
            (Family::V6, V4, "[fd00::1]:80", Err(Errno::EAFNOSUPPORT)),
            (Family::V6, Both, "[fe80::1]:80", Err(Errno::EINVAL)),
            (
                Family::V6,
                Both,
                "[ff02::fb]:80",
                Ok(Multicast(address("[ff02::fb]:80"))),
            ),
            (
                Family::V6,
                V6,
                "[fd00::1]:80",
                Ok(Unicast(address("[fd00::1]:80"))),
            ),
        ];
        for (family, families, to, expected) in rows {
            assert_eq!(
                destination(family, families, address(to)),
                expected,
                "{family:?} {families:?} {to}"
            );
        }
    }

    #[test]
    fn presentation() {
        assert_eq!(
            present(Family::V6, address("10.0.0.1:1")),
            address("[::ffff:10.0.0.1]:1")
        );
        assert_eq!(
            present(Family::V4, address("10.0.0.1:1")),
            address("10.0.0.1:1")
        );
        assert_eq!(
            present_bound(Family::V6, None, Families::Both, 5),
            address("[::]:5")
        );
        assert_eq!(
            present_bound(Family::V6, None, Families::V4, 5),
            address("[::ffff:0.0.0.0]:5")
        );
        assert_eq!(
            present_bound(Family::V4, None, Families::V4, 5),
            address("0.0.0.0:5")
        );
    }
}
