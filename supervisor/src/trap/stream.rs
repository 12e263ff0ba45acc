// SPDX-License-Identifier: Apache-2.0 OR MIT
//! listen, connect and shutdown on TCP, and the joining of A and S.
//!
//! A is joined to an S only when a connection is in progress or established, so a socket that has not got so far polls
//! and fails as TCP does. While a non-blocking attempt is in progress A is *plugged* (not writable); its end shows as one
//! clean edge. A blocking attempt leaves A alone until it succeeds, so that a retry after a failure just works.

use super::address::{self, Address};
use super::{Call, OnSocket, Send, Verdict, datagram, errno, int, io_errno, names, transfer};
use crate::clock;
use crate::network::{Connecting, Link, Listening, Network, Outgoing, Role, Token};
use crate::node::Node;
use crate::parked::{Parked, Waiting};
use crate::registry::Entry;
use crate::sys::{notify, task, unix};
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{
    BindError, CloseHow, Connect, ConnectTo, Kind, Listen, Shutdown, SocketId,
};
use netcon_netstack::stack::FlowId;
use nix::sys::socket::Shutdown as Direction;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

/// listen(2): A itself becomes a listening AF_UNIX socket; readiness, backlog and wake-ups are the kernel's.
pub(super) fn listen(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    Verdict::from(try_listen(on, int(args[1])).map(|()| 0))
}

fn try_listen(on: &OnSocket<'_>, backlog: i32) -> Result<(), Errno> {
    let network = &on.entry.network;
    let socket = on.entry.socket;
    let now = clock::now();
    let mut started = network.lock().sockets.listen(now, socket, backlog);
    if let Err(BindError::InUse { holders }) = &started
        && names::release_dead(on, holders)
    {
        started = network.lock().sockets.listen(now, socket, backlog);
    }
    let started = started.map_err(|error| match error {
        BindError::InUse { .. } => Errno::EADDRINUSE,
        BindError::Errno(errno) => errno,
    })?;
    // Linux takes it as unsigned and caps it at net.core.somaxconn.
    let backlog = if (0..=SOMAXCONN).contains(&backlog) {
        backlog
    } else {
        SOMAXCONN
    };
    // Linux lets one more wait.
    let places = usize::try_from(backlog).unwrap_or(0) + 1;
    let a = on.duplicate()?;
    match started {
        Listen::Updated(_) => {
            unix::set_listening(a.as_fd(), backlog).map_err(errno)?;
            let mut state = network.lock();
            if let Some(listening) = state.listening_mut(socket) {
                listening.places = places;
            }
            state.hand_over_waiting(on.node, network, socket);
            return Ok(());
        }
        Listen::Started(listener) => {
            let listening = Listening {
                listener,
                name: None,
                places,
                queued: 0,
                overflow: VecDeque::new(),
                accepting: Arc::new(Mutex::new(())),
            };
            if let Some(carrier) = network.lock().carriers.get_mut(&socket) {
                carrier.role = Role::Listening(listening);
            }
        }
    }
    let (name, a) = match unix::Hidden::bind(a.as_fd(), &on.node.folder) {
        // It listened before and was shut down.
        Err(nix::errno::Errno::EINVAL) => {
            let fresh = renew(on.node, on.call, network, socket, &a, on.fd)?;
            (unix::Hidden::bind(fresh.as_fd(), &on.node.folder), fresh)
        }
        bound => (bound, a),
    };
    let name = name.map_err(errno)?;
    unix::set_listening(a.as_fd(), backlog).map_err(errno)?;
    let mut state = network.lock();
    if let Some(listening) = state.listening_mut(socket) {
        listening.name = Some(Arc::new(name));
    }
    state.hand_over_waiting(on.node, network, socket);
    Ok(())
}

/// A send buffer of so many bytes is writable although the plug still lies in S.
const ROOM_BESIDE_PLUG: usize = 65_536;
/// net.core.somaxconn.
const SOMAXCONN: i32 = 4096;

/// connect(2).
pub(super) fn connect(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    match destination(on, args[1], args[2]) {
        Ok(to) => start(on, to, false, None),
        Err(errno) => Verdict::Fail(errno),
    }
}

/// sendto(2) and sendmsg(2) with MSG_FASTOPEN on a stream: connect, then send, in one call (tcp(7)). No peer has ever granted a
/// cookie, so the data follows the handshake, and a call that does not wait sends nothing yet.
pub(super) fn fast_open(
    on: &OnSocket<'_>,
    address: u64,
    length: u64,
    flags: i32,
    send: Send,
) -> Verdict {
    let connected = {
        let state = on.entry.network.lock();
        let role = state.carriers.get(&on.entry.socket).map(|c| &c.role);
        matches!(role, Some(Role::Linked(_) | Role::Listening(_)))
    };
    let to = match address {
        0 if connected => Err(Errno::EISCONN),
        0 => Err(Errno::EINVAL),
        _ => destination(on, address, length),
    };
    match to {
        Ok(ConnectTo::Unspecified) => Verdict::Fail(Errno::EOPNOTSUPP),
        Ok(to) => start(on, to, flags & libc::MSG_DONTWAIT != 0, Some(send)),
        Err(errno) => Verdict::Fail(errno),
    }
}

/// Reads the address of connect(2).
fn destination(on: &OnSocket<'_>, address: u64, length: u64) -> Result<ConnectTo, Errno> {
    match address::read(on.call, address, length)? {
        Address::Internet(address) => {
            let stream =
                on.entry.network.lock().sockets.kind(on.entry.socket) == Some(Kind::Stream);
            match address::check_family(on, address, address::is_v6_long(length)) {
                Err(errno) if stream => Ok(ConnectTo::Unusable(errno)),
                Ok(()) | Err(_) => Ok(ConnectTo::Address(address)),
            }
        }
        Address::Unspecified(_) => Ok(ConnectTo::Unspecified),
        // Without a family nothing else is looked at.
        Address::Short if length < 2 => Err(Errno::EINVAL),
        Address::Short => Ok(ConnectTo::Unusable(Errno::EINVAL)),
        Address::Foreign => Ok(ConnectTo::Unusable(Errno::EAFNOSUPPORT)),
    }
}

/// `at_once`: does not wait even if the socket blocks. `then`: what is sent when the connection is there.
fn start(on: &OnSocket<'_>, to: ConnectTo, at_once: bool, then: Option<Send>) -> Verdict {
    let network = &on.entry.network;
    let socket = on.entry.socket;
    if network.lock().sockets.kind(socket) == Some(Kind::Datagram) {
        return Verdict::from(datagram::connect(on, to).map(|()| 0));
    }
    let a = match on.duplicate() {
        Ok(a) => a,
        Err(errno) => return Verdict::Fail(errno),
    };
    if let ConnectTo::Address(address) = to {
        on.node.release_dead_listener(network, address);
    }
    let nonblocking = at_once || unix::is_nonblocking(a.as_fd());
    let mut begun = true;
    let mut state = network.lock();
    let flow = match state.sockets.connect(clock::now(), socket, to) {
        Err(errno) => return Verdict::Fail(errno),
        Ok(Connect::Done) => {
            drop(state);
            return match then {
                Some(send) => transfer::run(on, send, a, nonblocking),
                None => Verdict::Return(0),
            };
        }
        Ok(Connect::Dissolved(flow)) => {
            // Dropping S hangs A up; a new attempt renews A.
            if let Some(flow) = flow {
                state.links.remove(&flow);
            }
            state.become_idle(clock::now(), socket);
            return Verdict::Return(0);
        }
        Ok(Connect::InProgress(flow)) => {
            if nonblocking {
                return Verdict::Fail(Errno::EALREADY);
            }
            begun = false;
            flow
        }
        Ok(Connect::Started(flow)) => {
            if let Some(carrier) = state.carriers.get_mut(&socket) {
                carrier.role = Role::Connecting(Connecting {
                    flow,
                    outcome: None,
                    plugged: None,
                });
            }
            drop(state);
            on.node.data.wake();
            if nonblocking {
                return plug(on.node, on.call, network, socket, &a, on.fd);
            }
            flow
        }
    };
    let limit = unix::send_timeout(a.as_fd());
    on.container.park(Parked {
        call: on.call.clone(),
        deadline: limit.map(|limit| clock::now() + limit),
        a,
        waiting: Waiting::Connect {
            network: Arc::clone(network),
            socket,
            flow,
            fd: on.fd,
            begun,
            then,
        },
    });
    Verdict::Done
}

/// Shows the program an attempt in progress: A joined and plugged. EINPROGRESS.
fn plug(
    node: &Arc<Node>,
    call: &Call,
    network: &Arc<Network>,
    socket: SocketId,
    a: &OwnedFd,
    fd: i32,
) -> Verdict {
    let plugged = join(node, call, network, socket, a, fd).and_then(|(s, renewed)| {
        let plug = unix::plug(renewed.as_ref().unwrap_or(a).as_fd()).map_err(errno)?;
        Ok((s, plug))
    });
    let mut state = network.lock();
    let plugged = match plugged {
        Ok(plugged) => plugged,
        Err(errno) => {
            state.give_up(clock::now(), socket);
            return Verdict::Fail(errno);
        }
    };
    let mut decided = false;
    if let Some(carrier) = state.carriers.get_mut(&socket)
        && let Role::Connecting(connecting) = &mut carrier.role
    {
        // So that a close while the attempt lasts is noticed.
        let _ = node
            .data
            .watch(plugged.0.as_fd(), Token::End(network.index, socket));
        connecting.plugged = Some(plugged);
        decided = connecting.outcome.is_some();
    }
    drop(state);
    if decided {
        finish_connect(node, network, socket, None);
    }
    Verdict::Fail(Errno::EINPROGRESS)
}

/// Joins A to a new S. After a failed attempt A is a dead AF_UNIX connection (EISCONN), after listening a dead listener
/// (EINVAL), which cannot be joined again: the program's descriptor is then replaced by a fresh one, which is given back too.
fn join(
    node: &Arc<Node>,
    call: &Call,
    network: &Arc<Network>,
    socket: SocketId,
    a: &OwnedFd,
    fd: i32,
) -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
    match node.join(a.as_fd()) {
        Err(nix::errno::Errno::EISCONN | nix::errno::Errno::EINVAL) => {}
        result => return result.map(|s| (s, None)).map_err(errno),
    }
    let fresh = renew(node, call, network, socket, a, fd)?;
    let s = node.join(fresh.as_fd()).map_err(errno)?;
    Ok((s, Some(fresh)))
}

/// Replaces the program's end, which AF_UNIX cannot bring back to its beginning, by a fresh one under the same number.
/// Other descriptors of the old one stay behind.
fn renew(
    node: &Arc<Node>,
    call: &Call,
    network: &Arc<Network>,
    socket: SocketId,
    a: &OwnedFd,
    fd: i32,
) -> Result<OwnedFd, Errno> {
    if task::socket_inode(call.tid, fd).ok().flatten() != unix::inode(a.as_fd()).ok() {
        // Another thread has closed it meanwhile; the number may be another file's.
        return Err(Errno::EBADF);
    }
    let fresh = unix::new(unix::End::Stream, unix::is_nonblocking(a.as_fd())).map_err(errno)?;
    unix::copy_options(a.as_fd(), fresh.as_fd());
    let inode = unix::inode(fresh.as_fd()).map_err(io_errno)?;
    let number = u32::try_from(fd).map_err(|_| Errno::EBADF)?;
    let cloexec = task::is_cloexec(call.tid, fd);
    {
        let mut state = network.lock();
        let index = state.index;
        if let Some(carrier) = state.carriers.get_mut(&socket)
            && let Some(old) = carrier.inode.replace(inode)
        {
            node.registry.remove(old, index, socket);
        }
    }
    node.adopt(
        inode,
        Entry {
            network: Arc::clone(network),
            socket,
        },
    );
    notify::replace(call.notify(), call.id, fresh.as_fd(), number, cloexec).map_err(io_errno)?;
    Ok(fresh)
}

/// Brings the outcome of an attempt to the program, if it is known. `waiter`: the blocking call that waits for it.
/// Gives what that call returns.
pub fn finish_connect(
    node: &Arc<Node>,
    network: &Arc<Network>,
    socket: SocketId,
    waiter: Option<(&Call, &OwnedFd, i32)>,
) -> Option<Verdict> {
    let mut state = network.lock();
    let carrier = state.carriers.get_mut(&socket)?;
    let Role::Connecting(connecting) = &mut carrier.role else {
        return None;
    };
    let outcome = connecting.outcome?;
    let flow = connecting.flow;
    if connecting.plugged.is_none() && waiter.is_none() {
        // The call that plugs, or that is about to wait, comes back here.
        return None;
    }
    let plugged = connecting.plugged.take();
    match outcome {
        Err(errno) => {
            carrier.role = Role::Idle;
            if waiter.is_some() {
                // Reported here, so not by SO_ERROR again.
                let _ = state.sockets.connect_answer(socket);
            }
            drop(state);
            // S closed with the plug unread: A polls as a refused connection does.
            drop(plugged);
            Some(Verdict::Fail(errno))
        }
        Ok(()) => {
            let (holder, inode, container) = (carrier.holder, carrier.inode, carrier.container);
            carrier.role = Role::Linked(flow);
            if waiter.is_some() {
                // This call reports the success: the next one is EISCONN.
                let _ = state.sockets.connect_answer(socket);
            }
            drop(state);
            let joined = match (plugged, waiter) {
                (Some((s, plug)), waiter) => {
                    // The link first: A becomes writable only when somebody reads S.
                    attach(node, network, socket, flow, s, plug.bytes);
                    let found = match waiter {
                        Some((_, a, _)) => a.try_clone().ok(),
                        None => inode.and_then(|inode| node.find_end(container, holder, inode)),
                    };
                    let restored = found.is_some_and(|a| unix::restore(a.as_fd(), plug).is_ok());
                    if (!restored || plug.send_buffer < ROOM_BESIDE_PLUG)
                        && let Some(link) = network.lock().links.get_mut(&flow)
                    {
                        // Its buffer is small, but it is writable.
                        link.unplug();
                    }
                    Ok(())
                }
                (None, Some((call, a, fd))) => join(node, call, network, socket, a, fd)
                    .map(|(s, _)| attach(node, network, socket, flow, s, 0)),
                (None, None) => Err(Errno::EIO),
            };
            Some(Verdict::from(joined.map(|()| 0).inspect_err(|_| {
                network.lock().give_up(clock::now(), socket);
            })))
        }
    }
}

/// A signal interrupts a blocking attempt, which goes on: from now on the program sees it as "in progress".
pub fn interrupt_connect(
    node: &Arc<Node>,
    call: &Call,
    network: &Arc<Network>,
    socket: SocketId,
    a: &OwnedFd,
    fd: i32,
) {
    let waits = matches!(
        network
            .lock()
            .carriers
            .get(&socket)
            .map(|carrier| &carrier.role),
        Some(Role::Connecting(Connecting { plugged: None, .. }))
    );
    if waits {
        let _ = plug(node, call, network, socket, a, fd);
    }
}

/// Connects an S to its flow: the data thread serves both from now on.
pub fn attach(
    node: &Arc<Node>,
    network: &Arc<Network>,
    socket: SocketId,
    flow: FlowId,
    s: OwnedFd,
    plug: usize,
) {
    let mut state = network.lock();
    let expected = state
        .carriers
        .get(&socket)
        .is_some_and(|c| matches!(c.role, Role::Linked(f) if f == flow));
    if !expected {
        // Ended meanwhile: dropping S hangs A up.
        return;
    }
    // Under the lock: the first event finds the link.
    match node
        .data
        .watch(s.as_fd(), Token::End(network.index, socket))
    {
        Ok(()) => {
            let mut link = Link::new(s, socket);
            link.plug = plug;
            state.link(flow, link);
            node.data.wake();
        }
        Err(error) => {
            tracing::warn!(%error, "connection given up: its end cannot be watched");
            state.close(clock::now(), &node.registry, socket, CloseHow::Reset);
        }
    }
}

/// shutdown(2): the model, then the same on A, whose readiness follows.
pub(super) fn shutdown(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    Verdict::from(try_shutdown(on, int(args[1])).map(|()| 0))
}

fn try_shutdown(on: &OnSocket<'_>, how: i32) -> Result<(), Errno> {
    let a = on.duplicate()?;
    let network = &on.entry.network;
    let socket = on.entry.socket;
    let mut guard = network.lock();
    let state = &mut *guard;
    let done = state.sockets.shutdown(clock::now(), socket, how);
    if state.sockets.kind(socket) == Some(Kind::Datagram) {
        // Also where Linux says ENOTCONN it wakes those who wait (udp(7)).
        if how != libc::SHUT_WR
            && done != Err(Errno::EINVAL)
            && let Some(carrier) = state.carriers.get_mut(&socket)
        {
            carrier.shut_read = true;
        }
        drop(guard);
        if let Some(direction) = direction(how) {
            let _ = nix::sys::socket::shutdown(a.as_raw_fd(), direction);
        }
        return done.map(drop);
    }
    let direction = match done? {
        Shutdown::Ignored => return Ok(()),
        // The attempt is given up: S closes, A hangs up. A listener takes what waits with it.
        Shutdown::Aborted(_) | Shutdown::Listener(_) => {
            state.become_idle(clock::now(), socket);
            Some(Direction::Both)
        }
        Shutdown::Read | Shutdown::Write | Shutdown::Both => {
            let mut done = false;
            if let Some(carrier) = state.carriers.get_mut(&socket) {
                carrier.shut_read |= how != libc::SHUT_WR;
                carrier.shut_write |= how != libc::SHUT_RD;
            }
            if let Some(Role::Linked(flow)) = state.carriers.get(&socket).map(|c| &c.role)
                && let Some(link) = state.links.get_mut(flow)
            {
                link.shut_read |= how != libc::SHUT_WR;
                if let Some(direction) = direction(how)
                    && how != libc::SHUT_RD
                    && link.outgoing == Outgoing::Open
                {
                    link.shut_write(a.as_fd(), direction);
                    done = true;
                }
            }
            direction(how).filter(|_| !done)
        }
    };
    drop(guard);
    if let Some(direction) = direction {
        let _ = nix::sys::socket::shutdown(a.as_raw_fd(), direction);
    }
    // What lies in S, and its end, go out at once.
    let mut state = network.lock();
    if let Some(Role::Linked(flow)) = state.carriers.get(&socket).map(|carrier| &carrier.role) {
        let flow = *flow;
        if let Some(link) = state.links.get_mut(&flow) {
            link.readable = true;
            state.ready.push_back(flow);
        }
    }
    drop(state);
    on.node.data.wake();
    Ok(())
}

fn direction(how: i32) -> Option<Direction> {
    match how {
        libc::SHUT_RD => Some(Direction::Read),
        libc::SHUT_WR => Some(Direction::Write),
        libc::SHUT_RDWR => Some(Direction::Both),
        _ => None,
    }
}
