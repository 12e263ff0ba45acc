// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that are made only to see whether they are allowed. Each gives the errno with which it was refused.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use netcon_shim::sys;

/// Puts the calling thread under a filter that hands over getsockname(2) and allows everything else.
///
/// Errors: EBUSY under another listener; EINVAL for an unknown flag; EPERM or ENOSYS where seccomp is forbidden.
pub fn trap_getsockname(flags: u32) -> io::Result<OwnedFd> {
    let number = u32::try_from(libc::SYS_getsockname).map_err(io::Error::other)?;
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // linux/filter.h: load the word at offset 0 of seccomp_data, its number; compare; return.
    let program = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, number),
        instruction(0x06, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        instruction(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    if !sys::has_sys_admin() {
        sys::set_no_new_privs()?;
    }
    sys::install(&program, flags)
}

/// Makes a trapped call: what it returns, a descriptor perhaps, or its errno.
pub fn call_getsockname(fd: i32, cookie: &mut [u8; 8]) -> io::Result<i32> {
    let mut length = 8_u32;
    // SAFETY: both pointers are to live memory of the sizes told; whoever answers may write to them.
    let result = unsafe { libc::getsockname(fd, cookie.as_mut_ptr().cast(), &raw mut length) };
    checked(i64::from(result))
}

/// Reads eight bytes of another process (process_vm_readv(2)).
pub fn read_by_call(pid: i32, address: usize) -> io::Result<[u8; 8]> {
    let mut bytes = [0_u8; 8];
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address),
        iov_len: bytes.len(),
    };
    // SAFETY: the local vector is of memory of ours; the remote address is the kernel's to check.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match checked(i64::try_from(read).unwrap_or(-1))? {
        8 => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A descriptor of another process (pidfd_open(2), pidfd_getfd(2)).
pub fn take_descriptor(pid: i32, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: the call returned a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(checked(pidfd)?) };
    // SAFETY: takes integers only; the first is an open descriptor.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(checked(taken)?) })
}

/// A ring of io_uring(7), closed at once.
pub fn io_uring() -> io::Result<()> {
    // struct io_uring_params has 120 bytes; all-zero ones ask for nothing particular.
    let mut parameters = [0_u64; 15];
    // SAFETY: the pointer is to one structure of the size that the kernel reads and fills.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    // SAFETY: the call returned a new descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(checked(ring)?) });
    Ok(())
}

/// getpid(2) by the numbers of x32, which mark theirs with one bit.
#[cfg(target_arch = "x86_64")]
pub fn x32() -> io::Result<()> {
    const X32_BIT: i64 = 0x4000_0000;
    // SAFETY: getpid takes nothing.
    checked(unsafe { libc::syscall(X32_BIT | libc::SYS_getpid) }).map(drop)
}

/// getpid(2) by i386's door. Without that door the process gets SIGSEGV: call it where that may happen.
#[cfg(target_arch = "x86_64")]
pub fn i386() -> io::Result<()> {
    const GETPID: i64 = 20;
    let result: i64;
    // SAFETY: getpid takes nothing and touches no memory; older kernels clear the registers that are named.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") GETPID => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            options(nostack)
        );
    }
    match i32::try_from(result) {
        Ok(1..) => Ok(()),
        Ok(error) => Err(io::Error::from_raw_os_error(-error)),
        Err(_) => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
    }
}

/// A switch of a UDP socket (udp(7), UDP_SEGMENT and UDP_GRO).
pub fn set_udp_option(socket: BorrowedFd<'_>, option: UdpOption) -> io::Result<()> {
    let (option, value) = match option {
        UdpOption::Segment => (libc::UDP_SEGMENT, 1_200_i32),
        UdpOption::Gro => (libc::UDP_GRO, 1),
    };
    // SAFETY: the descriptor is open, the pointer is to a local of the size told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            (&raw const value).cast(),
            4,
        )
    };
    checked(i64::from(result)).map(drop)
}

/// Which switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpOption {
    /// Many packets in one call out.
    Segment,
    /// Many packets in one call in.
    Gro,
}

/// A socket for echo requests without a capability (icmp(7)).
pub fn ping_socket() -> io::Result<()> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: takes integers only.
    let socket = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_ICMP) };
    // SAFETY: the call returned a new descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(checked(i64::from(socket))?) });
    Ok(())
}

/// Puts this process into a user namespace of its own (unshare(2)).
pub fn user_namespace() -> io::Result<()> {
    // SAFETY: takes an integer only.
    checked(i64::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) })).map(drop)
}

/// Ends this process by SIGALRM unless it has ended before (alarm(2)).
pub fn end_after(seconds: u32) {
    // SAFETY: takes an integer only.
    unsafe { libc::alarm(seconds) };
}

fn checked(result: i64) -> io::Result<i32> {
    match i32::try_from(result) {
        Ok(result @ 0..) => Ok(result),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}
