// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The process at the other end of a unix socket (unix(7)).
#![allow(unsafe_code)]

use super::task;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// SO_PEERPIDFD (Linux 6.5).
const SO_PEERPIDFD: libc::c_int = 77;

/// True while the very process that called connect lives, so that its pid names nobody else.
///
/// Before Linux 6.5 it is the process that has this pid now.
#[must_use]
pub fn is_alive(stream: &UnixStream, pid: u32) -> bool {
    let mut raw: libc::c_int = -1;
    let mut length: libc::socklen_t = 4;
    // SAFETY: the fd is open, both pointers are valid for an int.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut raw).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        let error = std::io::Error::last_os_error().raw_os_error();
        return error == Some(libc::ENOPROTOOPT) && task::start_time(pid).is_some();
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    // Readable: it has ended (pidfd_open(2)).
    poll(&mut polled, PollTimeout::ZERO) == Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_alive() {
        let (a, _b) = UnixStream::pair().unwrap();
        assert!(is_alive(&a, std::process::id()));
    }
}
