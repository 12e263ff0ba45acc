// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A program that is served from inside the sandbox.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use netcon_supervisor::sys;

use crate::process::{another, close, give, raw, take};

/// The part of the program that a supervisor serves.
pub(crate) const SUPERVISED: &str = "supervised";
/// A system call that nothing in the supervised part makes by itself.
const TRAPPED: libc::c_long = libc::SYS_getpriority;
const WORDS: &[u8; 16] = b"memory of theirs";
const REPLY: i64 = 4711;

/// The supervisor's part: a notification of a program is received, looked at and answered inside.
pub(crate) fn serve() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut program = another("programs_are_served", SUPERVISED)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let listener = take(&ours);
    close();
    let call = sys::notify::receive(listener.as_fd()).unwrap();
    assert_eq!(i64::from(call.number), TRAPPED);
    assert!(sys::notify::is_valid(listener.as_fd(), call.id));
    let mut words = [0; 16];
    sys::memory::read(call.tid, call.args[0], &mut words).unwrap();
    assert_eq!(&words, WORDS);
    sys::memory::write(call.tid, call.args[0], b"MEMORY OF OURS!!").unwrap();
    // Its standard input is a socket: found, duplicated, compared.
    let inode = sys::task::socket_inode(call.tid, 0).unwrap().unwrap();
    sys::task::duplicate(call.tid, 0, inode).unwrap();
    assert!(sys::task::state(call.tid).is_some());
    assert!(
        fs::read_dir(format!("/proc/{}/task", call.tid))
            .unwrap()
            .count()
            > 0
    );
    sys::notify::answer(listener.as_fd(), call.id, Ok(REPLY)).unwrap();
    // The second call gets a descriptor.
    let call = sys::notify::receive(listener.as_fd()).unwrap();
    let (a, _b) = UnixStream::pair().unwrap();
    sys::notify::inject(listener.as_fd(), call.id, a.as_fd(), true).unwrap();
    let mut said = String::new();
    program
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    // Waiting for a child is not among what the supervisor needs.
    assert!(program.wait().is_err());
    assert!(said.contains("1 passed"), "{said}");
}

/// A program under a notify filter, its standard input a socket to the supervisor.
pub(crate) fn supervised() {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let number = u32::try_from(TRAPPED).unwrap();
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_USER_NOTIF,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    nix::sys::prctl::set_no_new_privs().unwrap();
    let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let listener = raw(
        libc::SYS_seccomp,
        [mode, flags, &raw const filter as u64, 0, 0],
    )
    .unwrap();
    // SAFETY: the kernel has just made this descriptor for us.
    let listener = unsafe { OwnedFd::from_raw_fd(i32::try_from(listener).unwrap()) };
    // SAFETY: standard input is open for the life of the process and used by nobody else here.
    let supervisor = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    give(&supervisor, listener.as_raw_fd());
    drop(listener);
    let mut words = *WORDS;
    assert_eq!(
        raw(TRAPPED, [words.as_mut_ptr() as u64, 0, 0, 0, 0]),
        Ok(REPLY)
    );
    assert_eq!(&words, b"MEMORY OF OURS!!");
    let injected = raw(TRAPPED, [0; 5]).unwrap();
    assert!(
        fs::read_link(format!("/proc/self/fd/{injected}"))
            .unwrap()
            .to_string_lossy()
            .starts_with("socket:")
    );
    drop(supervisor);
}
