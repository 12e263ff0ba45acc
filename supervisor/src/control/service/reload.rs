// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading the state directory again, after a person or a program has changed files in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Known, Service, Tables, peer_config};
use netcon_api::model::Happening;

use crate::control::checks::{check_addresses, check_mtu, check_peers};
use crate::state::{Broken, Loaded, NetworkConfig, NetworkName, StateError};

/// What a second look at the files has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Networks that came.
    pub added: usize,
    /// Networks that went, with their file.
    pub removed: usize,
    /// Networks that are different now.
    pub changed: usize,
    /// Files that cannot be used. A network that ran before runs on as it was.
    pub broken: usize,
}

impl Service {
    /// Reads every file again and brings what runs in step: networks are added, removed and changed. Where only peers
    /// differ connections stay; a network with another key, address, MTU or word about raw sockets is started anew. A file that cannot be used
    /// is reported ([`Service::broken`]) and changes nothing; nor is it overwritten as long as it is so.
    ///
    /// # Errors
    /// [`StateError`] when the directory cannot be listed; nothing has changed then.
    pub fn reload(&self) -> Result<Reloaded, StateError> {
        // Held from the first look at the files: a change by the API comes before or after as a whole.
        let mut tables = self.lock();
        let Loaded { networks, broken } = self.state.load()?;
        let mut reloaded = Reloaded {
            broken: broken.len(),
            ..Reloaded::default()
        };
        let broken: BTreeMap<String, Broken> = broken
            .into_iter()
            .map(|broken| (broken.name.clone(), broken))
            .collect();
        for broken in broken.values() {
            tracing::error!(
                "{} is not used and left as it is: {}; repair or remove it.",
                broken.path.display(),
                broken.reason
            );
        }
        let mut found: BTreeMap<NetworkName, NetworkConfig> = networks
            .into_iter()
            .map(|config| (config.name.clone(), config))
            .collect();
        let gone: Vec<NetworkName> = tables
            .networks
            .keys()
            .filter(|name| !found.contains_key(*name) && !broken.contains_key(name.as_str()))
            .cloned()
            .collect();
        for name in gone {
            self.shared.runtime.stop_network(name.as_str());
            tables.networks.remove(&name);
            tracing::info!(network = %name, "network removed, because its file is");
            self.tell(Happening::NetworkDeleted {
                network: name.to_string(),
            });
            reloaded.removed += 1;
        }
        tables.broken = broken;
        while let Some((name, config)) = found.pop_first() {
            match tables.networks.get(&name) {
                None => {
                    self.begin(&mut tables, config);
                    tracing::info!(network = %name, "network added from its file");
                    self.tell(Happening::NetworkCreated {
                        network: name.to_string(),
                    });
                    reloaded.added += 1;
                }
                Some(known) if is_same(&*known.config, &config) => {}
                Some(known) => {
                    let known = known.clone();
                    self.follow(&mut tables, &known, config);
                    tracing::info!(network = %name, "network changed with its file");
                    self.tell(Happening::NetworkChanged {
                        network: name.to_string(),
                    });
                    reloaded.changed += 1;
                }
            }
        }
        Ok(reloaded)
    }

    /// A network that a file describes: started if it can be, and known in any case.
    pub(super) fn begin(&self, tables: &mut Tables, config: NetworkConfig) {
        // A person may have edited the file.
        let failure = check(&config)
            .and_then(|()| self.start_network(&config))
            .err();
        if let Some(failure) = &failure {
            tracing::error!("Network {} does not run: {failure}", config.name);
        }
        let name = config.name.clone();
        let config = Arc::new(config);
        tables.networks.insert(name, Known { config, failure });
    }

    /// Brings a running network in step with its changed file.
    fn follow(&self, tables: &mut Tables, known: &Known, config: NetworkConfig) {
        let name = config.name.as_str();
        let only_peers = known.failure.is_none() && is_same_but_for_peers(&known.config, &config);
        if only_peers && check(&config).is_ok() && self.change_peers(known, &config).is_ok() {
            tables.networks.insert(
                config.name.clone(),
                Known {
                    config: Arc::new(config),
                    failure: None,
                },
            );
            return;
        }
        self.shared.runtime.stop_network(name);
        self.begin(tables, config);
    }

    fn change_peers(&self, known: &Known, config: &NetworkConfig) -> Result<(), String> {
        let (runtime, name) = (&self.shared.runtime, config.name.as_str());
        for old in &known.config.peers {
            if !config
                .peers
                .iter()
                .any(|peer| peer.public_key == old.public_key)
            {
                runtime.remove_peer(name, &old.public_key);
            }
        }
        for peer in &config.peers {
            let same = known.config.peers.iter().any(|old| is_same(old, peer));
            if !same {
                runtime
                    .set_peer(name, peer_config(peer))
                    .map_err(|error| error.to_string())?;
                self.resolver.resolve(name, peer);
            }
        }
        Ok(())
    }
}

fn check(config: &NetworkConfig) -> Result<(), String> {
    check_mtu(Some(config.mtu))
        .and_then(|_mtu| check_addresses(&config.addresses))
        .and_then(|()| check_peers(config))
        .map_err(|error| error.to_string())
}

/// As they would be written.
fn is_same<T: serde::Serialize>(one: &T, other: &T) -> bool {
    let value = |it: &T| serde_json::to_value(it).ok();
    value(one) == value(other)
}

fn is_same_but_for_peers(one: &NetworkConfig, other: &NetworkConfig) -> bool {
    let bare = |config: &NetworkConfig| NetworkConfig {
        peers: Vec::new(),
        ..config.clone()
    };
    is_same(&bare(one), &bare(other))
}
