// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Endpoints as people write them, and their names resolved in the background.
//!
//! The overlay wants addresses. A literal one is used at once; for a name the resolver thread asks
//! the host's name service until it has an answer, then updates the peer. A name is resolved once:
//! afterwards the peer roams by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use netcon_overlay::PublicKey;

use crate::clock;
use crate::state::PeerEntry;

/// Requests that wait for the resolver thread; more are dropped with a log line.
const WAITING: usize = 1024;
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

/// Who wants addresses for names.
pub(super) trait Peers: Send {
    /// Whether the peer still exists and its endpoint still is this name.
    fn wants(&self, network: &str, peer: &PublicKey, name: &str) -> bool;

    /// The name has this address now. Without effect unless [`Peers::wants`] it, or when the peer's address has become
    /// known otherwise.
    fn found(&self, network: &str, peer: &PublicKey, name: &str, address: SocketAddr);
}

/// The resolver thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Resolver(SyncSender<Pending>);

#[derive(Debug)]
pub(super) struct Pending {
    network: String,
    peer: PublicKey,
    name: String,
    due: Instant,
    pause: Duration,
}

impl Resolver {
    /// Starts the thread.
    pub(super) fn start(peers: impl Peers + 'static) -> Self {
        let (sender, receiver) = sync_channel(WAITING);
        let spawned = thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || run(&receiver, &peers));
        if let Err(error) = spawned {
            tracing::error!(%error, "names of endpoints are not resolved");
        }
        Self(sender)
    }

    /// Sees to it that a peer whose endpoint is a name gets an address.
    pub(super) fn resolve(&self, network: &str, peer: &PeerEntry) {
        let Some(name) = &peer.endpoint else { return };
        if name.parse::<SocketAddr>().is_ok() {
            return;
        }
        let pending = Pending {
            network: network.to_owned(),
            peer: peer.public_key,
            name: name.clone(),
            due: clock::now(),
            pause: FIRST_PAUSE,
        };
        if let Err(error) = self.0.try_send(pending) {
            tracing::warn!(%error, "the resolver of endpoints cannot follow");
        }
    }
}

fn run(requests: &Receiver<Pending>, peers: &dyn Peers) {
    let mut pending: Vec<Pending> = Vec::new();
    loop {
        let next = pending.iter().map(|waiting| waiting.due).min();
        let request = match next {
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => requests.recv_timeout(due.saturating_duration_since(clock::now())),
        };
        match request {
            // As many wait as there are peers with names: a repeated one takes the place of the old.
            Ok(request) => {
                pending.retain(|old| old.network != request.network || old.peer != request.peer);
                pending.push(request);
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => pending.retain_mut(|waiting| attempt(waiting, peers)),
        }
    }
}

/// Asks for a name that is due; false when it need not wait any longer.
fn attempt(waiting: &mut Pending, peers: &dyn Peers) -> bool {
    if waiting.due > clock::now() {
        return true;
    }
    let Pending {
        network,
        peer,
        name,
        due,
        pause,
    } = waiting;
    if !peers.wants(network, peer, name) {
        return false;
    }
    let answer = name.to_socket_addrs().map(|mut all| all.next());
    if let Ok(Some(address)) = answer {
        tracing::debug!(name, %address, "endpoint resolved");
        peers.found(network, peer, name, address);
        return false;
    }
    if *pause == FIRST_PAUSE {
        tracing::warn!(
            name,
            "the endpoint's name cannot be resolved yet; trying on"
        );
    }
    *due = clock::now() + *pause;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
    true
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
