// SPDX-License-Identifier: Apache-2.0 OR MIT
//! sock_diag(7) for AF_UNIX: a weak reference to a socket by its inode. Works without privilege.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;

/// Asks the kernel about AF_UNIX sockets. 7–10 µs a question.
#[derive(Debug)]
pub struct UnixDiag(Mutex<(OwnedFd, u32)>);

impl UnixDiag {
    /// Opens the netlink socket.
    pub fn new() -> Result<Self, Errno> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        Ok(Self(Mutex::new((fd, 0))))
    }

    /// True unless the kernel says that no open file holds this socket any more.
    pub fn exists(&self, inode: u64) -> bool {
        !matches!(self.peer(inode), Err(Errno::ENOENT))
    }

    /// Inode of the socket connected to this one, None if it has none.
    pub fn peer(&self, inode: u64) -> Result<Option<u64>, Errno> {
        let short = u32::try_from(inode).map_err(|_| Errno::EINVAL)?;
        let mut fd = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (socket, sequence) = &mut *fd;
        *sequence = sequence.wrapping_add(1);
        send(
            socket.as_raw_fd(),
            &request(short, *sequence),
            MsgFlags::empty(),
        )?;
        let mut answer = [0_u8; 4096];
        loop {
            match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                // An answer that nobody read because of an error then is not this one's.
                Ok(n) if u32_at(&answer[..n], 8) != Some(*sequence) => {}
                result => return parse(&answer[..result?]),
            }
        }
    }
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;
const HEADER: usize = 16;
const UNIX_DIAG_MSG: usize = 16;

/// struct nlmsghdr, struct unix_diag_req (linux/unix_diag.h); any cookie, any state.
fn request(inode: u32, sequence: u32) -> [u8; 40] {
    let mut out = [0_u8; 40];
    out[0..4].copy_from_slice(&40_u32.to_ne_bytes());
    out[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    out[6..8].copy_from_slice(&1_u16.to_ne_bytes()); // NLM_F_REQUEST
    out[8..12].copy_from_slice(&sequence.to_ne_bytes());
    out[16] = 1; // AF_UNIX
    out[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    out[24..28].copy_from_slice(&inode.to_ne_bytes());
    out[28..32].copy_from_slice(&UDIAG_SHOW_PEER.to_ne_bytes());
    out[32..40].fill(0xff);
    out
}

fn parse(message: &[u8]) -> Result<Option<u64>, Errno> {
    let kind = u16_at(message, 4).ok_or(Errno::EPROTO)?;
    if kind == NLMSG_ERROR {
        let code = u32_at(message, HEADER).ok_or(Errno::EPROTO)?.cast_signed();
        return Err(Errno::from_raw(code.saturating_neg()));
    }
    let end = message
        .len()
        .min(u32_at(message, 0).ok_or(Errno::EPROTO)? as usize);
    let mut at = HEADER + UNIX_DIAG_MSG;
    while let (Some(len), Some(kind)) = (u16_at(message, at), u16_at(message, at + 2)) {
        let len = usize::from(len);
        if len < 4 || at + len > end {
            break;
        }
        if kind == UNIX_DIAG_PEER {
            return Ok(u32_at(message, at + 4).map(u64::from));
        }
        at += len.next_multiple_of(4);
    }
    Ok(None)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_closed_socket_is_gone_and_a_pair_knows_its_peer() {
        let diag = UnixDiag::new().unwrap();
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let ia = super::super::unix::inode(a.as_fd()).unwrap();
        let ib = super::super::unix::inode(b.as_fd()).unwrap();
        assert_eq!(diag.peer(ia), Ok(Some(ib)));
        drop(a);
        assert!(!diag.exists(ia));
        assert!(diag.exists(ib));
    }
}
