// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loop.

use super::batch::Batch;
use super::pump::Context;
use super::{Command, Handle, Udp};
use crate::capture::Direction;
use crate::clock;
use crate::network::{Network, State, Token};
use crate::node::Node;
use netcon_netstack::sockets::{CloseHow, SocketId};
use netcon_netstack::stack::{Fanout, ListenerId};
use netcon_overlay::{Mark, NotSent, Overlay, Received, Recipients};
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Batches one network may send in one turn.
const BATCHES: usize = 4;

/// Bytes of a refused packet that the engine is shown: headers and ports.
const QUOTED: usize = 64;
/// Outer packets that every path is said to carry if the host does not know better: the IPv6 minimum, bytes.
const LEAST_PATH: usize = 1280;
/// The overlay is told of a narrow path at most this often,
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// and of this many before they are forgotten.
const MAX_TOLD: usize = 1024;

/// What one network has to do in this turn.
#[derive(Debug, Default)]
struct Work {
    /// Opened packets: buffer, offset, length.
    packets: Vec<(usize, usize, usize)>,
    /// Ends of programs on which something happened.
    ends: Vec<(SocketId, EpollFlags)>,
    due: bool,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.ends.is_empty() && !self.due
    }

    fn clear(&mut self) {
        self.packets.clear();
        self.ends.clear();
        self.due = false;
    }
}

#[derive(Debug)]
struct Served {
    network: Arc<Network>,
    work: Work,
    /// Next timer of its engine.
    timeout: Option<Instant>,
}

struct Thread {
    node: Arc<Node>,
    handle: Handle,
    overlay: Overlay,
    udp: Udp,
    networks: BTreeMap<u32, Served>,
    batch: Batch,
    scratch: Vec<u8>,
    control: Vec<u8>,
    /// Paths that were found to be narrow, and when. At most [`MAX_TOLD`].
    told: HashMap<SocketAddr, Instant>,
    /// The newest timestamp of ours that [`Handle`] was told of.
    own_time: Duration,
}

/// Runs until [`Handle::stop`].
pub fn run(node: Arc<Node>, udp: Udp, seed: [u8; 32]) -> io::Result<()> {
    let handle = node.data.clone();
    handle.0.epoll.add(
        udp.socket(),
        EpollEvent::new(EpollFlags::EPOLLIN, Token::Udp.to_u64()),
    )?;
    let thread = Thread {
        node,
        handle,
        overlay: Overlay::new(seed),
        udp,
        networks: BTreeMap::new(),
        batch: Batch::new(),
        scratch: vec![0; 65_536],
        control: Vec::with_capacity(2048),
        told: HashMap::new(),
        own_time: Duration::ZERO,
    };
    thread.run()
}

impl Thread {
    fn run(mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 512];
        loop {
            let n = match self
                .handle
                .0
                .epoll
                .wait(&mut events, self.timeout(clock::now()))
            {
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            let mut incoming = false;
            for event in &events[..n] {
                match Token::from_u64(event.data()) {
                    Token::Udp => incoming = true,
                    Token::Netlink(number) => self.node.netlink.ready(number, event.events()),
                    Token::Wake => {
                        for command in self.handle.woken() {
                            if !self.command(command) {
                                return Ok(());
                            }
                        }
                        for served in self.networks.values_mut() {
                            served.work.due = true;
                        }
                    }
                    Token::End(index, socket) => {
                        if let Some(served) = self.networks.get_mut(&index.0) {
                            served.work.ends.push((socket, event.events()));
                        }
                    }
                }
            }
            let now = clock::now();
            if incoming {
                self.receive(now);
            }
            let mut networks = std::mem::take(&mut self.networks);
            for (&index, served) in &mut networks {
                if catch_unwind(AssertUnwindSafe(|| self.serve(served, now))).is_err() {
                    tracing::error!(index, "a turn of a network failed inside the supervisor");
                }
            }
            self.networks = networks;
            self.overlay.handle_timeout(now, clock::unix());
            self.transmit_control(now);
            self.report_timestamps();
            self.report_unanswered();
        }
    }

    fn report_timestamps(&mut self) {
        let own_time = self.overlay.own_time();
        if self.overlay.take_timestamps_changed() || own_time != self.own_time {
            self.own_time = own_time;
            self.handle
                .0
                .timestamps_changed
                .store(true, Ordering::Release);
        }
    }

    fn timeout(&self, now: Instant) -> EpollTimeout {
        let networks = self
            .networks
            .values()
            .filter_map(|served| served.timeout)
            .min();
        let first = [networks, self.overlay.poll_timeout()]
            .into_iter()
            .flatten()
            .min();
        first.map_or(EpollTimeout::NONE, |at| {
            // Rounded up to a millisecond, except what is due now.
            let wait = at.saturating_duration_since(now);
            let wait = if wait.is_zero() {
                wait
            } else {
                wait + Duration::from_micros(999)
            };
            EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::NONE)
        })
    }

    fn receive(&mut self, now: Instant) {
        let unix = clock::unix();
        let (overlay, networks) = (&mut self.overlay, &mut self.networks);
        self.udp.receive(|from, ecn, buffer, offset, datagram| {
            let base = datagram.as_ptr().addr();
            match overlay.handle_marked(now, unix, from, ecn, datagram) {
                Received::Packet {
                    network, packet, ..
                } => {
                    if let Some(served) = networks.get_mut(&network.0) {
                        let start = packet.as_ptr().addr() - base;
                        served
                            .work
                            .packets
                            .push((buffer, offset + start, packet.len()));
                    }
                }
                Received::Handled => {}
                Received::Dropped(reason) => tracing::trace!(?reason, "datagram dropped"),
            }
        });
        // Responses go out at once.
        self.transmit_control(now);
    }

    fn serve(&mut self, served: &mut Served, now: Instant) {
        let due = served.timeout.is_some_and(|at| at <= now);
        if served.work.is_empty() && !due {
            return;
        }
        let mut work = std::mem::take(&mut served.work);
        let network = Arc::clone(&served.network);
        let node = Arc::clone(&self.node);
        let cx = Context {
            node: &node,
            network: &network,
            now,
        };
        let mut first = true;
        let mut more = true;
        for _ in 0..BATCHES {
            self.batch.start(network.mtu());
            {
                let mut guard = network.lock();
                let state = &mut *guard;
                if first {
                    first = false;
                    let udp = &self.udp;
                    take_in(
                        state,
                        cx,
                        &work,
                        |&(buffer, start, len)| udp.part(buffer, start, len),
                        &mut self.scratch,
                    );
                }
                state.take_events(cx);
                state.pump_ready(cx, &mut self.scratch);
                let waits = state
                    .sockets
                    .stack_mut()
                    .poll_transmit(now, &mut self.batch);
                state.take_pongs();
                if state.captures.any() {
                    for packet in self.batch.packets() {
                        state.capture(Direction::Outbound, packet);
                    }
                    state.flush_captures();
                }
                // The internal loopback may have brought more.
                more = state.take_events(cx) || waits || state.has_ready();
                if self.batch.is_empty() && !more {
                    break;
                }
            }
            self.send_batch(&network, now);
            if !more {
                break;
            }
        }
        work.clear();
        let engine = network.lock().sockets.stack().poll_timeout();
        served.work = work;
        served.timeout = if more { Some(now) } else { engine };
    }

    fn send_batch(&mut self, network: &Network, now: Instant) {
        let unix = clock::unix();
        let overlay = &mut self.overlay;
        let mut refused = Vec::new();
        for (packet, fanout) in self.batch.for_many() {
            let to = match fanout {
                Fanout::Members(members) => Recipients::OwnersOf(members),
                Fanout::Everyone => Recipients::Everyone,
                Fanout::Awake => Recipients::Awake,
            };
            let (udp, copy) = (&mut self.udp, &mut self.control);
            overlay.replicate(
                (now, unix),
                network.index,
                packet,
                to,
                copy,
                |to, ecn, bytes| {
                    // A path that is too narrow for a copy loses it; nobody could be told for all.
                    let _ = udp.send(to, ecn, bytes.len(), bytes);
                },
            );
        }
        self.batch.seal(|buffer, len| {
            match overlay.encapsulate(now, unix, network.index, buffer, len) {
                Ok(sealed) => Some((sealed.to, sealed.ecn)),
                Err(NotSent::TooLarge { mtu }) => {
                    let packet = &buffer[Overlay::HEADROOM..Overlay::HEADROOM + len];
                    refused.push((packet[..len.min(QUOTED)].to_vec(), mtu));
                    None
                }
                Err(
                    reason @ (NotSent::NoRoute
                    | NotSent::NoEndpoint
                    | NotSent::Queued
                    | NotSent::Invalid),
                ) => {
                    tracing::trace!(?reason, "packet not sent");
                    None
                }
            }
        });
        let mut narrow = Vec::new();
        for run in self.batch.sends() {
            if self.udp.send(run.to, run.ecn, run.size, run.bytes).is_err() {
                narrow.push((run.to, run.packets()));
            }
        }
        if !refused.is_empty() || !narrow.is_empty() {
            self.tell_too_big(network, now, &refused, narrow);
        }
        self.transmit_control(now);
    }

    /// The engine hears of packets that the path to their peer does not carry.
    #[cold]
    fn tell_too_big(
        &mut self,
        network: &Network,
        now: Instant,
        refused: &[(Vec<u8>, usize)],
        narrow: Vec<(SocketAddr, Range<usize>)>,
    ) {
        let narrow: Vec<_> = narrow
            .into_iter()
            .filter_map(|(to, packets)| Some((self.narrow_path(now, to)?, packets)))
            .collect();
        let mut state = network.lock();
        let stack = state.sockets.stack_mut();
        for (packet, mtu) in refused {
            stack.packet_too_big(now, packet, *mtu);
        }
        for (mtu, packets) in narrow {
            for inner in self.batch.inner(packets) {
                stack.set_path_mtu(now, inner, mtu);
            }
        }
    }

    /// The host refused a datagram to `to` as too big: the overlay is told what the path carries, once in a while. Returns the
    /// largest inner packet.
    fn narrow_path(&mut self, now: Instant, to: SocketAddr) -> Option<usize> {
        let recent = |told: &Instant| now.saturating_duration_since(*told) < TELL_AGAIN;
        if self.told.get(&to).is_some_and(recent) {
            return None;
        }
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        self.told.insert(to, now);
        let outer = crate::sys::udp::path_mtu(to).unwrap_or(LEAST_PATH);
        let inner = self.overlay.set_path_mtu(now, to, outer);
        tracing::info!(%to, path = outer, packets = inner, "the path to a peer is narrow");
        Some(inner)
    }

    /// Handshakes, keepalives, packets that waited for a session.
    fn transmit_control(&mut self, now: Instant) {
        let unix = clock::unix();
        while let Some(outgoing) = self.overlay.poll_datagram(now, unix, &mut self.control) {
            let (to, message) = (outgoing.to, &self.control);
            let sent = match outgoing.mark {
                Mark::Handshake => {
                    self.udp.send_handshake(to, message);
                    Ok(())
                }
                Mark::Data(ecn) => self.udp.send(to, ecn, message.len(), message),
            };
            if sent.is_err() {
                self.narrow_path(now, to);
            }
        }
    }

    fn report_unanswered(&mut self) {
        while let Some((index, peer)) = self.overlay.poll_unanswered() {
            if let Some(served) = self.networks.get(&index.0)
                && let Some(hook) = self.handle.0.unanswered.get()
            {
                hook(&served.network.name(), peer);
            }
        }
    }

    /// False: stop. A reply nobody waits for is no error.
    fn command(&mut self, command: Command) -> bool {
        let now = clock::now();
        match command {
            Command::AddNetwork {
                network,
                key,
                reply,
            } => {
                let result = self.overlay.add_network(network.index, key, network.mtu());
                if result.is_ok() {
                    let served = Served {
                        work: Work::default(),
                        timeout: None,
                        network: Arc::clone(&network),
                    };
                    self.networks.insert(network.index.0, served);
                }
                let _ = reply.send(result);
            }
            Command::RemoveNetwork { network, reply } => {
                let _ = self.overlay.remove_network(network);
                self.networks.remove(&network.0);
                let _ = reply.send(());
            }
            Command::SetMtu {
                network,
                mtu,
                reply,
            } => {
                let _ = reply.send(self.overlay.set_mtu(network, mtu));
            }
            Command::SetPeer {
                network,
                peer,
                timestamp,
                reply,
            } => {
                let key = peer.public_key;
                let before = self.overlay.routes_generation(network);
                let result = self.overlay.set_peer(now, network, *peer);
                let changed = self.overlay.routes_generation(network) != before;
                if let Some(timestamp) = timestamp {
                    self.overlay.restore_timestamp(network, &key, timestamp);
                }
                let _ = reply.send(result.map(|()| changed));
            }
            Command::SetLeastTime(unix) => self.overlay.set_least_time(unix),
            Command::Timestamps { network, reply } => {
                let peers = self.overlay.timestamps(network).into_iter().collect();
                let _ = reply.send((self.overlay.own_time(), peers));
            }
            Command::RemovePeer {
                network,
                peer,
                reply,
            } => {
                let _ = self.overlay.remove_peer(network, &peer);
                let _ = reply.send(());
            }
            Command::PeerStatus { network, reply } => {
                let _ = reply.send(self.overlay.peer_status(network));
            }
            Command::Peer {
                network,
                peer,
                reply,
            } => {
                let _ = reply.send(self.overlay.peer(network, &peer));
            }
            Command::PeerOf {
                network,
                address,
                reply,
            } => {
                let _ = reply.send(self.overlay.peer_of(network, address));
            }
            Command::Drops { reply } => {
                let _ = reply.send(self.overlay.drops().collect());
            }
            Command::UdpCounts { reply } => {
                let _ = reply.send(self.udp.counts());
            }
            Command::Routes { network, reply } => {
                let _ = reply.send(self.overlay.routes(network));
            }
            Command::Ping { reply } => {
                let _ = reply.send(());
            }
            Command::Stop => return false,
        }
        true
    }
}

/// Timers, packets, ends of programs: everything that came in for one network.
fn take_in<'a>(
    state: &mut State,
    cx: Context<'_>,
    work: &Work,
    bytes: impl Fn(&(usize, usize, usize)) -> &'a [u8],
    scratch: &mut [u8],
) {
    state.sockets.stack_mut().handle_timeout(cx.now);
    let mut alive: Option<ListenerId> = None;
    for part in &work.packets {
        let packet = bytes(part);
        if state.captures.any() {
            state.capture(Direction::Inbound, packet);
        }
        if let Some(listener) = state.sockets.stack().listener_for(packet) {
            // A connection to a program that is gone is refused, not accepted and then reset. Asked once a turn.
            if alive != Some(listener) {
                alive = (!release_if_dead(state, cx, listener)).then_some(listener);
            }
            // What was established just now takes its place in the accept queue before another one may come.
            state.take_events(cx);
        }
        state.sockets.stack_mut().handle_packet(cx.now, packet);
    }
    for &(socket, events) in &work.ends {
        state.end_ready(cx, socket, events, scratch);
    }
}

fn release_if_dead(state: &mut State, cx: Context<'_>, listener: ListenerId) -> bool {
    let Some(socket) = state.sockets.socket_of_listener(listener) else {
        return false;
    };
    let Some(inode) = state
        .carriers
        .get(&socket)
        .and_then(|carrier| carrier.inode)
    else {
        return false;
    };
    if cx.node.diag.exists(inode) {
        return false;
    }
    state.close(cx.now, &cx.node.registry, socket, CloseHow::Graceful);
    true
}
