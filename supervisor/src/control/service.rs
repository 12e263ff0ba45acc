// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration and its one owner.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use netcon_overlay::{IpPrefix, PeerConfig, PresharedKey, PrivateKey, PublicKey};
use netcon_shim::handover::refusal;

use super::addresses;
use super::checks::{check_mtu, check_peers};
use super::endpoints::{Peers, Resolver};
use super::runtime::{Admission, NetworkStart, PeerCredentials, Runtime};
use crate::clock;
use crate::state::{
    Broken, InterfaceAddress, NetworkConfig, NetworkId, NetworkName, PeerEntry, StateDir,
    StateError, Version, is_name,
};
use crate::sys::random;

/// Answers the control API and admits containers; owns the state directory.
pub struct Service {
    state: StateDir,
    shared: Arc<Shared>,
    resolver: Resolver,
    udp_port: u16,
    started: Instant,
    next_container: AtomicU64,
}

/// What the resolver of endpoints needs too.
struct Shared {
    runtime: Arc<dyn Runtime>,
    /// Held while the files and the node are changed together; never while waiting for a program.
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    networks: BTreeMap<NetworkName, Known>,
    broken: BTreeMap<String, Broken>,
}

/// A network of the configuration.
#[derive(Debug, Clone)]
pub struct Known {
    /// As it is on disk.
    pub config: NetworkConfig,
    /// Why it does not run, if it does not.
    pub failure: Option<String>,
}

/// Why a request was refused. The text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The name, key or address is taken.
    #[error("{0}")]
    Conflict(String),
    /// The request cannot be right.
    #[error("{0}")]
    Invalid(String),
    /// The disk, the kernel or the node refused.
    #[error("{0}")]
    Failed(String),
}

/// What a new network is to be.
#[derive(Debug, Clone)]
pub struct NewNetwork {
    /// Its name.
    pub name: NetworkName,
    /// Own addresses; a family without one gets a random private prefix.
    pub addresses: Vec<InterfaceAddress>,
    /// Largest packet, in bytes.
    pub mtu: Option<u16>,
}

/// A network that another side has made: all of it is given.
#[derive(Debug, Clone)]
pub struct ImportedNetwork {
    /// Its name here.
    pub name: NetworkName,
    /// Our key on it.
    pub private_key: PrivateKey,
    /// Our addresses on it.
    pub addresses: Vec<InterfaceAddress>,
    /// Largest packet, in bytes.
    pub mtu: Option<u16>,
    /// The others.
    pub peers: Vec<PeerEntry>,
}

/// What a new peer is to be.
#[derive(Debug, Clone, Default)]
pub struct NewPeer {
    /// What people call it.
    pub name: Option<String>,
    /// Who it is. None: a key pair is made for it, and handed out once.
    pub public_key: Option<PublicKey>,
    /// Symmetric key. With a made key pair one is made too unless given.
    pub preshared_key: Option<PresharedKey>,
    /// Where it is.
    pub endpoint: Option<String>,
    /// Its addresses; the next free ones if empty.
    pub allowed_ips: Vec<IpPrefix>,
    /// Seconds between keepalives towards it.
    pub persistent_keepalive: Option<u16>,
    /// Where it finds us; this host's outgoing address if None.
    pub our_endpoint: Option<String>,
}

/// A peer that was added.
#[derive(Debug, Clone)]
pub struct AddedPeer {
    /// As it is in the configuration.
    pub peer: PeerEntry,
    /// What the peer's side needs, if its key pair was made here. Kept nowhere.
    pub export: Option<PeerExport>,
}

/// The other side's configuration, for a wg-quick file.
#[derive(Debug, Clone)]
pub struct PeerExport {
    /// Key of the peer.
    pub private_key: PrivateKey,
    /// Its own addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// Largest packet, in bytes.
    pub mtu: u16,
    /// Us, as the peer sees us.
    pub us: PeerEntry,
}

/// Answer to a shim that wants a container.
#[derive(Debug)]
pub enum Admitted {
    /// The notification fd may be handed over.
    Accepted(Admission),
    /// The caller is already in that network.
    Inside {
        /// The network.
        network: String,
    },
    /// No.
    Refused {
        /// One of [`refusal`].
        code: u16,
        /// One sentence for the user.
        sentence: String,
    },
}

impl Service {
    /// Reads the state directory and starts every network of it. What cannot be read or started is
    /// reported in a log line each and does not hold up the others.
    ///
    /// # Errors
    /// [`StateError`] when the directory cannot be listed.
    pub fn start(
        state: StateDir,
        runtime: Arc<dyn Runtime>,
        udp_port: u16,
    ) -> Result<Self, StateError> {
        let loaded = state.load()?;
        let shared = Arc::new(Shared {
            runtime,
            tables: Mutex::new(Tables::default()),
        });
        let service = Self {
            state,
            resolver: Resolver::start(ResolvedPeers(Arc::clone(&shared))),
            shared,
            udp_port,
            started: clock::now(),
            next_container: AtomicU64::new(1),
        };
        let mut tables = service.lock();
        for broken in loaded.broken {
            tracing::error!(
                "{} is not used and left as it is: {}; repair or remove it.",
                broken.path.display(),
                broken.reason
            );
            tables.broken.insert(broken.name.clone(), broken);
        }
        for config in loaded.networks {
            // A person may have edited the file.
            let failure = check_mtu(Some(config.mtu))
                .and_then(|_mtu| check_peers(&config))
                .map_err(|error| error.to_string())
                .and_then(|()| service.start_network(&config))
                .err();
            if let Some(failure) = &failure {
                tracing::error!("Network {} does not run: {failure}", config.name);
            }
            tables
                .networks
                .insert(config.name.clone(), Known { config, failure });
        }
        drop(tables);
        Ok(service)
    }

    /// The port of the overlay.
    #[must_use]
    pub fn udp_port(&self) -> u16 {
        self.udp_port
    }

    /// When the service started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The node.
    #[must_use]
    pub fn runtime(&self) -> &dyn Runtime {
        &*self.shared.runtime
    }

    /// All networks, by name.
    #[must_use]
    pub fn networks(&self) -> Vec<Known> {
        self.lock().networks.values().cloned().collect()
    }

    /// Files that could not be used, by name.
    #[must_use]
    pub fn broken(&self) -> Vec<Broken> {
        self.lock().broken.values().cloned().collect()
    }

    /// One network, by name or id.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], listing those that exist.
    pub fn network(&self, name_or_id: &str) -> Result<Known, ControlError> {
        find(&self.lock(), name_or_id).cloned()
    }

    /// Makes a network with a new key.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn create(&self, new: NewNetwork) -> Result<Known, ControlError> {
        let mut addresses = new.addresses;
        if !addresses.iter().any(|own| own.address().is_ipv4()) {
            addresses.push(self.free_prefix(|| random::bytes().map(addresses::random_v4))?);
        }
        if !addresses.iter().any(|own| own.address().is_ipv6()) {
            addresses.push(self.free_prefix(|| random::bytes().map(addresses::random_v6))?);
        }
        // IPv4 first: the order in which people look for them.
        addresses.sort_by_key(|own| own.address().is_ipv6());
        self.add_network(ImportedNetwork {
            name: new.name,
            private_key: PrivateKey::from_random(random::bytes().map_err(no_random)?),
            addresses,
            mtu: new.mtu,
            peers: Vec::new(),
        })
    }

    /// Adds a network that another side has made.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn add_network(&self, new: ImportedNetwork) -> Result<Known, ControlError> {
        let config = NetworkConfig {
            version: Version::One,
            id: NetworkId(u64::from_ne_bytes(random::bytes().map_err(no_random)?)),
            name: new.name,
            private_key: new.private_key,
            addresses: new.addresses,
            mtu: check_mtu(new.mtu)?,
            peers: new.peers,
        };
        check_peers(&config)?;
        let mut tables = self.lock();
        let name = &config.name;
        if let Some(broken) = tables.broken.get(name.as_str()) {
            return Err(ControlError::Conflict(format!(
                "The name {name} belongs to {}, which cannot be read ({}); repair or remove that file, or use another name.",
                broken.path.display(),
                broken.reason
            )));
        }
        if tables.networks.contains_key(name) {
            return Err(ControlError::Conflict(format!(
                "A network named {name} exists already."
            )));
        }
        let public = config.private_key.public();
        if let Some(other) = tables
            .networks
            .values()
            .find(|known| known.config.private_key.public() == public)
        {
            return Err(ControlError::Conflict(format!(
                "Network {} has that private key already.",
                other.config.name
            )));
        }
        self.state.save_new(&config).map_err(failed)?;
        if let Err(failure) = self.start_network(&config) {
            self.take_back(self.state.remove(&config.name));
            return Err(ControlError::Failed(failure));
        }
        tracing::info!(network = %config.name, "network added");
        let known = Known {
            config,
            failure: None,
        };
        tables
            .networks
            .insert(known.config.name.clone(), known.clone());
        Ok(known)
    }

    /// Stops a network and removes its file, and with it its key.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Failed`] when the file stays: the network runs on then.
    pub fn delete(&self, name_or_id: &str) -> Result<Known, ControlError> {
        let mut tables = self.lock();
        let name = find(&tables, name_or_id)?.config.name.clone();
        self.state.remove(&name).map_err(failed)?;
        self.shared.runtime.stop_network(name.as_str());
        tracing::info!(network = %name, "network removed");
        tables
            .networks
            .remove(&name)
            .ok_or_else(|| ControlError::NotFound(format!("There is no network {name}.")))
    }

    /// Adds a peer to a network.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn add_peer(&self, network: &str, new: NewPeer) -> Result<AddedPeer, ControlError> {
        let mut tables = self.lock();
        let known = find(&tables, network)?.clone();
        let mut config = known.config;
        if let Some(name) = &new.name {
            if !is_name(name) {
                return Err(ControlError::Invalid(format!(
                    "{name:?} is not a name: use 1 to 32 letters, digits, '-' or '_', starting with a letter or digit."
                )));
            }
            if config.peer(name).is_some() {
                return Err(ControlError::Conflict(format!(
                    "Network {} has a peer named {name} already.",
                    config.name
                )));
            }
        }
        let addresses = addresses::next_free(&config);
        let (private_key, public_key) = match new.public_key {
            Some(key) => (None, key),
            None => {
                let key = PrivateKey::from_random(random::bytes().map_err(no_random)?);
                let public = key.public();
                (Some(key), public)
            }
        };
        let preshared_key = match (new.preshared_key, &private_key) {
            (Some(key), _) => Some(key),
            (None, Some(_)) => Some(PresharedKey::from_bytes(
                random::bytes().map_err(no_random)?,
            )),
            (None, None) => None,
        };
        let allowed_ips = if new.allowed_ips.is_empty() {
            addresses
                .iter()
                .map(|own| IpPrefix::host(own.address()))
                .collect()
        } else {
            new.allowed_ips
        };
        if allowed_ips.is_empty() {
            return Err(ControlError::Conflict(format!(
                "Network {} has no address left for another peer.",
                config.name
            )));
        }
        let peer = PeerEntry {
            name: new.name,
            public_key,
            preshared_key: preshared_key.clone(),
            endpoint: new.endpoint,
            allowed_ips,
            persistent_keepalive: new.persistent_keepalive,
        };
        let export = match private_key {
            None => None,
            Some(private_key) => Some(PeerExport {
                private_key,
                addresses: own_addresses(&config, &peer),
                mtu: config.mtu,
                us: self.ourselves(&config, preshared_key, new.our_endpoint)?,
            }),
        };
        config.peers.push(peer.clone());
        check_peers(&config)?;
        self.change(&mut tables, config, |service, name| {
            service.set_peer(name, &peer)
        })?;
        tracing::info!(network, peer = peer.name.as_deref(), "peer added");
        Ok(AddedPeer { peer, export })
    }

    /// Removes a peer, by name or public key.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn remove_peer(&self, network: &str, peer: &str) -> Result<PeerEntry, ControlError> {
        let mut tables = self.lock();
        let mut config = find(&tables, network)?.config.clone();
        let key = match config.peer(peer) {
            Some(entry) => entry.public_key,
            None => {
                return Err(ControlError::NotFound(format!(
                    "Network {} has no peer {peer}.",
                    config.name
                )));
            }
        };
        let mut removed = None;
        config.peers.retain(|entry| {
            if entry.public_key == key {
                removed = Some(entry.clone());
            }
            entry.public_key != key
        });
        self.change(&mut tables, config, |service, name| {
            service.shared.runtime.remove_peer(name, &key);
            Ok(())
        })?;
        tracing::info!(network, "peer removed");
        removed.ok_or_else(|| ControlError::NotFound(format!("There is no peer {peer}.")))
    }

    /// Decides about a shim: which network, and whether it may.
    pub fn admit(&self, network: Option<&str>, argv0: Vec<u8>, peer: PeerCredentials) -> Admitted {
        let refused = |code, sentence| Admitted::Refused { code, sentence };
        let inside = self.shared.runtime.network_of(peer.pid);
        let tables = self.lock();
        let wanted = match (network, &inside) {
            (Some(name), _) => match find(&tables, name) {
                Ok(known) => known,
                Err(error) => return refused(refusal::UNKNOWN_NETWORK, error.to_string()),
            },
            (None, Some(inside)) => {
                return Admitted::Inside {
                    network: inside.clone(),
                };
            }
            (None, None) => {
                let mut all = tables.networks.values();
                match (all.next(), all.next()) {
                    (Some(only), None) => only,
                    (None, _) => {
                        return refused(
                            refusal::NETWORK_NOT_NAMED,
                            "There is no network yet; make one with: netcon network create NAME."
                                .to_owned(),
                        );
                    }
                    (Some(_), Some(_)) => {
                        return refused(
                            refusal::NETWORK_NOT_NAMED,
                            format!(
                                "Say which network with --net NAME; there are: {}.",
                                names(&tables)
                            ),
                        );
                    }
                }
            }
        };
        let name = wanted.config.name.to_string();
        match inside {
            Some(inside) if inside == name => return Admitted::Inside { network: name },
            Some(inside) => {
                return refused(
                    refusal::OTHER_NETWORK,
                    format!(
                        "This process lives in network {inside}; a program cannot be in {name} as well."
                    ),
                );
            }
            None => {}
        }
        if let Some(failure) = &wanted.failure {
            return refused(
                refusal::OTHER,
                format!("Network {name} does not run: {failure}"),
            );
        }
        Admitted::Accepted(Admission {
            container: self.next_container.fetch_add(1, Ordering::Relaxed),
            network: name,
            argv0,
            peer,
        })
    }

    /// Writes a changed configuration, then applies it to the node if the network runs; takes the
    /// file back if that fails.
    fn change(
        &self,
        tables: &mut Tables,
        config: NetworkConfig,
        apply: impl FnOnce(&Self, &str) -> Result<(), String>,
    ) -> Result<(), ControlError> {
        let Some(known) = tables.networks.get_mut(&config.name) else {
            return Err(ControlError::NotFound(format!(
                "There is no network {}.",
                config.name
            )));
        };
        self.state.save(&config).map_err(failed)?;
        if known.failure.is_none()
            && let Err(failure) = apply(self, config.name.as_str())
        {
            self.take_back(self.state.save(&known.config));
            return Err(ControlError::Failed(failure));
        }
        known.config = config;
        Ok(())
    }

    fn take_back(&self, result: Result<(), StateError>) {
        if let Err(error) = result {
            tracing::error!("The files no longer agree with what runs: {error}");
        }
    }

    fn start_network(&self, config: &NetworkConfig) -> Result<(), String> {
        let name = config.name.as_str();
        self.shared
            .runtime
            .start_network(NetworkStart {
                name: name.to_owned(),
                private_key: config.private_key.clone(),
                addresses: config
                    .addresses
                    .iter()
                    .map(|own| (own.address(), own.length()))
                    .collect(),
                mtu: config.mtu,
                peers: config.peers.iter().map(peer_config).collect(),
            })
            .map_err(|error| error.to_string())?;
        for peer in &config.peers {
            self.resolver.resolve(name, peer);
        }
        Ok(())
    }

    fn set_peer(&self, network: &str, peer: &PeerEntry) -> Result<(), String> {
        self.shared
            .runtime
            .set_peer(network, peer_config(peer))
            .map_err(|error| error.to_string())?;
        self.resolver.resolve(network, peer);
        Ok(())
    }

    /// This host as a peer sees it.
    fn ourselves(
        &self,
        config: &NetworkConfig,
        preshared_key: Option<PresharedKey>,
        endpoint: Option<String>,
    ) -> Result<PeerEntry, ControlError> {
        let endpoint = match endpoint {
            Some(endpoint) => super::endpoints::with_port(&endpoint, self.udp_port).ok_or_else(|| {
                ControlError::Invalid(format!(
                    "{endpoint:?} is not an endpoint; write HOST, HOST:PORT or [IPV6]:PORT."
                ))
            })?,
            None => super::endpoints::outgoing_address()
                .map(|address| SocketAddr::new(address, self.udp_port).to_string())
                .ok_or_else(|| {
                    ControlError::Invalid(
                        "This host has no route to the outside; say with --our-endpoint where the peer finds it."
                            .to_owned(),
                    )
                })?,
        };
        Ok(PeerEntry {
            name: None,
            public_key: config.private_key.public(),
            preshared_key,
            endpoint: Some(endpoint),
            allowed_ips: config
                .addresses
                .iter()
                .filter_map(|own| IpPrefix::new(own.address(), own.length()).ok())
                .collect(),
            // The side that imports a file is usually the one behind a NAT.
            persistent_keepalive: Some(25),
        })
    }

    /// A random prefix that no other network of this host has.
    fn free_prefix(
        &self,
        mut random: impl FnMut() -> io::Result<InterfaceAddress>,
    ) -> Result<InterfaceAddress, ControlError> {
        let tables = self.lock();
        let mut candidate = random().map_err(no_random)?;
        // Overlapping prefixes would work (networks do not see each other) but confuse people.
        for _attempt in 0..64 {
            let taken = tables
                .networks
                .values()
                .flat_map(|known| &known.config.addresses)
                .any(|own| own.contains(candidate.address()) || candidate.contains(own.address()));
            if !taken {
                break;
            }
            candidate = random().map_err(no_random)?;
        }
        Ok(candidate)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Every change is made in one step at the end: a panic leaves the tables whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The peers as the resolver sees them. It holds no reference to the service, which owns it.
struct ResolvedPeers(Arc<Shared>);

impl ResolvedPeers {
    fn entry<'a>(
        tables: &'a Tables,
        network: &str,
        peer: &PublicKey,
        name: &str,
    ) -> Option<&'a PeerEntry> {
        let known = find(tables, network).ok()?;
        known.config.peers.iter().find(|entry| {
            known.failure.is_none()
                && entry.public_key == *peer
                && entry.endpoint.as_deref() == Some(name)
        })
    }
}

impl Peers for ResolvedPeers {
    fn wants(&self, network: &str, peer: &PublicKey, name: &str) -> bool {
        Self::entry(&self.0.lock(), network, peer, name).is_some()
    }

    fn found(&self, network: &str, peer: &PublicKey, name: &str, address: SocketAddr) {
        let tables = self.0.lock();
        let Some(entry) = Self::entry(&tables, network, peer, name) else {
            return;
        };
        // It has called in the meantime: where it called from is newer than what a name service remembers.
        let has_called = self
            .0
            .runtime
            .peer_status(network)
            .iter()
            .any(|status| status.public_key == *peer && status.endpoint.is_some());
        if has_called {
            return;
        }
        let mut config = peer_config(entry);
        config.endpoint = Some(address);
        if let Err(error) = self.0.runtime.set_peer(network, config) {
            tracing::warn!(%error, "a resolved endpoint is not used");
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("state", &self.state.path())
            .field("udp_port", &self.udp_port)
            .finish_non_exhaustive()
    }
}

/// Where the file of a network is kept, for messages.
impl Service {
    /// The state directory.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.state.path().to_path_buf()
    }
}

fn find<'a>(tables: &'a Tables, name_or_id: &str) -> Result<&'a Known, ControlError> {
    let by_name = name_or_id
        .parse::<NetworkName>()
        .ok()
        .and_then(|name| tables.networks.get(&name));
    let found = by_name.or_else(|| {
        tables
            .networks
            .values()
            .find(|known| known.config.id.to_string() == name_or_id)
    });
    found.ok_or_else(|| {
        let shown: String = name_or_id.chars().take(64).collect();
        ControlError::NotFound(match tables.broken.get(name_or_id) {
            Some(broken) => format!(
                "Network {shown} is not loaded: {} cannot be used ({}); repair or remove that file and start the supervisor again.",
                broken.path.display(),
                broken.reason
            ),
            None if tables.networks.is_empty() => format!(
                "There is no network {shown:?}, nor any other; make one with: netcon network create NAME."
            ),
            None => format!(
                "There is no network {shown:?}; there are: {}.",
                names(tables)
            ),
        })
    })
}

fn names(tables: &Tables) -> String {
    let names: Vec<&str> = tables.networks.keys().map(NetworkName::as_str).collect();
    names.join(", ")
}

/// A peer's own addresses: the single ones of its allowed IPs, with the length of the network.
fn own_addresses(config: &NetworkConfig, peer: &PeerEntry) -> Vec<InterfaceAddress> {
    peer.allowed_ips
        .iter()
        .filter(|prefix| **prefix == IpPrefix::host(prefix.addr()))
        .filter_map(|prefix| {
            let length = config
                .addresses
                .iter()
                .find(|own| own.contains(prefix.addr()))
                .map_or(prefix.len(), |own| own.length());
            InterfaceAddress::new(prefix.addr(), length).ok()
        })
        .collect()
}

/// The peer for the overlay; a name for an endpoint is resolved later.
fn peer_config(peer: &PeerEntry) -> PeerConfig {
    PeerConfig {
        public_key: peer.public_key,
        preshared_key: peer.preshared_key.clone(),
        endpoint: peer.endpoint.as_deref().and_then(|text| text.parse().ok()),
        allowed_ips: peer.allowed_ips.clone(),
        persistent_keepalive: peer.persistent_keepalive,
    }
}

fn failed(error: StateError) -> ControlError {
    match &error {
        StateError::Io {
            path, error: cause, ..
        } if cause.kind() == io::ErrorKind::AlreadyExists => ControlError::Conflict(format!(
            "{} exists already; repair or remove it, or use another name.",
            path.display()
        )),
        StateError::Io { .. }
        | StateError::NoPlace
        | StateError::Untrusted { .. }
        | StateError::Locked { .. } => ControlError::Failed(error.to_string()),
    }
}

fn no_random(error: io::Error) -> ControlError {
    ControlError::Failed(format!("The kernel gives no random bytes: {error}."))
}
