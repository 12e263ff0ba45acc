// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AF_NETLINK sockets of programs. The program has one end of an AF_UNIX pair that keeps the boundaries of messages, the
//! supervisor the other; what comes in there is a request, and its answer goes back the same way.
//!
//! Requests are served by whoever comes first: the program's own next trapped call, or the data thread. The pair hangs up
//! when the program's last reference is closed.

use crate::network::{Network, Token};
use crate::node::Node;
use crate::sys::{random, unix};
use netcon_netstack::errno::Errno;
use netcon_netstack::interfaces::View;
use netcon_netstack::netlink::{Address, Netlink};
use nix::errno::Errno as Kernel;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, recv, send};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest request; Linux refuses one longer than SO_SNDBUF.
pub const MAX_REQUEST: usize = 65_536;
/// Requests served at a time: another process may go on sending.
const SHARE: usize = 64;

/// One socket.
#[derive(Debug)]
pub struct End {
    /// Names it in a [`Token`].
    number: u64,
    /// Identity of the program's end.
    inode: u64,
    /// Where it lives.
    pub network: Arc<Network>,
    /// The program had left the namespace of its container when it made the socket: there is nothing to be seen.
    elsewhere: bool,
    /// The supervisor's end. Non-blocking.
    s: OwnedFd,
    socket: Mutex<Netlink>,
}

/// Every netlink socket of the supervisor.
#[derive(Debug, Default)]
pub struct Ends(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    by_inode: HashMap<u64, Arc<End>>,
    by_number: HashMap<u64, Arc<End>>,
    /// Ports in use, for each network.
    ports: HashMap<(u32, u32), u64>,
    last: u64,
}

impl Ends {
    /// Makes a socket; gives the program's end.
    pub fn open(
        &self,
        node: &Node,
        network: &Arc<Network>,
        elsewhere: bool,
        socket: Netlink,
        nonblocking: bool,
    ) -> Result<OwnedFd, Kernel> {
        let (a, s) = unix::message_pair(nonblocking)?;
        let inode = unix::inode(a.as_fd()).map_err(|_| Kernel::ENFILE)?;
        let mut tables = self.lock();
        tables.last += 1;
        let end = Arc::new(End {
            number: tables.last,
            inode,
            network: Arc::clone(network),
            elsewhere,
            s,
            socket: Mutex::new(socket),
        });
        // A number the kernel has given out again belonged to a socket that is gone.
        if let Some(old) = tables.by_inode.insert(inode, Arc::clone(&end)) {
            tables.forget(&old);
        }
        tables.by_number.insert(end.number, Arc::clone(&end));
        let watched = node
            .data
            .watch(end.s.as_fd(), Token::Netlink(end.number))
            .map_err(|_| Kernel::ENOSPC);
        if watched.is_err() {
            tables.by_inode.remove(&inode);
            tables.forget(&end);
        }
        watched.map(|()| a)
    }

    /// The socket an inode stands for.
    pub fn find(&self, inode: u64) -> Option<Arc<End>> {
        self.lock().by_inode.get(&inode).cloned()
    }

    /// Something happened on the supervisor's end of a socket.
    pub fn ready(&self, number: u64, events: EpollFlags) {
        let Some(end) = self.lock().by_number.get(&number).cloned() else {
            return;
        };
        end.serve();
        if events.contains(EpollFlags::EPOLLHUP) {
            let mut tables = self.lock();
            if tables
                .by_inode
                .get(&end.inode)
                .is_some_and(|now| now.number == number)
            {
                tables.by_inode.remove(&end.inode);
            }
            tables.forget(&end);
        }
    }

    /// bind(2), and what Linux does by itself at the first request: `hint`, the process, is the port if it is free.
    ///
    /// # Errors
    /// EINVAL: it has another port. EADDRINUSE.
    pub fn bind(&self, end: &End, address: Address, hint: u32) -> Result<(), Errno> {
        let mut tables = self.lock();
        let mut socket = end.socket();
        let Some(wanted) = socket.bind(address)? else {
            return Ok(());
        };
        let index = end.network.index.0;
        let port = if wanted == 0 {
            let free = |port: &u32| *port != 0 && !tables.ports.contains_key(&(index, *port));
            // Without randomness the first is as good as any.
            let start = random::bytes().map_or(0, u32::from_ne_bytes);
            free_port(hint, start, free).ok_or(Errno::EADDRINUSE)?
        } else if tables.ports.contains_key(&(index, wanted)) {
            return Err(Errno::EADDRINUSE);
        } else {
            wanted
        };
        tables.ports.insert((index, port), end.number);
        socket.bound(port, address.groups);
        Ok(())
    }

    /// Gives it a port, unless it has one.
    ///
    /// # Errors
    /// EADDRINUSE: there is none left.
    pub fn bind_if_needed(&self, end: &End, hint: u32) -> Result<(), Errno> {
        if end.socket().port() != 0 {
            return Ok(());
        }
        self.bind(end, Address::default(), hint)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ports of processes that have several sockets: the lowest, and how many (as Linux: from -2147483648 to -4097).
const FIRST_EXTRA: u32 = 0x8000_0000;
const EXTRA: u32 = 0x8000_0000 - 4096;

/// The process's own number, else as Linux: down from a random one, so that it does not matter how many are taken.
fn free_port(hint: u32, start: u32, free: impl FnMut(&u32) -> bool) -> Option<u32> {
    let start = start % EXTRA;
    let down = (0..=start).rev().chain((start + 1..EXTRA).rev());
    std::iter::once(hint)
        .chain(down.map(|step| FIRST_EXTRA + step))
        .find(free)
}

impl Tables {
    fn forget(&mut self, end: &End) {
        self.by_number.remove(&end.number);
        let place = (end.network.index.0, end.socket().port());
        if self.ports.get(&place) == Some(&end.number) {
            self.ports.remove(&place);
        }
    }
}

impl End {
    /// Its state. Taken after [`Ends`]' own lock, before the network's.
    pub fn socket(&self) -> MutexGuard<'_, Netlink> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Obeys what the program has sent natively, and answers as far as there is room.
    pub fn serve(&self) {
        let mut socket = self.socket();
        self.take_sent(&mut socket);
        self.answer(&mut socket);
    }

    /// Obeys one request, after what the program has sent natively.
    pub fn request(&self, bytes: &[u8]) {
        let mut socket = self.socket();
        self.take_sent(&mut socket);
        socket.handle_request(&self.view(), bytes);
        self.answer(&mut socket);
    }

    fn take_sent(&self, socket: &mut Netlink) {
        if !unix::is_readable(self.s.as_fd()) {
            return;
        }
        let mut request = vec![0; MAX_REQUEST];
        for _ in 0..SHARE {
            match recv(self.s.as_raw_fd(), &mut request, MsgFlags::MSG_DONTWAIT) {
                // An empty message, or the end: then it goes on saying so.
                Ok(n) => socket.handle_request(&self.view(), &request[..n]),
                Err(Kernel::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn view(&self) -> View {
        if self.elsewhere {
            View::Nothing
        } else {
            self.network.view()
        }
    }

    /// An edge tells when the program has made room.
    fn answer(&self, socket: &mut Netlink) {
        while let Some(reply) = socket.poll_reply() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.s.as_raw_fd(), &reply, flags) {
                Ok(_) => {}
                Err(Kernel::EAGAIN | Kernel::ENOBUFS | Kernel::EINTR) => {
                    socket.put_back(reply);
                    return;
                }
                // The program's end is gone.
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_port_is_found_at_once_however_many_are_taken() {
        let mut taken: HashSet<u32> = HashSet::new();
        // The numbers that a generator of this quality gives; the seed is of no importance.
        let mut random = 1_u64;
        let mut looked = 0_u32;
        for round in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let start = u32::try_from(random >> 32).unwrap();
            let port = free_port(77, start, |port| {
                looked += 1;
                !taken.contains(port)
            });
            let port = port.unwrap();
            assert_eq!(port == 77, round == 0, "the process's number for its first");
            assert!(port == 77 || (FIRST_EXTRA..=u32::MAX - 4096).contains(&port));
            assert!(taken.insert(port), "given twice");
        }
        assert!(looked < 3 * 20_000, "{looked}");
    }

    #[test]
    fn after_the_lowest_comes_the_highest() {
        let mut tried = Vec::new();
        let found = free_port(5, EXTRA + 1, |port| {
            tried.push(*port);
            tried.len() == 5
        });
        let highest = u32::MAX - 4096;
        assert_eq!(
            tried,
            [5, FIRST_EXTRA + 1, FIRST_EXTRA, highest, highest - 1]
        );
        assert_eq!(found, Some(highest - 1));
    }
}
