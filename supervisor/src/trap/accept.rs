// SPDX-License-Identifier: Apache-2.0 OR MIT
//! accept(2) and accept4(2): the connection waits in A, a listening AF_UNIX socket; it is taken there, named, injected.

use super::{Call, OnSocket, Verdict, address, errno, io_errno, names};
use crate::clock;
use crate::network::{Holder, Network, Role};
use crate::node::Node;
use crate::parked::{Parked, Waiting};
use crate::registry::Entry;
use crate::sys::{notify, unix};
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{CloseHow, Kind, SocketId};
use netcon_netstack::stack::FlowId;
use nix::sys::socket::{MsgFlags, send};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// An accept that may have to wait.
#[derive(Debug, Clone)]
pub struct Accept {
    network: Arc<Network>,
    listener: SocketId,
    accepting: Arc<Mutex<()>>,
    address: u64,
    length: u64,
    nonblocking: bool,
    cloexec: bool,
}

pub(super) fn accept(on: &OnSocket<'_>, address: u64, length: u64, flags: i32) -> Verdict {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Verdict::Fail(Errno::EINVAL);
    }
    let network = &on.entry.network;
    if network.lock().sockets.kind(on.entry.socket) == Some(Kind::Datagram) {
        return Verdict::Fail(Errno::EOPNOTSUPP);
    }
    let accepting = match network
        .lock()
        .carriers
        .get(&on.entry.socket)
        .map(|carrier| &carrier.role)
    {
        Some(Role::Listening(listening)) => Arc::clone(&listening.accepting),
        Some(Role::Idle | Role::Connecting(_) | Role::Linked(_) | Role::Datagram(_)) | None => {
            return Verdict::Fail(Errno::EINVAL);
        }
    };
    let a = match on.duplicate() {
        Ok(a) => a,
        Err(errno) => return Verdict::Fail(errno),
    };
    let accept = Accept {
        network: Arc::clone(network),
        listener: on.entry.socket,
        accepting,
        address,
        length,
        nonblocking: flags & libc::SOCK_NONBLOCK != 0,
        cloexec: flags & libc::SOCK_CLOEXEC != 0,
    };
    match accept.take(on.call, &a) {
        Taken::Connection(end) => {
            drop(a);
            accept.deliver(on.node, on.container.id, on.call, &end)
        }
        Taken::Over(verdict) => verdict,
        Taken::Nothing if unix::is_nonblocking(a.as_fd()) => Verdict::Fail(Errno::EAGAIN),
        Taken::Nothing => {
            let deadline = unix::receive_timeout(a.as_fd()).map(|limit| clock::now() + limit);
            on.container.park(Parked {
                call: on.call.clone(),
                deadline,
                a,
                waiting: Waiting::Accept(accept),
            });
            Verdict::Done
        }
    }
}

/// What an attempt to accept came to.
#[derive(Debug)]
pub enum Taken {
    /// A connection, to be [delivered](Accept::deliver) once A' is closed: the program may close its listener the moment
    /// it runs again, and bind its port anew.
    Connection(OwnedFd),
    /// The call is over.
    Over(Verdict),
    /// There is no connection.
    Nothing,
}

impl Accept {
    /// Takes one connection out of the listener, if there is one.
    pub fn take(&self, call: &Call, a: &OwnedFd) -> Taken {
        if !call.is_valid() {
            return Taken::Over(Verdict::Done);
        }
        if self.network.lock().listening_mut(self.listener).is_none() {
            // Closed, or shut down.
            return Taken::Over(Verdict::Fail(Errno::EINVAL));
        }
        let taken = {
            // Every accept on this listener comes through here: what poll shows cannot be taken by another before accept.
            let _turn = self
                .accepting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if !unix::is_readable(a.as_fd()) {
                return Taken::Nothing;
            }
            unix::accept(a.as_fd(), self.nonblocking)
        };
        match taken {
            Ok(end) => Taken::Connection(end),
            Err(nix::errno::Errno::EAGAIN) => Taken::Nothing,
            Err(error) => Taken::Over(Verdict::Fail(errno(error))),
        }
    }

    /// Gives a taken connection to the program.
    pub fn deliver(&self, node: &Arc<Node>, container: u64, call: &Call, end: &OwnedFd) -> Verdict {
        let injected = match self.claim(end) {
            Some((socket, flow)) => self
                .inject(node, call, end, socket, flow, container)
                .map_err(|errno| (errno, socket, flow)),
            // It ended before it could be accepted and nothing is known of it any more.
            None => Ok(Verdict::Fail(Errno::ECONNABORTED)),
        };
        let verdict = match injected {
            Ok(verdict) => {
                self.network.lock().dequeued(self.listener);
                verdict
            }
            Err((errno, socket, flow)) => {
                self.put_back(node, end, socket, flow);
                Verdict::Fail(errno)
            }
        };
        self.network
            .lock()
            .hand_over_waiting(node, &self.network, self.listener);
        verdict
    }

    fn claim(&self, end: &OwnedFd) -> Option<(SocketId, FlowId)> {
        let (proof, number) = unix::peer_name(end.as_fd())?;
        let flow = FlowId(number);
        if proof != self.network.proof(flow) {
            return None;
        }
        let state = self.network.lock();
        // A connection that has ended meanwhile is still accepted, as Linux does; its link may be gone.
        let socket = state
            .links
            .get(&flow)
            .map_or_else(|| state.sockets.socket_of(flow), |link| Some(link.socket))?;
        Some((socket, flow))
    }

    /// An error: the connection must wait again.
    fn inject(
        &self,
        node: &Arc<Node>,
        call: &Call,
        end: &OwnedFd,
        socket: SocketId,
        flow: FlowId,
        container: u64,
    ) -> Result<Verdict, Errno> {
        let Ok(inode) = unix::inode(end.as_fd()) else {
            return Err(Errno::ENFILE);
        };
        let (peer, room, captured) = {
            let mut state = self.network.lock();
            let peer = state.sockets.peer_address(socket);
            let (room, _) = state.sockets.buffers(socket);
            names::apply_native(end.as_fd(), &mut state, socket);
            let reset = state.links.get(&flow).is_some_and(|link| link.reset);
            let shown = state
                .links
                .get(&flow)
                .is_some_and(|link| !link.fin_delivered);
            if let Some(carrier) = state.carriers.get_mut(&socket) {
                carrier.inode = Some(inode);
                carrier.container = container;
                carrier.holder = Holder {
                    tid: call.tid,
                    fd: -1,
                };
                if reset {
                    carrier.role = Role::Idle;
                    carrier.reset_shown = shown;
                }
            }
            if reset
                && let Some(link) = state.links.remove(&flow)
                && !link.fin_delivered
            {
                // Unread data in S when it closes makes A fail with ECONNRESET after what A still has to read.
                let _ = send(
                    end.as_raw_fd(),
                    b"\0",
                    MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
                );
            }
            (peer, room, state.captures.any())
        };
        unix::set_send_buffer(end.as_fd(), room);
        if captured {
            self.network.learn_program(socket, call.tid);
        }
        node.adopt(
            inode,
            Entry {
                network: Arc::clone(&self.network),
                socket,
            },
        );
        if self.address != 0
            && let Err(errno) = address::write(call, self.address, self.length, peer.ok())
        {
            self.network
                .lock()
                .close(clock::now(), &node.registry, socket, CloseHow::Reset);
            return Ok(Verdict::Fail(errno));
        }
        match notify::inject(call.notify(), call.id, end.as_fd(), self.cloexec) {
            Ok(fd) => {
                if let Some(carrier) = self.network.lock().carriers.get_mut(&socket)
                    && carrier.holder.fd < 0
                {
                    carrier.holder.fd = fd;
                }
                Ok(Verdict::Done)
            }
            Err(error) => Err(io_errno(error)),
        }
    }

    /// The caller could not take the connection (EMFILE, or it died): it waits again, with what was already delivered.
    fn put_back(&self, node: &Arc<Node>, end: &OwnedFd, socket: SocketId, flow: FlowId) {
        let mut state = self.network.lock();
        let index = state.index;
        if let Some(carrier) = state.carriers.get_mut(&socket) {
            if let Some(inode) = carrier.inode.take() {
                node.registry.remove(inode, index, socket);
            }
            carrier.role = Role::Linked(flow);
        }
        if !state.requeue(node, &self.network, self.listener, socket, flow, end) {
            state.close(clock::now(), &node.registry, socket, CloseHow::Reset);
        }
    }
}
