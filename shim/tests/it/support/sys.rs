// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernel calls of the tests; their only unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// One trapped call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) tid: u32,
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 6],
}

/// The next trapped call; `None` when no task is left.
pub(crate) fn receive(listener: &OwnedFd) -> Option<Call> {
    loop {
        let mut poll = libc::pollfd {
            fd: listener.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
        if poll.revents & libc::POLLIN == 0 {
            return None;
        }
        // SAFETY: plain data for which zero is valid.
        let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to one seccomp_notif.
        if unsafe { libc::ioctl(listener.as_raw_fd(), 0xc050_2100, &raw mut raw) } == 0 {
            let number = i64::from(raw.data.nr);
            return Some(Call {
                id: raw.id,
                tid: raw.pid,
                number,
                arguments: raw.data.args,
            });
        }
    }
}

/// Ends a call with an errno.
pub(crate) fn answer(listener: &OwnedFd, id: u64, errno: i32) {
    send(
        listener,
        libc::seccomp_notif_resp {
            id,
            val: 0,
            error: -errno,
            flags: 0,
        },
    );
}

/// Lets the kernel run a call.
pub(crate) fn proceed(listener: &OwnedFd, id: u64) {
    send(
        listener,
        libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: 1,
        },
    );
}

/// Eight bytes of another process.
pub(crate) fn read_memory(tid: u32, address: u64) -> std::io::Result<[u8; 8]> {
    let mut bytes = [0; 8];
    File::open(format!("/proc/{tid}/mem"))?.read_exact_at(&mut bytes, address)?;
    Ok(bytes)
}

/// A message and the descriptor that came with it.
pub(crate) fn receive_with_fd(stream: &UnixStream, buffer: &mut [u8]) -> Option<(usize, OwnedFd)> {
    let mut control = [0_u64; 3];
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: plain data for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: all pointers in the message are to buffers that live here.
    let length =
        unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length).ok()?;
    // SAFETY: the message was filled in by the kernel.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return None;
    }
    // SAFETY: the only control message is one with one descriptor, which is ours now.
    let fd =
        unsafe { OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned()) };
    Some((length, fd))
}

/// Lets the command run where seccomp(2) ends with this errno, as on other kernels and in strict containers.
pub(crate) fn without_seccomp(command: &mut Command, errno: u16) {
    let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let seccomp = u32::try_from(libc::SYS_seccomp).unwrap();
    // Load the number; is it seccomp's; if so the errno, if not allow.
    let program = [
        instruction(0x20, 0, 0),
        instruction(0x15, 1, seccomp),
        instruction(0x06, 0, 0x0005_0000 | u32::from(errno)),
        instruction(0x06, 0, 0x7fff_0000),
    ];
    let install = move || {
        let program = libc::sock_fprog {
            len: 4,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: prctl takes integers, and a pointer to a program that lives during the call.
        let result = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64)
                | libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: the closure makes two system calls and neither allocates nor locks.
    unsafe { command.pre_exec(install) };
}

/// Makes a call with these arguments; the negative errno, or the result.
pub(crate) fn call(number: i64, arguments: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    let result: i64;
    // SAFETY: the callers pass null or valid pointers only.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, in("r9") f, out("rcx") _, out("r11") _);
    }
    result
}

/// Makes an i386 call (`int $0x80`) with three arguments.
pub(crate) fn call_i386(number: u64, arguments: [u64; 3]) -> i64 {
    let [b, c, d] = arguments;
    let result: u64;
    // SAFETY: the callers pass integers only; rbx is put back.
    unsafe {
        std::arch::asm!("xchg rbx, {b}", "int 0x80", "xchg rbx, {b}", b = inout(reg) b => _, inlateout("rax") number => result,
            in("rcx") c, in("rdx") d, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    i64::from(low(result))
}

/// The low half of a register, as an int.
pub(crate) fn low(register: u64) -> i32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

fn send(listener: &OwnedFd, mut response: libc::seccomp_notif_resp) {
    // SAFETY: the pointer is to one seccomp_notif_resp. The caller may have died meanwhile: no error here.
    unsafe { libc::ioctl(listener.as_raw_fd(), 0xc018_2101, &raw mut response) };
}
