// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The operations that look at the running node, for the control API.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netcon_api::answer::{Later, Stream, Text};
use netcon_api::model::{
    CaptureQuery, EventStream, PING_TIMEOUT_MAX, Pcapng, PingAnswer, PingOutcome, PingRequest,
    Prometheus, SNAPLEN_MAX, SOCKETS_MAX, Socket, Sockets, SocketsQuery, Whois, WhoisKind,
};
use netcon_api::{ApiError, Code};
use netcon_netstack::stack::{self, Failure, Ping, PingError};
use netcon_overlay::{IpPrefix, PublicKey};
use tokio::sync::oneshot;

use super::handler::{invalid, peer_view};
use super::observe::{NotCaptured, NotPinged, SocketView, Whereabouts};
use super::runtime::Runtime;
use super::service::{Known, Service};
use crate::capture::{MOST, Wanted};
use crate::clock;
use crate::metrics::API_REQUESTS;
use crate::network::Seen;
use crate::state::PeerEntry;

/// Sockets shown with an address.
const WHOIS_SOCKETS: usize = 64;
/// As ping(8).
const PING_SIZE: u16 = 56;
const PING_TIMEOUT: u32 = 1000;

impl Service {
    pub(super) fn list_sockets(
        &self,
        network: &str,
        query: SocketsQuery,
    ) -> Result<Sockets, ApiError> {
        let limit = query.limit.unwrap_or(SOCKETS_MAX);
        if !(1..=SOCKETS_MAX).contains(&limit) {
            return Err(invalid(format!(
                "limit is from 1 to {SOCKETS_MAX}, not {limit}."
            )));
        }
        let known = self.running(network)?;
        let wanted = |seen: &Seen| query.container.is_none_or(|id| seen.container == id);
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let (found, next) = self
            .runtime()
            .sockets(known.config.name.as_str(), query.after, most, &wanted)
            .ok_or_else(|| does_not_run(&known))?;
        Ok(Sockets {
            sockets: found.iter().map(socket_view).collect(),
            next,
        })
    }

    pub(super) fn who_is(&self, network: &str, text: &str) -> Result<Whois, ApiError> {
        let (ip, port) = match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
            (Ok(ip), _) => (ip, None),
            (Err(_), Ok(at)) => (at.ip(), Some(at.port())),
            (Err(_), Err(_)) => {
                return Err(invalid(format!(
                    "{text:?} is no address: write 10.0.0.1, 10.0.0.1:80, fd00::1 or [fd00::1]:80."
                )));
            }
        };
        let ip = ip.to_canonical();
        let known = self.running(network)?;
        let name = known.config.name.as_str();
        let (kind, key) = match self.runtime().whereabouts(name, ip) {
            Whereabouts::Own => (WhoisKind::Own, None),
            Whereabouts::Loopback => (WhoisKind::Loopback, None),
            Whereabouts::Peer(key) => (WhoisKind::Peer, Some(key)),
            Whereabouts::Unknown => (WhoisKind::Nobody, None),
        };
        let entry = key.and_then(|key| {
            let mut peers = known.config.peers.iter();
            peers.find(|peer| peer.public_key == key)
        });
        let wanted = |seen: &Seen| {
            seen.row.remote.is_some_and(|remote| {
                remote.ip().to_canonical() == ip && port.is_none_or(|port| remote.port() == port)
            })
        };
        let sockets = self
            .runtime()
            .sockets(name, None, WHOIS_SOCKETS, &wanted)
            .map(|(found, _)| found)
            .unwrap_or_default();
        Ok(Whois {
            address: port.map_or_else(
                || ip.to_string(),
                |port| SocketAddr::new(ip, port).to_string(),
            ),
            network: name.to_owned(),
            kind,
            route: entry.and_then(|peer| {
                let holding = peer.allowed_ips.iter().filter(|prefix| holds(prefix, ip));
                holding
                    .max_by_key(|prefix| prefix.len())
                    .map(ToString::to_string)
            }),
            peer: entry.map(|peer| {
                let status = self.runtime().peer(name, &peer.public_key);
                peer_view(peer, status.as_ref())
            }),
            sockets: sockets.iter().map(socket_view).collect(),
        })
    }

    pub(super) fn send_ping(
        &self,
        network: &str,
        request: &PingRequest,
    ) -> Result<Later<PingAnswer>, ApiError> {
        let to: IpAddr = request
            .address
            .parse()
            .map(|ip: IpAddr| ip.to_canonical())
            .map_err(|_| {
                invalid(format!(
                    "{:?} is no address: write 10.0.0.1 or fd00::1.",
                    request.address
                ))
            })?;
        let timeout = request.timeout_ms.unwrap_or(PING_TIMEOUT);
        if !(1..=PING_TIMEOUT_MAX).contains(&timeout) {
            return Err(invalid(format!(
                "timeoutMs is from 1 to {PING_TIMEOUT_MAX}, not {timeout}."
            )));
        }
        let known = self.running(network)?;
        let name = known.config.name.as_str();
        let ping = Ping {
            to,
            sequence: request.sequence.unwrap_or(1),
            size: request.size.unwrap_or(PING_SIZE).into(),
            timeout: Duration::from_millis(timeout.into()),
        };
        let (sender, receiver) = oneshot::channel();
        let outcome = match self.runtime().ping(name, ping) {
            Ok(outcome) => outcome,
            Err(NotPinged::NoNetwork) => return Err(does_not_run(&known)),
            Err(NotPinged::Refused(PingError::NoRoute)) => {
                let answer = unanswered(
                    to,
                    PingOutcome::NoRoute,
                    format!("no peer of network {name} has the address {to}"),
                );
                let _receiver_is_here = sender.send(Ok(answer));
                return Ok(Later(receiver));
            }
            Err(NotPinged::Refused(PingError::TooBig(most))) => {
                return Err(invalid(format!(
                    "At most {most} bytes fit into one packet to {to}."
                )));
            }
            Err(NotPinged::Refused(error @ (PingError::TooMany | PingError::QueueFull))) => {
                return Err(ApiError::new(
                    Code::Busy,
                    format!("Network {name} cannot send it now: {error}."),
                ));
            }
        };
        let runtime = self.shared_runtime();
        tokio::spawn(async move {
            let answer = match outcome.await {
                Ok(outcome) => Ok(pinged(&*runtime, &known, to, outcome)),
                Err(_network_ended) => Err(does_not_run(&known)),
            };
            // Whoever asked may have left.
            let _ = sender.send(answer);
        });
        Ok(Later(receiver))
    }

    pub(super) fn begin_capture(
        &self,
        network: &str,
        query: CaptureQuery,
    ) -> Result<Stream<Pcapng>, ApiError> {
        let snaplen = query.snaplen.unwrap_or(SNAPLEN_MAX);
        if !(1..=SNAPLEN_MAX).contains(&snaplen) {
            return Err(invalid(format!(
                "snaplen is from 1 to {SNAPLEN_MAX}, not {snaplen}."
            )));
        }
        if query.count == Some(0) {
            return Err(invalid("count is at least 1.".to_owned()));
        }
        let known = self.running(network)?;
        let wanted = Wanted {
            snaplen,
            count: query.count,
        };
        match self.runtime().capture(known.config.name.as_str(), wanted) {
            Ok(file) => Ok(Stream::new(file)),
            Err(NotCaptured::NoNetwork) => Err(does_not_run(&known)),
            Err(NotCaptured::TooMany) => Err(ApiError::new(
                Code::Busy,
                format!(
                    "{MOST} captures of network {} run already; end one first.",
                    known.config.name
                ),
            )),
        }
    }

    pub(super) fn follow_events(&self) -> Result<Stream<EventStream>, ApiError> {
        let events = self.runtime().listen_to_events();
        if events.is_some() {
            self.watch();
        }
        events.map(Stream::new).ok_or_else(|| {
            ApiError::new(
                Code::Busy,
                format!(
                    "{} programs follow the events already; end one first.",
                    crate::events::MOST
                ),
            )
        })
    }

    pub(super) fn show_metrics(&self) -> Text<Prometheus> {
        let names: HashMap<(String, String), String> = self
            .networks()
            .into_iter()
            .flat_map(|known| {
                let network = known.config.name.to_string();
                let named = move |peer: &PeerEntry| {
                    let key = peer.public_key.to_string();
                    Some(((network.clone(), key), peer.name.clone()?))
                };
                let peers: Vec<_> = known.config.peers.iter().filter_map(named).collect();
                peers
            })
            .collect();
        let name = |network: &str, key: &str| {
            let key = (network.to_owned(), key.to_owned());
            names.get(&key).cloned()
        };
        let mut figures = self.runtime().figures(&name);
        for (status, count) in self.requests() {
            figures.add(API_REQUESTS, &[("code", &status.to_string())], count);
        }
        Text::new(figures.text())
    }

    /// A network that runs.
    fn running(&self, network: &str) -> Result<Known, ApiError> {
        let known = self.network(network)?;
        if known.failure.is_some() {
            return Err(does_not_run(&known));
        }
        Ok(known)
    }
}

fn does_not_run(known: &Known) -> ApiError {
    let why = known
        .failure
        .as_deref()
        .map_or_else(|| "it was stopped.".to_owned(), ToOwned::to_owned);
    ApiError::new(
        Code::Conflict,
        format!("Network {} does not run: {why}", known.config.name),
    )
}

fn holds(prefix: &IpPrefix, ip: IpAddr) -> bool {
    IpPrefix::new(ip, prefix.len()).is_ok_and(|of| of == *prefix)
}

fn unanswered(to: IpAddr, outcome: PingOutcome, reason: String) -> PingAnswer {
    PingAnswer {
        address: to.to_string(),
        outcome,
        bytes: None,
        ttl: None,
        time_us: None,
        reason: Some(reason),
    }
}

/// What became of an echo request, with the reason for silence where the overlay knows it.
fn pinged(
    runtime: &dyn Runtime,
    known: &Known,
    to: IpAddr,
    outcome: stack::PingOutcome,
) -> PingAnswer {
    match outcome {
        stack::PingOutcome::Reply {
            bytes,
            hop_limit,
            time,
        } => PingAnswer {
            address: to.to_string(),
            outcome: PingOutcome::Reply,
            bytes: Some(bytes),
            ttl: Some(hop_limit),
            time_us: Some(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            reason: None,
        },
        stack::PingOutcome::Unreachable { by, failure } => unanswered(
            to,
            PingOutcome::Unreachable,
            format!("{by} says: {}", sentence(failure)),
        ),
        stack::PingOutcome::TimedOut => unanswered(to, PingOutcome::Timeout, {
            match runtime.whereabouts(known.config.name.as_str(), to) {
                Whereabouts::Peer(key) => silence(runtime, known, &key),
                Whereabouts::Own | Whereabouts::Loopback | Whereabouts::Unknown => {
                    "no answer in time".to_owned()
                }
            }
        }),
    }
}

/// Why a peer may be silent.
fn silence(runtime: &dyn Runtime, known: &Known, key: &PublicKey) -> String {
    let entry = known.config.peer(&key.to_string());
    let name = entry
        .and_then(|peer| peer.name.clone())
        .unwrap_or_else(|| key.to_string());
    let Some(status) = runtime.peer(known.config.name.as_str(), key) else {
        return format!("peer {name} was removed");
    };
    match (status.endpoint, status.last_handshake) {
        (None, _) => format!(
            "it is not known where peer {name} is; give it an endpoint, or let it call first"
        ),
        (Some(at), None) => format!("no handshake with peer {name} at {at} yet"),
        (Some(at), Some(_)) if status.unanswered > 0 => {
            format!("peer {name} at {at} does not answer handshakes any more")
        }
        (Some(_), Some(_)) => format!("no answer in time, although peer {name} is connected"),
    }
}

fn sentence(failure: Failure) -> &'static str {
    match failure {
        Failure::NetUnreachable => "network unreachable",
        Failure::HostUnreachable => "host unreachable",
        Failure::PortUnreachable | Failure::Refused => "protocol unreachable",
        Failure::Prohibited => "prohibited",
        Failure::PacketTooBig => "packet too big",
        Failure::Reset | Failure::TimedOut | Failure::Internal => "not delivered",
    }
}

fn socket_view(view: &SocketView) -> Socket {
    let Seen {
        row,
        container,
        since,
        ..
    } = &view.seen;
    Socket {
        id: row.id.0,
        protocol: row.protocol.to_owned(),
        local: row.local.to_string(),
        remote: row.remote.map(|remote| remote.to_string()),
        state: row.state.to_owned(),
        receive_queue: row.receive_queue,
        send_queue: row.send_queue,
        rx_bytes: row.traffic.received,
        tx_bytes: row.traffic.sent,
        container: *container,
        pid: view.program.as_ref().map(|program| program.pid),
        program: view.program.as_ref().map(|program| program.name.clone()),
        age: clock::unix().saturating_sub(*since).as_secs(),
    }
}
