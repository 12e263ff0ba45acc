// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls on AF_NETLINK sockets (netlink(7)).

use super::message::{Buffers, Header, MULTI_LEN, MULTI_STRIDE};
use super::{Attempt, Call, Verdict, errno, int, io_errno};
use crate::clock;
use crate::container::Container;
use crate::netlink::{End, MAX_REQUEST};
use crate::node::Node;
use crate::parked::{Parked, Waiting};
use crate::sys::{notify, task, unix};
use netcon_netstack::errno::Errno;
use netcon_netstack::netlink::{ADDRESS_LEN, Address, Netlink};
use netcon_shim::table::Trapped;
use nix::errno::Errno as Kernel;
use nix::sys::socket::{MsgFlags, recv};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// No option of netlink is longer; Linux ignores what lies behind the part it knows.
const LONGEST_OPTION: usize = 16;
/// Messages one recvmmsg(2) or sendmmsg(2) moves at most; a short count is legal.
const MAX_MESSAGES: u32 = 64;

/// socket(2).
pub(super) fn socket(
    node: &Arc<Node>,
    container: &Arc<Container>,
    call: &Call,
    (kind, protocol): (i32, i32),
    flags: i32,
) -> Verdict {
    let socket = match Netlink::new(kind, protocol) {
        Ok(socket) => socket,
        Err(errno) => return Verdict::Fail(errno),
    };
    let opened = node.netlink.open(
        node,
        &container.network,
        container.has_left(call.tid),
        socket,
        flags & libc::SOCK_NONBLOCK != 0,
    );
    let a = match opened {
        Ok(a) => a,
        Err(error) => return Verdict::Fail(errno(error)),
    };
    let cloexec = flags & libc::SOCK_CLOEXEC != 0;
    match notify::inject(call.notify(), call.id, a.as_fd(), cloexec) {
        Ok(_) => Verdict::Done,
        Err(error) => Verdict::Fail(io_errno(error)),
    }
}

/// A call on a netlink socket.
#[derive(Debug)]
pub(super) struct OnNetlink<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) container: &'a Arc<Container>,
    pub(super) call: &'a Call,
    pub(super) end: Arc<End>,
    pub(super) inode: u64,
    pub(super) fd: i32,
}

/// Runs it.
pub(super) fn handle(on: &OnNetlink<'_>, trapped: Trapped, args: &[u64; 6]) -> Verdict {
    match trapped {
        Trapped::Bind => Verdict::from(on.bind(args).map(|()| 0)),
        Trapped::Connect => Verdict::from(on.connect(args).map(|()| 0)),
        Trapped::GetSockName => {
            let address = on.end.socket().local_address();
            Verdict::from(on.write_address(args[1], args[2], address).map(|()| 0))
        }
        Trapped::GetPeerName => {
            let address = on.end.socket().peer_address();
            Verdict::from(on.write_address(args[1], args[2], address).map(|()| 0))
        }
        Trapped::GetSockOpt => Verdict::from(on.get_option(args).map(|()| 0)),
        Trapped::SetSockOpt => Verdict::from(on.set_option(args).map(|()| 0)),
        Trapped::SendTo => {
            let to = (args[4] != 0).then_some((args[4], args[5]));
            Verdict::from(on.send(&Buffers::one(args[1], args[2]), to, int(args[3])))
        }
        Trapped::SendMsg => Verdict::from(
            Header::read(on.call, args[1])
                .and_then(|header| on.send(&header.buffers, header.destination(), int(args[2]))),
        ),
        Trapped::SendMMsg => on.send_messages(args),
        Trapped::RecvFrom => on.receive(
            int(args[3]),
            Into::Plain {
                buffers: Buffers::one(args[1], args[2]),
                address: args[4],
                length: args[5],
            },
        ),
        Trapped::RecvMsg => match Header::read(on.call, args[1]) {
            Ok(header) => on.receive(int(args[2]), Into::Header(header)),
            Err(errno) => Verdict::Fail(errno),
        },
        Trapped::RecvMMsg => on.receive_messages(args),
        Trapped::Listen | Trapped::Accept | Trapped::Accept4 | Trapped::Shutdown => {
            Verdict::Fail(Errno::EOPNOTSUPP)
        }
        // Made elsewhere, or asked of any descriptor.
        Trapped::Socket | Trapped::SocketPair | Trapped::PidfdGetfd | Trapped::Ioctl => {
            Verdict::Fail(Errno::ENOTTY)
        }
    }
}

impl OnNetlink<'_> {
    /// Linux prefers the process number as port.
    fn port_hint(&self) -> u32 {
        task::process_of(self.call.tid).unwrap_or(self.call.tid)
    }

    fn bind(&self, args: &[u64; 6]) -> Result<(), Errno> {
        let address = self.read_address(args[1], args[2])?;
        let hint = self.port_hint();
        self.node.netlink.bind(&self.end, address, hint)
    }

    fn connect(&self, args: &[u64; 6]) -> Result<(), Errno> {
        let mut family = [0_u8; 2];
        if int(args[2]) < 2 {
            return Err(Errno::EINVAL);
        }
        self.call.read(args[1], &mut family)?;
        if i32::from(u16::from_ne_bytes(family)) == libc::AF_UNSPEC {
            return self.end.socket().connect(None);
        }
        let address = self.read_address(args[1], args[2])?;
        self.end.socket().connect(Some(address))?;
        let hint = self.port_hint();
        self.node.netlink.bind_if_needed(&self.end, hint)
    }

    fn send(&self, buffers: &Buffers, to: Option<(u64, u64)>, flags: i32) -> Result<i64, Errno> {
        if flags & libc::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some((address, length)) = to {
            let to = self.read_address(address, length)?;
            self.end.socket().may_send(to)?;
        }
        let total = buffers.total();
        if total == 0 {
            return Err(Errno::ENODATA);
        }
        if total > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        let request = buffers.gather(self.call, MAX_REQUEST)?;
        let hint = self.port_hint();
        self.node.netlink.bind_if_needed(&self.end, hint)?;
        self.end.request(&request);
        i64::try_from(total).map_err(|_| Errno::EMSGSIZE)
    }

    fn send_messages(&self, args: &[u64; 6]) -> Verdict {
        let mut sent = 0_i64;
        for at in message_addresses(args) {
            let one = Header::read(self.call, at)
                .and_then(|header| self.send(&header.buffers, header.destination(), int(args[3])))
                .and_then(|n| {
                    let n = u32::try_from(n).unwrap_or(u32::MAX);
                    self.call.write(at + MULTI_LEN, &n.to_ne_bytes())
                });
            match one {
                Ok(()) => sent += 1,
                Err(errno) if sent == 0 => return Verdict::Fail(errno),
                Err(_) => break,
            }
        }
        Verdict::Return(sent)
    }

    fn receive_messages(&self, args: &[u64; 6]) -> Verdict {
        let Some(at) = message_addresses(args).next() else {
            return Verdict::Return(0);
        };
        match Header::read(self.call, at) {
            Ok(header) => self.receive(int(args[3]), Into::FirstOfMany(header)),
            Err(errno) => Verdict::Fail(errno),
        }
    }

    fn receive(&self, flags: i32, into: Into) -> Verdict {
        if flags & libc::MSG_OOB != 0 {
            return Verdict::Fail(Errno::EOPNOTSUPP);
        }
        // Answers to what was sent natively are there at once, as in Linux.
        let hint = self.port_hint();
        if let Err(errno) = self.node.netlink.bind_if_needed(&self.end, hint) {
            return Verdict::Fail(errno);
        }
        self.end.serve();
        let a = match task::duplicate(self.call.tid, self.fd, self.inode) {
            Ok(a) => a,
            Err(error) => return Verdict::Fail(io_errno(error)),
        };
        let receive = NetlinkReceive {
            end: Arc::clone(&self.end),
            flags,
            into,
        };
        match receive.attempt(self.call, &a) {
            Attempt::Over(verdict) => verdict,
            Attempt::WouldBlock
                if flags & libc::MSG_DONTWAIT != 0 || unix::is_nonblocking(a.as_fd()) =>
            {
                Verdict::Fail(Errno::EAGAIN)
            }
            Attempt::WouldBlock => {
                let deadline = unix::receive_timeout(a.as_fd()).map(|limit| clock::now() + limit);
                self.container.park(Parked {
                    call: self.call.clone(),
                    deadline,
                    a,
                    waiting: Waiting::Netlink(receive),
                });
                Verdict::Done
            }
        }
    }

    fn get_option(&self, args: &[u64; 6]) -> Result<(), Errno> {
        let (level, name) = (int(args[1]), int(args[2]));
        let mut room = [0_u8; 4];
        self.call.read(args[4], &mut room)?;
        let value = self.end.socket().get_option(level, name)?;
        let bytes = value.fit(level, name, i32::from_ne_bytes(room))?;
        self.call.write(args[3], bytes)?;
        let reported = u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
        self.call.write(args[4], &reported.to_ne_bytes())
    }

    fn set_option(&self, args: &[u64; 6]) -> Result<(), Errno> {
        let length = usize::try_from(int(args[4])).map_err(|_| Errno::EINVAL)?;
        let mut bytes = [0_u8; LONGEST_OPTION];
        let used = length.min(LONGEST_OPTION);
        self.call.read(args[3], &mut bytes[..used])?;
        let mut socket = self.end.socket();
        socket.set_option(int(args[1]), int(args[2]), &bytes[..used])
    }

    fn read_address(&self, pointer: u64, length: u64) -> Result<Address, Errno> {
        // int addrlen: the upper half of the register is not part of it.
        #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
        let length = (length as u32).cast_signed();
        if !(0..=128).contains(&length) {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0_u8; ADDRESS_LEN];
        let used = (length.unsigned_abs() as usize).min(ADDRESS_LEN);
        self.call.read(pointer, &mut bytes[..used])?;
        Address::decode(&bytes[..used])
    }

    fn write_address(&self, pointer: u64, length: u64, address: Address) -> Result<(), Errno> {
        write_address(self.call, pointer, length, address)
    }
}

/// Cut to the room there is, the true length reported.
fn write_address(call: &Call, pointer: u64, length: u64, address: Address) -> Result<(), Errno> {
    let mut room = [0_u8; 4];
    call.read(length, &mut room)?;
    let room = usize::try_from(i32::from_ne_bytes(room)).map_err(|_| Errno::EINVAL)?;
    call.write(pointer, &address.encode()[..room.min(ADDRESS_LEN)])?;
    call.write(length, &12_u32.to_ne_bytes())
}

fn message_addresses(args: &[u64; 6]) -> impl Iterator<Item = u64> {
    let base = args[1];
    let count = int(args[2]).cast_unsigned().min(MAX_MESSAGES);
    (0..u64::from(count)).map(move |i| base.wrapping_add(i * MULTI_STRIDE))
}

/// Where what was received goes.
#[derive(Debug, Clone)]
enum Into {
    Plain {
        buffers: Buffers,
        address: u64,
        length: u64,
    },
    Header(Header),
    /// recvmmsg(2): one message is a legal count.
    FirstOfMany(Header),
}

/// A receive that may have to wait.
#[derive(Debug, Clone)]
pub struct NetlinkReceive {
    end: Arc<End>,
    flags: i32,
    into: Into,
}

impl NetlinkReceive {
    /// Takes what is there.
    pub fn attempt(&self, call: &Call, a: &OwnedFd) -> Attempt {
        if !call.is_valid() {
            return Attempt::Over(Verdict::Done);
        }
        if let Some(errno) = self.end.socket().take_error() {
            return Attempt::Over(Verdict::Fail(errno));
        }
        let buffers = match &self.into {
            Into::Plain { buffers, .. } => buffers,
            Into::Header(header) | Into::FirstOfMany(header) => &header.buffers,
        };
        let mut data = vec![0; buffers.total().min(MAX_REQUEST)];
        let flags = MsgFlags::MSG_DONTWAIT
            | MsgFlags::MSG_TRUNC
            | MsgFlags::from_bits_truncate(self.flags & libc::MSG_PEEK);
        let full = loop {
            match recv(a.as_raw_fd(), &mut data, flags) {
                Ok(full) => break full,
                Err(Kernel::EINTR) => {}
                Err(Kernel::EAGAIN) => return Attempt::WouldBlock,
                Err(error) => return Attempt::Over(Verdict::Fail(errno(error))),
            }
        };
        data.truncate(full);
        Attempt::Over(Verdict::from(self.deliver(call, buffers, &data, full)))
    }

    fn deliver(
        &self,
        call: &Call,
        buffers: &Buffers,
        data: &[u8],
        full: usize,
    ) -> Result<i64, Errno> {
        let copied = buffers.scatter(call, data)?;
        let reported = if self.flags & libc::MSG_TRUNC != 0 {
            full
        } else {
            copied
        };
        let kernel = Address::default();
        match &self.into {
            Into::Plain {
                address, length, ..
            } => {
                if *address != 0 {
                    write_address(call, *address, *length, kernel)?;
                }
            }
            Into::Header(header) | Into::FirstOfMany(header) => {
                let mut name_len = 0;
                if header.name != 0 {
                    let part = ADDRESS_LEN.min(header.name_len as usize);
                    call.write(header.name, &kernel.encode()[..part])?;
                    name_len = 12;
                }
                let cut = full > data.len();
                header.report(call, name_len, if cut { libc::MSG_TRUNC } else { 0 }, &[])?;
                if matches!(self.into, Into::FirstOfMany(_)) {
                    let n = u32::try_from(reported).unwrap_or(u32::MAX);
                    call.write(header.at + MULTI_LEN, &n.to_ne_bytes())?;
                    return Ok(1);
                }
            }
        }
        i64::try_from(reported).map_err(|_| Errno::EINVAL)
    }
}
