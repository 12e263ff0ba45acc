// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The peers of a network.

use std::net::SocketAddr;

use netcon_api::model::Happening;
use netcon_overlay::{IpPrefix, PresharedKey, PrivateKey, PublicKey};

use super::change::check_peer_name;
use super::{ControlError, Service, find, no_random, peer_config};
use crate::control::addresses;
use crate::control::checks::check_peers;
use crate::control::endpoints::{outgoing_address, with_port};
use crate::state::{InterfaceAddress, NetworkConfig, PeerEntry};
use crate::sys::random;

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
    /// Reserved bytes of our messages to it.
    pub reserved: [u8; 3],
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

impl Service {
    /// Adds a peer to a network.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn add_peer(&self, network: &str, new: NewPeer) -> Result<AddedPeer, ControlError> {
        let mut tables = self.lock();
        let mut config = NetworkConfig::clone(&find(&tables, network)?.config);
        if let Some(name) = &new.name {
            check_peer_name(&config, name)?;
        }
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
            addresses::next_free(&config)
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
            reserved: new.reserved,
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
        let name = config.name.to_string();
        check_peers(&config)?;
        self.change(&mut tables, config, |service, name| {
            service.set_peer(name, &peer)
        })?;
        tracing::info!(network, peer = peer.name.as_deref(), "peer added");
        self.tell(Happening::PeerAdded {
            network: name,
            peer: called(&peer),
        });
        Ok(AddedPeer { peer, export })
    }

    /// Removes a peer, by name or public key.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn remove_peer(&self, network: &str, peer: &str) -> Result<PeerEntry, ControlError> {
        let mut tables = self.lock();
        let mut config = NetworkConfig::clone(&find(&tables, network)?.config);
        let place = place_of(&config, peer)?;
        let removed = config.peers.remove(place);
        let name = config.name.to_string();
        self.change(&mut tables, config, |service, name| {
            service
                .shared
                .runtime
                .remove_peer(name, &removed.public_key);
            Ok(())
        })?;
        tracing::info!(network, "peer removed");
        self.tell(Happening::PeerRemoved {
            network: name,
            peer: called(&removed),
        });
        Ok(removed)
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
            Some(endpoint) => with_port(&endpoint, self.udp_port).ok_or_else(|| {
                ControlError::Invalid(format!(
                    "{endpoint:?} is not an endpoint; write HOST, HOST:PORT or [IPV6]:PORT."
                ))
            })?,
            None => outgoing_address()
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
            reserved: [0; 3],
        })
    }
}

/// Where a peer is in the list, by name or public key.
pub(super) fn place_of(config: &NetworkConfig, peer: &str) -> Result<usize, ControlError> {
    let key = config.peer(peer).map(|entry| entry.public_key);
    config
        .peers
        .iter()
        .position(|entry| Some(entry.public_key) == key)
        .ok_or_else(|| no_peer(config, peer))
}

/// There is no peer of that name or key.
pub(in crate::control) fn no_peer(config: &NetworkConfig, peer: &str) -> ControlError {
    let shown: String = peer.chars().take(64).collect();
    ControlError::NotFound(format!("Network {} has no peer {shown:?}.", config.name))
}

/// What people call a peer, or its key.
pub(super) fn called(peer: &PeerEntry) -> String {
    peer.name
        .clone()
        .unwrap_or_else(|| peer.public_key.to_string())
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
