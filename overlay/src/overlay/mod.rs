// SPDX-License-Identifier: Apache-2.0 OR MIT
//! [`Overlay`]: all networks behind one UDP port.

mod gate;
mod inbound;
mod outbound;
mod replicate;

pub use replicate::Recipients;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::agenda::Agenda;
use crate::event::{ConfigError, DropReason};
use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::peer::{Peer, PeerId, Peers};
use crate::routes::{IpPrefix, Routes};
use crate::wireguard::handshake::{Identity, Remote, Timestamp};
use crate::wireguard::messages::Reserved;
use crate::wireguard::{Common, PADDING, Tunnel, sealed_len};
use gate::Gate;

/// Networks one port serves: an unknown initiation costs a MAC for each.
const MAX_NETWORKS: usize = 256;
/// Least MTU: what every IPv4 host takes (RFC 1122).
const MIN_MTU: usize = 576;
/// Greatest MTU: UDP over IPv6 without jumbograms, less the transport message's 32 bytes, in whole paddings.
const MAX_MTU: usize = 65_455;

/// Bytes of the outer headers, IP and UDP.
const V4_UDP: usize = 28;
const V6_UDP: usize = 48;
/// No path is taken to carry less than this in inner packets: IPv6 demands it, and the host can fragment what is around them.
const MIN_PATH: usize = 1280;
/// How long a narrow path is believed in (RFC 1191 section 6.3).
const PATH_TIME: Duration = Duration::from_secs(600);
/// Unanswered initiations after which the caller is told, and then again after each so many more.
const MISSED_FIRST: u32 = 3;
const MISSED_AGAIN: u32 = 6;

/// Number of a network, chosen by the caller.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NetworkIndex(pub u32);

/// A peer as configured.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The peer's name.
    pub public_key: PublicKey,
    /// Must be the same on both sides. A change takes effect with the next handshake.
    pub preshared_key: Option<PresharedKey>,
    /// Where the peer is. Without one, an update keeps the last known, and a new peer has to call first.
    pub endpoint: Option<SocketAddr>,
    /// What is sent to the peer, and what it may send from. A prefix that another peer has is taken from it.
    pub allowed_ips: Vec<IpPrefix>,
    /// Seconds of silence after which something is sent to keep NAT mappings alive. Zero is none.
    pub persistent_keepalive: Option<u16>,
    /// The three reserved bytes of our messages to it, zero in WireGuard. Some services want a client's number there. With
    /// other bytes than zero, the peer's messages may have the same ones.
    pub reserved: [u8; 3],
}

/// A peer as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// The peer's name.
    pub public_key: PublicKey,
    /// Where the peer was last heard from, or is configured to be.
    pub endpoint: Option<SocketAddr>,
    /// The endpoint is where the peer was heard from, not the configured one.
    pub endpoint_learned: bool,
    /// When the last handshake was completed, since 1970.
    pub last_handshake: Option<Duration>,
    /// Handshakes completed since the peer was added.
    pub handshakes: u64,
    /// Bytes of authenticated datagrams received, headers included.
    pub rx_bytes: u64,
    /// Bytes of datagrams sent, headers included.
    pub tx_bytes: u64,
    /// Our initiations that went unanswered since the peer was last heard.
    pub unanswered: u32,
    /// Packets that wait for a session.
    pub waiting: usize,
    /// What was thrown away, from it or for it, by reason; only what was.
    pub drops: Vec<(DropReason, u64)>,
}

struct Network {
    identity: Identity,
    /// Bytes of the largest IP packet.
    mtu: usize,
    peers: BTreeMap<PublicKey, PeerId>,
    routes: Routes<PeerId>,
    /// Changes with the prefixes in `routes`.
    generation: u64,
}

/// WireGuard's side of all networks of one supervisor, behind one UDP port. See the [crate] for how to drive it.
pub struct Overlay {
    common: Common,
    networks: BTreeMap<NetworkIndex, Network>,
    peers: Peers,
    agenda: Agenda,
    gate: Gate,
    /// Peers that go unanswered and of which nobody has been told; each at most once, marked by `is_missed`.
    missed: VecDeque<PeerId>,
    /// Peers with reserved bytes other than zero.
    reserving: usize,
}

impl Overlay {
    /// Bytes that must be free before a packet given to [`Self::encapsulate`].
    pub const HEADROOM: usize = 16;

    /// `seed` is all the randomness there is: it must come from the operating system's generator, once per overlay.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            common: Common::new(&seed),
            networks: BTreeMap::new(),
            peers: Peers::default(),
            agenda: Agenda::default(),
            gate: Gate::new(),
            missed: VecDeque::new(),
            reserving: 0,
        }
    }

    /// Bytes of the datagram that carries a packet of `packet_len` bytes: header, packet, padding to 16 but not past `mtu`, tag.
    pub const fn sealed_len(packet_len: usize, mtu: usize) -> usize {
        sealed_len(packet_len, mtu)
    }

    /// Adds a network without peers. `mtu` is the size of its largest IP packet in bytes.
    ///
    /// # Errors
    /// [`ConfigError::NetworkExists`], [`ConfigError::KeyInUse`], [`ConfigError::InvalidMtu`], [`ConfigError::TooManyNetworks`].
    pub fn add_network(
        &mut self,
        index: NetworkIndex,
        key: PrivateKey,
        mtu: usize,
    ) -> Result<(), ConfigError> {
        check_mtu(mtu)?;
        if self.networks.contains_key(&index) {
            return Err(ConfigError::NetworkExists);
        }
        if self.networks.len() >= MAX_NETWORKS {
            return Err(ConfigError::TooManyNetworks);
        }
        let identity = Identity::new(&key);
        if self
            .networks
            .values()
            .any(|network| network.identity.public == identity.public)
        {
            return Err(ConfigError::KeyInUse);
        }
        self.networks.insert(
            index,
            Network {
                identity,
                mtu,
                peers: BTreeMap::new(),
                routes: Routes::new(),
                generation: 0,
            },
        );
        Ok(())
    }

    /// Changes the size of the network's largest IP packet, in bytes, for packets sent from now on.
    ///
    /// # Errors
    /// [`ConfigError::UnknownNetwork`], [`ConfigError::InvalidMtu`].
    pub fn set_mtu(&mut self, index: NetworkIndex, mtu: usize) -> Result<(), ConfigError> {
        check_mtu(mtu)?;
        self.networks
            .get_mut(&index)
            .ok_or(ConfigError::UnknownNetwork)?
            .mtu = mtu;
        Ok(())
    }

    /// Removes a network, its peers and their keys. Peers are not told: WireGuard has no message for it.
    ///
    /// # Errors
    /// [`ConfigError::UnknownNetwork`].
    pub fn remove_network(&mut self, index: NetworkIndex) -> Result<(), ConfigError> {
        let network = self
            .networks
            .remove(&index)
            .ok_or(ConfigError::UnknownNetwork)?;
        for id in network.peers.into_values() {
            if let Some(peer) = self.peers.remove(id) {
                self.forget(peer);
            }
        }
        Ok(())
    }

    /// A peer that is no longer in the tables gives back what it holds.
    fn forget(&mut self, mut peer: Box<Peer>) {
        peer.tunnel.clear(&mut self.common.indices);
        self.reserving -= usize::from(!peer.tunnel.reserved().is_zero());
    }

    /// Adds a peer, or updates it: its session and what is known of its endpoint stay.
    ///
    /// # Errors
    /// [`ConfigError::UnknownNetwork`], [`ConfigError::OwnKey`], [`ConfigError::WeakKey`], [`ConfigError::TooManyPeers`].
    pub fn set_peer(
        &mut self,
        now: Instant,
        index: NetworkIndex,
        config: PeerConfig,
    ) -> Result<(), ConfigError> {
        let network = self
            .networks
            .get_mut(&index)
            .ok_or(ConfigError::UnknownNetwork)?;
        let preshared = config.preshared_key.unwrap_or_else(PresharedKey::absent);
        let (id, is_new) = match network.peers.get(&config.public_key) {
            Some(id) => (*id, false),
            None => {
                if config.public_key == network.identity.public {
                    return Err(ConfigError::OwnKey);
                }
                let remote = Remote::new(&network.identity, config.public_key, preshared.clone());
                let remote = remote.map_err(|_| ConfigError::WeakKey)?;
                let id = self
                    .peers
                    .insert(Peer::new(index, Tunnel::new(remote)))
                    .ok_or(ConfigError::TooManyPeers)?;
                network.peers.insert(config.public_key, id);
                (id, true)
            }
        };
        let peer = self
            .peers
            .get_mut(id)
            .expect("a network names live peers only");
        // Most updates leave the prefixes alone; but another peer may have taken one.
        let owns = |prefix: &IpPrefix| network.routes.owner(*prefix) == Some(id);
        if peer.allowed_ips != config.allowed_ips || !config.allowed_ips.iter().all(owns) {
            for prefix in peer.allowed_ips.drain(..) {
                network.routes.remove(prefix, id);
            }
            for prefix in &config.allowed_ips {
                network.routes.insert(*prefix, id);
            }
            peer.allowed_ips = config.allowed_ips;
            network.generation += 1;
        }
        let tunnel = &mut peer.tunnel;
        tunnel.set_preshared(preshared);
        let reserved = Reserved(config.reserved);
        self.reserving += usize::from(!reserved.is_zero());
        self.reserving -= usize::from(!tunnel.reserved().is_zero());
        tunnel.set_reserved(reserved);
        let had_endpoint = tunnel.endpoint().is_some();
        if let Some(endpoint) = config.endpoint {
            tunnel.set_endpoint(endpoint);
        }
        let keepalive = config.persistent_keepalive.filter(|seconds| *seconds > 0);
        let keepalive = keepalive.map(|seconds| Duration::from_secs(seconds.into()));
        if is_new || !had_endpoint || tunnel.persistent_keepalive() != keepalive {
            tunnel.set_persistent_keepalive(now, keepalive);
        }
        self.agenda.settle(now, id, peer);
        Ok(())
    }

    /// Removes a peer and its keys.
    ///
    /// # Errors
    /// [`ConfigError::UnknownNetwork`], [`ConfigError::UnknownPeer`].
    pub fn remove_peer(&mut self, index: NetworkIndex, key: &PublicKey) -> Result<(), ConfigError> {
        let network = self
            .networks
            .get_mut(&index)
            .ok_or(ConfigError::UnknownNetwork)?;
        let id = network.peers.remove(key).ok_or(ConfigError::UnknownPeer)?;
        let peer = self
            .peers
            .remove(id)
            .expect("a network names live peers only");
        for prefix in &peer.allowed_ips {
            network.routes.remove(*prefix, id);
        }
        network.generation += 1;
        self.forget(peer);
        Ok(())
    }

    /// The network's own public key.
    pub fn public_key(&self, index: NetworkIndex) -> Option<PublicKey> {
        self.networks
            .get(&index)
            .map(|network| network.identity.public)
    }

    /// All peers of a network, in the order of their keys; none of an unknown network.
    pub fn peer_status(&self, index: NetworkIndex) -> Vec<PeerStatus> {
        let Some(network) = self.networks.get(&index) else {
            return Vec::new();
        };
        let peers = network.peers.iter();
        peers
            .filter_map(|(key, id)| Some(status_of(*key, self.peers.get(*id)?)))
            .collect()
    }

    /// One peer of a network.
    pub fn peer(&self, index: NetworkIndex, key: &PublicKey) -> Option<PeerStatus> {
        let id = *self.networks.get(&index)?.peers.get(key)?;
        Some(status_of(*key, self.peers.get(id)?))
    }

    /// Takes a peer whose handshakes go unanswered, so that its endpoint may be a wrong one: after three initiations (ten
    /// seconds), then after every six (half a minute). `None` when there is none; nothing piles up if nobody asks.
    pub fn poll_unanswered(&mut self) -> Option<(NetworkIndex, PublicKey)> {
        loop {
            let id = self.missed.pop_front()?;
            if let Some(peer) = self.peers.get_mut(id) {
                peer.is_missed = false;
                return Some((peer.network, peer.tunnel.remote().public));
            }
        }
    }

    /// To be called when the host refuses to send a datagram to `to` because the path carries no more than `outer_mtu` bytes,
    /// outer IP header included. Larger packets for peers there are refused with [`NotSent::TooLarge`](crate::NotSent::TooLarge)
    /// for ten minutes, then tried again. Returns the limit for inner packets, bytes: at least 1280. Looks at every peer: call it once, not
    /// for every datagram of a burst.
    pub fn set_path_mtu(&mut self, now: Instant, to: SocketAddr, outer_mtu: usize) -> usize {
        let header = if to.is_ipv4() { V4_UDP } else { V6_UDP };
        let room = outer_mtu.saturating_sub(header + sealed_len(0, 0));
        // In whole paddings, since a packet is padded up to the network's MTU.
        let limit = (room / PADDING * PADDING).max(MIN_PATH);
        for peer in self.peers.iter_mut() {
            if peer.tunnel.endpoint() == Some(to) {
                peer.tunnel.set_path(limit, now + PATH_TIME);
            }
        }
        limit
    }

    // What must outlive a restart

    /// The greatest time in an initiation of ours, since 1970. After a restart no initiation may be older: give the overlay that
    /// follows this one, or a little more, to [`Self::set_least_time`].
    pub fn own_time(&self) -> Duration {
        self.common.own_time
    }

    /// No initiation of ours is older than `unix`, whatever the clock says.
    pub fn set_least_time(&mut self, unix: Duration) {
        self.common.own_time = self.common.own_time.max(unix);
    }

    /// Whether a peer's timestamp has grown since this was last asked.
    pub fn take_timestamps_changed(&mut self) -> bool {
        std::mem::take(&mut self.common.timestamps_changed)
    }

    /// The greatest TAI64N timestamp each peer of a network has shown; without it an old initiation could be replayed.
    pub fn timestamps(&self, index: NetworkIndex) -> Vec<(PublicKey, [u8; 12])> {
        let peers = self.networks.get(&index).map(|network| &network.peers);
        peers
            .into_iter()
            .flatten()
            .filter_map(|(key, id)| {
                let timestamp = self.peers.get(*id)?.tunnel.timestamp_received()?;
                Some((*key, timestamp.to_bytes()))
            })
            .collect()
    }

    /// Makes initiations of a peer that are not newer than `timestamp` old. Without effect for a peer there is not.
    pub fn restore_timestamp(&mut self, index: NetworkIndex, key: &PublicKey, timestamp: [u8; 12]) {
        let network = self.networks.get(&index);
        if let Some(id) = network.and_then(|network| network.peers.get(key))
            && let Some(peer) = self.peers.get_mut(*id)
        {
            peer.tunnel
                .restore_timestamp(Timestamp::from_bytes(timestamp));
        }
    }

    /// The peer to whom a packet for `address` goes.
    pub fn peer_of(&self, index: NetworkIndex, address: IpAddr) -> Option<PublicKey> {
        let id = self.networks.get(&index)?.routes.lookup(address)?;
        Some(self.peers.get(id)?.tunnel.remote().public)
    }

    /// What can be reached through a network: all peers' allowed IPs, each once.
    pub fn routes(&self, index: NetworkIndex) -> Vec<IpPrefix> {
        let network = self.networks.get(&index);
        network.map_or_else(Vec::new, |network| {
            network
                .routes
                .prefixes()
                .map(|(prefix, _)| prefix)
                .collect()
        })
    }

    /// A number that changes whenever [`Self::routes`] of the network may have; `None` for an unknown one.
    pub fn routes_generation(&self, index: NetworkIndex) -> Option<u64> {
        self.networks.get(&index).map(|network| network.generation)
    }

    /// How often a peer was looked at so far, for packets, timers and messages: the measure of work, which must depend on what
    /// happens and not on how many peers there are.
    pub fn work(&self) -> u64 {
        self.agenda.looked()
    }

    /// How often each reason made the overlay throw something away.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> {
        self.common.drops.iter()
    }

    /// Tells the overlay that the machine is under load for reasons it cannot see: handshakes then cost their sender a cookie.
    /// A flood of handshakes has the same effect by itself.
    pub fn set_under_load(&mut self, loaded: bool) {
        self.gate.force_load(loaded);
    }

    /// When [`Self::handle_timeout`] wants to be called next; possibly earlier than needed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.agenda.next_deadline()
    }

    /// Handles all timers that are due. Harmless if none is. [`Self::poll_transmit`] may have something afterwards.
    pub fn handle_timeout(&mut self, now: Instant, unix: Duration) {
        while let Some(id) = self.agenda.pop_due(now, &mut self.peers) {
            let Some(peer) = self.peers.get_mut(id) else {
                continue;
            };
            let mut env = self.common.env(now, unix, id);
            peer.tunnel.handle_timeout(&mut env);
            self.agenda.settle(now, id, peer);
        }
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay")
            .field("networks", &self.networks.len())
            .field("peers", &self.peers.len())
            .field("indices", &self.common.indices.len())
            .finish_non_exhaustive()
    }
}

fn status_of(public_key: PublicKey, peer: &Peer) -> PeerStatus {
    let tunnel = &peer.tunnel;
    let (rx_bytes, tx_bytes) = tunnel.traffic();
    PeerStatus {
        public_key,
        endpoint: tunnel.endpoint(),
        endpoint_learned: tunnel.endpoint_learned(),
        last_handshake: tunnel.last_handshake(),
        handshakes: tunnel.handshakes(),
        rx_bytes,
        tx_bytes,
        unanswered: tunnel.unanswered(),
        waiting: tunnel.waiting(),
        drops: tunnel.drops(),
    }
}

fn check_mtu(mtu: usize) -> Result<(), ConfigError> {
    if (MIN_MTU..=MAX_MTU).contains(&mtu) {
        Ok(())
    } else {
        Err(ConfigError::InvalidMtu)
    }
}
