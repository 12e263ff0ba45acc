// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the resolver of endpoints sees of the configuration, and changes in the node.

use std::net::SocketAddr;
use std::sync::Arc;

use netcon_overlay::PublicKey;

use super::{Shared, Tables, find, peer_config};
use crate::control::endpoints::{Peers, Why, is_name};
use crate::state::PeerEntry;

/// The peers as the resolver sees them. It holds no reference to the service, which owns it.
pub(super) struct ResolvedPeers(Arc<Shared>);

impl ResolvedPeers {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    fn entry<'a>(tables: &'a Tables, network: &str, peer: &PublicKey) -> Option<&'a PeerEntry> {
        let known = find(tables, network).ok()?;
        let mut peers = known.config.peers.iter();
        peers.find(|entry| known.failure.is_none() && entry.public_key == *peer)
    }
}

impl Peers for ResolvedPeers {
    fn name(&self, network: &str, peer: &PublicKey) -> Option<String> {
        let tables = self.0.lock();
        let endpoint = Self::entry(&tables, network, peer)?.endpoint.clone();
        endpoint.filter(|endpoint| is_name(endpoint))
    }

    fn found(&self, network: &str, peer: &PublicKey, name: &str, all: &[SocketAddr], why: Why) {
        let tables = self.0.lock();
        let Some(entry) = Self::entry(&tables, network, peer)
            .filter(|entry| entry.endpoint.as_deref() == Some(name))
        else {
            return;
        };
        let status = self.0.runtime.peer(network, peer);
        let current = status.as_ref().and_then(|status| status.endpoint);
        let address = match why {
            // It has called in the meantime: where it called from is newer than what a name service remembers.
            Why::New if current.is_some() => return,
            Why::New => all.first(),
            // It has been heard since.
            Why::Unanswered if status.is_none_or(|status| status.unanswered == 0) => return,
            Why::Unanswered => next_of(all, current),
        };
        let Some(address) = address.filter(|address| current != Some(**address)) else {
            return;
        };
        let mut config = peer_config(entry);
        config.endpoint = Some(*address);
        match self.0.runtime.set_peer(network, config) {
            Ok(()) => {
                tracing::info!(name, %address, "a peer is sought at the address its name has")
            }
            Err(error) => tracing::warn!(%error, "a resolved endpoint is not used"),
        }
    }
}

/// The address after the one that does not answer, round and round; the first one if that is not among them.
fn next_of(all: &[SocketAddr], current: Option<SocketAddr>) -> Option<&SocketAddr> {
    let at = all.iter().position(|address| current == Some(*address));
    all.iter().cycle().nth(at.map_or(0, |at| at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_turn() {
        let all: Vec<SocketAddr> = ["192.0.2.1:1", "[2001:db8::1]:1", "192.0.2.2:1"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(next_of(&all, None), Some(&all[0]));
        assert_eq!(next_of(&all, Some(all[0])), Some(&all[1]));
        assert_eq!(next_of(&all, Some(all[2])), Some(&all[0]));
        assert_eq!(next_of(&all, "192.0.2.9:1".parse().ok()), Some(&all[0]));
        assert_eq!(next_of(&all[..1], Some(all[0])), Some(&all[0]));
        assert_eq!(next_of(&[], None), None);
    }
}
