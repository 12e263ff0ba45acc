// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that wait, and everything else that touches a program outside its own trapped call. One thread per container, so
//! that a program which blocks it (its memory may be served by userfaultfd or FUSE) blocks only itself.
//!
//! A parked call holds A', as the kernel's own call would hold the file. It ends when its descriptor is ready, when the
//! engine has decided a connection, when its time-out has passed, when its thread dies, or when a signal hits it: a thread
//! in its first wait shows state `S`; one that a signal has really reached waits killably, `D`. Only then -ERESTARTSYS is
//! the answer, and the kernel runs the handler, stop or freezer and picks EINTR or restart.

use crate::clock;
use crate::container::Container;
use crate::network::{Holder, Network, Role};
use crate::node::Node;
use crate::sys::task;
use crate::trap::{self, Accept, Attempt, Call, NetlinkReceive, Receive, Send, Taken, Verdict};
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{CloseHow, SocketId};
use netcon_netstack::stack::FlowId;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, send};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A call that waits.
#[derive(Debug)]
pub struct Parked {
    /// The call.
    pub call: Call,
    /// When its SO_RCVTIMEO or SO_SNDTIMEO has passed. Set: a signal gives EINTR, never a restart (signal(7)).
    pub deadline: Option<Instant>,
    /// A'.
    pub a: OwnedFd,
    /// For what.
    pub waiting: Waiting,
}

/// What a parked call waits for.
#[derive(Debug)]
pub enum Waiting {
    /// The engine's decision on a connection.
    #[expect(missing_docs, reason = "named as elsewhere")]
    Connect {
        network: Arc<Network>,
        socket: SocketId,
        flow: FlowId,
        fd: i32,
        begun: bool,
        /// MSG_FASTOPEN: what is sent once it is there.
        then: Option<Send>,
    },
    /// A connection in a listener.
    Accept(Accept),
    /// Data.
    Receive(Receive),
    /// An answer from the kernel's place.
    Netlink(NetlinkReceive),
    /// Room.
    Send(Send),
}

/// Work for the thread.
#[derive(Debug)]
pub enum Message {
    /// A call is to wait.
    Park(Box<Parked>),
    /// The engine has decided a connection attempt.
    #[expect(missing_docs, reason = "named as elsewhere")]
    Outcome {
        network: Arc<Network>,
        socket: SocketId,
    },
    /// The peer has reset a connection: A is to fail with ECONNRESET once its data is read.
    #[expect(missing_docs, reason = "named as elsewhere")]
    Plant {
        inode: u64,
        holder: Holder,
        s: OwnedFd,
    },
    /// Something has happened that no descriptor tells of (an error of a datagram socket, a network that stopped): every call
    /// that waits looks again.
    Retry,
    /// Somebody wants to know the command line; told when it has been looked at.
    Look(oneshot::Sender<()>),
    /// The last task of the container is gone.
    End,
}

/// Where messages for the thread are left. Bounded by the number of threads and sockets of the container, and one look.
#[derive(Debug)]
pub struct Room {
    inbox: Mutex<Vec<Message>>,
    wake: EventFd,
    parked: AtomicUsize,
}

impl Room {
    /// An empty room.
    pub fn new() -> nix::Result<Self> {
        let wake =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self {
            inbox: Mutex::new(Vec::new()),
            wake,
            parked: AtomicUsize::new(0),
        })
    }

    /// Leaves a message.
    pub fn post(&self, message: Message) {
        self.inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
        // Only a full counter fails, and then it is awake.
        let _ = self.wake.write(1);
    }

    /// Calls that wait now.
    pub fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<Message> {
        let _ = self.wake.read();
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// First look at a parked thread's state after this long; later ones back off.
const FIRST_SAMPLE: Duration = Duration::from_millis(10);
/// Longest time between two looks at a call that waits for seconds.
const LAST_SAMPLE: Duration = Duration::from_millis(50);
/// The same once it has waited for [`LONG`]: hundreds of idle workers in accept(2) should cost next to nothing.
const IDLE_SAMPLE: Duration = Duration::from_millis(200);
/// A long wait.
const LONG: Duration = Duration::from_secs(5);
/// Token of the event fd; keys of parked calls count up from 1.
const WAKE: u64 = 0;
/// -ERESTARTSYS: the kernel decides between EINTR and a restart.
const ERESTARTSYS: Errno = Errno(512);

/// Serves the parked calls of `container` until it ends.
pub fn run(node: &Arc<Node>, container: &Arc<Container>) -> nix::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(
        &container.room.wake,
        EpollEvent::new(EpollFlags::EPOLLIN, WAKE),
    )?;
    let mut attendant = Attendant {
        node,
        container,
        epoll,
        parked: BTreeMap::new(),
        agenda: BTreeSet::new(),
        connects: BTreeMap::new(),
        next: WAKE + 1,
    };
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let timeout = attendant.timeout(clock::now());
        let n = match attendant.epoll.wait(&mut events, timeout) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error),
        };
        for event in &events[..n] {
            match event.data() {
                WAKE => {
                    for message in container.room.take() {
                        if !attendant.handle(message) {
                            return Ok(());
                        }
                    }
                }
                key => attendant.attempt(key),
            }
        }
        attendant.sample(clock::now());
        let waiting = attendant.parked.len();
        container.room.parked.store(waiting, Ordering::Relaxed);
    }
}

/// When a call is to be looked at that would be at `at`, had it no deadline.
fn next_look(parked: &Parked, at: Instant) -> Instant {
    parked.deadline.map_or(at, |deadline| deadline.min(at))
}

struct Entry {
    parked: Parked,
    /// When it is looked at again; its place in the agenda.
    due: Instant,
    interval: Duration,
    since: Instant,
}

struct Attendant<'a> {
    node: &'a Arc<Node>,
    container: &'a Arc<Container>,
    epoll: Epoll,
    parked: BTreeMap<u64, Entry>,
    /// Every parked call once, the next one first.
    agenda: BTreeSet<(Instant, u64)>,
    /// Those that wait for a connection, by socket.
    connects: BTreeMap<(u32, SocketId), Vec<u64>>,
    next: u64,
}

impl Attendant<'_> {
    fn timeout(&self, now: Instant) -> EpollTimeout {
        self.agenda.first().map_or(EpollTimeout::NONE, |&(at, _)| {
            // Rounded up, so that it is due when we wake.
            let wait = at.saturating_duration_since(now) + Duration::from_micros(999);
            EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::NONE)
        })
    }

    /// False: the container has ended.
    fn handle(&mut self, message: Message) -> bool {
        match message {
            Message::Park(parked) => self.park(*parked),
            Message::Outcome { network, socket } => self.outcome(&network, socket),
            Message::Plant { inode, holder, s } => {
                // Unread data in S when it closes makes A fail with ECONNRESET after what A still has to read.
                if let Some(a) = self.node.find_end(self.container.id, holder, inode) {
                    let _ = send(
                        a.as_raw_fd(),
                        b"\0",
                        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
                    );
                }
                drop(s);
            }
            Message::Retry => {
                let waiting: Vec<u64> = self.parked.keys().copied().collect();
                for key in waiting {
                    self.attempt(key);
                }
            }
            Message::Look(done) => {
                self.container.look_at_command(self.node);
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
            Message::End => return false,
        }
        true
    }

    fn park(&mut self, parked: Parked) {
        let key = self.next;
        self.next += 1;
        let wanted = match &parked.waiting {
            Waiting::Connect { .. } => None,
            Waiting::Accept(_) | Waiting::Receive(_) | Waiting::Netlink(_) => {
                Some(EpollFlags::EPOLLIN)
            }
            Waiting::Send(_) => Some(EpollFlags::EPOLLOUT),
        };
        if let Some(flags) = wanted
            && let Err(error) = self.epoll.add(&parked.a, EpollEvent::new(flags, key))
        {
            parked.call.answer(Verdict::Fail(trap::errno(error)));
            return;
        }
        if let Waiting::Connect {
            network, socket, ..
        } = &parked.waiting
        {
            let place = (network.index.0, *socket);
            self.connects.entry(place).or_default().push(key);
        }
        let since = clock::now();
        let due = next_look(&parked, since + FIRST_SAMPLE);
        self.agenda.insert((due, key));
        self.parked.insert(
            key,
            Entry {
                parked,
                due,
                interval: FIRST_SAMPLE,
                since,
            },
        );
        self.attempt(key);
    }

    fn outcome(&mut self, network: &Arc<Network>, socket: SocketId) {
        let place = (network.index.0, socket);
        let waiters = self.connects.get(&place).cloned().unwrap_or_default();
        if waiters.is_empty() {
            let _ = trap::finish_connect(self.node, network, socket, None);
        }
        for key in waiters {
            self.attempt(key);
        }
    }

    /// Tries again. A panic ends this call only.
    fn attempt(&mut self, key: u64) {
        if catch_unwind(AssertUnwindSafe(|| self.try_attempt(key))).is_err() {
            tracing::error!(
                container = self.container.id,
                "a call that waited failed inside the supervisor"
            );
            self.finish(key, Verdict::Fail(Errno::EIO));
        }
    }

    fn try_attempt(&mut self, key: u64) {
        let Some(entry) = self.parked.get_mut(&key) else {
            return;
        };
        let parked = &mut entry.parked;
        let attempt = match &mut parked.waiting {
            Waiting::Connect {
                network,
                socket,
                flow,
                fd,
                begun: _,
                then,
            } => {
                let outcome = match trap::finish_connect(
                    self.node,
                    network,
                    *socket,
                    Some((&parked.call, &parked.a, *fd)),
                ) {
                    Some(verdict) => Attempt::Over(verdict),
                    // Another waiter of the same attempt may have brought it home.
                    None => Self::shared_outcome(network, *socket, *flow),
                };
                match (outcome, then.take()) {
                    (Attempt::Over(Verdict::Return(_)), Some(send)) => {
                        let (socket, fd) = (*socket, *fd);
                        let network = Arc::clone(network);
                        return self.send_then(key, &network, socket, fd, send);
                    }
                    (outcome, unused) => {
                        *then = unused;
                        outcome
                    }
                }
            }
            Waiting::Accept(accept) => match accept.take(&parked.call, &parked.a) {
                Taken::Connection(end) => {
                    let (accept, call) = (accept.clone(), parked.call.clone());
                    // A' goes before the program hears of the connection.
                    self.finish(key, Verdict::Done);
                    call.answer(accept.deliver(self.node, self.container.id, &call, &end));
                    return;
                }
                Taken::Over(verdict) => Attempt::Over(verdict),
                Taken::Nothing => Attempt::WouldBlock,
            },
            Waiting::Receive(receive) => match receive.attempt(&parked.call, &parked.a) {
                // shutdown(SHUT_RD) ends what waits.
                Attempt::WouldBlock if receive.is_shut() => {
                    Attempt::Over(receive.given_up(&parked.call, &parked.a, Verdict::Return(0)))
                }
                attempt @ (Attempt::Over(_) | Attempt::WouldBlock) => attempt,
            },
            Waiting::Netlink(receive) => receive.attempt(&parked.call, &parked.a),
            Waiting::Send(send) => send.attempt(&parked.call, &parked.a),
        };
        if let Attempt::Over(verdict) = attempt {
            self.finish(key, verdict);
        }
    }

    /// The connection of a MSG_FASTOPEN is there: what the call carries is sent.
    fn send_then(
        &mut self,
        key: u64,
        network: &Network,
        socket: SocketId,
        fd: i32,
        mut send: Send,
    ) {
        self.forget_connect(network, socket, key);
        let inode = network
            .lock()
            .carriers
            .get(&socket)
            .and_then(|carrier| carrier.inode);
        let Some(entry) = self.parked.get_mut(&key) else {
            return;
        };
        let parked = &mut entry.parked;
        if let Some(inode) = inode
            && crate::sys::unix::inode(parked.a.as_fd()).ok() != Some(inode)
        {
            // The attempt has replaced the program's end.
            match task::duplicate(parked.call.tid, fd, inode) {
                Ok(a) => parked.a = a,
                Err(error) => {
                    return self.finish(key, Verdict::Fail(trap::io_errno(error)));
                }
            }
        }
        if let Attempt::Over(verdict) = send.attempt(&parked.call, &parked.a) {
            return self.finish(key, verdict);
        }
        let watched = self
            .epoll
            .add(&parked.a, EpollEvent::new(EpollFlags::EPOLLOUT, key));
        parked.waiting = Waiting::Send(send);
        if let Err(error) = watched {
            self.finish(key, Verdict::Fail(trap::errno(error)));
        }
    }

    /// A call does not wait for a connection any more.
    fn forget_connect(&mut self, network: &Network, socket: SocketId, key: u64) {
        let place = (network.index.0, socket);
        if let Some(waiters) = self.connects.get_mut(&place) {
            waiters.retain(|&waiter| waiter != key);
            if waiters.is_empty() {
                self.connects.remove(&place);
            }
        }
    }

    fn shared_outcome(network: &Network, socket: SocketId, flow: FlowId) -> Attempt {
        let mut state = network.lock();
        match state.carriers.get(&socket).map(|carrier| &carrier.role) {
            Some(Role::Linked(linked)) if *linked == flow => Attempt::Over(Verdict::Return(0)),
            Some(Role::Connecting(_)) => Attempt::WouldBlock,
            Some(Role::Idle | Role::Linked(_) | Role::Listening(_) | Role::Datagram(_)) | None => {
                let errno = state.sockets.take_error(socket);
                Attempt::Over(Verdict::Fail(errno.unwrap_or(Errno::ECONNABORTED)))
            }
        }
    }

    /// Looks at every call that is due: its thread, its deadline.
    fn sample(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.agenda.first() {
            if at > now {
                return;
            }
            self.agenda.remove(&(at, key));
            let Some(entry) = self.parked.get_mut(&key) else {
                continue;
            };
            if entry.parked.deadline.is_some_and(|d| d <= now) {
                self.expire(key);
                continue;
            }
            entry.due = next_look(&entry.parked, now + entry.interval);
            let longest = if now.saturating_duration_since(entry.since) < LONG {
                LAST_SAMPLE
            } else {
                IDLE_SAMPLE
            };
            entry.interval = (entry.interval * 2).min(longest);
            self.agenda.insert((entry.due, key));
            if !entry.parked.call.is_valid() {
                self.finish(key, Verdict::Done);
                continue;
            }
            if matches!(entry.parked.waiting, Waiting::Connect { .. }) {
                // Its socket may have been closed from outside: a network that was stopped.
                self.attempt(key);
            }
            let Some(entry) = self.parked.get_mut(&key) else {
                continue;
            };
            if task::state(entry.parked.call.tid) == Some(b'D') {
                self.interrupt(key);
            }
        }
    }

    fn interrupt(&mut self, key: u64) {
        let Some(entry) = self.parked.get(&key) else {
            return;
        };
        let parked = &entry.parked;
        if let Waiting::Connect {
            network,
            socket,
            fd,
            ..
        } = &parked.waiting
        {
            trap::interrupt_connect(self.node, &parked.call, network, *socket, &parked.a, *fd);
        }
        let interrupted = Verdict::Fail(if parked.deadline.is_some() {
            Errno::EINTR
        } else {
            ERESTARTSYS
        });
        let verdict = match &parked.waiting {
            // A partial count ends a send that a signal hits.
            Waiting::Send(send) if send.so_far().is_ok() => Verdict::from(send.so_far()),
            Waiting::Receive(receive) => receive.given_up(&parked.call, &parked.a, interrupted),
            Waiting::Connect { .. }
            | Waiting::Accept(_)
            | Waiting::Netlink(_)
            | Waiting::Send(_) => interrupted,
        };
        self.finish(key, verdict);
    }

    fn expire(&mut self, key: u64) {
        let Some(entry) = self.parked.get(&key) else {
            return;
        };
        let parked = &entry.parked;
        let verdict = match &parked.waiting {
            Waiting::Connect {
                network,
                socket,
                fd,
                begun,
                ..
            } => {
                trap::interrupt_connect(self.node, &parked.call, network, *socket, &parked.a, *fd);
                // An attempt of this call, or of an earlier one.
                Verdict::Fail(if *begun {
                    Errno::EINPROGRESS
                } else {
                    Errno::EALREADY
                })
            }
            Waiting::Send(send) => Verdict::from(send.so_far()),
            Waiting::Receive(receive) => {
                let otherwise = Verdict::Fail(Errno::EAGAIN);
                receive.given_up(&parked.call, &parked.a, otherwise)
            }
            Waiting::Accept(_) | Waiting::Netlink(_) => Verdict::Fail(Errno::EAGAIN),
        };
        self.finish(key, verdict);
    }

    fn finish(&mut self, key: u64, verdict: Verdict) {
        let Some(Entry { parked, due, .. }) = self.parked.remove(&key) else {
            return;
        };
        self.agenda.remove(&(due, key));
        if let Waiting::Connect {
            network, socket, ..
        } = &parked.waiting
        {
            self.forget_connect(network, *socket, key);
        }
        // Our duplicate's close does not remove it: the file lives on in the program.
        let _ = self.epoll.delete(&parked.a);
        let Parked {
            call, a, waiting, ..
        } = parked;
        // The duplicate goes first: the program may close the last reference the moment it runs again.
        drop(a);
        call.answer(verdict);
        if let (
            Waiting::Connect {
                network, socket, ..
            },
            Verdict::Done,
        ) = (waiting, verdict)
        {
            self.abandon(&network, socket);
        }
    }

    /// The caller of a connect died; if its socket died with it, the attempt ends now.
    fn abandon(&self, network: &Arc<Network>, socket: SocketId) {
        let inode = network
            .lock()
            .carriers
            .get(&socket)
            .and_then(|carrier| carrier.inode);
        if let Some(inode) = inode
            && !self.node.diag.exists(inode)
        {
            network
                .lock()
                .close(clock::now(), &self.node.registry, socket, CloseHow::Reset);
            self.node.data.wake();
        }
    }
}
