// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UDP endpoints: demultiplexing, receive queues, sending.
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::hash::{Secrets, TableKey};
use super::slab::Slab;
use super::wire::{self, IpPacket};
use super::{Datagram, DatagramId, Event, Failure, LocalAddr, SendError, Stack};

/// Largest UDP payload in one IPv4 packet (udp(7)).
const MAX_PAYLOAD: usize = 65_507;
/// What a queued datagram costs beside its payload, so that empty ones are bounded too (Linux counts the buffer's truesize).
const OVERHEAD: usize = 256;
/// ICMP errors that wait for the owner of one endpoint; more are dropped.
const MAX_ERRORS: usize = 8;

#[derive(Debug)]
struct Endpoint {
    at: LocalAddr,
    remote: Option<SocketAddr>,
    received: VecDeque<Datagram>,
    /// Bytes of `received` with overhead.
    received_bytes: usize,
    /// Bytes of this endpoint in the egress queue.
    egress_bytes: usize,
    /// A `Datagram` event is queued.
    told: bool,
    /// `DatagramError` events that are queued.
    errors: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    Connected(u16, SocketAddr),
    Exact(SocketAddr),
    Wildcard(u16, bool),
}

#[derive(Debug)]
pub(super) struct Datagrams {
    all: Slab<Endpoint>,
    /// Each endpoint is in one slot, or in one per family.
    slots: HashMap<Slot, Vec<DatagramId>, TableKey>,
}

impl Datagrams {
    pub(super) fn new(key: TableKey) -> Self {
        Self {
            all: Slab::new(),
            slots: HashMap::with_hasher(key),
        }
    }

    /// Receiver of a datagram: connected to the sender, else bound to the address, else a wildcard.
    fn find(&self, secrets: &Secrets, local: SocketAddr, remote: SocketAddr) -> Option<DatagramId> {
        let connected = self
            .slots
            .get(&Slot::Connected(local.port(), remote))
            .and_then(|ids| {
                let serves = |id: &&DatagramId| {
                    self.all
                        .get(id.0)
                        .is_some_and(|endpoint| serves(&endpoint.at, local.ip()))
                };
                let exact = |id: &&DatagramId| {
                    self.all
                        .get(id.0)
                        .is_some_and(|endpoint| endpoint.at.ip.is_some())
                };
                ids.iter()
                    .filter(serves)
                    .find(exact)
                    .or_else(|| ids.iter().find(serves))
                    .copied()
            });
        connected.or_else(|| {
            let ids = self.slots.get(&Slot::Exact(local)).or_else(|| {
                self.slots
                    .get(&Slot::Wildcard(local.port(), local.is_ipv4()))
            })?;
            match ids.as_slice() {
                [] => None,
                [only] => Some(*only),
                several => several
                    .get(secrets.spread(&(local, remote), several.len()))
                    .copied(),
            }
        })
    }

    fn slots_of(at: LocalAddr, remote: Option<SocketAddr>) -> impl Iterator<Item = Slot> {
        let (first, second) = match (remote, at.ip) {
            (Some(remote), _) => (Some(Slot::Connected(at.port, remote)), None),
            (None, Some(ip)) => (Some(Slot::Exact(SocketAddr::new(ip, at.port))), None),
            (None, None) => {
                let mut families = at.families.each_v4().map(|v4| Slot::Wildcard(at.port, v4));
                (families.next(), families.next())
            }
        };
        first.into_iter().chain(second)
    }

    fn enter(&mut self, id: DatagramId) {
        let Some(endpoint) = self.all.get(id.0) else {
            return;
        };
        for slot in Self::slots_of(endpoint.at, endpoint.remote) {
            self.slots.entry(slot).or_default().push(id);
        }
    }

    fn leave(&mut self, id: DatagramId) {
        let Some(endpoint) = self.all.get(id.0) else {
            return;
        };
        for slot in Self::slots_of(endpoint.at, endpoint.remote) {
            if let Some(ids) = self.slots.get_mut(&slot) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.slots.remove(&slot);
                }
            }
        }
    }

    /// A packet of this endpoint has left the egress queue.
    pub(super) fn note_sent(&mut self, id: DatagramId, bytes: usize) {
        if let Some(endpoint) = self.all.get_mut(id.0) {
            endpoint.egress_bytes = endpoint.egress_bytes.saturating_sub(bytes);
        }
    }

    /// An error event was taken by the caller.
    pub(super) fn note_error_taken(&mut self, id: DatagramId) {
        if let Some(endpoint) = self.all.get_mut(id.0) {
            endpoint.errors = endpoint.errors.saturating_sub(1);
        }
    }
}

impl Stack {
    /// Opens an endpoint. Conflicts of addresses are the caller's to decide; several endpoints on one address share what
    /// arrives by the sender's address.
    pub fn datagram_open(&mut self, at: LocalAddr) -> DatagramId {
        let id = self.datagrams.all.insert_with(|_| Endpoint {
            at,
            remote: None,
            received: VecDeque::new(),
            received_bytes: 0,
            egress_bytes: 0,
            told: false,
            errors: 0,
        });
        let Some(id) = id.map(DatagramId) else {
            return DatagramId(0);
        };
        self.datagrams.enter(id);
        id
    }

    /// Changes the local address, as `connect` does for a socket bound to the wildcard. What is queued stays.
    pub fn datagram_bind(&mut self, id: DatagramId, at: LocalAddr) {
        self.datagrams.leave(id);
        if let Some(endpoint) = self.datagrams.all.get_mut(id.0) {
            endpoint.at = at;
        }
        self.datagrams.enter(id);
    }

    /// Receives only from `remote` from now on, or from everyone. What is queued stays.
    pub fn datagram_connect(&mut self, id: DatagramId, remote: Option<SocketAddr>) {
        self.datagrams.leave(id);
        if let Some(endpoint) = self.datagrams.all.get_mut(id.0) {
            endpoint.remote = remote.map(without_scope);
        }
        self.datagrams.enter(id);
    }

    /// Closes an endpoint; what it received is dropped, what it sent is still sent.
    pub fn datagram_close(&mut self, id: DatagramId) {
        self.datagrams.leave(id);
        self.datagrams.all.remove(id.0);
    }

    /// Sends one datagram from `from` and the endpoint's port.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub fn datagram_send(
        &mut self,
        _now: Instant,
        id: DatagramId,
        from: IpAddr,
        to: SocketAddr,
        payload: &[u8],
        hop_limit: u8,
    ) -> Result<(), SendError> {
        let to = without_scope(to);
        let endpoint = self.datagrams.all.get_mut(id.0).ok_or(SendError::NoRoute)?;
        if from.is_ipv4() != to.is_ipv4()
            || to.port() == 0
            || to.ip().is_unspecified()
            || to.ip().is_multicast()
        {
            return Err(SendError::NoRoute);
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(SendError::TooBig);
        }
        let from = SocketAddr::new(from, endpoint.at.port);
        if !self.addresses.is_local(from.ip()) {
            return Err(SendError::NoRoute);
        }
        if self.addresses.is_local(to.ip()) {
            self.deliver_locally(id, from, to, payload);
            return Ok(());
        }
        if from.ip().is_loopback() || !self.routes.contains(to.ip()) {
            return Err(SendError::NoRoute);
        }
        let len = wire::udp_packet_len(to.ip(), payload.len());
        if len > self.config.mtu {
            return Err(SendError::TooBig);
        }
        // An empty endpoint may always send one.
        let full = endpoint.egress_bytes > 0
            && endpoint.egress_bytes + len > self.config.limits.datagram_queue;
        if full || !self.egress.has_room() {
            return Err(SendError::QueueFull);
        }
        let (buffer, kept) = self.egress.push(len, Some(id));
        wire::write_udp(buffer, from, to, payload, hop_limit.max(1));
        if !kept {
            return Err(SendError::QueueFull);
        }
        endpoint.egress_bytes += len;
        Ok(())
    }

    /// The oldest received datagram.
    pub fn datagram_recv(&mut self, id: DatagramId) -> Option<Datagram> {
        let endpoint = self.datagrams.all.get_mut(id.0)?;
        endpoint.told = false;
        let datagram = endpoint.received.pop_front()?;
        endpoint.received_bytes -= datagram.payload.len() + OVERHEAD;
        Some(datagram)
    }

    /// Answers a datagram whose endpoint turned out to be gone as if it had never been there: its sender hears that
    /// nobody listens.
    pub fn datagram_refuse(&mut self, now: Instant, datagram: &Datagram) {
        let from = SocketAddr::new(datagram.from.ip().to_canonical(), datagram.from.port());
        let to = SocketAddr::new(datagram.to.ip().to_canonical(), datagram.to.port());
        if self.addresses.is_local(from.ip()) {
            self.datagram_failed(from, to, Failure::PortUnreachable);
            return;
        }
        let len = wire::udp_packet_len(to.ip(), datagram.payload.len());
        if from.is_ipv4() != to.is_ipv4() || len > usize::from(u16::MAX) {
            return;
        }
        let mut packet = vec![0; len];
        wire::write_udp(&mut packet, from, to, &datagram.payload, 64);
        if let Some(ip) = IpPacket::parse(&packet) {
            self.send_port_unreachable(now, &ip);
        }
    }

    /// The endpoint at `local` that a datagram from `remote` reaches (one of several that share the address).
    #[must_use]
    pub fn datagram_at(&self, local: SocketAddr, remote: SocketAddr) -> Option<DatagramId> {
        self.datagrams.find(&self.secrets, local, remote)
    }

    /// Datagrams that wait in an endpoint.
    pub fn datagram_queued(&self, id: DatagramId) -> usize {
        self.datagrams
            .all
            .get(id.0)
            .map_or(0, |endpoint| endpoint.received.len())
    }

    /// A UDP packet from the overlay.
    pub(super) fn handle_udp(&mut self, now: Instant, ip: &IpPacket<'_>) {
        let Some((src_port, dst_port, payload)) = wire::parse_udp(ip.payload) else {
            self.counters.malformed += 1;
            return;
        };
        if src_port == 0 || dst_port == 0 {
            self.counters.malformed += 1;
            return;
        }
        let from = SocketAddr::new(ip.src, src_port);
        let to = SocketAddr::new(ip.dst, dst_port);
        match self.datagrams.find(&self.secrets, to, from) {
            Some(id) => self.deliver(id, from, to, payload),
            None => self.send_port_unreachable(now, ip),
        }
    }

    /// Whether an endpoint may have sent a datagram from `local` to `remote`.
    pub(super) fn sends_datagrams(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.datagrams.find(&self.secrets, local, remote).is_some()
    }

    /// An ICMP error quotes a datagram that was sent from `local` to `remote`.
    pub(super) fn datagram_failed(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        failure: Failure,
    ) {
        if let Some(id) = self.datagrams.find(&self.secrets, local, remote) {
            self.tell_datagram_error(id, remote, failure);
        }
    }

    fn deliver_locally(
        &mut self,
        sender: DatagramId,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
    ) {
        if let Some(tap) = &mut self.tap
            && let Some(copy) = tap.room(wire::udp_packet_len(to.ip(), payload.len()))
        {
            wire::write_udp(copy, from, to, payload, 64);
        }
        match self.datagrams.find(&self.secrets, to, from) {
            Some(id) => self.deliver(id, from, to, payload),
            None => self.tell_datagram_error(sender, to, Failure::PortUnreachable),
        }
    }

    fn deliver(&mut self, id: DatagramId, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let Some(endpoint) = self.datagrams.all.get_mut(id.0) else {
            return;
        };
        let cost = payload.len() + OVERHEAD;
        if endpoint.received_bytes > 0
            && endpoint.received_bytes + cost > self.config.limits.datagram_queue
        {
            self.counters.datagrams_dropped += 1;
            return;
        }
        endpoint.received_bytes += cost;
        endpoint.received.push_back(Datagram {
            from,
            to,
            payload: payload.to_vec(),
        });
        if !endpoint.told {
            endpoint.told = true;
            self.events.push_back(Event::Datagram(id));
        }
    }

    fn tell_datagram_error(&mut self, id: DatagramId, to: SocketAddr, failure: Failure) {
        let Some(endpoint) = self.datagrams.all.get_mut(id.0) else {
            return;
        };
        if endpoint.errors < MAX_ERRORS {
            endpoint.errors += 1;
            self.events
                .push_back(Event::DatagramError { id, to, failure });
        }
    }
}

fn serves(at: &LocalAddr, ip: IpAddr) -> bool {
    match at.ip {
        Some(own) => own == ip,
        None => at.families.each_v4().any(|v4| v4 == ip.is_ipv4()),
    }
}

/// Scope and flow label do not take part in matching.
pub(super) fn without_scope(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}
