// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a notification to an answer: decodes registers and memory, asks the socket model, moves descriptors.
//!
//! A call on a descriptor that is not one of our sockets is the kernel's: it is told to proceed. That is safe because no
//! descriptor the supervisor gives out is an Internet socket of the host. A call on one of our sockets is always answered
//! here, except sendmsg, recvmsg and their multiple forms on a stream when they want no address and no special flag: the
//! kernel runs them on the AF_UNIX stand-in.

mod accept;
pub mod address;
mod datagram;
mod errors;
mod ioctl;
pub mod message;
mod names;
mod netlink;
mod open;
pub mod receive;
mod stream;
mod transfer;

pub use accept::{Accept, Taken};
pub use datagram::push as push_datagrams;
pub use datagram::take_sent as take_sent_datagrams;
pub use netlink::NetlinkReceive;
pub use receive::Receive;
pub use stream::{attach, finish_connect, interrupt_connect};
pub use transfer::Send;

use self::netlink::OnNetlink;
use crate::container::Container;
use crate::network::Holder;
use crate::node::Node;
use crate::registry::Entry;
use crate::sys::{memory, notify, task};
use netcon_netstack::errno::Errno;
use netcon_shim::table::Trapped;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A call that waits for its answer.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where it is answered.
    pub notify: Arc<OwnedFd>,
    /// Its name there.
    pub id: u64,
    /// Thread that made it.
    pub tid: u32,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It returns this value.
    Return(i64),
    /// It fails.
    Fail(Errno),
    /// The kernel runs it.
    Proceed,
    /// It has been answered, or is parked.
    Done,
}

/// What an attempt of a call that may have to wait came to.
#[derive(Debug)]
pub enum Attempt {
    /// It is over.
    Over(Verdict),
    /// It would block.
    WouldBlock,
}

impl From<Result<i64, Errno>> for Verdict {
    fn from(result: Result<i64, Errno>) -> Self {
        match result {
            Ok(value) => Self::Return(value),
            Err(errno) => Self::Fail(errno),
        }
    }
}

impl Call {
    /// Copies program memory. EFAULT; also when the call has died meanwhile and the thread may be another's.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        memory::read(self.tid, address, into).map_err(errno)?;
        if self.is_valid() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Writes program memory. EFAULT.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        if !self.is_valid() {
            return Err(Errno::EFAULT);
        }
        memory::write(self.tid, address, from).map_err(errno)
    }

    /// True while the caller waits.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        notify::is_valid(self.notify(), self.id)
    }

    /// Ends the call. An answer nobody waits for any more is no error.
    pub fn answer(&self, verdict: Verdict) {
        let result = match verdict {
            Verdict::Return(value) => notify::answer(self.notify(), self.id, Ok(value)),
            Verdict::Fail(errno) => notify::answer(self.notify(), self.id, Err(errno.0)),
            Verdict::Proceed => notify::proceed(self.notify(), self.id),
            Verdict::Done => return,
        };
        if let Err(error) = result {
            tracing::trace!(id = self.id, %error, "answer to a call that has gone");
        }
    }

    /// Where it is answered.
    #[must_use]
    pub fn notify(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}

/// A call on one of our sockets.
#[derive(Debug)]
pub struct OnSocket<'a> {
    /// The node.
    pub node: &'a Arc<Node>,
    /// The caller's container.
    pub container: &'a Arc<Container>,
    /// The call.
    pub call: &'a Call,
    /// The socket.
    pub entry: Entry,
    /// Identity of A.
    pub inode: u64,
    /// Its number in the caller.
    pub fd: i32,
}

impl OnSocket<'_> {
    /// A', a momentary duplicate of the program's end.
    pub fn duplicate(&self) -> Result<OwnedFd, Errno> {
        task::duplicate(self.call.tid, self.fd, self.inode).map_err(io_errno)
    }

    fn holder(&self) -> Holder {
        Holder {
            tid: self.call.tid,
            fd: self.fd,
        }
    }
}

/// Runs one trapped call to its verdict.
pub fn handle(
    node: &Arc<Node>,
    container: &Arc<Container>,
    call: &Call,
    number: i32,
    args: &[u64; 6],
) -> Verdict {
    let Some(trapped) = Trapped::from_number(number) else {
        // The filter traps nothing else; a foreign filter row must not leave the caller hanging.
        return Verdict::Fail(Errno::ENOSYS);
    };
    let on_socket: fn(&OnSocket<'_>, &[u64; 6]) -> Verdict = match trapped {
        Trapped::Socket => return open::socket(node, container, call, args),
        Trapped::SocketPair => return open::socketpair(container, call, args),
        Trapped::PidfdGetfd => return open::pidfd_getfd(node, container, call, args),
        Trapped::Bind => names::bind,
        Trapped::Listen => stream::listen,
        Trapped::Connect => stream::connect,
        Trapped::Accept => |on, args| accept::accept(on, args[1], args[2], 0),
        Trapped::Accept4 => |on, args| accept::accept(on, args[1], args[2], int(args[3])),
        Trapped::GetSockName => names::local,
        Trapped::GetPeerName => names::peer,
        Trapped::Shutdown => stream::shutdown,
        Trapped::GetSockOpt => names::get_option,
        Trapped::SetSockOpt => names::set_option,
        Trapped::SendTo => transfer::send_to,
        Trapped::RecvFrom => transfer::receive_from,
        Trapped::SendMsg => transfer::send_message,
        Trapped::SendMMsg => transfer::send_messages,
        Trapped::RecvMsg => transfer::receive_message,
        Trapped::RecvMMsg => transfer::receive_messages,
        Trapped::Ioctl => ioctl::on_internet,
    };
    match find(node, container, call, int(args[0])) {
        Found::Internet(on) => on_socket(&on, args),
        Found::Netlink(_) | Found::Socket if trapped == Trapped::Ioctl => {
            ioctl::on_socket(container, call, None, args)
        }
        Found::Other if trapped == Trapped::Ioctl => ioctl::on_file(args),
        Found::Closed if trapped == Trapped::Ioctl => Verdict::Fail(Errno::EBADF),
        Found::Netlink(on) => netlink::handle(&on, trapped, args),
        Found::Socket | Found::Other | Found::Closed => {
            if trapped == Trapped::Connect {
                // It may lead to the supervisor, which asks who it is. A task that /proc hides (hidepid, and a program that
                // its user may not read) could not be told from one outside.
                if node.tasks.note(call.tid, container.id).is_none() {
                    return Verdict::Fail(Errno::EPERM);
                }
                // Over a host socket that was given to it, it may lead to the supervisor's port.
                if let Ok(Some(inode)) = task::socket_inode(call.tid, int(args[0])) {
                    node.tasks.connects(inode, container.id);
                }
            }
            Verdict::Proceed
        }
    }
}

/// What a descriptor is.
#[derive(Debug)]
enum Found<'a> {
    /// A stand-in for an Internet socket.
    Internet(OnSocket<'a>),
    /// A stand-in for a netlink socket.
    Netlink(OnNetlink<'a>),
    /// A socket that is not ours.
    Socket,
    /// No socket.
    Other,
    /// Nothing, or nothing we may look at.
    Closed,
}

/// What descriptor `fd` of the caller is.
fn find<'a>(
    node: &'a Arc<Node>,
    container: &'a Arc<Container>,
    call: &'a Call,
    fd: i32,
) -> Found<'a> {
    // An unreadable or absent descriptor is the kernel's to refuse (EBADF).
    let inode = match task::socket_inode(call.tid, fd) {
        Ok(Some(inode)) => inode,
        Ok(None) => return Found::Other,
        Err(_) => return Found::Closed,
    };
    let Some(entry) = node.registry.find(inode) else {
        return match node.netlink.find(inode) {
            Some(end) => Found::Netlink(OnNetlink {
                node,
                container,
                call,
                end,
                inode,
                fd,
            }),
            None => Found::Socket,
        };
    };
    let on = OnSocket {
        node,
        container,
        call,
        entry,
        inode,
        fd,
    };
    if let Some(carrier) = on.entry.network.lock().carriers.get_mut(&on.entry.socket) {
        carrier.holder = on.holder();
        // It may have been passed from another one: who uses it now hears of it.
        carrier.container = container.id;
    }
    Found::Internet(on)
}

/// An int argument: the upper half of the register is not part of it.
#[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
fn int(register: u64) -> i32 {
    (register as u32).cast_signed()
}

/// Kernel errors of our own calls become the program's.
pub(crate) fn errno(error: nix::errno::Errno) -> Errno {
    Errno(error as i32)
}

/// The same for std's.
pub(crate) fn io_errno(error: std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}
