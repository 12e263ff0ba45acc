// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Queue lengths of our own ends (unix(7): SIOCINQ, SIOCOUTQ).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes that wait to be read from `fd` (FIONREAD).
pub fn input_queue(fd: BorrowedFd<'_>) -> io::Result<usize> {
    integer(fd, libc::FIONREAD)
}

/// Kernel memory of what was sent on `fd` and not read yet; 0 exactly when everything was taken (TIOCOUTQ = SIOCOUTQ).
pub fn output_queue(fd: BorrowedFd<'_>) -> io::Result<usize> {
    integer(fd, libc::TIOCOUTQ)
}

fn integer(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<usize> {
    let mut value: libc::c_int = 0;
    // SAFETY: the fd is open; both requests write one int.
    if unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut value) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(value).unwrap_or(0))
}
