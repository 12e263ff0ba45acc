// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that make descriptors: socket, socketpair, pidfd_getfd.

use super::{Call, Verdict, datagram, errno, int, io_errno, netlink};
use crate::clock;
use crate::container::Container;
use crate::network::{Carrier, Holder, Role};
use crate::node::Node;
use crate::registry::Entry;
use crate::sys::{notify, task, unix};
use netcon_netstack::errno::Errno;
use netcon_netstack::netlink::Netlink;
use netcon_netstack::sockets::{CloseHow, Kind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// socket(2): a fresh AF_UNIX socket of the same kind, unconnected, whose poll state and errors are those of a fresh
/// Internet socket. No copy is kept.
pub(super) fn socket(
    node: &Arc<Node>,
    container: &Arc<Container>,
    call: &Call,
    args: &[u64; 6],
) -> Verdict {
    let (family, kind, protocol) = (int(args[0]), int(args[1]), int(args[2]));
    let flags = kind & !0xf;
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Verdict::Fail(Errno::EINVAL);
    }
    if family == libc::AF_NETLINK {
        return netlink::socket(node, container, call, (kind & 0xf, protocol), flags);
    }
    let network = &container.network;
    let mut state = network.lock();
    if state.stopped {
        return Verdict::Fail(Errno::ENETDOWN);
    }
    let mut opened = state.sockets.socket(family, kind & 0xf, protocol);
    if opened == Err(Errno::ENFILE) {
        // Perhaps closed sockets are still counted.
        drop(state);
        node.sweep_network(network);
        state = network.lock();
        opened = state.sockets.socket(family, kind & 0xf, protocol);
    }
    let socket = match opened {
        Ok(socket) => socket,
        Err(errno) => return Verdict::Fail(errno),
    };
    let hears = state.sockets.hears_at_once(socket);
    let end = match state.sockets.kind(socket) {
        Some(Kind::Datagram) => unix::End::Datagram,
        Some(Kind::Stream) | None => unix::End::Stream,
    };
    let made = unix::new(end, flags & libc::SOCK_NONBLOCK != 0)
        .map_err(errno)
        .and_then(|a| Ok((unix::inode(a.as_fd()).map_err(io_errno)?, a)));
    let (inode, a) = match made {
        Ok(made) => made,
        Err(errno) => {
            state
                .sockets
                .close(clock::now(), socket, CloseHow::Graceful);
            return Verdict::Fail(errno);
        }
    };
    let carrier = Carrier {
        inode: Some(inode),
        holder: Holder {
            tid: call.tid,
            fd: -1,
        },
        container: container.id,
        since: clock::unix(),
        program: None,
        origin: None,
        alive: None,
        shut_read: false,
        shut_write: false,
        reset_shown: false,
        role: Role::Idle,
    };
    state.carriers.insert(socket, carrier);
    let captured = state.captures.any();
    drop(state);
    if captured {
        network.learn_program(socket, call.tid);
    }
    node.adopt(
        inode,
        Entry {
            network: Arc::clone(network),
            socket,
        },
    );
    if hears && let Err(errno) = datagram::open_end_of(node, network, socket, a.as_fd()) {
        network
            .lock()
            .close(clock::now(), &node.registry, socket, CloseHow::Graceful);
        return Verdict::Fail(errno);
    }
    match notify::inject(
        call.notify(),
        call.id,
        a.as_fd(),
        flags & libc::SOCK_CLOEXEC != 0,
    ) {
        Ok(fd) => {
            drop(a);
            if let Some(carrier) = network.lock().carriers.get_mut(&socket)
                && carrier.holder.fd < 0
            {
                carrier.holder.fd = fd;
            }
            Verdict::Done
        }
        Err(error) => {
            network
                .lock()
                .close(clock::now(), &node.registry, socket, CloseHow::Graceful);
            Verdict::Fail(io_errno(error))
        }
    }
}

/// socketpair(2) of an Internet family or AF_NETLINK: refused as Linux does, which looks at everything else first.
pub(super) fn socketpair(container: &Container, call: &Call, args: &[u64; 6]) -> Verdict {
    let (family, kind, protocol) = (int(args[0]), int(args[1]), int(args[2]));
    if kind & !0xf & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Verdict::Fail(Errno::EINVAL);
    }
    if let Err(errno) = call.read(args[3], &mut [0; 8]) {
        return Verdict::Fail(errno);
    }
    if family == libc::AF_NETLINK {
        let refused = Netlink::new(kind & 0xf, protocol).err();
        return Verdict::Fail(refused.unwrap_or(Errno::EOPNOTSUPP));
    }
    let mut state = container.network.lock();
    Verdict::Fail(match state.sockets.socket(family, kind & 0xf, protocol) {
        Ok(socket) => {
            state
                .sockets
                .close(clock::now(), socket, CloseHow::Graceful);
            Errno::EOPNOTSUPP
        }
        Err(errno) => errno,
    })
}

/// pidfd_getfd(2) inside one container; towards the outside it could fetch a host socket.
///
/// Done here and not by the kernel: the pidfd's number could name another process a moment later.
pub(super) fn pidfd_getfd(
    node: &Arc<Node>,
    container: &Arc<Container>,
    call: &Call,
    args: &[u64; 6],
) -> Verdict {
    let fetched = fetch(node, container, call, int(args[0]), int(args[1]));
    let file = match fetched {
        Ok(file) => file,
        Err(errno) => return Verdict::Fail(errno),
    };
    if args[2] != 0 {
        return Verdict::Fail(Errno::EINVAL);
    }
    match notify::inject(call.notify(), call.id, file.as_fd(), true) {
        Ok(_) => Verdict::Done,
        Err(error) => Verdict::Fail(io_errno(error)),
    }
}

fn fetch(
    node: &Node,
    container: &Container,
    call: &Call,
    pidfd: i32,
    fd: i32,
) -> Result<OwnedFd, Errno> {
    let target = task::pidfd_target(call.tid, pidfd).ok_or(Errno::EBADF)?;
    if node.tasks.container_of(target) != Some(container.id) {
        return Err(Errno::EPERM);
    }
    task::duplicate_any(target, fd).map_err(io_errno)
}
