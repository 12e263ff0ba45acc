// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The filter as the kernel runs it: this test binary is its own program under the shim, and makes the calls.

use crate::support::sys::{call, call_i386};
use crate::support::{Script, Supervisor, stdout};
use netcon_shim::handover::Listener;
use std::io::Write;

const X32: i64 = 0x4000_0000;
const ENOSYS: i64 = -38;
const EAFNOSUPPORT: i64 = -97;
const EBADF: i64 = -9;

/// Runs only under the shim: each line is a call and what came of it.
#[test]
#[ignore = "the program that the other test starts"]
fn program() {
    let show = |name: &str, result: i64| writeln!(std::io::stdout(), "{name} {result}").unwrap();
    let is_fd = |result: i64| if result >= 0 { 0 } else { result };
    show("unix", is_fd(call(libc::SYS_socket, [1, 1, 0, 0, 0, 0])));
    show(
        "unix dirty",
        is_fd(call(
            libc::SYS_socket,
            [0xffff_ffff_0000_0001, 1, 0, 0, 0, 0],
        )),
    );
    show("packet", call(libc::SYS_socket, [17, 3, 0, 0, 0, 0]));
    show("netlink", call(libc::SYS_socket, [16, 3, 0, 0, 0, 0]));
    show("vsock", call(libc::SYS_socket, [40, 1, 0, 0, 0, 0]));
    show("inet", call(libc::SYS_socket, [2, 1, 0, 0, 0, 0]));
    show(
        "inet dirty",
        call(libc::SYS_socket, [0x1_0000_0002, 1, 0, 0, 0, 0]),
    );
    show(
        "io_uring",
        call(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
    );
    show(
        "pidfd_getfd",
        call(libc::SYS_pidfd_getfd, [0, 0, 0, 0, 0, 0]),
    );
    show(
        "x32 socket",
        call(X32 | libc::SYS_socket, [2, 1, 0, 0, 0, 0]),
    );
    show("x32 getpid", call(X32 | libc::SYS_getpid, [0; 6]));
    show("dumpable off", call(libc::SYS_prctl, [4, 0, 0, 0, 0, 0]));
    show("dumpable", call(libc::SYS_prctl, [3, 0, 0, 0, 0, 0]));
    show(
        "ioctl bad fd",
        call(libc::SYS_ioctl, [u64::MAX, 0x1_0000_8912, 0, 0, 0, 0]),
    );
    let own = call(libc::SYS_getpid, [0; 6]);
    // A kernel without the i386 ABI raises SIGSEGV at `int $0x80`: last.
    show("i386 getpid", call_i386(20, [0; 3]) - own);
    show("i386 socketcall", call_i386(102, [1, 0, 0]));
    show("i386 socket", call_i386(359, [2, 1, 0]));
    show("i386 io_uring", call_i386(425, [1, 0, 0]));
    show("i386 dumpable off", call_i386(172, [4, 0, 0]));
    show("end", 0);
}

#[test]
fn the_kernel_agrees() {
    let supervisor = Supervisor::start(Script::Serve);
    let own = std::env::current_exe().unwrap();
    let output = supervisor.run(&[
        own.to_str().unwrap(),
        "--exact",
        "calls::program",
        "--ignored",
        "--nocapture",
    ]);
    let text = stdout(&output);
    let result = |name: &str| -> Option<i64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    };
    let expected = [
        ("unix", 0),
        ("unix dirty", 0),
        ("packet", EAFNOSUPPORT),
        ("netlink", EAFNOSUPPORT),
        ("vsock", EAFNOSUPPORT),
        ("inet", EAFNOSUPPORT),
        ("inet dirty", EAFNOSUPPORT),
        ("io_uring", ENOSYS),
        ("pidfd_getfd", -1),
        ("x32 socket", ENOSYS),
        ("x32 getpid", ENOSYS),
        ("dumpable off", 0),
        ("dumpable", 1),
        ("ioctl bad fd", EBADF),
    ];
    for (name, value) in expected {
        assert_eq!(result(name), Some(value), "{name}\n{text}");
    }
    if result("i386 getpid").is_some() {
        for (name, value) in [
            ("i386 getpid", 0),
            ("i386 socketcall", ENOSYS),
            ("i386 socket", ENOSYS),
            ("i386 io_uring", ENOSYS),
            ("i386 dumpable off", 0),
            ("end", 0),
        ] {
            assert_eq!(result(name), Some(value), "{name}\n{text}");
        }
    }
    let seen = supervisor.seen.lock().unwrap();
    let count = |number| {
        seen.calls
            .iter()
            .filter(|call| call.number == number)
            .count()
    };
    assert_eq!(
        count(libc::SYS_socket),
        3,
        "AF_INET, also with a dirty upper half, and AF_NETLINK"
    );
    assert_eq!(count(libc::SYS_pidfd_getfd), 1);
    assert_eq!(count(libc::SYS_ioctl), 1);
    assert_eq!(seen.flags.len(), 1);
    assert!(
        Listener {
            flags: seen.flags[0]
        }
        .waits_killable(),
        "on Linux 5.19 and later"
    );
}
