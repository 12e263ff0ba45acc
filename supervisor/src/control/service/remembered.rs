// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Timestamps of handshakes, kept over a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, park_timeout};
use std::time::Duration;

use super::Shared;
use crate::state::{NetworkId, PeerTimestamps, StateDir, Timestamps};

/// Between two looks at what has changed. A crash in this time, together with a clock that goes back, makes peers wait.
const INTERVAL: Duration = Duration::from_secs(5);
/// The same when there are many peers: the whole file is written each time.
const LONG_INTERVAL: Duration = Duration::from_secs(60);
/// From how many peers on.
const MANY: usize = 10_000;
/// The first initiation after a restart must be newer than the last before it: the least difference of two timestamps is 2^24
/// nanoseconds, since their lower bits are not sent.
const STEP: Duration = Duration::from_millis(20);

/// Writes what has changed.
pub(super) struct Keeper {
    state: Arc<StateDir>,
    shared: Arc<Shared>,
    /// As last read or written.
    known: Mutex<Timestamps>,
}

impl Keeper {
    /// Reads what an earlier supervisor left and tells the node about our own; from now on looks for changes.
    pub(super) fn start(state: Arc<StateDir>, shared: Arc<Shared>) -> Arc<Self> {
        let known = state.load_timestamps();
        shared
            .runtime
            .set_least_time(known.own.saturating_add(STEP));
        let keeper = Arc::new(Self {
            state,
            shared,
            known: Mutex::new(known),
        });
        let weak = Arc::downgrade(&keeper);
        let spawned = thread::Builder::new()
            .name("timestamps".to_owned())
            .spawn(move || run(&weak));
        if let Err(error) = spawned {
            tracing::error!(%error, "timestamps of handshakes are kept only when the supervisor is ended");
        }
        keeper
    }

    /// What the peers of a network have shown before.
    pub(super) fn of(&self, network: NetworkId) -> PeerTimestamps {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.peers.get(&network).cloned().unwrap_or_default()
    }

    /// Writes the file if something has changed. The next time to look.
    pub(super) fn save(&self) -> Duration {
        let changed = self.shared.runtime.changed_timestamps();
        // The tables are not locked under `known`: who starts a network locks them in the other order.
        let networks = self.networks();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(now) = changed {
            known.own = known.own.max(now.own);
            // A network that does not run now keeps what it had; one that is no more loses it.
            known
                .peers
                .retain(|id, _| networks.values().any(|other| other == id));
            for (name, peers) in now.peers {
                if let Some(id) = networks.get(&name) {
                    known.peers.insert(*id, peers);
                }
            }
            if let Err(error) = self.state.save_timestamps(&known) {
                tracing::error!("Peers may refuse handshakes after a restart: {error}");
            }
        }
        let peers: usize = known.peers.values().map(PeerTimestamps::len).sum();
        if peers > MANY {
            LONG_INTERVAL
        } else {
            INTERVAL
        }
    }
}

impl Keeper {
    fn networks(&self) -> BTreeMap<String, NetworkId> {
        let tables = self.shared.lock();
        let configs = tables.networks.values().map(|known| &known.config);
        configs
            .map(|config| (config.name.to_string(), config.id))
            .collect()
    }
}

/// Until the service is gone.
fn run(keeper: &Weak<Keeper>) {
    let mut wait = INTERVAL;
    loop {
        park_timeout(wait);
        let Some(keeper) = keeper.upgrade() else {
            return;
        };
        wait = keeper.save();
    }
}
