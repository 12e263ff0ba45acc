// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who holds which local port, and who may share it: the rules of bind(2), ip(7), socket(7) SO_REUSEADDR and SO_REUSEPORT.
//!
//! Sockets with equal claims share one entry, so a conflict is found in the number of *different* claims on a port (a
//! handful), whatever the number of connections of a busy server.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use super::SocketId;
use crate::stack::Families;

/// Ephemeral ports (ip(7) ip_local_port_range default).
pub(crate) const EPHEMERAL: (u16, u16) = (32_768, 60_999);
/// Holders reported with a conflict: the driver looks whether they still live.
const HOLDERS_MAX: usize = 64;

/// Ports are separate for each transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Tcp,
    Udp,
    UdpLite,
    /// Identifiers of echo sockets.
    Echo,
}

/// What one socket says about its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    /// Exact address, or `None` for the wildcard.
    pub(crate) ip: Option<IpAddr>,
    /// Serves IPv4.
    pub(crate) v4: bool,
    /// Serves IPv6.
    pub(crate) v6: bool,
    /// SO_REUSEADDR.
    pub(crate) reuse: bool,
    /// SO_REUSEPORT.
    pub(crate) reuseport: bool,
    /// In the LISTEN state.
    pub(crate) listening: bool,
    /// The port was chosen by connect(2): others may use it towards other peers.
    pub(crate) by_connect: bool,
}

impl Claim {
    /// A claim on `ip` (or on the wildcard of `families`) without any flag.
    pub(crate) const fn new(ip: Option<IpAddr>, families: Families) -> Self {
        let (v4, v6) = match ip {
            Some(IpAddr::V4(_)) => (true, false),
            Some(IpAddr::V6(_)) => (false, true),
            None => match families {
                Families::V4 => (true, false),
                Families::V6 => (false, true),
                Families::Both => (true, true),
            },
        };
        Self {
            ip,
            v4,
            v6,
            reuse: false,
            reuseport: false,
            listening: false,
            by_connect: false,
        }
    }

    /// Some packet could belong to both.
    fn overlaps(&self, other: &Self) -> bool {
        let family = self.v4 && other.v4 || self.v6 && other.v6;
        family && (self.ip.is_none() || other.ip.is_none() || self.ip == other.ip)
    }

    /// `self` may not join `held` on a port the program named.
    fn conflicts(&self, held: &Self, transport: Transport) -> bool {
        if transport == Transport::Echo {
            // icmp(7): one table of identifiers for all addresses and both families.
            return !(self.reuse && held.reuse);
        }
        if !self.overlaps(held) || self.reuseport && held.reuseport {
            return false;
        }
        // SO_REUSEADDR: any number of UDP sockets; for TCP not beside a listener (socket(7)).
        let reuse = self.reuse
            && held.reuse
            && match transport {
                Transport::Tcp => !held.listening,
                Transport::Udp | Transport::UdpLite | Transport::Echo => true,
            };
        !reuse
    }
}

/// The table of claims.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: BTreeMap<(Transport, u16), BTreeMap<Claim, BTreeSet<SocketId>>>,
}

impl Ports {
    /// Nothing is held.
    pub(crate) const fn new() -> Self {
        Self {
            held: BTreeMap::new(),
        }
    }

    /// Whether `claim` may be made on `port`.
    ///
    /// # Errors
    /// The sockets in the way (`except` is never one), at most 64 of them.
    pub(crate) fn check(
        &self,
        transport: Transport,
        port: u16,
        claim: &Claim,
        except: SocketId,
    ) -> Result<(), Vec<SocketId>> {
        let mut holders = Vec::new();
        for (held, ids) in self.held.get(&(transport, port)).into_iter().flatten() {
            if claim.conflicts(held, transport) {
                holders.extend(
                    ids.iter()
                        .filter(|id| **id != except)
                        .take(HOLDERS_MAX - holders.len()),
                );
            }
        }
        if holders.is_empty() {
            Ok(())
        } else {
            Err(holders)
        }
    }

    /// Records a claim.
    pub(crate) fn insert(&mut self, transport: Transport, port: u16, claim: Claim, id: SocketId) {
        self.held
            .entry((transport, port))
            .or_default()
            .entry(claim)
            .or_default()
            .insert(id);
    }

    /// Forgets a claim; one that is not there is ignored.
    pub(crate) fn remove(&mut self, transport: Transport, port: u16, claim: &Claim, id: SocketId) {
        let Some(claims) = self.held.get_mut(&(transport, port)) else {
            return;
        };
        if let Some(ids) = claims.get_mut(claim) {
            ids.remove(&id);
            if ids.is_empty() {
                claims.remove(claim);
            }
        }
        if claims.is_empty() {
            self.held.remove(&(transport, port));
        }
    }

    /// A random port of `range` on which nothing overlaps `claim`: bind(2) to port 0. Sharing options do not help here, so that
    /// two programs never meet on a port by chance.
    pub(crate) fn free(
        &self,
        transport: Transport,
        claim: &Claim,
        range: (u16, u16),
        random: &mut Random,
    ) -> Option<u16> {
        scan(range, random).find(|port| {
            self.held.get(&(transport, *port)).is_none_or(|claims| {
                transport != Transport::Echo && claims.keys().all(|held| !claim.overlaps(held))
            })
        })
    }

    /// True if connect(2) may take `port` of its own accord: free, or taken by connect(2) before.
    pub(crate) fn connectable(&self, transport: Transport, port: u16) -> bool {
        self.held
            .get(&(transport, port))
            .is_none_or(|claims| claims.keys().all(|held| held.by_connect))
    }
}

/// Every port of `range` once, from a random one on.
pub(crate) fn scan(range: (u16, u16), random: &mut Random) -> impl Iterator<Item = u16> + use<> {
    let start = random.below(count(range));
    scan_from(range, start)
}

/// Every port of `range` once, for a connection to `peer`: from an offset on that is secret and the peer's, moved by one
/// with each connection (RFC 6056 §3.3.3). A port comes back after all others: until then what the peer remembers of its
/// last connection (TIME_WAIT) is over.
pub(crate) fn scan_for(
    range: (u16, u16),
    random: &Random,
    peer: &SocketAddr,
    connections: u32,
) -> impl Iterator<Item = u16> + use<> {
    let offset = random.of(peer).wrapping_add(connections);
    scan_from(range, offset % count(range))
}

fn count((low, high): (u16, u16)) -> u32 {
    u32::from(high.saturating_sub(low)) + 1
}

fn scan_from(range: (u16, u16), start: u32) -> impl Iterator<Item = u16> + use<> {
    let low = range.0;
    let count = count(range);
    (0..count).map(move |step| {
        let offset = (start + step) % count;
        low.saturating_add(u16::try_from(offset).expect("offset is below the number of ports"))
    })
}

/// Keyed random numbers: SipHash of a secret and a counter. Not for keys.
#[derive(Debug)]
pub(crate) struct Random {
    secret: u64,
    drawn: u64,
}

impl Random {
    pub(crate) const fn new(secret: u64) -> Self {
        Self { secret, drawn: 0 }
    }

    /// A number that belongs to `peer`: always the same, unknown to others.
    pub(crate) fn of(&self, peer: &SocketAddr) -> u32 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret);
        peer.hash(&mut hasher);
        let hash = hasher.finish();
        u32::try_from(hash >> 32).expect("32 bits are left")
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret);
        hasher.write_u64(self.drawn);
        hasher.write_u64(self.secret.rotate_left(32));
        self.drawn = self.drawn.wrapping_add(1);
        let high = hasher.finish() >> 32;
        u32::try_from((high * u64::from(bound)) >> 32)
            .expect("the product of two 32-bit numbers, shifted by 32, has 32 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address kinds of the matrix, in its order.
    fn kinds() -> [Claim; 8] {
        let ip = |text: &str| Some(text.parse().unwrap());
        [
            Claim::new(None, Families::V4),              // 0.0.0.0
            Claim::new(ip("127.0.0.1"), Families::V4),   // one IPv4 address
            Claim::new(ip("127.0.0.2"), Families::V4),   // another
            Claim::new(None, Families::Both),            // ::
            Claim::new(None, Families::V6),              // :: with IPV6_V6ONLY
            Claim::new(ip("::1"), Families::V6),         // one IPv6 address
            Claim::new(ip("127.0.0.1"), Families::Both), // ::ffff:127.0.0.1
            Claim::new(None, Families::V4),              // ::ffff:0.0.0.0
        ]
    }

    /// Rows: first socket; columns: second. X: EADDRINUSE on Linux 6.18 when neither socket shares.
    const OVERLAP: [&str; 8] = [
        "XXXX..XX", "XX.X..XX", "X.XX...X", "XXXXXXXX", "...XXX..", "...XXX..", "XX.X..XX",
        "XXXX..XX",
    ];

    /// (transport, first listens, options of first, of second, overlap forbidden); a: SO_REUSEADDR, p: SO_REUSEPORT.
    /// As Linux 6.18 answered, for bind(2) of the second and, when both listen, for its listen(2).
    const SHARING: &[(Transport, bool, &str, &str, bool)] = &[
        (Transport::Tcp, false, "", "", true),
        (Transport::Tcp, false, "a", "", true),
        (Transport::Tcp, false, "", "a", true),
        (Transport::Tcp, false, "a", "a", false),
        (Transport::Tcp, false, "p", "p", false),
        (Transport::Tcp, false, "p", "", true),
        (Transport::Tcp, false, "a", "p", true),
        (Transport::Tcp, false, "ap", "ap", false),
        (Transport::Tcp, false, "ap", "a", false),
        (Transport::Tcp, false, "ap", "p", false),
        (Transport::Tcp, true, "", "", true),
        (Transport::Tcp, true, "a", "", true),
        (Transport::Tcp, true, "", "a", true),
        (Transport::Tcp, true, "a", "a", true),
        (Transport::Tcp, true, "p", "p", false),
        (Transport::Tcp, true, "p", "", true),
        (Transport::Tcp, true, "a", "p", true),
        (Transport::Tcp, true, "ap", "ap", false),
        (Transport::Tcp, true, "ap", "a", true),
        (Transport::Tcp, true, "ap", "p", false),
        (Transport::Udp, false, "", "", true),
        (Transport::Udp, false, "a", "", true),
        (Transport::Udp, false, "", "a", true),
        (Transport::Udp, false, "a", "a", false),
        (Transport::Udp, false, "p", "p", false),
        (Transport::Udp, false, "p", "", true),
        (Transport::Udp, false, "a", "p", true),
        (Transport::Udp, false, "ap", "ap", false),
        (Transport::Udp, false, "ap", "a", false),
        (Transport::Udp, false, "ap", "p", false),
    ];

    fn with(claim: Claim, options: &str, listening: bool) -> Claim {
        Claim {
            reuse: options.contains('a'),
            reuseport: options.contains('p'),
            listening,
            ..claim
        }
    }

    #[test]
    fn conflict_matrix_of_linux() {
        for &(transport, listening, first_options, second_options, forbidden) in SHARING {
            for (row, first) in kinds().into_iter().enumerate() {
                for (column, second) in kinds().into_iter().enumerate() {
                    let mut ports = Ports::default();
                    ports.insert(
                        transport,
                        80,
                        with(first, first_options, listening),
                        SocketId(1),
                    );
                    let answer = ports.check(
                        transport,
                        80,
                        &with(second, second_options, false),
                        SocketId(2),
                    );
                    let expected = forbidden && OVERLAP[row].as_bytes()[column] == b'X';
                    assert_eq!(
                        answer,
                        if expected {
                            Err(vec![SocketId(1)])
                        } else {
                            Ok(())
                        },
                        "{transport:?} {listening} {first_options}/{second_options} {row} {column}"
                    );
                }
            }
        }
    }

    #[test]
    fn holders_are_bounded_and_never_oneself() {
        let mut ports = Ports::default();
        let claim = Claim::new(None, Families::V4);
        for id in 0..1_000 {
            ports.insert(Transport::Tcp, 80, claim, SocketId(id));
        }
        assert_eq!(
            ports
                .check(Transport::Tcp, 80, &claim, SocketId(5_000))
                .unwrap_err()
                .len(),
            HOLDERS_MAX
        );
        for id in 1..1_000 {
            ports.remove(Transport::Tcp, 80, &claim, SocketId(id));
        }
        assert_eq!(ports.check(Transport::Tcp, 80, &claim, SocketId(0)), Ok(()));
        ports.remove(Transport::Tcp, 80, &claim, SocketId(0));
        assert!(ports.held.is_empty());
    }

    #[test]
    fn free_ports_are_random_deterministic_and_exhaustible() {
        let claim = Claim::new(None, Families::Both);
        let draw = |secret| {
            let (mut ports, mut random, mut drawn) =
                (Ports::default(), Random::new(secret), Vec::new());
            while let Some(port) = ports.free(Transport::Udp, &claim, (40_000, 40_099), &mut random)
            {
                ports.insert(Transport::Udp, port, claim, SocketId(u64::from(port)));
                drawn.push(port);
            }
            drawn
        };
        let mut first = draw(1);
        assert_eq!(first, draw(1));
        assert_ne!(first, draw(2));
        first.sort_unstable();
        assert_eq!(first, (40_000..=40_099).collect::<Vec<_>>());
    }

    #[test]
    fn connections_to_one_peer_use_every_port_before_one_comes_back() {
        let random = Random::new(7);
        let peer: SocketAddr = "10.77.0.1:80".parse().unwrap();
        let range = (40_000, 40_099);
        let mut used: Vec<u16> = (0..100)
            .map(|n| scan_for(range, &random, &peer, n).next().unwrap())
            .collect();
        let again = scan_for(range, &random, &peer, 100).next().unwrap();
        assert_eq!(again, used[0]);
        used.sort_unstable();
        assert_eq!(used, (40_000..=40_099).collect::<Vec<_>>());
        assert!(scan_for(range, &random, &peer, u32::MAX).count() == 100);
    }

    #[test]
    fn connect_shares_only_with_connect() {
        let mut ports = Ports::default();
        let claim = Claim::new(None, Families::V4);
        assert!(ports.connectable(Transport::Tcp, 50_000));
        ports.insert(
            Transport::Tcp,
            50_000,
            Claim {
                by_connect: true,
                ..claim
            },
            SocketId(1),
        );
        assert!(ports.connectable(Transport::Tcp, 50_000));
        ports.insert(Transport::Tcp, 50_000, claim, SocketId(2));
        assert!(!ports.connectable(Transport::Tcp, 50_000));
    }
}
