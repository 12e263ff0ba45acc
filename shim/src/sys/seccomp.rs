// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Installing the filter, and the probe call made under it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Installs `program` for the calling thread alone and returns its listener (seccomp(2)), close-on-exec.
///
/// `flags` are `SECCOMP_FILTER_FLAG_*` beside NEW_LISTENER. Errors: EBUSY under another listener; EINVAL for an unknown
/// flag, or a kernel without user notification; ENOSYS or EPERM where seccomp itself is missing or forbidden; EACCES without
/// no_new_privs and CAP_SYS_ADMIN.
pub fn install(program: &[libc::sock_filter], flags: u32) -> io::Result<OwnedFd> {
    let length =
        u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::c_ulong::from(flags);
    // SAFETY: `program` points to `length` instructions that live during the call; the kernel only reads them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: with NEW_LISTENER the call returns a new descriptor that nobody else owns.
    let listener = unsafe { OwnedFd::from_raw_fd(fd) };
    above_standard(listener)
}

/// Gives up gaining rights by exec, for the calling thread (prctl(2), PR_SET_NO_NEW_PRIVS).
pub fn set_no_new_privs() -> io::Result<()> {
    // SAFETY: takes integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// True when CAP_SYS_ADMIN is effective: a filter may then be installed without giving up setuid programs (capget(2)).
#[must_use]
pub fn has_sys_admin() -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_ADMIN: u32 = 21;
    // struct __user_cap_header_struct, and effective, permitted, inheritable of the low and the high 32 capabilities.
    let mut header = [VERSION_3, 0];
    let mut data = [0_u32; 6];
    // SAFETY: header and data have the sizes that version 3 asks for; pid 0 is the caller.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    result == 0 && data[0] & (1 << SYS_ADMIN) != 0
}

/// An empty file in memory (memfd_create(2)), close-on-exec.
pub fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a valid C string.
    let fd = unsafe { libc::memfd_create(c"netcon-filter".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Makes the probe call: getsockname(`fd`, `cookie`, its length). Returns the errno it ended with; 0 if it did not fail.
#[must_use]
pub fn probe(fd: i32, cookie: &[u8; 8]) -> i32 {
    let mut cookie = *cookie;
    let mut length = u32::try_from(cookie.len()).expect("eight");
    // SAFETY: both pointers are to locals of the sizes told; whoever answers may write to them.
    let result = unsafe { libc::getsockname(fd, cookie.as_mut_ptr().cast(), &raw mut length) };
    if result < 0 {
        io::Error::last_os_error().raw_os_error().unwrap_or(0)
    } else {
        0
    }
}

/// Moves a descriptor away from 0, 1 and 2, which the caller may have been started without.
pub(super) fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(fd);
    }
    // SAFETY: the descriptor is open.
    let moved = unsafe {
        libc::fcntl(
            fd.as_raw_fd(),
            libc::F_DUPFD_CLOEXEC,
            libc::STDERR_FILENO + 1,
        )
    };
    if moved < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}
