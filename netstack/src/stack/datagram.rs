// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagram endpoints: demultiplexing, receive queues, sending. What is only of ICMP stands in `raw.rs`.
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::hash::{Secrets, TableKey};
use super::icmp;
use super::slab::Slab;
use super::wire::{self, IpPacket};
use super::wire::{Fragment, Outgoing, Piece};
use super::{
    Datagram, DatagramId, DatagramProtocol, Event, Failure, Fanout, IcmpError, IcmpFilter, Link,
    LocalAddr, Reception, SendError, SendOptions, Stack,
};

/// Largest payload in one IPv4 packet (udp(7)), and in one IPv6 packet.
pub(super) const MAX_PAYLOAD_V4: usize = 65_507;
pub(super) const MAX_PAYLOAD_V6: usize = 65_527;
/// Largest IP packet of the loopback interface, bytes.
const LOOPBACK_MTU: usize = 65_536;
/// Header of UDP, bytes: ICMP messages are counted with theirs, and so may be longer by it.
const UDP_HEADER: usize = 8;
/// What a queued datagram costs beside its payload, so that empty ones are bounded too (Linux counts the buffer's truesize).
const OVERHEAD: usize = 256;
/// ICMP errors that wait for the owner of one endpoint; more are dropped.
const MAX_ERRORS: usize = 8;

#[derive(Debug)]
pub(super) struct Endpoint {
    protocol: DatagramProtocol,
    at: LocalAddr,
    remote: Option<SocketAddr>,
    reception: Reception,
    /// Of a raw endpoint.
    pub(super) filter: IcmpFilter,
    received: VecDeque<Datagram>,
    /// Bytes of `received` with overhead.
    received_bytes: usize,
    /// Bound of `received_bytes`; one datagram fits whatever it is.
    room: usize,
    /// Received datagrams that found no room.
    dropped: u32,
    /// Bytes of this endpoint in the egress queue.
    egress_bytes: usize,
    /// A `Datagram` event is queued.
    told: bool,
    /// `DatagramError` events that are queued.
    errors: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    Connected(DatagramProtocol, u16, SocketAddr),
    Exact(DatagramProtocol, SocketAddr),
    Wildcard(DatagramProtocol, u16, bool),
}

#[derive(Debug)]
pub(super) struct Datagrams {
    all: Slab<Endpoint>,
    /// Each endpoint is in one slot, or in one per family.
    slots: HashMap<Slot, Vec<DatagramId>, TableKey>,
    /// The raw ones, which have no slot.
    pub(super) raws: Vec<DatagramId>,
    /// Datagrams that were cut into fragments; part of their identification.
    fragmented: u32,
}

impl Datagrams {
    pub(super) fn new(key: TableKey) -> Self {
        Self {
            all: Slab::new(),
            slots: HashMap::with_hasher(key),
            raws: Vec::new(),
            fragmented: 0,
        }
    }

    /// Receiver of a datagram: connected to the sender, else bound to the address, else a wildcard.
    pub(super) fn find(
        &self,
        secrets: &Secrets,
        protocol: DatagramProtocol,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<DatagramId> {
        let connected = self
            .slots
            .get(&Slot::Connected(protocol, local.port(), remote))
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
            let ids = self.slots.get(&Slot::Exact(protocol, local)).or_else(|| {
                self.slots
                    .get(&Slot::Wildcard(protocol, local.port(), local.is_ipv4()))
            })?;
            match ids.as_slice() {
                [] => None,
                [only] => Some(*only),
                // Echo endpoints do not share: the newest has the identifier (icmp(7)).
                [.., newest] if protocol == DatagramProtocol::Echo => Some(*newest),
                several => several
                    .get(secrets.spread(&(local, remote), several.len()))
                    .copied(),
            }
        })
    }

    pub(super) fn get_mut(&mut self, id: DatagramId) -> Option<&mut Endpoint> {
        self.all.get_mut(id.0)
    }

    /// The raw endpoints that are meant by a message between these addresses.
    pub(super) fn raws_for(
        &self,
        local: IpAddr,
        remote: IpAddr,
    ) -> impl Iterator<Item = (DatagramId, &Endpoint)> {
        self.raws
            .iter()
            .filter_map(|id| Some((*id, self.all.get(id.0)?)))
            .filter(move |(_, endpoint)| {
                serves(&endpoint.at, local)
                    && endpoint.remote.is_none_or(|other| other.ip() == remote)
            })
    }

    /// The next identification of a packet: consecutive numbers from a secret one, so that none comes back before all others
    /// were used (RFC 7739).
    fn next_identification(&mut self, secrets: &Secrets) -> u32 {
        self.fragmented = self.fragmented.wrapping_add(1);
        let [.., a, b, c, d] = secrets.nonce(u64::MAX).to_be_bytes();
        u32::from_be_bytes([a, b, c, d]).wrapping_add(self.fragmented)
    }

    /// As it fits into IPv4; never 0.
    pub(super) fn identification(&mut self, secrets: &Secrets) -> u16 {
        let [.., a, b] = self.next_identification(secrets).to_be_bytes();
        u16::from_be_bytes([a, b]).max(1)
    }

    /// Whether an endpoint may put that many bytes more into the egress queue. An empty endpoint may always send one packet.
    pub(super) fn admits(&self, id: DatagramId, bytes: usize, limit: usize) -> bool {
        self.all.get(id.0).is_some_and(|endpoint| {
            endpoint.egress_bytes == 0 || endpoint.egress_bytes + bytes <= limit
        })
    }

    /// A packet of this endpoint has entered the egress queue.
    pub(super) fn note_queued(&mut self, id: DatagramId, bytes: usize) {
        if let Some(endpoint) = self.all.get_mut(id.0) {
            endpoint.egress_bytes += bytes;
        }
    }

    fn slots_of(endpoint: &Endpoint) -> impl Iterator<Item = Slot> + use<> {
        let (protocol, at) = (endpoint.protocol, endpoint.at);
        // icmp(7): a reply is for its identifier, whoever sends it.
        let remote = endpoint.remote.filter(|_| protocol.has_ports());
        let (first, second) = match (remote, at.ip) {
            _ if protocol == DatagramProtocol::Icmp => (None, None),
            (Some(remote), _) => (Some(Slot::Connected(protocol, at.port, remote)), None),
            (None, Some(ip)) => {
                let exact = Slot::Exact(protocol, SocketAddr::new(ip, at.port));
                (Some(exact), None)
            }
            (None, None) => {
                let mut families = at
                    .families
                    .each_v4()
                    .map(|v4| Slot::Wildcard(protocol, at.port, v4));
                (families.next(), families.next())
            }
        };
        first.into_iter().chain(second)
    }

    fn enter(&mut self, id: DatagramId) {
        let Some(endpoint) = self.all.get(id.0) else {
            return;
        };
        if endpoint.protocol == DatagramProtocol::Icmp {
            self.raws.push(id);
        }
        for slot in Self::slots_of(endpoint) {
            self.slots.entry(slot).or_default().push(id);
        }
    }

    fn leave(&mut self, id: DatagramId) {
        let Some(endpoint) = self.all.get(id.0) else {
            return;
        };
        if endpoint.protocol == DatagramProtocol::Icmp {
            self.raws.retain(|other| *other != id);
        }
        for slot in Self::slots_of(endpoint) {
            if let Some(ids) = self.slots.get_mut(&slot) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.slots.remove(&slot);
                }
            }
        }
    }

    /// Protocol and port of an endpoint.
    pub(super) fn source_of(&self, id: DatagramId) -> Option<(DatagramProtocol, u16)> {
        let endpoint = self.all.get(id.0)?;
        Some((endpoint.protocol, endpoint.at.port))
    }

    pub(super) fn set_reception(&mut self, id: DatagramId, reception: Reception) {
        if let Some(endpoint) = self.all.get_mut(id.0) {
            endpoint.reception = reception;
        }
    }

    /// Everyone who receives what `remote` sends to the many that `local` stands for, and who `takes` it.
    pub(super) fn all_at(
        &self,
        protocol: DatagramProtocol,
        local: SocketAddr,
        remote: SocketAddr,
        takes: impl Fn(&Reception) -> bool,
    ) -> Vec<DatagramId> {
        let slots = [
            Slot::Connected(protocol, local.port(), remote),
            Slot::Exact(protocol, local),
            Slot::Wildcard(protocol, local.port(), local.is_ipv4()),
        ];
        let ids = slots.iter().filter_map(|slot| self.slots.get(slot));
        ids.flatten()
            .filter(|id| {
                self.all.get(id.0).is_some_and(|endpoint| {
                    serves(&endpoint.at, local.ip()) && takes(&endpoint.reception)
                })
            })
            .copied()
            .collect()
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
    pub fn datagram_open(&mut self, protocol: DatagramProtocol, at: LocalAddr) -> DatagramId {
        let id = self.datagrams.all.insert_with(|_| Endpoint {
            protocol,
            at,
            remote: None,
            reception: Reception::default(),
            filter: IcmpFilter::default(),
            received: VecDeque::new(),
            received_bytes: 0,
            room: self.config.limits.datagram_queue,
            dropped: 0,
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

    /// Sends one datagram from `from` and the endpoint's port. The answer is the error that comes back at once when it went
    /// to this host and nobody receives it there.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub fn datagram_send(
        &mut self,
        now: Instant,
        id: DatagramId,
        from: IpAddr,
        to: SocketAddr,
        payload: &[u8],
        options: SendOptions,
    ) -> Result<Option<IcmpError>, SendError> {
        let to = without_scope(to);
        let mtu = self.path_mtu(now, to.ip());
        let endpoint = self.datagrams.all.get_mut(id.0).ok_or(SendError::NoRoute)?;
        let ports = endpoint.protocol.has_ports();
        if from.is_ipv4() != to.is_ipv4() || to.ip().is_unspecified() || to.ip().is_multicast() {
            return Err(SendError::NoRoute);
        }
        let largest = if to.is_ipv4() {
            MAX_PAYLOAD_V4
        } else {
            MAX_PAYLOAD_V6
        };
        let largest = if ports { largest } else { largest + UDP_HEADER };
        if payload.len() > largest {
            return Err(SendError::TooBig);
        }
        let outgoing = Outgoing {
            protocol: endpoint.protocol,
            from: SocketAddr::new(from, endpoint.at.port),
            to,
            payload,
            options,
        };
        if !self.addresses.is_local(from) {
            return Err(SendError::NoRoute);
        }
        if self.addresses.is_local(to.ip()) && !ports {
            self.send_icmp_locally(now, outgoing);
            return Ok(None);
        }
        if self.addresses.is_local(to.ip()) {
            let len = wire::udp_packet_len(to.ip(), payload.len());
            if len > LOOPBACK_MTU && !options.fragment {
                return Err(SendError::TooBig);
            }
            return Ok(self.deliver_locally(now, outgoing));
        }
        if from.is_loopback() || !self.routes.contains(to.ip()) {
            return Err(SendError::NoRoute);
        }
        self.emit(id, outgoing, mtu, None).map(|()| None)
    }

    /// Queues a datagram for the overlay, in pieces where it must be.
    pub(super) fn emit(
        &mut self,
        id: DatagramId,
        outgoing: Outgoing<'_>,
        mtu: usize,
        fanout: Option<Fanout>,
    ) -> Result<(), SendError> {
        let endpoint = self.datagrams.all.get_mut(id.0).ok_or(SendError::NoRoute)?;
        let len = outgoing.len();
        let too_big = len > mtu;
        if too_big && !outgoing.options.fragment {
            return Err(SendError::TooBig);
        }
        // An empty endpoint may always send one.
        let full = endpoint.egress_bytes > 0
            && endpoint.egress_bytes + len > self.config.limits.datagram_queue;
        if full || !self.egress.has_room() {
            return Err(SendError::QueueFull);
        }
        if too_big {
            let (src, dst) = (outgoing.from.ip(), outgoing.to.ip());
            let piece = Piece::first(src, dst, outgoing.number(), outgoing.options);
            let transport = outgoing.transport();
            return self.send_fragments(Some(id), piece, &transport, mtu, fanout.as_ref());
        }
        let (buffer, kept) = self.egress.push_for(len, Some(id), fanout);
        outgoing.write(buffer);
        if !kept {
            return Err(SendError::QueueFull);
        }
        endpoint.egress_bytes += len;
        Ok(())
    }

    /// Cuts what follows the IP header into packets of at most the MTU. One that finds no room takes the datagram with it: the
    /// receiver forgets the others.
    pub(super) fn send_fragments(
        &mut self,
        owner: Option<DatagramId>,
        first: Piece<'_>,
        transport: &[u8],
        mtu: usize,
        fanout: Option<&Fanout>,
    ) -> Result<(), SendError> {
        let identification = self.datagrams.next_identification(&self.secrets);
        let room = Piece::room(first.dst, mtu);
        let pieces = transport.chunks(room);
        let last = pieces.len().saturating_sub(1);
        for (index, bytes) in pieces.enumerate() {
            let piece = Piece {
                fragment: Fragment {
                    id: identification,
                    offset: index * room,
                    more: index < last,
                },
                bytes,
                ..first
            };
            let (buffer, kept) = self.egress.push_for(piece.len(), owner, fanout.cloned());
            piece.write(buffer);
            if !kept {
                return Err(SendError::QueueFull);
            }
            if let Some(id) = owner {
                self.datagrams.note_queued(id, piece.len());
            }
        }
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
    pub fn datagram_refuse(
        &mut self,
        now: Instant,
        protocol: DatagramProtocol,
        datagram: &Datagram,
    ) {
        if !protocol.has_ports() {
            // Nobody hears that an echo reply came too late.
            return;
        }
        let from = SocketAddr::new(datagram.from.ip().to_canonical(), datagram.from.port());
        let to = SocketAddr::new(datagram.to.ip().to_canonical(), datagram.to.port());
        if self.addresses.is_local(from.ip()) {
            let error = nobody_there(now, from, to, &datagram.payload, datagram.traffic_class);
            self.datagram_failed(protocol, from, to, Failure::PortUnreachable, error);
            return;
        }
        let len = wire::udp_packet_len(to.ip(), datagram.payload.len());
        if from.is_ipv4() != to.is_ipv4() || len > usize::from(u16::MAX) {
            return;
        }
        let mut packet = vec![0; len];
        Outgoing {
            protocol,
            from,
            to,
            payload: &datagram.payload,
            options: SendOptions::default(),
        }
        .write(&mut packet);
        if let Some(ip) = IpPacket::parse(&packet) {
            self.send_port_unreachable(now, &ip);
        }
    }

    /// The endpoint at `local` that a datagram from `remote` reaches (one of several that share the address).
    #[must_use]
    pub fn datagram_at(&self, local: SocketAddr, remote: SocketAddr) -> Option<DatagramId> {
        let find = |protocol| self.datagrams.find(&self.secrets, protocol, local, remote);
        find(DatagramProtocol::Udp).or_else(|| find(DatagramProtocol::UdpLite))
    }

    /// How many bytes may wait to be received, overhead included; at most what the configuration allows.
    pub fn datagram_set_room(&mut self, id: DatagramId, bytes: usize) {
        let most = self.config.limits.datagram_queue;
        if let Some(endpoint) = self.datagrams.all.get_mut(id.0) {
            endpoint.room = bytes.min(most);
        }
    }

    /// Datagrams that found no room in an endpoint.
    #[must_use]
    pub fn datagram_dropped(&self, id: DatagramId) -> u32 {
        self.datagrams
            .all
            .get(id.0)
            .map_or(0, |endpoint| endpoint.dropped)
    }

    /// Datagrams that wait in an endpoint.
    pub fn datagram_queued(&self, id: DatagramId) -> usize {
        self.datagrams
            .all
            .get(id.0)
            .map_or(0, |endpoint| endpoint.received.len())
    }

    /// A datagram from the overlay.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        protocol: DatagramProtocol,
        ip: &IpPacket<'_>,
    ) {
        let Some((src_port, dst_port, payload)) = wire::parse_udp(ip.payload, protocol) else {
            self.counters.malformed += 1;
            return;
        };
        let from = SocketAddr::new(ip.src, src_port);
        let to = SocketAddr::new(ip.dst, dst_port);
        match self.datagrams.find(&self.secrets, protocol, to, from) {
            Some(id) => self.deliver(
                id,
                Datagram {
                    from,
                    to,
                    hop_limit: ip.hop_limit,
                    traffic_class: ip.traffic_class,
                    link: Link::Overlay,
                    at: Some(now),
                    dropped: 0,
                    payload: payload.to_vec(),
                },
            ),
            None => self.send_port_unreachable(now, ip),
        }
    }

    /// Whether an endpoint may have sent a datagram from `local` to `remote`.
    pub(super) fn sends_datagrams(
        &self,
        protocol: DatagramProtocol,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> bool {
        let found = self.datagrams.find(&self.secrets, protocol, local, remote);
        found.is_some()
    }

    /// An ICMP error quotes a datagram that was sent from `local` to `remote`.
    pub(super) fn datagram_failed(
        &mut self,
        protocol: DatagramProtocol,
        local: SocketAddr,
        remote: SocketAddr,
        failure: Failure,
        error: IcmpError,
    ) {
        if let Some(id) = self.datagrams.find(&self.secrets, protocol, local, remote) {
            self.tell_datagram_error(id, remote, failure, error);
        }
    }

    fn deliver_locally(&mut self, now: Instant, outgoing: Outgoing<'_>) -> Option<IcmpError> {
        let (from, to) = (outgoing.from, outgoing.to);
        if let Some(tap) = &mut self.tap
            && let Some(copy) = tap.room(wire::udp_packet_len(to.ip(), outgoing.payload.len()))
        {
            outgoing.write(copy);
        }
        match self
            .datagrams
            .find(&self.secrets, outgoing.protocol, to, from)
        {
            Some(id) => {
                self.deliver(
                    id,
                    Datagram {
                        from,
                        to,
                        hop_limit: outgoing.options.hop_limit.max(1),
                        traffic_class: outgoing.options.traffic_class,
                        link: Link::Loopback,
                        at: Some(now),
                        dropped: 0,
                        payload: outgoing.payload.to_vec(),
                    },
                );
                None
            }
            None => {
                let class = outgoing.options.traffic_class;
                Some(nobody_there(now, from, to, outgoing.payload, class))
            }
        }
    }

    /// Whether a payload of that many bytes can be queued; if not, it counts as dropped.
    pub(super) fn has_room(&mut self, id: DatagramId, len: usize) -> bool {
        let Some(endpoint) = self.datagrams.all.get_mut(id.0) else {
            return false;
        };
        let cost = len + OVERHEAD;
        if endpoint.received_bytes > 0 && endpoint.received_bytes + cost > endpoint.room {
            endpoint.dropped = endpoint.dropped.wrapping_add(1);
            self.counters.datagrams_dropped += 1;
            return false;
        }
        true
    }

    /// Queues a datagram; one that finds no room is dropped.
    pub(super) fn deliver(&mut self, id: DatagramId, mut datagram: Datagram) {
        if !self.has_room(id, datagram.payload.len()) {
            return;
        }
        let Some(endpoint) = self.datagrams.all.get_mut(id.0) else {
            return;
        };
        let cost = datagram.payload.len() + OVERHEAD;
        datagram.dropped = endpoint.dropped;
        endpoint.received_bytes += cost;
        endpoint.received.push_back(datagram);
        if !endpoint.told {
            endpoint.told = true;
            self.events.push_back(Event::Datagram(id));
        }
    }

    pub(super) fn tell_datagram_error(
        &mut self,
        id: DatagramId,
        to: SocketAddr,
        failure: Failure,
        error: IcmpError,
    ) {
        let Some(endpoint) = self.datagrams.all.get_mut(id.0) else {
            return;
        };
        if endpoint.errors < MAX_ERRORS {
            endpoint.errors += 1;
            self.events.push_back(Event::DatagramError {
                id,
                to,
                failure,
                error: Box::new(error),
            });
        }
    }
}

/// What this host says when nobody receives a datagram at one of its own addresses.
fn nobody_there(
    now: Instant,
    from: SocketAddr,
    to: SocketAddr,
    payload: &[u8],
    class: u8,
) -> IcmpError {
    let v4 = to.is_ipv4();
    let (kind, code) = if v4 { (3, 3) } else { (1, 4) };
    let quoted = payload.len().min(icmp::quoted_payload(v4));
    IcmpError {
        kind,
        code,
        info: 0,
        from: to.ip(),
        to: from.ip(),
        hop_limit: 64,
        traffic_class: icmp::error_class(v4, class),
        at: Some(now),
        payload: payload[..quoted].to_vec(),
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
