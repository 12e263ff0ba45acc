// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the resolver of endpoints sees of the configuration, and changes in the node.

use std::net::SocketAddr;
use std::sync::Arc;

use netcon_overlay::PublicKey;

use super::{Shared, Tables, find, peer_config};
use crate::control::endpoints::Peers;
use crate::state::PeerEntry;

/// The peers as the resolver sees them. It holds no reference to the service, which owns it.
pub(super) struct ResolvedPeers(Arc<Shared>);

impl ResolvedPeers {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

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
