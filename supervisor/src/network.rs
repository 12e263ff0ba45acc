// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One network on this host: the socket model and the kernel objects that stand in for its sockets.
//!
//! A [`Carrier`] belongs to every socket of the model: it knows the inode of the program's end *A* and what the supervisor
//! holds of it. A [`Link`] belongs to every connected flow: the supervisor's end *S*. The state is behind one lock; no
//! memory, descriptor or /proc entry of a program is touched while it is held (those may block for ever).

use crate::capture::{Captures, Direction, TAP};
use crate::clock;
use crate::registry::Registry;
use crate::sys::unix::{Hidden, Plug};
use netcon_netstack::errno::Errno;
use netcon_netstack::interfaces::View;
use netcon_netstack::sockets::{CloseHow, ConnectTo, Kind, SocketId, SocketRow, Sockets, Traffic};
use netcon_netstack::stack::{Datagram, FlowId, ListenerId, PingId, PingOutcome};
use netcon_overlay::NetworkIndex;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A running network.
#[derive(Debug)]
pub struct Network {
    /// Its number in the overlay; the upper 16 bits of its epoll tokens.
    pub index: NetworkIndex,
    /// Local name.
    name: Mutex<String>,
    /// Largest IP packet, bytes.
    mtu: AtomicUsize,
    /// Secret: makes the names of our ends unpredictable, so that nobody else can take one first.
    names: RandomState,
    state: Mutex<State>,
}

impl Network {
    /// A network without sockets.
    #[must_use]
    pub fn new(index: NetworkIndex, name: String, mtu: usize, sockets: Sockets) -> Self {
        let state = State {
            index,
            sockets,
            carriers: HashMap::new(),
            links: HashMap::new(),
            ready: VecDeque::new(),
            ready_datagrams: VecDeque::new(),
            stopped: false,
            captures: Captures::default(),
            pings: HashMap::new(),
            ended: HashMap::new(),
        };
        Self {
            index,
            name: Mutex::new(name),
            mtu: AtomicUsize::new(mtu),
            names: RandomState::new(),
            state: Mutex::new(state),
        }
    }

    /// Local name, as it is now.
    #[must_use]
    pub fn name(&self) -> String {
        self.name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the name.
    pub fn rename(&self, name: String) {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Largest IP packet, bytes, as it is now.
    #[must_use]
    pub fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Changes it for the data thread; the engine and the overlay have their own.
    pub fn set_mtu(&self, mtu: usize) {
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    /// What the name of a flow's S holds beside its number.
    #[must_use]
    pub fn proof(&self, flow: FlowId) -> u64 {
        self.names.hash_one(flow.0)
    }

    /// What its programs see of it; nothing once it was removed.
    #[must_use]
    pub fn view(&self) -> View {
        let state = self.lock();
        if state.stopped {
            View::Nothing
        } else {
            View::Network(state.sockets.stack().view())
        }
    }

    /// At most `most` sockets after one, oldest first. The lock is held for these only: whoever wants all asks again.
    #[must_use]
    pub fn page(&self, after: Option<SocketId>, most: usize) -> Vec<Seen> {
        let state = self.lock();
        let seen = |row: SocketRow| {
            let carrier = state.carriers.get(&row.id);
            Seen {
                container: carrier.map_or(0, |carrier| carrier.container),
                tid: carrier.map_or(0, |carrier| carrier.holder.tid),
                program: carrier.and_then(|carrier| carrier.program.clone()),
                since: carrier.map_or(Duration::ZERO, |carrier| carrier.since),
                row,
            }
        };
        state
            .sockets
            .rows_after(after)
            .take(most)
            .map(seen)
            .collect()
    }

    /// All sockets, [`PAGE`] by [`PAGE`].
    pub fn each_socket(&self, mut each: impl FnMut(Seen)) {
        let mut after = None;
        loop {
            let page = self.page(after, PAGE);
            let Some(last) = page.last() else { return };
            after = Some(last.row.id);
            page.into_iter().for_each(&mut each);
        }
    }

    /// Notes which program thread `tid` belongs to as that of a socket, for captures. Not under the lock: /proc is asked.
    pub fn learn_program(&self, socket: SocketId, tid: u32) {
        let program = crate::sys::task::program(tid).map(Arc::new);
        if let Some(carrier) = self.lock().carriers.get_mut(&socket) {
            carrier.program = program;
        }
    }

    /// Enters the network. A panic of an earlier holder ended its own call; the tables stay usable.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the lock of a network protects.
#[derive(Debug)]
pub struct State {
    /// The network's number.
    pub index: NetworkIndex,
    /// The socket model and, below it, the TCP/UDP engine.
    pub sockets: Sockets,
    /// One for every socket of the model.
    pub carriers: HashMap<SocketId, Carrier>,
    /// One for every flow that has an S.
    pub links: HashMap<FlowId, Link>,
    /// Flows that had more to move than their share. At most one entry a flow and turn.
    pub ready: VecDeque<FlowId>,
    /// Datagram sockets whose program had sent more than its share.
    pub ready_datagrams: VecDeque<SocketId>,
    /// The network was removed; its sockets fail.
    pub stopped: bool,
    /// Who captures its packets.
    pub captures: Captures,
    /// Who waits for what became of an echo request.
    pub pings: HashMap<PingId, oneshot::Sender<PingOutcome>>,
    /// Payload of sockets that are gone, for each container that runs.
    pub ended: HashMap<u64, Traffic>,
}

/// Sockets looked at under one hold of the lock.
pub const PAGE: usize = 256;

/// One socket as tables show it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What the model says.
    pub row: SocketRow,
    /// Container it belongs to.
    pub container: u64,
    /// Thread that used it last; 0: none has yet.
    pub tid: u32,
    /// Program that opened it, if somebody captured then.
    pub program: Option<Arc<Program>>,
    /// When it was made, since the Unix epoch.
    pub since: Duration,
}

/// A process and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Process.
    pub pid: u32,
    /// What it calls itself (proc(5), comm), lossily made text.
    pub name: String,
}

impl State {
    /// Shows a packet to those who capture.
    pub fn capture(&mut self, direction: Direction, packet: &[u8]) {
        let owners = self.sockets.owners(packet);
        let carriers = &self.carriers;
        let program = |socket: &SocketId| carriers.get(socket)?.program.clone();
        let label = |socket| {
            // Of a connection that nobody has accepted yet it is the listener's.
            let program = program(&socket).or_else(|| program(&carriers.get(&socket)?.origin?))?;
            Some(format!("{}[{}]", program.name, program.pid))
        };
        self.captures
            .packet(clock::unix(), direction, packet, owners, label);
    }

    /// Shows the local packets since the last time to those who capture, and gives away what they have so far.
    pub fn flush_captures(&mut self) {
        while let Some(packet) = self.sockets.stack_mut().poll_tap() {
            self.capture(Direction::Unsaid, &packet);
        }
        let lost = self.sockets.stack_mut().take_tap_lost();
        self.captures.lost(lost);
        self.captures.flush(clock::unix());
        if !self.captures.any() {
            self.sockets.stack_mut().set_tap(None);
        }
    }

    /// Local packets are copied from now on.
    pub fn tap(&mut self) {
        if self.captures.running() == 1 {
            self.sockets.stack_mut().set_tap(Some(TAP));
        }
    }

    /// Tells those who wait for it what became of echo requests.
    pub fn take_pongs(&mut self) {
        while let Some(pong) = self.sockets.stack_mut().poll_pong() {
            if let Some(asker) = self.pings.remove(&pong.id) {
                // It may have gone away.
                let _ = asker.send(pong.outcome);
            }
        }
    }

    /// A socket's listener.
    pub fn listening_mut(&mut self, socket: SocketId) -> Option<&mut Listening> {
        match self
            .carriers
            .get_mut(&socket)
            .map(|carrier| &mut carrier.role)
        {
            Some(Role::Listening(listening)) => Some(listening),
            Some(Role::Idle | Role::Connecting(_) | Role::Linked(_) | Role::Datagram(_)) | None => {
                None
            }
        }
    }

    /// A connection attempt that cannot be carried on: the socket is as before connect(2).
    pub fn give_up(&mut self, now: Instant, socket: SocketId) {
        let _ = self.sockets.connect(now, socket, ConnectTo::Unspecified);
        self.become_idle(now, socket);
    }

    /// Carries SO_SNDBUF and SO_RCVBUF of a stream to the kernel's buffers, as far as the supervisor holds them. True: A's
    /// send buffer is to be set now.
    pub fn apply_buffers(&mut self, socket: SocketId) -> bool {
        let (send, receive) = self.sockets.buffers(socket);
        match self
            .carriers
            .get_mut(&socket)
            .map(|carrier| &mut carrier.role)
        {
            Some(Role::Connecting(connecting)) => {
                // A's buffer is what plugs it: the new size comes when the plug goes.
                if let (Some((_, plug)), Some(send)) = (&mut connecting.plugged, send) {
                    plug.send_buffer = send / 2;
                }
                connecting.plugged.is_none() && send.is_some()
            }
            Some(Role::Linked(flow)) => {
                if let Some(link) = self.links.get_mut(flow) {
                    if receive.is_some() {
                        crate::sys::unix::set_send_buffer(link.s.as_fd(), receive);
                    }
                    if send.is_some() {
                        // What is left of it could fill the smaller buffer for ever.
                        link.unplug();
                    }
                }
                send.is_some()
            }
            Some(Role::Idle) => self.sockets.kind(socket) == Some(Kind::Stream) && send.is_some(),
            Some(Role::Listening(_) | Role::Datagram(_)) | None => false,
        }
    }

    /// Lets go of what the supervisor holds of a socket that goes on to exist.
    pub fn become_idle(&mut self, now: Instant, socket: SocketId) {
        let Some(carrier) = self.carriers.get_mut(&socket) else {
            return;
        };
        match std::mem::replace(&mut carrier.role, Role::Idle) {
            Role::Idle | Role::Connecting(_) | Role::Datagram(_) => {}
            Role::Linked(flow) => {
                self.links.remove(&flow);
            }
            Role::Listening(listening) => {
                self.reset_waiting(now, listening);
                // Those that wait in A, too: nobody can take them any more.
                let waiting: Vec<(SocketId, Option<FlowId>)> = self
                    .carriers
                    .iter()
                    .filter(|(_, c)| c.inode.is_none() && c.origin == Some(socket))
                    .map(|(&id, c)| match c.role {
                        Role::Linked(flow) => (id, Some(flow)),
                        Role::Idle
                        | Role::Connecting(_)
                        | Role::Listening(_)
                        | Role::Datagram(_) => (id, None),
                    })
                    .collect();
                for (id, flow) in waiting {
                    if let Some(flow) = flow {
                        self.links.remove(&flow);
                    }
                    self.carriers.remove(&id);
                    self.sockets.close(now, id, CloseHow::Reset);
                }
            }
        }
    }

    /// Connections no program has accepted, nor ever will.
    fn reset_waiting(&mut self, now: Instant, listening: Listening) {
        for (waiting, flow) in listening.overflow {
            self.links.remove(&flow);
            self.carriers.remove(&waiting);
            self.sockets.close(now, waiting, CloseHow::Reset);
        }
    }

    /// Forgets a socket whose last reference in any program is gone (or that never reached one).
    pub fn close(&mut self, now: Instant, registry: &Registry, socket: SocketId, how: CloseHow) {
        let Some(carrier) = self.carriers.remove(&socket) else {
            return;
        };
        if let Some(inode) = carrier.inode {
            registry.remove(inode, self.index, socket);
        }
        match carrier.role {
            Role::Idle | Role::Datagram(_) => {}
            Role::Connecting(connecting) => {
                self.links.remove(&connecting.flow);
            }
            Role::Linked(flow) => {
                self.links.remove(&flow);
            }
            Role::Listening(listening) => self.reset_waiting(now, listening),
        }
        if let Some(total) = self.ended.get_mut(&carrier.container) {
            *total += self.sockets.traffic(socket);
        }
        self.sockets.close(now, socket, how);
        // A burst of connections must not leave its memory behind.
        if self.carriers.capacity() > 1024 && self.carriers.len() * 8 < self.carriers.capacity() {
            self.carriers.shrink_to_fit();
            self.links.shrink_to_fit();
        }
    }
}

/// The kernel's side of one socket of the model.
#[derive(Debug)]
pub struct Carrier {
    /// Identity of A; None until an incoming connection is accepted.
    pub inode: Option<u64>,
    /// Where A was seen last. A hint: the inode decides.
    pub holder: Holder,
    /// Container that made it.
    pub container: u64,
    /// When it was made, since the Unix epoch.
    pub since: Duration,
    /// Program that opened it; learnt while somebody captures.
    pub program: Option<Arc<Program>>,
    /// The listener an incoming connection came through.
    pub origin: Option<SocketId>,
    /// When the kernel last said that A exists; asked now and then where nothing else tells.
    pub alive: Option<Instant>,
    /// shutdown(SHUT_RD) was called: a receive that would wait returns 0.
    pub shut_read: bool,
    /// shutdown(SHUT_WR) was called on a stream.
    pub shut_write: bool,
    /// A carries the error of a reset itself: who reads it there has taken it.
    pub reset_shown: bool,
    /// What the supervisor holds of it.
    pub role: Role,
}

/// A descriptor number in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Thread that used it last.
    pub tid: u32,
    /// Its number there.
    pub fd: i32,
}

/// What the supervisor holds of a socket.
#[derive(Debug)]
pub enum Role {
    /// Nothing: A is unconnected (fresh, bound), or its S has been closed.
    Idle,
    /// A connection attempt of the program.
    Connecting(Connecting),
    /// An established connection; its S is in [`State::links`].
    Linked(FlowId),
    /// A is a listening AF_UNIX socket.
    Listening(Listening),
    /// A datagram socket with a local port.
    Datagram(Arc<DatagramEnd>),
}

/// A connection attempt.
#[derive(Debug)]
pub struct Connecting {
    /// The flow.
    pub flow: FlowId,
    /// Set once the engine has decided.
    pub outcome: Option<Result<(), Errno>>,
    /// A is joined to this S and plugged: the program sees "in progress". None while a blocking call waits.
    pub plugged: Option<(OwnedFd, Plug)>,
}

/// A listener.
#[derive(Debug)]
pub struct Listening {
    /// The engine's listener.
    pub listener: ListenerId,
    /// The way to A; None while A is being made a listener.
    pub name: Option<Arc<Hidden>>,
    /// Connections that may wait to be accepted: the backlog and one.
    pub places: usize,
    /// Connections that wait in A. At `places` the engine is paused: Linux drops a SYN then.
    pub queued: usize,
    /// Established connections that came while there was no place; bounded by the engine's bound of half-open ones.
    pub overflow: VecDeque<(SocketId, FlowId)>,
    /// Held from "is a connection there" to accept: nobody else may take it in between, or accept would block.
    pub accepting: Arc<Mutex<()>>,
}

/// The supervisor's end of an established connection.
#[derive(Debug)]
pub struct Link {
    /// S. Non-blocking.
    pub s: OwnedFd,
    /// The socket it belongs to.
    pub socket: SocketId,
    /// S may have bytes, or the end, to read (edge-triggered: until EAGAIN).
    pub readable: bool,
    /// S may take bytes (until EAGAIN).
    pub writable: bool,
    /// The program's direction towards the network.
    pub outgoing: Outgoing,
    /// The peer's FIN was passed on by shutdown(S, WR).
    pub fin_delivered: bool,
    /// The program has called shutdown(SHUT_RD).
    pub shut_read: bool,
    /// Bytes of the plug that still lie in S before anything the program has sent. Taking them out would show the program
    /// a second writable edge; they go with its first data.
    pub plug: usize,
    /// A byte of ours is the last one in S, behind everything the program has sent before shutdown(SHUT_WR). It is never
    /// read: closing S with it makes A fail with ECONNRESET, when the peer resets, although A cannot be written to any more.
    pub marked: bool,
    /// What the program has sent, taken out of S in advance: goes to the engine before what is in S.
    pub stash: Vec<u8>,
    /// The program has sent with MSG_OOB: which byte that was is looked up before each read.
    pub urgent: bool,
    /// The peer has reset the connection; S is closed once what came before is delivered.
    pub reset: bool,
}

/// The program's sending direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing {
    /// Open.
    Open,
    /// shutdown(SHUT_WR) was called: the end of S's data is FIN, not close.
    ShutdownCalled,
    /// FIN has been queued.
    Finished,
}

impl Link {
    /// Takes the plug out of S.
    pub fn unplug(&mut self) {
        crate::sys::unix::drain(self.s.as_fd(), std::mem::take(&mut self.plug));
    }

    /// Takes everything of ours out of S, which is to be closed without the program seeing ECONNRESET.
    pub fn clean(&mut self) {
        self.unplug();
        if std::mem::take(&mut self.marked) {
            crate::sys::unix::drain(self.s.as_fd(), unread(&self.s));
        }
    }

    /// The program is about to send with MSG_OOB.
    pub fn expect_urgent(&mut self) {
        if !self.urgent {
            crate::sys::unix::set_oob_inline(self.s.as_fd(), true);
            self.urgent = true;
        }
    }

    /// Notes shutdown(SHUT_WR) and does it on A, with the mark before it. Under the network's lock, so that nobody reads S
    /// meanwhile; neither call can wait.
    pub fn shut_write(&mut self, a: BorrowedFd<'_>, direction: nix::sys::socket::Shutdown) {
        self.outgoing = Outgoing::ShutdownCalled;
        self.unplug();
        let before = unread(&self.s);
        let planted = crate::sys::unix::plant(a);
        let with_mark = unread(&self.s);
        let _ = nix::sys::socket::shutdown(a.as_raw_fd(), direction);
        if !planted {
            return;
        }
        if unread(&self.s) == before + 1 {
            self.marked = true;
            return;
        }
        // Another thread of the program was writing: the mark is not the last byte.
        self.stash = crate::sys::unix::take(self.s.as_fd(), unread(&self.s));
        if let Some(at) = with_mark.checked_sub(1).filter(|&at| at < self.stash.len()) {
            self.stash.remove(at);
        }
    }

    /// Everything the program has sent is with the engine: S shows nothing more of it, not even its end.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let ours = self.plug + usize::from(self.marked);
        self.outgoing == Outgoing::Finished && self.stash.is_empty() && unread(&self.s) <= ours
    }

    /// A new link: everything may be possible.
    #[must_use]
    pub fn new(s: OwnedFd, socket: SocketId) -> Self {
        Self {
            s,
            socket,
            readable: true,
            writable: true,
            outgoing: Outgoing::Open,
            fin_delivered: false,
            shut_read: false,
            plug: 0,
            marked: false,
            stash: Vec::new(),
            urgent: false,
            reset: false,
        }
    }
}

/// The supervisor's end of a datagram socket.
#[derive(Debug)]
pub struct DatagramEnd {
    /// S, connected to A's hidden name. Non-blocking.
    pub s: OwnedFd,
    /// A's name: the way back when S has gone away from it.
    pub a: Hidden,
    /// S's own name, once A was connected to it.
    pub name: Mutex<Option<Hidden>>,
    /// A carries an error that the model has: poll(2) shows it and a native call of the program fails with it, once. Changed
    /// under the network's lock.
    pub shown: AtomicBool,
    /// A native call has taken what A carried. What is left in the error queue is not shown again, or further native calls
    /// would fail. Changed under the network's lock.
    pub taken: AtomicBool,
    /// Serialises everything that takes a datagram out of A or puts one in. Taken before the network's lock; while that is
    /// held it is only tried.
    pub queue: Mutex<DatagramQueue>,
}

/// What of a datagram socket lies in the kernel.
#[derive(Debug, Default)]
pub struct DatagramQueue {
    /// What is known of everything that lies in A's queue: a datagram without its payload. None: nothing lies there, or the
    /// socket is connected and its program asks for nothing but the payload.
    pub in_kernel: Option<Datagram>,
    /// Taken from the model, not yet put into A, or taken out of A again: what lay there when the peer went, at most.
    pub held: VecDeque<Datagram>,
    /// The socket has a peer: A may queue deep.
    pub connected: bool,
    /// A is connected to S: native sends arrive in S, and S can show an error on A.
    pub joined: bool,
}

/// What an epoll token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The S of a socket.
    End(NetworkIndex, SocketId),
    /// The supervisor's end of a netlink socket.
    Netlink(u64),
    /// The overlay's UDP socket.
    Udp,
    /// Somebody has work for the data thread.
    Wake,
}

const INDEX_SHIFT: u32 = 48;
const ID_MASK: u64 = (1 << INDEX_SHIFT) - 1;
/// Indices no network has.
const OWN: u64 = 0xffff;
const NETLINK: u64 = 0xfffe;

impl Token {
    /// As epoll carries it. Socket numbers count up from 0: a million a second for eight years stay below 2^48.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        match self {
            Self::End(index, socket) => (u64::from(index.0) << INDEX_SHIFT) | (socket.0 & ID_MASK),
            Self::Netlink(number) => (NETLINK << INDEX_SHIFT) | (number & ID_MASK),
            Self::Udp => OWN << INDEX_SHIFT,
            Self::Wake => (OWN << INDEX_SHIFT) | 1,
        }
    }

    /// Back again.
    #[must_use]
    pub fn from_u64(token: u64) -> Self {
        let index = token >> INDEX_SHIFT;
        let id = token & ID_MASK;
        if index == OWN {
            return if id == 0 { Self::Udp } else { Self::Wake };
        }
        if index == NETLINK {
            return Self::Netlink(id);
        }
        let index = NetworkIndex(u32::try_from(index).unwrap_or(u32::MAX));
        Self::End(index, SocketId(id))
    }
}

/// Largest number of networks that have run in one supervisor: their indices must fit a token.
pub const MAX_NETWORKS: u32 = 0xfffd;

/// Unread bytes in `fd`, 0 if the kernel does not say.
#[must_use]
pub fn unread(fd: &OwnedFd) -> usize {
    crate::sys::ioctl::input_queue(fd.as_fd()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        for token in [
            Token::End(NetworkIndex(0), SocketId(0)),
            Token::End(NetworkIndex(MAX_NETWORKS), SocketId(ID_MASK)),
            Token::End(NetworkIndex(3), SocketId(u64::from(u32::MAX) + 9)),
            Token::Netlink(7),
            Token::Udp,
            Token::Wake,
        ] {
            assert_eq!(Token::from_u64(token.to_u64()), token);
        }
    }
}
