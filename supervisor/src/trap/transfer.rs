// SPDX-License-Identifier: Apache-2.0 OR MIT
//! sendto, sendmsg, recvfrom, recvmsg and their multiple forms: who runs them, and the sending half.

use super::address::{self, Address};
use super::message::{Buffers, Header, MAX_BYTES, MULTI_LEN, MULTI_STRIDE};
use super::receive::{self, Into, Many};
use super::{Attempt, Call, OnSocket, Verdict, datagram, errno, int, stream};
use crate::clock;
use crate::parked::{Parked, Waiting};
use crate::sys::{task, unix};
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{Family, Kind, SendControl};
use nix::errno::Errno as Kernel;
use nix::sys::socket::{MsgFlags, send};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Messages of one call (UIO_MAXIOV).
const MAX_MESSAGES: u32 = 1024;
/// A datagram of that many bytes is EMSGSIZE in any case; more are not looked at.
const MAX_DATAGRAM: usize = 65_536;

fn kind(on: &OnSocket<'_>) -> Kind {
    on.entry
        .network
        .lock()
        .sockets
        .kind(on.entry.socket)
        .unwrap_or(Kind::Stream)
}

/// sendto(2) with an address or with flags the stand-in does not know.
pub(super) fn send_to(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    let buffers = Buffers::one(args[1], args[2]);
    match kind(on) {
        Kind::Stream => match stream_address(on, args[4], args[5]) {
            Ok(()) => stream(on, &buffers, int(args[3]), (args[4], args[5])),
            Err(errno) => Verdict::Fail(errno),
        },
        Kind::Datagram => {
            let to = if args[4] == 0 {
                Ok(None)
            } else {
                address::read(on.call, args[4], args[5])
                    .and_then(|address| destination(on, address))
            };
            let sent = to.and_then(|to| {
                one_datagram(on, &buffers, to, SendControl::default(), int(args[3]))
            });
            Verdict::from(sent)
        }
    }
}

/// Linux copies the address that a connected stream socket ignores.
///
/// Errors: EINVAL for a length that no address has, EFAULT.
fn stream_address(on: &OnSocket<'_>, pointer: u64, length: u64) -> Result<(), Errno> {
    if pointer == 0 {
        return Ok(());
    }
    address::read(on.call, pointer, length).map(drop)
}

/// sendmsg(2).
pub(super) fn send_message(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    let header = match Header::read(on.call, args[1]) {
        Ok(header) => header,
        Err(errno) => return Verdict::Fail(errno),
    };
    match kind(on) {
        // Control data ends at S, which is read without it.
        Kind::Stream
            if header.name == 0
                && int(args[2]) & (libc::MSG_OOB | libc::MSG_FASTOPEN) == 0
                && !header.has_credentials(on.call) =>
        {
            Verdict::Proceed
        }
        Kind::Stream => {
            let address = (header.name, u64::from(header.name_len));
            stream(on, &header.buffers, int(args[2]), address)
        }
        Kind::Datagram => Verdict::from(datagram_message(on, &header, int(args[2]))),
    }
}

/// sendmmsg(2).
pub(super) fn send_messages(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    if kind(on) == Kind::Stream {
        if int(args[3]) & libc::MSG_OOB != 0 {
            expect_urgent(on);
        }
        return Verdict::Proceed;
    }
    let mut sent = 0_i64;
    for at in message_addresses(args) {
        let result = Header::read(on.call, at)
            .and_then(|header| datagram_message(on, &header, int(args[3])))
            .and_then(|n| {
                let reported = u32::try_from(n).unwrap_or(u32::MAX);
                on.call.write(at + MULTI_LEN, &reported.to_ne_bytes())
            });
        match result {
            Ok(()) => sent += 1,
            Err(errno) if sent == 0 => return Verdict::Fail(errno),
            Err(_) => break,
        }
    }
    Verdict::Return(sent)
}

/// recvfrom(2) with an address or with flags the stand-in does not know.
pub(super) fn receive_from(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    let into = Into::Plain {
        buffers: Buffers::one(args[1], args[2]),
        address: args[4],
        length: args[5],
    };
    receive::start(on, kind(on), int(args[3]), into)
}

/// recvmsg(2).
pub(super) fn receive_message(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    let flags = int(args[2]);
    let header = match Header::read(on.call, args[1]) {
        Ok(header) => header,
        Err(errno) => return Verdict::Fail(errno),
    };
    let kind = kind(on);
    if kind == Kind::Stream
        && header.name == 0
        && flags & (libc::MSG_ERRQUEUE | libc::MSG_OOB | libc::MSG_TRUNC) == 0
        && !receive::tells_queue(&on.entry.network, on.entry.socket)
    {
        return Verdict::Proceed;
    }
    receive::start(on, kind, flags, Into::Header(header))
}

/// recvmmsg(2).
pub(super) fn receive_messages(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    let kind = kind(on);
    // The kernel would name the stand-in's other end.
    let named = |at| Header::read(on.call, at).is_ok_and(|header| header.name != 0);
    if kind == Kind::Stream && !message_addresses(args).any(named) {
        return Verdict::Proceed;
    }
    let count = int(args[2]).cast_unsigned().min(MAX_MESSAGES);
    match Many::new(on.call, args[1], count, args[4]) {
        Ok(_) if count == 0 => Verdict::Return(0),
        Ok(many) => receive::start(on, kind, int(args[3]), Into::Many(many)),
        Err(errno) => Verdict::Fail(errno),
    }
}

fn message_addresses(args: &[u64; 6]) -> impl Iterator<Item = u64> {
    let base = args[1];
    let count = int(args[2]).cast_unsigned().min(MAX_MESSAGES);
    (0..u64::from(count)).map(move |i| base.wrapping_add(i * MULTI_STRIDE))
}

fn destination(on: &OnSocket<'_>, address: Address) -> Result<Option<SocketAddr>, Errno> {
    let family = on.entry.network.lock().sockets.family(on.entry.socket);
    match address {
        Address::Internet(address) => Ok(Some(address)),
        // An IPv6 socket takes AF_UNSPEC as no address, an IPv4 socket as AF_INET (ip(7)).
        Address::Unspecified(_) if family == Some(Family::V6) => Ok(None),
        Address::Foreign if family == Some(Family::V6) => Err(Errno::EINVAL),
        Address::Unspecified(Some(v4)) => Ok(Some(v4.into())),
        Address::Unspecified(None) | Address::Short => Err(Errno::EINVAL),
        Address::Foreign => Err(Errno::EAFNOSUPPORT),
    }
}

fn datagram_message(on: &OnSocket<'_>, header: &Header, flags: i32) -> Result<i64, Errno> {
    let to = if header.name == 0 {
        None
    } else {
        let address = address::read(on.call, header.name, u64::from(header.name_len))?;
        destination(on, address)?
    };
    let messages = header.control_messages(on.call)?;
    let control = if messages.is_empty() {
        SendControl::default()
    } else {
        let (family, v6) = {
            let state = on.entry.network.lock();
            let socket = on.entry.socket;
            let family = state.sockets.family(socket).ok_or(Errno::EBADF)?;
            (family, state.sockets.sends_v6(socket, to))
        };
        SendControl::parse(family, v6, &messages)?
    };
    one_datagram(on, &header.buffers, to, control, flags)
}

fn one_datagram(
    on: &OnSocket<'_>,
    buffers: &Buffers,
    to: Option<SocketAddr>,
    mut control: SendControl,
    flags: i32,
) -> Result<i64, Errno> {
    let family = || on.entry.network.lock().sockets.family(on.entry.socket);
    if flags & libc::MSG_OOB != 0 && family() == Some(Family::V4) {
        // Datagrams know no urgent data (udp(7)); IPv6 does not ask.
        return Err(Errno::EOPNOTSUPP);
    }
    control.more = flags & libc::MSG_MORE != 0;
    let payload = buffers.gather(on.call, MAX_DATAGRAM)?;
    let sent = datagram::transmit(on, to, &payload, &control)?;
    i64::try_from(sent).map_err(|_| Errno::EMSGSIZE)
}

/// Bytes of a stream call that the kernel cannot send for the program (Linux ignores the address on a connected socket).
#[derive(Debug, Clone)]
pub struct Send {
    data: Vec<u8>,
    sent: usize,
    quiet: bool,
    /// The last byte is (tcp(7), MSG_OOB).
    urgent: bool,
}

/// MSG_OOB: from now on the reader of S looks for the mark.
fn expect_urgent(on: &OnSocket<'_>) {
    let mut state = on.entry.network.lock();
    if let Some(flow) = state.sockets.flow(on.entry.socket)
        && let Some(link) = state.links.get_mut(&flow)
    {
        link.expect_urgent();
    }
}

fn stream(
    on: &OnSocket<'_>,
    buffers: &Buffers,
    flags: i32,
    (address, length): (u64, u64),
) -> Verdict {
    // The last byte is urgent, if this call comes so far.
    let urgent = flags & libc::MSG_OOB != 0 && buffers.total() <= MAX_BYTES;
    if urgent {
        expect_urgent(on);
    }
    let a = match on.duplicate() {
        Ok(a) => a,
        Err(errno) => return Verdict::Fail(errno),
    };
    let data = match buffers.gather(on.call, MAX_BYTES) {
        Ok(data) => data,
        Err(errno) => return Verdict::Fail(errno),
    };
    let send = Send {
        data,
        sent: 0,
        quiet: flags & libc::MSG_NOSIGNAL != 0,
        urgent,
    };
    if flags & libc::MSG_FASTOPEN != 0 {
        return stream::fast_open(on, address, length, flags, send);
    }
    let at_once = flags & libc::MSG_DONTWAIT != 0 || unix::is_nonblocking(a.as_fd());
    run(on, send, a, at_once)
}

/// Sends what fits, and waits for room for the rest unless `at_once`.
pub(super) fn run(on: &OnSocket<'_>, mut send: Send, a: OwnedFd, at_once: bool) -> Verdict {
    match send.attempt(on.call, &a) {
        Attempt::Over(verdict) => verdict,
        Attempt::WouldBlock if at_once => Verdict::from(send.so_far()),
        Attempt::WouldBlock => {
            let deadline = unix::send_timeout(a.as_fd()).map(|limit| clock::now() + limit);
            on.container.park(Parked {
                call: on.call.clone(),
                deadline,
                a,
                waiting: Waiting::Send(send),
            });
            Verdict::Done
        }
    }
}

impl Send {
    /// Sends what fits.
    pub fn attempt(&mut self, call: &Call, a: &OwnedFd) -> Attempt {
        if !call.is_valid() {
            return Attempt::Over(Verdict::Done);
        }
        // No bytes at all are sent too: the kernel tells whether they could be.
        loop {
            let mut flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let left = self.data.len() - self.sent;
            let part = if self.urgent && left > 1 {
                left - 1
            } else {
                left
            };
            if self.urgent && left == 1 {
                flags |= MsgFlags::MSG_OOB;
            }
            match send(a.as_raw_fd(), &self.data[self.sent..][..part], flags) {
                Ok(n) => {
                    self.sent += n;
                    if self.sent >= self.data.len() {
                        break;
                    }
                }
                Err(Kernel::EINTR) => {}
                Err(Kernel::EAGAIN) => return Attempt::WouldBlock,
                Err(_) if self.sent > 0 => break,
                // TCP that is not connected says EPIPE.
                Err(Kernel::EPIPE | Kernel::ENOTCONN) => {
                    if !self.quiet {
                        task::signal(call.tid, nix::sys::signal::Signal::SIGPIPE);
                    }
                    return Attempt::Over(Verdict::Fail(Errno::EPIPE));
                }
                Err(error) => return Attempt::Over(Verdict::Fail(errno(error))),
            }
        }
        Attempt::Over(Verdict::from(self.so_far()))
    }

    /// The count, if any byte went out; else EAGAIN.
    pub fn so_far(&self) -> Result<i64, Errno> {
        if self.sent == 0 && !self.data.is_empty() {
            return Err(Errno::EAGAIN);
        }
        i64::try_from(self.sent).map_err(|_| Errno::EINVAL)
    }
}
