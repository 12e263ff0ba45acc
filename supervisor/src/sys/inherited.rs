// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Descriptors that this process was started with, by the numbers that were agreed.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// Descriptors that have been taken: each has one owner.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes a descriptor that the program's starter has left open under this number, and closes it for programs that are
/// executed.
///
/// To be called at the start, before this process opens files of its own.
///
/// # Errors
/// EBADF when there is none, when it is one of the standard ones, or when it was taken before.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    let bad = || io::Error::from_raw_os_error(libc::EBADF);
    let mut taken = TAKEN.lock().map_err(|_poisoned| bad())?;
    if number <= libc::STDERR_FILENO || taken.contains(&number) {
        return Err(bad());
    }
    // SAFETY: takes integers only; tells whether the number is open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    taken.push(number);
    // SAFETY: it is open, was opened by whoever started us for us to own, and is taken once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    debug_assert_eq!(fd.as_raw_fd(), number);
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn each_is_taken_once_and_standard_ones_never() {
        let number = OwnedFd::from(io::pipe().unwrap().0).into_raw_fd();
        let taken = take(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(take(number).is_err());
        assert!(take(1).is_err() && take(-1).is_err() && take(i32::MAX).is_err());
    }
}
