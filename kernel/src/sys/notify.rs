// SPDX-License-Identifier: Apache-2.0 OR MIT
//! seccomp user notification: receive, answer, inject (seccomp_unotify(2)).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One trapped call, as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Names this call until it is answered.
    pub id: u64,
    /// Thread that called, in our pid namespace; 0 if it is not visible from here.
    pub tid: u32,
    /// System call number.
    pub number: i32,
    /// The six argument registers.
    pub args: [u64; 6],
}

/// Waits for the next trapped call.
///
/// Errors: ENOENT when the caller died meanwhile or no task is left; EINTR.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    // SAFETY: seccomp_notif is plain data for which all-zero bytes are valid; the kernel demands zeroes.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the fd is open, the pointer is valid for one seccomp_notif.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut raw) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Notification {
        id: raw.id,
        tid: raw.pid,
        number: raw.data.nr,
        args: raw.data.args,
    })
}

/// Ends call `id` with `result`: a value, or a positive errno (512 = ERESTARTSYS).
pub fn answer(listener: BorrowedFd<'_>, id: u64, result: Result<i64, i32>) -> io::Result<()> {
    let (val, error) = match result {
        Ok(value) => (value, 0),
        Err(errno) => (0, -errno),
    };
    send(
        listener,
        libc::seccomp_notif_resp {
            id,
            val,
            error,
            flags: 0,
        },
    )
}

/// Lets the kernel run call `id` itself. Only for calls whose effect does not depend on memory that was looked at.
pub fn proceed(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    send(
        listener,
        libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: FLAG_CONTINUE,
        },
    )
}

/// True while the caller still waits for the answer to `id`.
pub fn is_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the fd is open, the pointer is valid for one u64.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Installs `file` as the lowest free descriptor of the caller and ends the call with its number, atomically.
///
/// Errors: EMFILE by the caller's own limit, ENOENT when the caller died; in both cases nothing has happened.
pub fn inject(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    cloexec: bool,
) -> io::Result<i32> {
    add_fd(listener, id, file, ADDFD_FLAG_SEND, 0, cloexec)
}

/// Replaces descriptor `number` of the caller by `file`; the call stays unanswered.
pub fn replace(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    number: u32,
    cloexec: bool,
) -> io::Result<i32> {
    add_fd(listener, id, file, ADDFD_FLAG_SETFD, number, cloexec)
}

/// Asks the kernel to run the receiver on the caller's CPU (Linux 6.6); false where it cannot.
pub fn set_sync_wake_up(listener: BorrowedFd<'_>) -> bool {
    // SAFETY: the flags are passed by value.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, 1_u64) == 0 }
}

fn send(listener: BorrowedFd<'_>, mut response: libc::seccomp_notif_resp) -> io::Result<()> {
    // SAFETY: the fd is open, the pointer is valid for one seccomp_notif_resp.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw mut response) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn add_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    flags: u32,
    number: u32,
    cloexec: bool,
) -> io::Result<i32> {
    let mut request = AddFd {
        id,
        flags,
        srcfd: file.as_raw_fd().cast_unsigned(),
        newfd: number,
        newfd_flags: if cloexec {
            libc::O_CLOEXEC.cast_unsigned()
        } else {
            0
        },
    };
    loop {
        // SAFETY: both fds are open, the pointer is valid for one seccomp_notif_addfd.
        let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ADDFD, &raw mut request) };
        if result >= 0 {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// struct seccomp_notif_addfd of linux/seccomp.h.
#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    srcfd: u32,
    newfd: u32,
    newfd_flags: u32,
}

// linux/seccomp.h, where they are C macros without a type.
const FLAG_CONTINUE: u32 = 1;
const ADDFD_FLAG_SETFD: u32 = 1;
const ADDFD_FLAG_SEND: u32 = 2;

// _IOWR('!', n, type) and _IOW('!', n, type) of linux/seccomp.h on x86_64 and aarch64.
const fn ioctl_number(direction: u64, nr: u64, size: usize) -> libc::Ioctl {
    (direction << 30) | ((size as u64) << 16) | ((b'!' as u64) << 8) | nr
}
const WRITE: u64 = 1;
const READ_WRITE: u64 = 3;
const NOTIF_RECV: libc::Ioctl = ioctl_number(READ_WRITE, 0, size_of::<libc::seccomp_notif>());
const NOTIF_SEND: libc::Ioctl = ioctl_number(READ_WRITE, 1, size_of::<libc::seccomp_notif_resp>());
const NOTIF_ID_VALID: libc::Ioctl = ioctl_number(WRITE, 2, size_of::<u64>());
const NOTIF_ADDFD: libc::Ioctl = ioctl_number(WRITE, 3, size_of::<AddFd>());
const NOTIF_SET_FLAGS: libc::Ioctl = ioctl_number(WRITE, 4, size_of::<u64>());
