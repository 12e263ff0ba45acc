// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration and its one owner: its life, and the networks.

mod admit;
mod change;
mod peers;
mod reload;
mod remembered;
mod resolved;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use netcon_api::model::Happening;
use netcon_api::token::Token;
use netcon_overlay::{PeerConfig, PrivateKey};

use super::addresses;
use super::checks::{check_addresses, check_mtu, check_name, check_peers};
use super::endpoints::Resolver;
use super::runtime::{NetworkStart, Runtime};
use crate::clock;
use crate::needs::Needs;
use crate::state::{
    Broken, InterfaceAddress, NetworkConfig, NetworkId, NetworkName, PeerEntry, StateDir,
    StateError, Version, WgQuickSettings,
};
use crate::sys::random;
use remembered::Keeper;
use resolved::ResolvedPeers;

pub use admit::Admitted;
pub use change::{ChangedNetwork, ChangedPeer};
pub(super) use peers::no_peer;
pub use peers::{AddedPeer, NewPeer, PeerExport};
pub use reload::Reloaded;

/// Answers the control API and admits containers; owns the state directory.
pub struct Service {
    state: Arc<StateDir>,
    token: RwLock<Token>,
    shared: Arc<Shared>,
    resolver: Resolver,
    keeper: Arc<Keeper>,
    udp_port: u16,
    started: Instant,
    next_container: AtomicU64,
    needs: Needs,
    /// Requests answered, by HTTP status.
    requests: Mutex<BTreeMap<u16, u64>>,
}

/// What the resolver of endpoints needs too.
struct Shared {
    runtime: Arc<dyn Runtime>,
    /// Held while the files and the node are changed together; never while waiting for a program.
    tables: Mutex<Tables>,
    /// Handshakes, endpoints and listeners are compared each second.
    watched: AtomicBool,
}

#[derive(Debug, Default)]
struct Tables {
    networks: BTreeMap<NetworkName, Known>,
    broken: BTreeMap<String, Broken>,
}

/// A network of the configuration.
#[derive(Debug, Clone)]
pub struct Known {
    /// As it is on disk. Shared, because every request takes a copy of what it looks at.
    pub config: Arc<NetworkConfig>,
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
    /// What the file says to wg-quick only, if there is one.
    pub wg_quick: Option<WgQuickSettings>,
    /// The others.
    pub peers: Vec<PeerEntry>,
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
        let random = random::bytes().map_err(|error| StateError::Io {
            action: "make",
            path: state.token_file(),
            error,
        })?;
        let token = state.token(Token::from_random(random))?;
        let shared = Arc::new(Shared {
            runtime,
            tables: Mutex::new(Tables::default()),
            watched: AtomicBool::new(false),
        });
        let state = Arc::new(state);
        let resolver = Resolver::start(ResolvedPeers::new(Arc::clone(&shared)));
        let seeker = resolver.seeker();
        shared
            .runtime
            .watch_unanswered(Box::new(move |network, peer| seeker.seek(network, peer)));
        let service = Self {
            keeper: Keeper::start(Arc::clone(&state), Arc::clone(&shared)),
            state,
            token: RwLock::new(token),
            resolver,
            shared,
            udp_port,
            started: clock::now(),
            next_container: AtomicU64::new(1),
            needs: Needs::default(),
            requests: Mutex::default(),
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
            service.begin(&mut tables, config);
        }
        drop(tables);
        Ok(service)
    }

    /// Writes down what handshakes must not forget over a restart; otherwise done every few seconds.
    pub fn save_timestamps(&self) {
        self.keeper.save();
    }

    /// The port of the overlay.
    #[must_use]
    pub fn udp_port(&self) -> u16 {
        self.udp_port
    }

    /// The state directory: where the files of the networks are kept.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.state.path().to_path_buf()
    }

    /// Whether somebody presents the control API's token.
    #[must_use]
    pub fn is_token(&self, presented: &[u8]) -> bool {
        self.token().is(presented)
    }

    /// The control API's token.
    #[must_use]
    pub fn token(&self) -> Token {
        let token = self.token.read();
        token.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its file.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.state.token_file()
    }

    /// Makes a new token; the old one is worth nothing from now on.
    ///
    /// # Errors
    /// [`ControlError::Failed`]; the old one is then as good as before.
    pub fn rotate_token(&self) -> Result<Token, ControlError> {
        let fresh = Token::from_random(random::bytes().map_err(no_random)?);
        let mut token = self.token.write().unwrap_or_else(PoisonError::into_inner);
        self.state.save_token(&fresh).map_err(failed)?;
        *token = fresh.clone();
        tracing::info!("the control API has a new token");
        Ok(fresh)
    }

    /// When the service started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Who needs this supervisor.
    #[must_use]
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// The node.
    #[must_use]
    pub fn runtime(&self) -> &dyn Runtime {
        &*self.shared.runtime
    }

    /// Counts a request that was answered.
    pub fn count_request(&self, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(status).or_default() += 1;
    }

    /// Requests answered, by HTTP status.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<u16, u64> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.clone()
    }

    /// The node, for what goes on after an answer.
    pub(super) fn shared_runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.shared.runtime)
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
            wg_quick: None,
            peers: Vec::new(),
        })
    }

    /// Adds a network that another side has made.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn add_network(&self, new: ImportedNetwork) -> Result<Known, ControlError> {
        check_name(&new.name)?;
        let config = NetworkConfig {
            version: Version::One,
            id: NetworkId(u64::from_ne_bytes(random::bytes().map_err(no_random)?)),
            name: new.name,
            private_key: new.private_key,
            addresses: new.addresses,
            mtu: check_mtu(new.mtu)?,
            raw_sockets: true,
            wg_quick: new.wg_quick,
            peers: new.peers,
        };
        check_addresses(&config.addresses)?;
        check_peers(&config)?;
        let mut tables = self.lock();
        check_free(&tables, &config.name)?;
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
        self.tell(Happening::NetworkCreated {
            network: config.name.to_string(),
        });
        let known = Known {
            config: Arc::new(config),
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
        self.tell(Happening::NetworkDeleted {
            network: name.to_string(),
        });
        tables.broken.remove(name.as_str());
        tables
            .networks
            .remove(&name)
            .ok_or_else(|| ControlError::NotFound(format!("There is no network {name}.")))
    }

    /// Writes a changed configuration, then applies it to the node if the network runs; takes the
    /// file back if that fails.
    fn change(
        &self,
        tables: &mut Tables,
        config: NetworkConfig,
        apply: impl FnOnce(&Self, &str) -> Result<(), String>,
    ) -> Result<(), ControlError> {
        if let Some(broken) = tables.broken.get(config.name.as_str()) {
            return Err(ControlError::Conflict(format!(
                "{} cannot be used any more ({}), and would be overwritten; repair or remove it, then: netcon service reload.",
                broken.path.display(),
                broken.reason
            )));
        }
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
        known.config = Arc::new(config);
        Ok(())
    }

    fn tell(&self, what: Happening) {
        self.shared.runtime.events().publish(what);
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
                raw_sockets: config.raw_sockets,
                peers: config.peers.iter().map(peer_config).collect(),
                timestamps: self.keeper.of(config.id),
            })
            .map_err(|error| error.to_string())?;
        for peer in &config.peers {
            self.resolver.resolve(name, peer);
        }
        Ok(())
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

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("state", &self.state.path())
            .field("udp_port", &self.udp_port)
            .finish_non_exhaustive()
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

/// Whether a network may have this name from now on.
fn check_free(tables: &Tables, name: &NetworkName) -> Result<(), ControlError> {
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
    Ok(())
}

fn names(tables: &Tables) -> String {
    let names: Vec<&str> = tables.networks.keys().map(NetworkName::as_str).collect();
    names.join(", ")
}

/// The peer for the overlay; a name for an endpoint is resolved later.
fn peer_config(peer: &PeerEntry) -> PeerConfig {
    PeerConfig {
        public_key: peer.public_key,
        preshared_key: peer.preshared_key.clone(),
        endpoint: peer.endpoint.as_deref().and_then(|text| text.parse().ok()),
        allowed_ips: peer.allowed_ips.clone(),
        persistent_keepalive: peer.persistent_keepalive,
        reserved: peer.reserved,
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
