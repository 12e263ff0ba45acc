// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parts played by processes of their own, and raw access to the kernel.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use netcon_supervisor::sandbox;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Names, in the environment of a process, the part it plays.
pub(crate) const PART: &str = "NETCON_SANDBOX_TEST_PART";

/// Runs the test `name` again in a process of its own, and there what it tests.
pub(crate) fn play(name: &str, test: impl FnOnce()) {
    if std::env::var_os(PART).is_some() {
        return test();
    }
    let output = another(name, "supervisor").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    assert!(
        text(&output.stdout).contains("1 passed"),
        "{name} did not run"
    );
}

pub(crate) fn another(name: &str, part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(PART, part);
    command
}

/// Both stages, as the supervisor closes them.
pub(crate) fn close() {
    sandbox::harden().unwrap();
    sandbox::confine().unwrap();
}

/// A raw system call; all arguments are integers or pointers that live long enough.
pub(crate) fn raw(number: libc::c_long, args: [u64; 5]) -> Result<i64, Errno> {
    // SAFETY: callers pass null, small integers or pointers to live buffers of the right size.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    Errno::result(result)
}

pub(crate) fn int(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

pub(crate) fn give(through: &UnixStream, fd: i32) {
    let rights = [ControlMessage::ScmRights(&[fd])];
    sendmsg::<()>(
        through.as_raw_fd(),
        &[IoSlice::new(b"f")],
        &rights,
        MsgFlags::empty(),
        None,
    )
    .unwrap();
}

pub(crate) fn take(from: &UnixStream) -> OwnedFd {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut control = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(
        from.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    let rights = message.cmsgs().unwrap().find_map(|control| match control {
        ControlMessageOwned::ScmRights(rights) => rights.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just given us this descriptor.
    unsafe { OwnedFd::from_raw_fd(rights.expect("a descriptor")) }
}
