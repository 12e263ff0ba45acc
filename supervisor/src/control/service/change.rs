// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes of what exists: checked, written, applied to what runs; taken back from disk if that fails.

use std::sync::Arc;

use netcon_api::model::{Change, Happening};
use netcon_overlay::{IpPrefix, PresharedKey};

use super::peers::{called, place_of};
use super::{ControlError, Known, Service, Tables, check_free, failed, find, peer_config};
use crate::control::checks::{check_addresses, check_mtu, check_name, check_peers};
use crate::control::runtime::NetworkChange;
use crate::state::{InterfaceAddress, NetworkConfig, NetworkName, PeerEntry, is_name};

/// What is to change of a network.
#[derive(Debug, Clone, Default)]
pub struct ChangedNetwork {
    /// Its name.
    pub name: Option<NetworkName>,
    /// All its own addresses.
    pub addresses: Option<Vec<InterfaceAddress>>,
    /// Largest packet, in bytes; cleared, the usual one.
    pub mtu: Change<u16>,
    /// Programs may open raw sockets.
    pub raw_sockets: Option<bool>,
}

/// What is to change of a peer.
#[derive(Debug, Clone, Default)]
pub struct ChangedPeer {
    /// What people call it.
    pub name: Change<String>,
    /// Symmetric key.
    pub preshared_key: Change<PresharedKey>,
    /// Where it is.
    pub endpoint: Change<String>,
    /// All its prefixes.
    pub allowed_ips: Option<Vec<IpPrefix>>,
    /// Seconds between keepalives towards it.
    pub persistent_keepalive: Change<u16>,
    /// The three reserved bytes of our messages to it.
    pub reserved: Change<[u8; 3]>,
}

impl Service {
    /// Changes a network. What does not change goes on undisturbed.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn change_network(
        &self,
        network: &str,
        wanted: ChangedNetwork,
    ) -> Result<Known, ControlError> {
        let mut tables = self.lock();
        let old = Arc::clone(&find(&tables, network)?.config);
        let mut config = NetworkConfig::clone(&old);
        if let Some(name) = wanted.name {
            config.name = name;
        }
        if let Some(addresses) = wanted.addresses {
            if addresses.is_empty() {
                return Err(ControlError::Invalid(
                    "A network needs an address of this host.".to_owned(),
                ));
            }
            config.addresses = addresses;
        }
        match wanted.mtu {
            Change::Keep => {}
            Change::Clear => config.mtu = check_mtu(None)?,
            Change::Set(mtu) => config.mtu = check_mtu(Some(mtu))?,
        }
        if let Some(raw_sockets) = wanted.raw_sockets {
            config.raw_sockets = raw_sockets;
        }
        check_addresses(&config.addresses)?;
        check_peers(&config)?;
        let renamed = config.name != old.name;
        if renamed {
            check_name(&config.name)?;
            check_free(&tables, &config.name)?;
        }
        let change = NetworkChange {
            name: renamed.then(|| config.name.to_string()),
            addresses: (config.addresses != old.addresses).then(|| {
                let own = config.addresses.iter();
                own.map(|own| (own.address(), own.length())).collect()
            }),
            mtu: (config.mtu != old.mtu).then_some(config.mtu),
            raw_sockets: (config.raw_sockets != old.raw_sockets).then_some(config.raw_sockets),
        };
        if renamed {
            self.rename(&mut tables, &old, config.clone(), change)?;
        } else if change != NetworkChange::default() {
            self.change(&mut tables, config.clone(), |service, name| {
                let runtime = &service.shared.runtime;
                let changed = runtime.change_network(name, change);
                changed.map_err(|error| error.to_string())
            })?;
        }
        tracing::info!(network = %config.name, "network changed");
        self.tell(Happening::NetworkChanged {
            network: config.name.to_string(),
        });
        find(&tables, config.name.as_str()).cloned()
    }

    /// Changes a network with its name. The new file is there before the old one goes: a crash leaves both, and with them the
    /// key.
    fn rename(
        &self,
        tables: &mut Tables,
        old: &NetworkConfig,
        config: NetworkConfig,
        change: NetworkChange,
    ) -> Result<(), ControlError> {
        let Some(known) = tables.networks.get(&old.name) else {
            return Err(ControlError::NotFound(format!(
                "There is no network {}.",
                old.name
            )));
        };
        let failure = known.failure.clone();
        self.state.save_new(&config).map_err(failed)?;
        if failure.is_none()
            && let Err(error) = self
                .shared
                .runtime
                .change_network(old.name.as_str(), change)
        {
            self.take_back(self.state.remove(&config.name));
            return Err(ControlError::Failed(error.to_string()));
        }
        self.take_back(self.state.remove(&old.name));
        tables.networks.remove(&old.name);
        // Names that are being looked up are asked for under the old name.
        for peer in &config.peers {
            self.resolver.resolve(config.name.as_str(), peer);
        }
        let name = config.name.clone();
        let config = Arc::new(config);
        tables.networks.insert(name, Known { config, failure });
        Ok(())
    }

    /// Changes a peer, by name or public key. Its session goes on.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn change_peer(
        &self,
        network: &str,
        peer: &str,
        wanted: ChangedPeer,
    ) -> Result<PeerEntry, ControlError> {
        let mut tables = self.lock();
        let mut config = NetworkConfig::clone(&find(&tables, network)?.config);
        let place = place_of(&config, peer)?;
        let old = config.peers.remove(place);
        if let Change::Set(name) = &wanted.name {
            check_peer_name(&config, name)?;
        }
        if wanted.allowed_ips.as_ref().is_some_and(Vec::is_empty) {
            return Err(ControlError::Invalid(
                "A peer needs an address in the network; remove the peer instead.".to_owned(),
            ));
        }
        let moved = !wanted.endpoint.is_keep();
        let entry = PeerEntry {
            name: wanted.name.apply(old.name),
            public_key: old.public_key,
            preshared_key: wanted.preshared_key.apply(old.preshared_key),
            endpoint: wanted.endpoint.apply(old.endpoint),
            allowed_ips: wanted.allowed_ips.unwrap_or(old.allowed_ips),
            persistent_keepalive: wanted.persistent_keepalive.apply(old.persistent_keepalive),
            reserved: wanted
                .reserved
                .apply(Some(old.reserved))
                .unwrap_or_default(),
        };
        config.peers.insert(place, entry.clone());
        let name = config.name.to_string();
        check_peers(&config)?;
        self.change(&mut tables, config, |service, name| {
            let mut peer = peer_config(&entry);
            // A peer that has roamed stays where it is, unless it is said where it is.
            if !moved {
                peer.endpoint = None;
            }
            let runtime = &service.shared.runtime;
            runtime
                .set_peer(name, peer)
                .map_err(|error| error.to_string())?;
            if moved {
                service.resolver.resolve(name, &entry);
            }
            Ok(())
        })?;
        tracing::info!(network, "peer changed");
        self.tell(Happening::PeerChanged {
            network: name,
            peer: called(&entry),
        });
        Ok(entry)
    }
}

/// Whether a peer may have this name from now on.
pub(super) fn check_peer_name(config: &NetworkConfig, name: &str) -> Result<(), ControlError> {
    if !is_name(name) {
        let shown: String = name.chars().take(64).collect();
        return Err(ControlError::Invalid(format!(
            "{shown:?} is not a name: use 1 to 32 letters, digits, '-' or '_', starting with a letter or digit."
        )));
    }
    if config.peer(name).is_some() {
        return Err(ControlError::Conflict(format!(
            "Network {} has a peer named {name} already.",
            config.name
        )));
    }
    Ok(())
}
