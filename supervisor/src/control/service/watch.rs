// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What nobody tells of by itself: handshakes, endpoints, listeners. Compared once a second while somebody follows events.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use netcon_api::model::Happening;
use netcon_overlay::{PeerStatus, PublicKey};

use super::peers::called;
use super::{Service, Shared};
use crate::network::Seen;

const INTERVAL: Duration = Duration::from_secs(1);
/// Initiations without an answer after which a handshake has failed: ten seconds.
const FAILED: u32 = 3;
/// Sockets of a network that are looked through.
const MOST: usize = 65_536;

/// The node at one moment.
#[derive(Debug, Default, PartialEq)]
struct Moment {
    peers: BTreeMap<(String, PublicKey), Known>,
    listeners: BTreeMap<(String, u64), Listener>,
}

/// A peer.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    name: String,
    endpoint: Option<SocketAddr>,
    learned: bool,
    handshakes: u64,
    unanswered: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct Listener {
    container: u64,
    local: SocketAddr,
}

impl Service {
    /// Begins to compare, unless that is done already. It ends when nobody follows events any more.
    pub(in crate::control) fn watch(&self) {
        if self.shared.watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut before = Moment::of(&shared);
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(INTERVAL);
            clock.tick().await;
            loop {
                clock.tick().await;
                if !shared.runtime.events().has_listeners() {
                    shared.watched.store(false, Ordering::Release);
                    return;
                }
                let now = Moment::of(&shared);
                for what in before.happened_until(&now) {
                    shared.runtime.events().publish(what);
                }
                before = now;
            }
        });
    }
}

impl Moment {
    fn of(shared: &Shared) -> Self {
        let networks: Vec<(String, BTreeMap<PublicKey, String>)> = {
            let tables = shared.lock();
            let running = tables.networks.values();
            running
                .filter(|known| known.failure.is_none())
                .map(|known| {
                    let peers = known.config.peers.iter();
                    let names = peers.map(|peer| (peer.public_key, called(peer)));
                    (known.config.name.to_string(), names.collect())
                })
                .collect()
        };
        let mut moment = Self::default();
        for (network, mut names) in networks {
            for status in shared.runtime.peer_status(&network) {
                let Some(name) = names.remove(&status.public_key) else {
                    continue;
                };
                let key = (network.clone(), status.public_key);
                moment.peers.insert(key, Known::new(name, &status));
            }
            let listens = |seen: &Seen| seen.row.state == "LISTEN";
            let found = shared.runtime.sockets(&network, None, MOST, &listens);
            for view in found.into_iter().flat_map(|(views, _)| views) {
                let listener = Listener {
                    container: view.seen.container,
                    local: view.seen.row.local,
                };
                moment
                    .listeners
                    .insert((network.clone(), view.seen.row.id.0), listener);
            }
        }
        moment
    }

    fn happened_until(&self, now: &Self) -> Vec<Happening> {
        let mut happened = Vec::new();
        for ((network, key), peer) in &now.peers {
            // A new peer begins from nothing.
            let fresh = Known::default_of(peer);
            let before = self.peers.get(&(network.clone(), *key)).unwrap_or(&fresh);
            peer.tell(before, network, &mut happened);
        }
        for (key, listener) in &now.listeners {
            if !self.listeners.contains_key(key) {
                happened.push(Happening::ListenerOpened {
                    network: key.0.clone(),
                    container: listener.container,
                    local: listener.local.to_string(),
                });
            }
        }
        for (key, listener) in &self.listeners {
            if !now.listeners.contains_key(key) {
                happened.push(Happening::ListenerClosed {
                    network: key.0.clone(),
                    container: listener.container,
                    local: listener.local.to_string(),
                });
            }
        }
        happened
    }
}

impl Known {
    fn new(name: String, status: &PeerStatus) -> Self {
        Self {
            name,
            endpoint: status.endpoint,
            learned: status.endpoint_learned,
            handshakes: status.handshakes,
            unanswered: status.unanswered,
        }
    }

    /// As it was before anything was heard from it.
    fn default_of(peer: &Self) -> Self {
        Self {
            name: peer.name.clone(),
            endpoint: None,
            learned: false,
            handshakes: 0,
            unanswered: 0,
        }
    }

    fn tell(&self, before: &Self, network: &str, happened: &mut Vec<Happening>) {
        let (network, peer) = (network.to_owned(), self.name.clone());
        let text = |at: SocketAddr| at.to_string();
        if self.endpoint != before.endpoint && self.learned {
            happened.push(Happening::EndpointChanged {
                network: network.clone(),
                peer: peer.clone(),
                endpoint: self.endpoint.map(text),
                before: before.endpoint.map(text),
            });
        }
        if self.handshakes != before.handshakes {
            happened.push(Happening::HandshakeCompleted {
                network: network.clone(),
                peer: peer.clone(),
                endpoint: self.endpoint.map(text),
            });
        }
        if self.unanswered >= FAILED && before.unanswered < FAILED {
            happened.push(Happening::HandshakeFailed {
                network,
                peer,
                endpoint: self.endpoint.map(text),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(endpoint: &str, handshakes: u64, unanswered: u32) -> Moment {
        let mut moment = Moment::default();
        moment.peers.insert(
            ("demo".to_owned(), PublicKey::from_bytes([1; 32])),
            Known {
                name: "laptop".to_owned(),
                endpoint: endpoint.parse().ok(),
                learned: true,
                handshakes,
                unanswered,
            },
        );
        moment
    }

    fn names(before: &Moment, now: &Moment) -> Vec<&'static str> {
        let happened = before.happened_until(now);
        happened.iter().map(Happening::name).collect()
    }

    #[test]
    fn differences_are_happenings() {
        let (here, there) = ("192.0.2.1:1", "192.0.2.2:1");
        let idle = peer(here, 3, 0);
        assert_eq!(names(&idle, &idle), [""; 0]);
        assert_eq!(names(&idle, &peer(here, 4, 0)), ["handshake_completed"]);
        assert_eq!(names(&idle, &peer(there, 3, 0)), ["endpoint_changed"]);
        assert_eq!(names(&idle, &peer(here, 3, 2)), [""; 0]);
        assert_eq!(
            names(&peer(here, 3, 2), &peer(here, 3, 3)),
            ["handshake_failed"]
        );
        assert_eq!(names(&peer(here, 3, 3), &peer(here, 3, 4)), [""; 0]);
        // A peer that was added meanwhile; one that was removed is told of elsewhere.
        let none = Moment::default();
        assert_eq!(
            names(&none, &peer(here, 1, 0)),
            ["endpoint_changed", "handshake_completed"]
        );
        assert_eq!(names(&idle, &none), [""; 0]);
    }

    #[test]
    fn listeners_come_and_go() {
        let none = Moment::default();
        let mut one = Moment::default();
        let listener = Listener {
            container: 3,
            local: "10.0.0.1:80".parse().unwrap(),
        };
        one.listeners.insert(("demo".to_owned(), 7), listener);
        assert_eq!(names(&none, &one), ["listener_opened"]);
        assert_eq!(names(&one, &none), ["listener_closed"]);
    }
}
