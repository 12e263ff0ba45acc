// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UDP and ICMP over an AF_UNIX datagram stand-in.
//!
//! A is bound to a hidden name and S connected to it, so that S can deliver. What lies in the queue of an unconnected
//! socket's A comes from one source, which is so known whoever reads it; the next source waits. A connected socket has one
//! source anyway; then A is connected to S too, and what the program sends natively arrives there.

use super::{OnSocket, errno};
use crate::clock;
use crate::network::{DatagramEnd, DatagramQueue, Network, Role, State, Token};
use crate::node::Node;
use crate::sys::{ioctl, unix};
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{Connect, ConnectTo, SendControl, SocketId};
use netcon_netstack::stack::{Datagram, Link};
use nix::errno::Errno as Kernel;
use nix::sys::socket::{MsgFlags, recv, send};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The kernel tells of a datagram that was taken while it still counts one byte for it; a datagram that waits, even an
/// empty one, counts hundreds.
const FREED: usize = 64;
/// Largest payload a socket sends: an ICMP message, or a packet with its header.
const MAX_PAYLOAD: usize = 65_535;

/// Makes S for a socket that has a local port, once.
pub(super) fn open_end(on: &OnSocket<'_>) -> Result<Arc<DatagramEnd>, Errno> {
    if let Some(end) = existing(&on.entry.network.lock(), on.entry.socket) {
        return Ok(end);
    }
    let a = on.duplicate()?;
    open_end_of(on.node, &on.entry.network, on.entry.socket, a.as_fd())
}

/// The same for a socket whose own end is at hand.
pub(super) fn open_end_of(
    node: &Node,
    network: &Network,
    socket: SocketId,
    a: BorrowedFd<'_>,
) -> Result<Arc<DatagramEnd>, Errno> {
    let s = unix::new(unix::End::Datagram, true).map_err(errno)?;
    let name = match unix::Hidden::bind(a, &node.folder) {
        Ok(name) => name,
        // Another thread was faster; its end serves both.
        Err(Kernel::EINVAL) => {
            return existing(&network.lock(), socket).ok_or(Errno::EINVAL);
        }
        Err(error) => return Err(errno(error)),
    };
    name.connect(s.as_fd()).map_err(errno)?;
    let end = Arc::new(DatagramEnd {
        s,
        a: name,
        name: Mutex::new(None),
        shown: AtomicBool::new(false),
        taken: AtomicBool::new(false),
        queue: Mutex::new(DatagramQueue::default()),
    });
    let mut state = network.lock();
    let token = Token::End(network.index, socket);
    node.data
        .watch(end.s.as_fd(), token)
        .map_err(super::io_errno)?;
    if let Some(carrier) = state.carriers.get_mut(&socket) {
        carrier.role = Role::Datagram(Arc::clone(&end));
    }
    let hears = state.sockets.hears_errors(socket);
    drop(state);
    if hears {
        join(node, a, &end)?;
    }
    push(&mut network.lock(), socket, &end);
    Ok(end)
}

/// Connects A to S: what the program sends natively arrives there, and S can show errors on A.
fn join(node: &Node, a: BorrowedFd<'_>, end: &DatagramEnd) -> Result<(), Errno> {
    let mut queue = lock(end);
    if queue.joined {
        return Ok(());
    }
    let mut name = end.name.lock().unwrap_or_else(PoisonError::into_inner);
    if name.is_none() {
        *name = Some(unix::Hidden::bind(end.s.as_fd(), &node.folder).map_err(errno)?);
    }
    if let Some(name) = name.as_ref() {
        name.connect(a).map_err(errno)?;
    }
    queue.joined = true;
    Ok(())
}

/// The program asks for errors from now on (IP_RECVERR).
pub(super) fn hear_errors(on: &OnSocket<'_>) -> Result<(), Errno> {
    let state = on.entry.network.lock();
    if !state.sockets.hears_errors(on.entry.socket) {
        return Ok(());
    }
    let end = existing(&state, on.entry.socket);
    drop(state);
    end.map_or(Ok(()), |end| join(on.node, on.duplicate()?.as_fd(), &end))
}

/// connect(2) on a datagram socket.
pub(super) fn connect(on: &OnSocket<'_>, to: ConnectTo) -> Result<(), Errno> {
    let before = {
        let state = on.entry.network.lock();
        let (local, peer) = (
            state.sockets.local_address(on.entry.socket),
            state.sockets.peer_address(on.entry.socket),
        );
        local.ok().zip(peer.ok())
    };
    let attempt = || {
        on.entry
            .network
            .lock()
            .sockets
            .connect(clock::now(), on.entry.socket, to)
    };
    let done = match attempt() {
        // No port is free: perhaps closed sockets hold some.
        Err(Errno::EAGAIN) => {
            on.node.sweep_network(&on.entry.network);
            attempt()?
        }
        done => done?,
    };
    let a = on.duplicate()?;
    match done {
        Connect::Dissolved(_) => {
            recall_on(on)?;
            // The queue's lock comes before the network's.
            let (end, keep) = {
                let state = on.entry.network.lock();
                let socket = on.entry.socket;
                // An error that A is to show needs S as its peer.
                let keep = state.sockets.hears_errors(socket) || state.sockets.shows_error(socket);
                (existing(&state, socket), keep)
            };
            if let Some(end) = end {
                let mut queue = lock(&end);
                queue.connected = false;
                // Its source is known for each from now on; and the kernel throws away what waits in a socket that leaves
                // its peer.
                take_back(&a, &mut queue, before);
                if !keep {
                    unix::disconnect(a.as_fd()).map_err(errno)?;
                    queue.joined = false;
                }
                drop(queue);
                // What arrived while the queue was ours.
                push(&mut on.entry.network.lock(), on.entry.socket, &end);
            }
            Ok(())
        }
        Connect::Done | Connect::Started(_) | Connect::InProgress(_) => {
            let end = open_end(on)?;
            join(on.node, a.as_fd(), &end)?;
            lock(&end).connected = true;
            // What arrived while the queue was ours.
            push(&mut on.entry.network.lock(), on.entry.socket, &end);
            Ok(())
        }
    }
}

/// Takes what waits in A out of it: it comes back with the next push. `ends`: of a connected socket, its address and its peer.
fn take_back(a: &OwnedFd, queue: &mut DatagramQueue, ends: Option<(SocketAddr, SocketAddr)>) {
    let known = queue.in_kernel.take().or_else(|| {
        ends.map(|(to, from)| Datagram {
            from,
            to,
            hop_limit: 64,
            traffic_class: 0,
            dropped: 0,
            link: if from.ip().is_loopback() || from.ip() == to.ip() {
                Link::Loopback
            } else {
                Link::Overlay
            },
            at: None,
            payload: Vec::new(),
        })
    });
    let Some(known) = known else { return };
    let mut payload = vec![0; MAX_PAYLOAD + 1];
    let mut taken = VecDeque::new();
    while let Ok(n) = recv(a.as_raw_fd(), &mut payload, MsgFlags::MSG_DONTWAIT) {
        taken.push_back(Datagram {
            payload: payload[..n].to_vec(),
            ..known.clone()
        });
    }
    taken.append(&mut queue.held);
    queue.held = taken;
}

/// Sends one datagram of a trapped call, after what the program has sent natively.
pub(super) fn transmit(
    on: &OnSocket<'_>,
    to: Option<SocketAddr>,
    payload: &[u8],
    control: &SendControl,
) -> Result<usize, Errno> {
    let socket = on.entry.socket;
    let mut state = on.entry.network.lock();
    let end = existing(&state, socket);
    if end
        .as_ref()
        .is_some_and(|end| end.shown.load(Ordering::Relaxed))
    {
        drop(state);
        recall_on(on)?;
        state = on.entry.network.lock();
    }
    if let Some(end) = &end
        && unix::is_readable(end.s.as_fd())
    {
        let mut scratch = vec![0; MAX_PAYLOAD + 1];
        // Bounded: another process may go on sending.
        for _ in 0..8 {
            if !take_sent(&mut state, socket, end, &mut scratch) {
                break;
            }
        }
    }
    let now = clock::now();
    let mut sent = state
        .sockets
        .udp_send_with(now, socket, to, payload, control);
    if let Some(end) = &end
        && state.sockets.shows_error(socket)
    {
        push(&mut state, socket, end);
    }
    drop(state);
    if end.is_none() && sent == Err(Errno::EAGAIN) {
        // No port is free: perhaps closed sockets hold some.
        on.node.sweep_network(&on.entry.network);
        let mut state = on.entry.network.lock();
        sent = state
            .sockets
            .udp_send_with(clock::now(), socket, to, payload, control);
    }
    if end.is_none() {
        // The send has bound it: answers must reach A.
        open_end(on)?;
    }
    on.node.data.wake();
    sent
}

/// Takes what the program has sent natively out of S, in order. At most a fair share at a time; true if more may wait.
pub fn take_sent(
    state: &mut State,
    socket: SocketId,
    end: &DatagramEnd,
    scratch: &mut [u8],
) -> bool {
    for _ in 0..64 {
        match recv(end.s.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT) {
            Ok(n) => {
                if end.shown.swap(false, Ordering::Relaxed) {
                    // It could not have been sent while A carried an error.
                    state.sockets.take_error(socket);
                    end.taken.store(true, Ordering::Relaxed);
                }
                match state
                    .sockets
                    .udp_send(clock::now(), socket, None, &scratch[..n])
                {
                    // A full queue drops it, without a word (udp(7)).
                    Ok(_) | Err(Errno::ENOBUFS) => {}
                    // The native send has already returned; the error is the next call's, as for an ICMP error.
                    Err(errno) => state.sockets.set_error(socket, errno),
                }
            }
            Err(Kernel::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Puts waiting datagrams into A, as many as its rule allows.
pub fn push(state: &mut State, socket: SocketId, end: &DatagramEnd) {
    // A trapped recv holds the queue; it pushes itself when it is done.
    let Ok(mut queue) = end.queue.try_lock() else {
        return;
    };
    push_locked(state, socket, end, &mut queue);
}

pub(super) fn push_locked(
    state: &mut State,
    socket: SocketId,
    end: &DatagramEnd,
    queue: &mut DatagramQueue,
) {
    fill(state, socket, end, queue);
    if queue.joined {
        show(state, socket, end);
    }
}

/// [`recall`] for a call of its own.
pub(super) fn recall_on(on: &OnSocket<'_>) -> Result<(), Errno> {
    let end = existing(&on.entry.network.lock(), on.entry.socket);
    let Some(end) = end.filter(|end| end.shown.load(Ordering::Relaxed)) else {
        return Ok(());
    };
    let a = on.duplicate()?;
    let mut state = on.entry.network.lock();
    recall(&mut state, on.entry.socket, &end, a.as_fd());
    Ok(())
}

/// After such a call: what is left is shown again.
pub(super) fn show_again(on: &OnSocket<'_>) {
    let mut state = on.entry.network.lock();
    if state.sockets.shows_error(on.entry.socket)
        && let Some(end) = existing(&state, on.entry.socket)
    {
        push(&mut state, on.entry.socket, &end);
    }
}

/// Before a call that reports or takes errors: what A shows is taken from it. If a native call of the program was quicker,
/// nothing is pending any more.
pub(super) fn recall(state: &mut State, socket: SocketId, end: &DatagramEnd, a: BorrowedFd<'_>) {
    if end.shown.swap(false, Ordering::Relaxed) && !unix::has_error(a) {
        state.sockets.take_error(socket);
        end.taken.store(true, Ordering::Relaxed);
    }
}

/// Makes A show the error that the model has: a datagram socket that goes away from its peer with something unread leaves
/// ECONNRESET there. S takes what the program has sent, sends itself a byte, and goes.
fn show(state: &mut State, socket: SocketId, end: &DatagramEnd) {
    let pending = state.sockets.has_pending_error(socket);
    if pending {
        end.taken.store(false, Ordering::Relaxed);
    }
    let wanted = pending || state.sockets.shows_error(socket) && !end.taken.load(Ordering::Relaxed);
    if !wanted || end.shown.load(Ordering::Relaxed) {
        return;
    }
    let mut scratch = vec![0; MAX_PAYLOAD + 1];
    take_sent(state, socket, end, &mut scratch);
    let name = end.name.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(name) = name.as_ref() else { return };
    let s = end.s.as_fd();
    let raised = unix::disconnect(s)
        .and_then(|()| name.send(s, b"\0"))
        .and_then(|()| end.a.connect(s))
        .and_then(|()| unix::disconnect(s))
        .is_ok();
    // Fails only when A is gone; the sweep closes the socket.
    if end.a.connect(s).is_ok() && raised {
        end.shown.store(true, Ordering::Relaxed);
    }
}

fn fill(state: &mut State, socket: SocketId, end: &DatagramEnd, queue: &mut DatagramQueue) {
    loop {
        if queue.in_kernel.is_some() && ioctl::output_queue(end.s.as_fd()).unwrap_or(0) <= FREED {
            queue.in_kernel = None;
        }
        let Some(datagram) = queue
            .held
            .pop_front()
            .or_else(|| state.sockets.udp_recv(socket))
        else {
            return;
        };
        let known = described(&datagram);
        if queue
            .in_kernel
            .as_ref()
            .is_some_and(|queued| *queued != known)
        {
            queue.held.push_front(datagram);
            return;
        }
        match send(
            end.s.as_raw_fd(),
            &datagram.payload,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        ) {
            Ok(_) => {
                let told = !queue.connected
                    || state.sockets.wants_control(socket)
                    || state.sockets.tells_sources(socket);
                queue.in_kernel = told.then_some(known);
            }
            Err(Kernel::EAGAIN | Kernel::ENOBUFS | Kernel::EINTR) => {
                queue.held.push_front(datagram);
                return;
            }
            // A is gone; the sweep closes the socket.
            Err(_) => return,
        }
    }
}

/// A datagram without its payload.
fn described(datagram: &Datagram) -> Datagram {
    Datagram {
        payload: Vec::new(),
        ..*datagram
    }
}

/// The end of a socket that has one.
pub(super) fn existing(state: &State, socket: SocketId) -> Option<Arc<DatagramEnd>> {
    match state.carriers.get(&socket).map(|carrier| &carrier.role) {
        Some(Role::Datagram(end)) => Some(Arc::clone(end)),
        Some(Role::Idle | Role::Connecting(_) | Role::Linked(_) | Role::Listening(_)) | None => {
            None
        }
    }
}

pub(super) fn lock(end: &DatagramEnd) -> std::sync::MutexGuard<'_, DatagramQueue> {
    end.queue.lock().unwrap_or_else(PoisonError::into_inner)
}
