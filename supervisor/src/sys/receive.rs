// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes with descriptors from a unix stream socket (unix(7), SCM_RIGHTS; recvmsg(2)).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes of 253 descriptors (SCM_MAX_FD): more never come with one message.
const MOST: u32 = 253 * 4;
/// Bytes of control data for them.
const CONTROL: usize = {
    // SAFETY: arithmetic on its argument only.
    let space = unsafe { libc::CMSG_SPACE(MOST) };
    space as usize
};

/// Room for control data, aligned as cmsg(3) demands.
#[repr(C)]
union Control {
    bytes: [u8; CONTROL],
    _align: libc::cmsghdr,
}

/// Receives what is there, at most `into`, with the descriptors that came along (close-on-exec).
///
/// Descriptors end a read: what follows them on the stream is left for the next call.
///
/// # Errors
/// Whatever the kernel said; `InvalidData` when descriptors got lost at our own limit.
pub fn receive(from: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = Control {
        bytes: [0; CONTROL],
    };
    let mut part = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: a message header of zeroes is valid: no name, no buffers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL;
    // SAFETY: the header points to one live part and to CONTROL live, aligned bytes.
    let count =
        unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let Ok(count) = usize::try_from(count) else {
        return Err(io::Error::last_os_error());
    };
    // Taken before anything else is looked at, so that none is left open.
    let files = descriptors(&message);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((count, files))
}

/// Owns every descriptor of a received message, also of one that was cut short.
fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut files = Vec::new();
    // SAFETY: the kernel has filled the header; the macros stay inside msg_controllen.
    let mut part = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: non-null parts lie inside the control data.
    while let Some(header) = unsafe { part.as_ref() } {
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the data of a part that lies inside the control data.
            let data = unsafe { libc::CMSG_DATA(part) };
            let offset = data.addr() - part.addr();
            let count = header.cmsg_len.saturating_sub(offset) / size_of::<libc::c_int>();
            for index in 0..count {
                // SAFETY: `count` numbers lie in the data, perhaps unaligned; the kernel has just
                // installed each descriptor for us, and nobody else has it.
                files.push(unsafe {
                    OwnedFd::from_raw_fd(data.cast::<libc::c_int>().add(index).read_unaligned())
                });
            }
        }
        // SAFETY: `part` is one that these macros returned for this header.
        part = unsafe { libc::CMSG_NXTHDR(message, part) };
    }
    files
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    use super::*;

    fn send(through: &UnixStream, count: usize) {
        let files: Vec<i32> = vec![through.as_raw_fd(); count];
        let rights = [ControlMessage::ScmRights(&files)];
        let text = [IoSlice::new(b"text")];
        sendmsg::<()>(through.as_raw_fd(), &text, &rights, MsgFlags::empty(), None).unwrap();
    }

    #[test]
    fn descriptors_arrive_with_their_bytes() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut buffer = [0; 16];
        send(&a, 1);
        let (count, files) = receive(b.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..count], files.len()), (&b"text"[..], 1));
        send(&a, 0);
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().1.len(), 0);
        send(&a, 200);
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().1.len(), 200);
        drop((a, files));
        // Nothing keeps the other end open.
        b.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().0, 0);
    }
}
