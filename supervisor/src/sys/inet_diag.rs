// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whose TCP socket is at the other end of a loopback connection (sock_diag(7), inet_diag).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Who made the socket, in our user namespace.
    pub uid: u32,
    /// Its number: `socket:[inode]` in /proc.
    pub inode: u64,
}

/// Asks the kernel about TCP sockets.
#[derive(Debug, Default)]
pub struct InetDiag {
    /// Made with the first question, and anew after an answer that did not come.
    netlink: Option<OwnedFd>,
    /// Of the last question.
    sequence: u32,
}

impl InetDiag {
    /// The owner of the socket with address `local` that is connected to `remote`. None when there is no such socket in our
    /// network namespace, or nobody holds it any more.
    ///
    /// # Errors
    /// Whatever the kernel said; also when it has no inet_diag.
    pub fn owner(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Owner>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(local, remote, self.sequence)?;
        let netlink = match self.netlink.take() {
            Some(netlink) => netlink,
            None => open()?,
        };
        send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut answer = [0; 1024];
        let count = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let answer = &answer[..count];
        if field(answer, SEQUENCE).map(u32::from_ne_bytes) != Some(self.sequence) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.netlink = Some(netlink);
        parse(answer, local.port(), remote.port())
    }
}

fn open() -> io::Result<OwnedFd> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(&netlink, ReceiveTimeout, &TimeVal::seconds(1))?;
    Ok(netlink)
}

/// Bytes of struct nlmsghdr (netlink(7)).
const HEADER: usize = 16;
/// Where its sequence number stands.
const SEQUENCE: usize = 8;
/// Bytes of struct inet_diag_req_v2 (linux/inet_diag.h).
const REQUEST: usize = 56;
/// Bytes of struct inet_diag_msg without attributes.
const MESSAGE: usize = 72;
/// SOCK_DIAG_BY_FAMILY (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST: without NLM_F_DUMP the kernel looks one connection up.
const ONE: u16 = 1;
/// Where sockets begin and end with a holder: TCP_ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT (linux/tcp_states.h).
const HELD: [u8; 4] = [1, 4, 5, 8];

fn request(
    local: SocketAddr,
    remote: SocketAddr,
    sequence: u32,
) -> io::Result<[u8; HEADER + REQUEST]> {
    let (family, local_bytes, remote_bytes) = match (local, remote) {
        (SocketAddr::V4(local), SocketAddr::V4(remote)) => (
            libc::AF_INET,
            padded(&local.ip().octets()),
            padded(&remote.ip().octets()),
        ),
        (SocketAddr::V6(local), SocketAddr::V6(remote)) => {
            (libc::AF_INET6, local.ip().octets(), remote.ip().octets())
        }
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
            return Err(io::ErrorKind::InvalidInput.into());
        }
    };
    let mut bytes = [0; HEADER + REQUEST];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    // struct nlmsghdr: length, type, flags, sequence, port.
    put(&(72_u32).to_ne_bytes());
    put(&BY_FAMILY.to_ne_bytes());
    put(&ONE.to_ne_bytes());
    put(&sequence.to_ne_bytes());
    put(&[0; 4]);
    // struct inet_diag_req_v2: family, protocol, extensions, pad, states.
    put(&[
        family.to_ne_bytes()[0],
        libc::IPPROTO_TCP.to_ne_bytes()[0],
        0,
        0,
    ]);
    put(&u32::MAX.to_ne_bytes());
    // struct inet_diag_sockid: ports and addresses in network order, interface, cookie (none).
    put(&local.port().to_be_bytes());
    put(&remote.port().to_be_bytes());
    put(&local_bytes);
    put(&remote_bytes);
    put(&[0; 4]);
    put(&[0xff; 8]);
    Ok(bytes)
}

/// An IPv4 address as inet_diag carries it.
fn padded(octets: &[u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(octets);
    bytes
}

fn parse(answer: &[u8], local: u16, remote: u16) -> io::Result<Option<Owner>> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let kind = u16::from_ne_bytes(field(answer, 4).ok_or_else(short)?);
    if i32::from(kind) == libc::NLMSG_ERROR {
        let error = i32::from_ne_bytes(field(answer, HEADER).ok_or_else(short)?).wrapping_neg();
        return match error {
            libc::ENOENT => Ok(None),
            error => Err(io::Error::from_raw_os_error(error)),
        };
    }
    if kind != BY_FAMILY || answer.len() < HEADER + MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let message = &answer[HEADER..HEADER + MESSAGE];
    let state = message[1];
    let ports = [local, remote].map(u16::to_be_bytes).concat();
    let inode = u32::from_ne_bytes(field(message, 68).ok_or_else(short)?);
    // The kernel falls back to a listener of that port, and reports sockets in TIME_WAIT with uid 0
    // and no inode: neither is the caller.
    if !HELD.contains(&state) || inode == 0 || message[4..8] != ports[..] {
        return Ok(None);
    }
    Ok(Some(Owner {
        uid: u32::from_ne_bytes(field(message, 64).ok_or_else(short)?),
        inode: inode.into(),
    }))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn owner(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Owner>> {
        InetDiag::default().owner(local, remote)
    }

    #[test]
    fn own_connections_are_ours_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                assert!(address.starts_with('['), "no IPv4 loopback");
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let here = server.local_addr().unwrap();
            let uid = nix::unistd::geteuid().as_raw();
            let inode = crate::sys::unix::inode(client.as_fd()).unwrap();
            let ours = Some(Owner { uid, inode });
            let mut diag = InetDiag::default();
            assert_eq!(diag.owner(peer, here).unwrap(), ours);
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(diag.owner(peer, here).unwrap(), ours);
            drop(client);
            assert_eq!(diag.owner(peer, here).unwrap(), None);
            assert!(diag.netlink.is_some(), "one socket for all questions");
        }
    }

    #[test]
    fn a_mapped_address_is_found_too() {
        use nix::sys::socket::{SockaddrIn6, connect};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Ok(client) = socket(
            AddressFamily::Inet6,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        ) else {
            return;
        };
        let mapped = std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        let to = std::net::SocketAddrV6::new(mapped, port, 0, 0);
        connect(client.as_raw_fd(), &SockaddrIn6::from(to)).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let found = owner(peer, server.local_addr().unwrap()).unwrap().unwrap();
        assert_eq!(
            found.inode,
            crate::sys::unix::inode(client.as_fd()).unwrap()
        );
    }

    #[test]
    fn a_listener_is_nobodys_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        assert_eq!(owner(here, "127.0.0.1:9".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn families_do_not_mix() {
        let error = owner("127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn short_answers_are_errors() {
        for length in 0..HEADER + MESSAGE {
            let mut answer = vec![0; length];
            if length >= 6 {
                answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
            }
            assert!(parse(&answer, 1, 2).is_err(), "{length}");
        }
    }
}
