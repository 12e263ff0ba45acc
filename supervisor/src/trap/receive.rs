// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Receiving calls that the kernel cannot run on the stand-in, because they want an Internet address or other flags.

use super::message::{Buffers, Header, MAX_BYTES, MULTI_LEN, MULTI_STRIDE, u64_at};
use super::{Attempt, Call, OnSocket, Verdict, address, datagram, errno, errors};
use crate::clock;
use crate::network::Network;
use crate::parked::{Parked, Waiting};
use crate::sys::ioctl as queue;
use crate::sys::unix;
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{ControlMessage, Kind, SocketId};
use netcon_netstack::stack::Datagram;
use nix::errno::Errno as Kernel;
use nix::sys::socket::{MsgFlags, recv};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Largest datagram a stand-in can hold.
const MAX_DATAGRAM: usize = 65_536;

/// A receive that may have to wait.
#[derive(Debug, Clone)]
pub struct Receive {
    network: Arc<Network>,
    socket: SocketId,
    kind: Kind,
    flags: i32,
    into: Into,
    /// MSG_WAITALL on a stream that blocks: it is not over before all is there.
    all: bool,
    /// What is there so far.
    got: Vec<u8>,
}

/// Where what was received goes.
#[derive(Debug, Clone)]
pub enum Into {
    /// recvfrom: buffer, address (0: none) and its length.
    Plain {
        /// Buffer.
        buffers: Buffers,
        /// Address of the struct sockaddr, 0 for none.
        address: u64,
        /// Address of its length.
        length: u64,
    },
    /// recvmsg.
    Header(Header),
    /// recvmmsg.
    Many(Many),
}

/// Where recvmmsg(2) is.
#[derive(Debug, Clone)]
pub struct Many {
    /// Address of the first struct mmsghdr.
    base: u64,
    count: u32,
    done: u32,
    /// Address of its struct timespec, 0 for none, and when that is over: looked at only behind a message.
    timeout: u64,
    ends: Option<Instant>,
}

impl Many {
    /// `count` messages from `base` on. EFAULT, and EINVAL for a time that cannot be.
    pub(super) fn new(call: &Call, base: u64, count: u32, timeout: u64) -> Result<Self, Errno> {
        let mut ends = None;
        if timeout != 0 {
            let mut time = [0; 16];
            call.read(timeout, &mut time)?;
            let (seconds, rest) = (u64_at(&time, 0), u64_at(&time, 8));
            let rest = u32::try_from(rest)
                .ok()
                .filter(|rest| *rest < 1_000_000_000);
            let rest = rest.filter(|_| seconds.cast_signed() >= 0);
            let limit = Duration::new(seconds, rest.ok_or(Errno::EINVAL)?);
            ends = clock::now().checked_add(limit);
        }
        Ok(Self {
            base,
            count,
            done: 0,
            timeout,
            ends,
        })
    }

    /// The next header; `None`: all are filled, or the time is over.
    pub(super) fn next(&self, call: &Call) -> Result<Option<Header>, Errno> {
        let over = self.done > 0 && self.ends.is_some_and(|at| at <= clock::now());
        if self.done == self.count || over {
            return Ok(None);
        }
        let at = self.base.wrapping_add(u64::from(self.done) * MULTI_STRIDE);
        Header::read(call, at).map(Some)
    }

    /// Notes the length of the message that `header` was filled with.
    pub(super) fn filled(&mut self, call: &Call, header: &Header, n: i64) -> Result<(), Errno> {
        let reported = u32::try_from(n).unwrap_or(u32::MAX);
        call.write(header.at + MULTI_LEN, &reported.to_ne_bytes())?;
        self.done += 1;
        Ok(())
    }

    /// The end of the call: what is left of its time is told.
    pub(super) fn finish(&self, call: &Call) -> Verdict {
        if let Some(ends) = self.ends {
            let left = ends.saturating_duration_since(clock::now());
            let time = [
                left.as_secs().to_ne_bytes(),
                u64::from(left.subsec_nanos()).to_ne_bytes(),
            ];
            if let Err(errno) = call.write(self.timeout, &time.concat()) {
                return Verdict::Fail(errno);
            }
        }
        Verdict::Return(self.done.into())
    }

    /// No message yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.done == 0
    }

    /// Messages so far; `None`: not one.
    fn so_far(&self) -> Option<i64> {
        (self.done > 0).then(|| self.done.into())
    }
}

pub(super) fn start(on: &OnSocket<'_>, kind: Kind, flags: i32, into: Into) -> Verdict {
    if flags & libc::MSG_ERRQUEUE != 0 {
        return errors::receive(on, &into);
    }
    let a = match on.duplicate() {
        Ok(a) => a,
        Err(errno) => return Verdict::Fail(errno),
    };
    let mut receive = Receive {
        network: Arc::clone(&on.entry.network),
        socket: on.entry.socket,
        kind,
        flags,
        into,
        all: kind == Kind::Stream
            && flags & libc::MSG_WAITALL != 0
            && flags & (libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_OOB) == 0
            && !unix::is_nonblocking(a.as_fd()),
        got: Vec::new(),
    };
    match receive.attempt(on.call, &a) {
        Attempt::Over(verdict) => verdict,
        Attempt::WouldBlock
            if flags & libc::MSG_DONTWAIT != 0 || unix::is_nonblocking(a.as_fd()) =>
        {
            receive.given_up(on.call, &a, Verdict::Fail(Errno::EAGAIN))
        }
        Attempt::WouldBlock if receive.is_shut() => {
            receive.given_up(on.call, &a, Verdict::Return(0))
        }
        Attempt::WouldBlock => {
            let deadline = unix::receive_timeout(a.as_fd()).map(|limit| clock::now() + limit);
            on.container.park(Parked {
                call: on.call.clone(),
                deadline,
                a,
                waiting: Waiting::Receive(receive),
            });
            Verdict::Done
        }
    }
}

/// Type of the control message of TCP_INQ (linux/tcp.h).
const TCP_CM_INQ: i32 = 36;

/// TCP_INQ is on: recvmsg(2) tells how much is left.
pub(super) fn tells_queue(network: &Network, socket: SocketId) -> bool {
    network.lock().sockets.tells_queue(socket)
}

/// One received message.
struct Received {
    data: Vec<u8>,
    /// Length before it was cut.
    full: usize,
    from: Option<SocketAddr>,
    /// What else is known of a datagram.
    about: Option<Datagram>,
    /// TCP_INQ: bytes that are left.
    left: Option<usize>,
}

impl Receive {
    /// Takes what is there.
    pub fn attempt(&mut self, call: &Call, a: &OwnedFd) -> Attempt {
        if !call.is_valid() {
            return Attempt::Over(Verdict::Done);
        }
        if !self.network.lock().carriers.contains_key(&self.socket) {
            // Its network was stopped.
            return Attempt::Over(Verdict::Fail(Errno::ENETDOWN));
        }
        if self.all
            && let Some(unfinished) = self.gather(a)
        {
            return unfinished;
        }
        let into = self.into.clone();
        match &into {
            Into::Plain {
                buffers,
                address,
                length,
            } => self.one(a, buffers, |message| {
                let n = self.deliver(call, buffers, &message)?;
                if *address != 0 {
                    address::write(call, *address, *length, message.from)?;
                }
                Ok(n)
            }),
            Into::Header(header) => self.one(a, &header.buffers, |message| {
                self.fill(call, header, &message)
            }),
            Into::Many(many) => {
                let mut many = many.clone();
                let attempt = self.many(call, a, &mut many);
                self.into = Into::Many(many);
                attempt
            }
        }
    }

    /// Takes what is there of all that is waited for; `None` once it is complete, or the stream at its end.
    fn gather(&mut self, a: &OwnedFd) -> Option<Attempt> {
        let room = match &self.into {
            Into::Plain { buffers, .. } => buffers.total(),
            Into::Header(header) => header.buffers.total(),
            Into::Many(_) => 0,
        };
        let room = room.min(MAX_BYTES);
        while self.got.len() < room {
            let mut part = vec![0; room - self.got.len()];
            match retry(|| recv(a.as_raw_fd(), &mut part, MsgFlags::MSG_DONTWAIT)) {
                Ok(0) => break,
                Ok(n) => self.got.extend_from_slice(&part[..n]),
                Err(Kernel::EAGAIN) => return Some(Attempt::WouldBlock),
                Err(_) if !self.got.is_empty() => break,
                Err(Kernel::EINVAL) => return Some(Attempt::Over(Verdict::Fail(Errno::ENOTCONN))),
                Err(error) => return Some(Attempt::Over(Verdict::Fail(errno(error)))),
            }
        }
        self.all = false;
        None
    }

    /// What a call comes to that ends before it has what it waits for: `otherwise`, unless there is a count.
    #[must_use]
    pub fn given_up(&self, call: &Call, a: &OwnedFd, otherwise: Verdict) -> Verdict {
        if !self.got.is_empty() {
            let mut part = self.clone();
            part.all = false;
            return match part.attempt(call, a) {
                Attempt::Over(verdict) => verdict,
                Attempt::WouldBlock => otherwise,
            };
        }
        match &self.into {
            Into::Many(many) => many.so_far().map_or(otherwise, Verdict::Return),
            Into::Plain { .. } | Into::Header(_) => otherwise,
        }
    }

    /// shutdown(SHUT_RD) was called on this datagram socket: a call that would wait returns 0.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.network
            .lock()
            .carriers
            .get(&self.socket)
            .is_some_and(|carrier| carrier.shut_read)
    }

    /// The next call reports `errno`: this one has a count.
    fn tell_next(&self, errno: Errno) {
        let mut state = self.network.lock();
        state.sockets.set_error(self.socket, errno);
        if let Some(end) = datagram::existing(&state, self.socket) {
            datagram::push(&mut state, self.socket, &end);
        }
    }

    fn many(&self, call: &Call, a: &OwnedFd, many: &mut Many) -> Attempt {
        loop {
            let header = match many.next(call) {
                Ok(Some(header)) => header,
                Ok(None) => return Attempt::Over(many.finish(call)),
                Err(errno) if many.so_far().is_some() => {
                    self.tell_next(errno);
                    return Attempt::Over(many.finish(call));
                }
                Err(errno) => return Attempt::Over(Verdict::Fail(errno)),
            };
            let attempt = self.one(a, &header.buffers, |message| {
                let n = self.fill(call, &header, &message)?;
                many.filled(call, &header, n)?;
                Ok(n)
            });
            match attempt {
                Attempt::Over(Verdict::Return(_)) => {}
                Attempt::Over(Verdict::Fail(errno)) if many.so_far().is_some() => {
                    self.tell_next(errno);
                    return Attempt::Over(many.finish(call));
                }
                Attempt::WouldBlock
                    if many.so_far().is_some() && self.flags & libc::MSG_WAITFORONE != 0 =>
                {
                    return Attempt::Over(many.finish(call));
                }
                Attempt::WouldBlock | Attempt::Over(_) => return attempt,
            }
        }
    }

    fn one(
        &self,
        a: &OwnedFd,
        buffers: &Buffers,
        deliver: impl FnOnce(Received) -> Result<i64, Errno>,
    ) -> Attempt {
        if let Err(errno) = self.pending_error(a) {
            return Attempt::Over(Verdict::Fail(errno));
        }
        let received = match self.kind {
            Kind::Stream => self.take_bytes(a, buffers.total()),
            Kind::Datagram => self.take_datagram(a, buffers.total()),
        };
        match received {
            Ok(Some(message)) => Attempt::Over(Verdict::from(deliver(message))),
            Ok(None) => Attempt::WouldBlock,
            Err(errno) => Attempt::Over(Verdict::Fail(errno)),
        }
    }

    /// An ICMP error of an earlier datagram is reported first (udp(7)).
    fn pending_error(&self, a: &OwnedFd) -> Result<(), Errno> {
        if self.kind == Kind::Stream {
            return Ok(());
        }
        let mut state = self.network.lock();
        let end = datagram::existing(&state, self.socket);
        if let Some(end) = &end {
            datagram::recall(&mut state, self.socket, end, a.as_fd());
        }
        let Some(errno) = state.sockets.take_error(self.socket) else {
            return Ok(());
        };
        if let Some(end) = &end {
            // More of them may wait.
            datagram::push(&mut state, self.socket, end);
        }
        Err(errno)
    }

    fn take_bytes(&self, a: &OwnedFd, room: usize) -> Result<Option<Received>, Errno> {
        if !self.got.is_empty() {
            return Ok(Some(Received {
                data: self.got.clone(),
                full: self.got.len(),
                from: None,
                about: None,
                left: self.left(a),
            }));
        }
        let mut data = vec![0; room.min(MAX_BYTES)];
        let flags = MsgFlags::MSG_DONTWAIT
            | MsgFlags::from_bits_truncate(self.flags & (libc::MSG_PEEK | libc::MSG_OOB));
        match retry(|| recv(a.as_raw_fd(), &mut data, flags)) {
            Ok(n) => {
                data.truncate(n);
                Ok(Some(Received {
                    data,
                    full: n,
                    from: None,
                    about: None,
                    left: self.left(a),
                }))
            }
            Err(Kernel::EAGAIN) => Ok(None),
            // An unconnected AF_UNIX stream says EINVAL; with MSG_OOB TCP does too: nothing urgent waits (tcp(7)).
            Err(Kernel::EINVAL) if self.flags & libc::MSG_OOB == 0 => Err(Errno::ENOTCONN),
            Err(error) => Err(errno(error)),
        }
    }

    /// TCP_INQ: bytes that can still be read; 1 if that is the end.
    fn left(&self, a: &OwnedFd) -> Option<usize> {
        if !tells_queue(&self.network, self.socket) {
            return None;
        }
        let here = queue::input_queue(a.as_fd()).unwrap_or(0);
        let state = self.network.lock();
        let flow = state.sockets.flow(self.socket);
        let behind = flow.map_or(0, |flow| state.sockets.stack().recv_queue(flow));
        let open = flow
            .and_then(|flow| state.links.get(&flow))
            .is_some_and(|link| !link.fin_delivered);
        Some(match here + behind {
            0 => usize::from(!open),
            left => left,
        })
    }

    fn take_datagram(&self, a: &OwnedFd, room: usize) -> Result<Option<Received>, Errno> {
        let end = datagram::existing(&self.network.lock(), self.socket);
        let Some(end) = end else { return Ok(None) };
        let mut queue = datagram::lock(&end);
        let mut data = vec![0; room.min(MAX_DATAGRAM)];
        let flags = MsgFlags::MSG_DONTWAIT
            | MsgFlags::MSG_TRUNC
            | MsgFlags::from_bits_truncate(self.flags & libc::MSG_PEEK);
        let mut again = true;
        let message = loop {
            match retry(|| recv(a.as_raw_fd(), &mut data, flags)) {
                Ok(full) => {
                    data.truncate(full);
                    let about = queue.in_kernel.clone();
                    let from = about.as_ref().map(|datagram| datagram.from);
                    let peer = || self.network.lock().sockets.peer_address(self.socket).ok();
                    break Some(Received {
                        data,
                        full,
                        from: from.or_else(peer),
                        about,
                        left: None,
                    });
                }
                // Nothing, or a native reader took it: the next one, if there is one.
                Err(Kernel::EAGAIN) if again => {
                    again = false;
                    datagram::push_locked(&mut self.network.lock(), self.socket, &end, &mut queue);
                }
                Err(Kernel::EAGAIN) => break None,
                // What A shows came up this moment.
                Err(Kernel::ECONNRESET) => {
                    let mut state = self.network.lock();
                    end.shown.store(false, Ordering::Relaxed);
                    if let Some(errno) = state.sockets.take_error(self.socket) {
                        return Err(errno);
                    }
                }
                Err(error) => return Err(errno(error)),
            }
        };
        datagram::push_locked(&mut self.network.lock(), self.socket, &end, &mut queue);
        drop(queue);
        // What arrived while the queue was ours.
        datagram::push(&mut self.network.lock(), self.socket, &end);
        Ok(message)
    }

    fn deliver(&self, call: &Call, buffers: &Buffers, message: &Received) -> Result<i64, Errno> {
        let discard = self.kind == Kind::Stream && self.flags & libc::MSG_TRUNC != 0;
        let copied = if discard {
            message.data.len()
        } else {
            buffers.scatter(call, &message.data)?
        };
        let reported = if self.kind == Kind::Datagram && self.flags & libc::MSG_TRUNC != 0 {
            message.full
        } else {
            copied
        };
        i64::try_from(reported).map_err(|_| Errno::EINVAL)
    }

    fn fill(&self, call: &Call, header: &Header, message: &Received) -> Result<i64, Errno> {
        let n = self.deliver(call, &header.buffers, message)?;
        let mut name_len = 0;
        if header.name != 0
            && let Some(from) = message.from
        {
            let (bytes, length) = address::encode(from);
            let part = length.min(header.name_len as usize);
            call.write(header.name, &bytes[..part])?;
            name_len = u32::try_from(length).map_err(|_| Errno::EINVAL)?;
        }
        let cut = self.kind == Kind::Datagram && message.full > message.data.len();
        let mut control = message.about.as_ref().map_or_else(Vec::new, |datagram| {
            self.network
                .lock()
                .sockets
                .receive_control(self.socket, datagram, arrival(datagram.at))
        });
        if let Some(left) = message.left {
            let left = i32::try_from(left).unwrap_or(i32::MAX);
            control.push(ControlMessage {
                level: libc::IPPROTO_TCP,
                kind: TCP_CM_INQ,
                data: left.to_ne_bytes().to_vec(),
            });
        }
        let urgent = self.kind == Kind::Stream && self.flags & libc::MSG_OOB != 0;
        let mut flags = if cut { libc::MSG_TRUNC } else { 0 };
        if urgent {
            flags |= libc::MSG_OOB;
        }
        header.report(call, name_len, flags, &control)?;
        Ok(n)
    }
}

/// When something came, since the Unix epoch.
pub(super) fn arrival(at: Option<Instant>) -> Duration {
    let ago = at.map_or(Duration::ZERO, |at| {
        clock::now().saturating_duration_since(at)
    });
    clock::unix().saturating_sub(ago)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Kernel>) -> Result<T, Kernel> {
    loop {
        match call() {
            Err(Kernel::EINTR) => {}
            result => return result,
        }
    }
}
