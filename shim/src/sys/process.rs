// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program's file, its start, and the connection to the supervisor.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Replaces this process by the program (execve(2)); returns only if that failed.
#[must_use]
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: the path is a C string; both arrays hold C strings that outlive the call and end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// The disposition of the signal that glibc takes for itself when the first thread is made (33, SIGSETXID; nptl(7)).
///
/// Kept aside and put back so that the program inherits what this process did.
#[derive(Debug)]
pub struct ThreadSignal(KernelAction);

/// struct sigaction of the kernel: handler, flags, restorer, mask.
type KernelAction = [u64; 4];

impl ThreadSignal {
    /// Reads it, before a thread is made.
    #[must_use]
    pub fn save() -> Self {
        let mut action = KernelAction::default();
        // SAFETY: the pointer is to a local of the size of the kernel's structure; a null action changes nothing. The C
        // library's own sigaction refuses this signal.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                SIGSETXID,
                std::ptr::null::<u64>(),
                action.as_mut_ptr(),
                MASK_SIZE,
            );
        }
        Self(action)
    }

    /// Puts it back, after the thread has ended.
    pub fn restore(&self) {
        // SAFETY: the action is one that the kernel gave: ignore or default, since exec leaves no handlers.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                SIGSETXID,
                self.0.as_ptr(),
                std::ptr::null::<u64>(),
                MASK_SIZE,
            );
        }
    }
}

const SIGSETXID: i32 = 33;
/// Bytes of the kernel's signal mask.
const MASK_SIZE: usize = 8;

/// Whether this process may execute the file, by its effective ids (faccessat(2), AT_EACCESS). EACCES also on a noexec mount.
pub fn may_execute(path: &Path) -> io::Result<()> {
    access(path, libc::X_OK)
}

/// Whether this process may read the file, by its effective ids (faccessat(2), AT_EACCESS).
pub fn may_read(path: &Path) -> io::Result<()> {
    access(path, libc::R_OK)
}

/// Whether other processes of this user may look at this one (prctl(2), PR_GET_DUMPABLE).
#[must_use]
pub fn is_dumpable() -> bool {
    // SAFETY: takes integers only.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0_u64, 0_u64, 0_u64, 0_u64) == 1 }
}

/// The user at the other end of a unix socket (unix(7), SO_PEERCRED).
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = UCRED_SIZE;
    // SAFETY: the pointers are to locals, and `length` is the size of the first.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(peer.uid)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "twelve")]
const UCRED_SIZE: libc::socklen_t = size_of::<libc::ucred>() as libc::socklen_t;

/// Sends `bytes` with `fd` attached to them (sendmsg(2), SCM_RIGHTS). All of the bytes, or an error.
pub fn send_with_fd(stream: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    const FD_SIZE: u32 = 4;
    // SAFETY: pure arithmetic.
    const SPACE: usize = unsafe { libc::CMSG_SPACE(FD_SIZE) } as usize;
    #[repr(align(8))]
    struct Control([u8; SPACE]);

    let mut control = Control([0; SPACE]);
    let mut vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain data for which all-zero bytes are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = SPACE;
    // SAFETY: the control buffer is aligned and large enough for one header with one descriptor, which is written into it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(FD_SIZE) as usize;
        libc::CMSG_DATA(header)
            .cast::<i32>()
            .write_unaligned(fd.as_raw_fd());
    }
    loop {
        // SAFETY: all pointers in `message` are to buffers that live here, with their sizes.
        let sent =
            unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Connects to the supervisor's socket with a descriptor other than 0, 1 and 2.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    super::seccomp::above_standard(OwnedFd::from(UnixStream::connect(path)?)).map(UnixStream::from)
}

fn access(path: &Path, mode: i32) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string.
    let result = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
