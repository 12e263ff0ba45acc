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

/// True if the next byte to be read from `fd` was sent with MSG_OOB.
pub fn is_at_mark(fd: BorrowedFd<'_>) -> bool {
    /// linux/sockios.h
    const SIOCATMARK: libc::Ioctl = 0x8905;
    integer(fd, SIOCATMARK).is_ok_and(|at| at != 0)
}

fn integer(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<usize> {
    let mut value: libc::c_int = 0;
    // SAFETY: the fd is open; each of these requests writes one int.
    if unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut value) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(value).unwrap_or(0))
}
