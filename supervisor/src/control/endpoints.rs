// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Endpoints as people write them, and their names resolved in the background.
//!
//! The overlay wants addresses. A literal one is used at once; for a name the resolver thread asks
//! the host's name service until it has an answer, then updates the peer. Afterwards the peer roams
//! by itself. When its handshakes go unanswered the name is asked for again, and each of its
//! addresses, of both families, gets its turn.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use netcon_overlay::PublicKey;

use crate::clock;
use crate::state::PeerEntry;

/// First and longest pause between attempts for one name.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whether a text is `host:port` or `[v6]:port`.
pub(super) fn is_endpoint(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    text.rsplit_once(':')
        .is_some_and(|(host, port)| is_host_name(host) && matches!(port.parse::<u16>(), Ok(1..)))
}

/// The endpoint that a person means by `host`, `v6`, `host:port` or `[v6]:port`.
pub(super) fn with_port(text: &str, port: u16) -> Option<String> {
    if is_endpoint(text) {
        return Some(text.to_owned());
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port).to_string());
    }
    is_host_name(text).then(|| format!("{text}:{port}"))
}

/// The address this host uses towards the outside, without sending anything: a datagram socket that
/// is connected to a documentation address (RFC 5737, RFC 3849) has it.
pub(super) fn outgoing_address() -> Option<IpAddr> {
    let four = (
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)),
    );
    let six = (
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
        IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    );
    [four, six].into_iter().find_map(|(any, outside)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((outside, 9)).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified()).then_some(address)
    })
}

/// Letters, digits, dots and hyphens (RFC 1123, section 2.1), and underscores, which people use.
fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// Why a name is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The peer has no address yet.
    New,
    /// Nobody answers at the address it has.
    Unanswered,
}

/// Who wants addresses for names.
pub(super) trait Peers: Send {
    /// The name that is the peer's endpoint, if it still exists and its endpoint is a name.
    fn name(&self, network: &str, peer: &PublicKey) -> Option<String>;

    /// The name has these addresses now, at least one. Without effect when the name is no longer the peer's endpoint, or when
    /// the peer's address has become known otherwise.
    fn found(&self, network: &str, peer: &PublicKey, name: &str, all: &[SocketAddr], why: Why);
}

/// The resolver thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Resolver(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By network and peer: at most as many as there are peers, since only those of the configuration are asked for.
    pending: HashMap<(String, PublicKey), Pending>,
    ending: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    why: Why,
    due: Instant,
    pause: Duration,
}

/// Tells the resolver of peers that do not answer. Never blocks for long.
#[derive(Debug, Clone)]
pub(super) struct Seeker(Arc<Shared>);

impl Seeker {
    pub(super) fn seek(&self, network: &str, peer: PublicKey) {
        self.0.add(network.to_owned(), peer, Why::Unanswered);
    }
}

impl Resolver {
    /// Starts the thread.
    pub(super) fn start(peers: impl Peers + 'static) -> Self {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let spawned = thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || run(&of_thread, &peers));
        if let Err(error) = spawned {
            tracing::error!(%error, "names of endpoints are not resolved");
        }
        Self(shared)
    }

    /// Sees to it that a peer whose endpoint is a name gets an address.
    pub(super) fn resolve(&self, network: &str, peer: &PeerEntry) {
        if peer.endpoint.as_deref().is_some_and(is_name) {
            self.0.add(network.to_owned(), peer.public_key, Why::New);
        }
    }

    /// For those who hear of peers that do not answer.
    pub(super) fn seeker(&self) -> Seeker {
        Seeker(Arc::clone(&self.0))
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.0.lock().ending = true;
        self.0.wake.notify_all();
    }
}

/// Whether an endpoint is a name and not an address.
pub(super) fn is_name(endpoint: &str) -> bool {
    endpoint.parse::<SocketAddr>().is_err()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, network: String, peer: PublicKey, why: Why) {
        let pending = Pending {
            why,
            due: clock::now(),
            pause: FIRST_PAUSE,
        };
        self.lock().pending.insert((network, peer), pending);
        self.wake.notify_all();
    }

    /// The requests that are due; waits for one. None when it is time to end.
    fn due(&self) -> Option<Vec<((String, PublicKey), Pending)>> {
        let mut state = self.lock();
        loop {
            if state.ending {
                return None;
            }
            let now = clock::now();
            let due: Vec<_> = state
                .pending
                .extract_if(|_, pending| pending.due <= now)
                .collect();
            if !due.is_empty() {
                return Some(due);
            }
            let next = state.pending.values().map(|pending| pending.due).min();
            state = match next {
                None => self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    self.wake
                        .wait_timeout(state, at.saturating_duration_since(now))
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// Asks again later, unless somebody has asked in the meantime.
    fn again(&self, key: (String, PublicKey), pending: Pending) {
        let later = Pending {
            due: clock::now() + pending.pause,
            pause: (pending.pause * 2).min(LONGEST_PAUSE),
            ..pending
        };
        self.lock().pending.entry(key).or_insert(later);
    }
}

fn run(shared: &Shared, peers: &dyn Peers) {
    while let Some(due) = shared.due() {
        for ((network, peer), pending) in due {
            let Some(name) = peers.name(&network, &peer) else {
                continue;
            };
            let all: Vec<SocketAddr> = match name.to_socket_addrs() {
                Ok(all) => all.collect(),
                Err(_) => Vec::new(),
            };
            if !all.is_empty() {
                tracing::debug!(name, ?all, why = ?pending.why, "endpoint resolved");
                peers.found(&network, &peer, &name, &all, pending.why);
                continue;
            }
            if pending.pause == FIRST_PAUSE {
                tracing::warn!(
                    name,
                    "the endpoint's name cannot be resolved yet; trying on"
                );
            }
            // Whoever does not answer is told of again.
            if pending.why == Why::New {
                shared.again((network, peer), pending);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_as_people_write_them() {
        for good in ["1.2.3.4:5", "[fd00::1]:5", "host:1", "a.b-c.example:65535"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in [
            "",
            "1.2.3.4",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "fd00::1",
            "a b:1",
            "-a:1",
            ":1",
            "a\n:1",
        ] {
            assert!(!is_endpoint(bad), "{bad:?}");
        }
        assert_eq!(with_port("host", 7).as_deref(), Some("host:7"));
        assert_eq!(with_port("host:9", 7).as_deref(), Some("host:9"));
        assert_eq!(with_port("1.2.3.4", 7).as_deref(), Some("1.2.3.4:7"));
        assert_eq!(with_port("fd00::1", 7).as_deref(), Some("[fd00::1]:7"));
        assert_eq!(with_port("[fd00::1]", 7).as_deref(), Some("[fd00::1]:7"));
        assert_eq!(with_port("a b", 7), None);
    }
}
