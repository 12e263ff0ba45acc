// SPDX-License-Identifier: Apache-2.0 OR MIT
//! [`Overlay`]: all networks behind one UDP port.

mod gate;
mod inbound;
mod outbound;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::agenda::Agenda;
use crate::event::{ConfigError, DropReason};
use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::peer::{Peer, PeerId, Peers};
use crate::routes::{IpPrefix, Routes};
use crate::wireguard::handshake::{Identity, Remote};
use crate::wireguard::{Common, Tunnel, sealed_len};
use gate::Gate;

/// Networks one port serves: an unknown initiation costs a MAC for each.
const MAX_NETWORKS: usize = 256;
/// Least MTU: what every IPv4 host takes (RFC 1122).
const MIN_MTU: usize = 576;
/// Greatest MTU: UDP over IPv6 without jumbograms, less the transport message's 32 bytes, in whole paddings.
const MAX_MTU: usize = 65_455;

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
}

/// A peer as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// The peer's name.
    pub public_key: PublicKey,
    /// Where the peer was last heard from, or is configured to be.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was completed, since 1970.
    pub last_handshake: Option<Duration>,
    /// Bytes of authenticated datagrams received, headers included.
    pub rx_bytes: u64,
    /// Bytes of datagrams sent, headers included.
    pub tx_bytes: u64,
}

struct Network {
    identity: Identity,
    /// Bytes of the largest IP packet.
    mtu: usize,
    peers: BTreeMap<PublicKey, PeerId>,
    routes: Routes<PeerId>,
}

/// WireGuard's side of all networks of one supervisor, behind one UDP port. See the [crate] for how to drive it.
pub struct Overlay {
    common: Common,
    networks: BTreeMap<NetworkIndex, Network>,
    peers: Peers,
    agenda: Agenda,
    gate: Gate,
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
            if let Some(mut peer) = self.peers.remove(id) {
                peer.tunnel.clear(&mut self.common.indices);
            }
        }
        Ok(())
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
        for prefix in peer.allowed_ips.drain(..) {
            network.routes.remove(prefix, id);
        }
        for prefix in &config.allowed_ips {
            network.routes.insert(*prefix, id);
        }
        peer.allowed_ips = config.allowed_ips;
        let tunnel = &mut peer.tunnel;
        tunnel.set_preshared(preshared);
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
        let mut peer = self
            .peers
            .remove(id)
            .expect("a network names live peers only");
        for prefix in &peer.allowed_ips {
            network.routes.remove(*prefix, id);
        }
        peer.tunnel.clear(&mut self.common.indices);
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
        let peers = network
            .peers
            .iter()
            .filter_map(|(key, id)| Some((key, self.peers.get(*id)?)));
        let status = peers.map(|(key, peer)| {
            let (rx_bytes, tx_bytes) = peer.tunnel.traffic();
            let (endpoint, last_handshake) = (peer.tunnel.endpoint(), peer.tunnel.last_handshake());
            PeerStatus {
                public_key: *key,
                endpoint,
                last_handshake,
                rx_bytes,
                tx_bytes,
            }
        });
        status.collect()
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

fn check_mtu(mtu: usize) -> Result<(), ConfigError> {
    if (MIN_MTU..=MAX_MTU).contains(&mtu) {
        Ok(())
    } else {
        Err(ConfigError::InvalidMtu)
    }
}
