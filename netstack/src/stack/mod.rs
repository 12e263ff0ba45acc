// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The engine: flows, listeners and datagram ports of one network on one host, over smoltcp.
//!
//! # Order of calls
//! `handle_packet` for each packet that arrived and the verbs (`connect`, `send`, `recv`, ...) in any order; then
//! `poll_event` until `None`; then `poll_transmit` until it returns false or the sink is full; `poll_event` again, since
//! packets between local addresses travel inside `poll_transmit`. `handle_timeout` at `poll_timeout`; too early is harmless.
//!
//! # Limits
//! Work per packet does not depend on the number of flows: each flow is a socket in a set of its own, found by a keyed table
//! of 4-tuples; deadlines are a lazy heap; only flows that may have something to send are asked for it. Ids are never
//! reused. Every queue is bounded: what does not fit is dropped and counted in [`Counters`], or waits at its source.
//!
//! # Trust
//! Packets may be anything. A panic inside smoltcp ends the flow it served and no other.
mod address;
mod cast;
mod datagram;
mod device;
mod figures;
mod flow;
mod groups;
mod hash;
mod icmp;
mod igmp;
mod interface;
mod lifecycle;
mod listener;
mod membership;
mod path_mtu;
mod ping;
mod pool;
mod queue;
mod raw;
mod reassembly;
mod repair;
mod slab;
mod tap;
mod tcp;
mod timers;
mod tombstone;
mod traffic;
mod types;
mod urgent;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use smoltcp::iface::SocketSet;

pub use self::cast::{Cast, Reception};
pub use self::groups::{Link, Membership, SourceFilter};
pub use self::types::*;

use self::address::{Addresses, Routes};
use self::datagram::Datagrams;
pub(crate) use self::figures::{Figures, Recovery};
use self::flow::{Flow, Tuple};
use self::hash::{Secrets, TableKey};
use self::icmp::RateLimit;
use self::interface::Interfaces;
use self::lifecycle::TRIM_INTERVAL;
use self::listener::Listeners;
use self::membership::Multicast;
use self::path_mtu::PathMtus;
use self::ping::Pings;
pub use self::ping::{PING_IDENTIFIERS, Ping, PingError, PingId, PingOutcome, Pong};
use self::pool::Pool;
use self::queue::Queue;
pub use self::raw::RAW_ENDPOINTS;
use self::reassembly::Reassembly;
use self::slab::Slab;
pub use self::tap::PacketEnds;
use self::tap::Tap;
use self::timers::Timers;
use self::tombstone::Tombstones;
use self::traffic::Turns;
pub(crate) use self::wire::SynOptions;
use crate::interfaces::{NetworkView, Traffic};

/// Bytes of replies and datagrams of all endpoints that wait for the sink; more: dropped.
const EGRESS_QUEUE: usize = 4 << 20;
/// Smallest MTU: that of IPv6 (RFC 8200 §5).
const MIN_MTU: usize = 1280;
/// Bounds of one TCP ring, bytes: a segment must fit, smoltcp takes at most 1 GiB.
const MIN_RING: usize = 4096;
const MAX_RING: usize = 1 << 30;

/// The engine. See the [module](self) for the order of calls.
pub struct Stack {
    config: Config,
    secrets: Secrets,
    addresses: Addresses,
    routes: Routes,
    interfaces: Interfaces,
    /// A set without sockets: what is given to it is answered with RST.
    nobody: SocketSet<'static>,
    flows: Slab<Box<Flow>>,
    /// Flows on the wire.
    by_tuple: HashMap<Tuple, FlowId, TableKey>,
    listeners: Listeners,
    datagrams: Datagrams,
    tombstones: Tombstones,
    paths: PathMtus,
    reassembly: Reassembly,
    timers: Timers,
    turns: Turns,
    /// Replies and datagrams for the sink.
    egress: Queue,
    /// Packets between local addresses.
    loopback: Queue,
    events: VecDeque<Event>,
    pool: Pool,
    icmp_limit: RateLimit,
    pings: Pings,
    multicast: Multicast,
    /// Set while somebody captures.
    tap: Option<Tap>,
    /// When kept memory is reviewed; `None` while there is none.
    trim_at: Option<Instant>,
    counters: Counters,
}

impl Stack {
    /// A stack without flows. Values of `config` outside their bounds are brought to the nearest one.
    #[must_use]
    pub fn new(mut config: Config, now: Instant) -> Self {
        config.mtu = config.mtu.clamp(MIN_MTU, usize::from(u16::MAX));
        let ring = config.limits.tcp_buffer.clamp(MIN_RING, MAX_RING);
        let secrets = Secrets::new(&config.seed);
        let key = secrets.table();
        Self {
            addresses: Addresses::new(&config),
            routes: Routes::new(key),
            interfaces: Interfaces::new(config.mtu, now),
            nobody: SocketSet::new(Vec::new()),
            flows: Slab::new(),
            by_tuple: HashMap::with_hasher(key),
            listeners: Listeners::new(key),
            datagrams: Datagrams::new(key),
            tombstones: Tombstones::new(key),
            paths: PathMtus::new(key),
            reassembly: Reassembly::new(key),
            timers: Timers::default(),
            turns: Turns::default(),
            egress: Queue::new(EGRESS_QUEUE),
            loopback: Queue::new(config.limits.loopback_queue),
            events: VecDeque::new(),
            pool: Pool::new(ring),
            icmp_limit: RateLimit::new(now),
            pings: Pings::default(),
            multicast: Multicast::default(),
            tap: None,
            trim_at: None,
            counters: Counters::default(),
            secrets,
            config,
        }
    }

    /// Replaces the prefixes that are reachable through the overlay.
    pub fn set_routes(&mut self, prefixes: Vec<(IpAddr, u8)>) {
        self.routes.set(prefixes);
    }

    /// What programs see of the network.
    #[must_use]
    pub fn view(&self) -> NetworkView {
        NetworkView {
            mtu: u32::try_from(self.config.mtu).unwrap_or(u32::MAX),
            v4: self.config.v4,
            v6: self.config.v6,
            routes: self.routes.listed().to_vec(),
            overlay: Traffic {
                packets_in: self.counters.packets_in,
                packets_out: self.counters.packets_out,
                bytes_in: self.counters.bytes_in,
                bytes_out: self.counters.bytes_out,
                dropped_in: self.counters.malformed + self.counters.misaddressed,
            },
            local_packets: self.counters.packets_local,
        }
    }

    /// Changes the largest packet, for packets made from now on. Out of its bounds it is brought to the nearest one.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.config.mtu = mtu.clamp(MIN_MTU, usize::from(u16::MAX));
        self.interfaces.set_mtu(self.config.mtu);
    }

    /// Changes the own addresses, each with the length of its prefix. As on Linux, connections of an address that is gone are
    /// not ended: nothing reaches them any more.
    pub fn set_addresses(&mut self, v4: Option<(Ipv4Addr, u8)>, v6: Option<(Ipv6Addr, u8)>) {
        self.config.v4 = v4;
        self.config.v6 = v6;
        self.addresses = Addresses::new(&self.config);
    }

    /// Own addresses, 127.0.0.0/8 and ::1.
    #[must_use]
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.addresses.is_local(ip)
    }

    /// The source address for packets to `dst`.
    ///
    /// # Errors
    /// [`Failure::NetUnreachable`] without a route or without an own address of the family.
    pub fn route(&self, dst: IpAddr) -> Result<IpAddr, Failure> {
        if dst.is_loopback() {
            // Linux: the local table prefers the first address of lo, also for 127.0.0.2.
            return Ok(match dst {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        if self.addresses.is_own(dst) {
            return Ok(dst);
        }
        let reachable = self.addresses.is_foreign_unicast(dst) && self.routes.contains(dst);
        self.addresses
            .source_for(dst)
            .filter(|_| reachable)
            .ok_or(Failure::NetUnreachable)
    }

    /// When [`Self::handle_timeout`] should be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.timers.next(),
            self.tombstones.next(),
            self.reassembly.next(),
            self.pings.next(),
            self.multicast.next(),
            self.trim_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, id)) = self.timers.pop_due(now) {
            if let Some(flow) = self.flows.get_mut(id.0)
                && flow.timer == Some(at)
            {
                flow.timer = None;
                self.timer_fired(now, id);
            }
        }
        self.compact();
        self.tombstones.expire(now);
        self.reassembly.expire(now);
        self.pings.expire(now);
        self.report_memberships(now);
        if self.trim_at.is_some_and(|at| at <= now) {
            self.pool.trim();
            if self.by_tuple.capacity() > 1024 && self.by_tuple.len() * 8 < self.by_tuple.capacity()
            {
                self.by_tuple.shrink_to_fit();
            }
            self.egress.trim();
            self.loopback.trim();
            self.trim_at = (!self.pool.is_empty()).then_some(now + TRIM_INTERVAL);
        }
    }

    /// What happened, the oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::DatagramError { id, .. } = event {
            self.datagrams.note_error_taken(id);
        }
        Some(event)
    }

    /// Counts since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sizes of the tables now.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            flows: self.flows.len(),
            time_wait: self.tombstones.len(),
            timers: self.timers.len(),
            events: self.events.len(),
            narrow_paths: self.narrow_paths(),
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the seed.
        f.debug_struct("Stack")
            .field("sizes", &self.sizes())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
