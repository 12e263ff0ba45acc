// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the sandbox refuses.

use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;

use crate::process::{int, raw};

/// What lets a thread go on, and its result after that.
type Waiting = (Sender<()>, JoinHandle<Result<i64, Errno>>);

pub(crate) fn exec() {
    assert_eq!(
        Command::new("/bin/true")
            .status()
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EPERM)
    );
    let path = c"/bin/true".as_ptr() as u64;
    refused("execve", libc::SYS_execve, [path, 0, 0, 0, 0]);
    refused(
        "execveat",
        libc::SYS_execveat,
        [int(libc::AT_FDCWD), path, 0, 0, 0],
    );
    refused("fork", libc::SYS_fork, [0; 5]);
    refused("vfork", libc::SYS_vfork, [0; 5]);
    refused("clone", libc::SYS_clone, [int(libc::SIGCHLD), 0, 0, 0, 0]);
    let thread_and_namespace = int(libc::CLONE_THREAD | libc::CLONE_NEWUSER);
    refused("clone", libc::SYS_clone, [thread_and_namespace, 0, 0, 0, 0]);
    assert_eq!(raw(libc::SYS_clone3, [0; 5]), Err(Errno::ENOSYS));
    refused(
        "unshare",
        libc::SYS_unshare,
        [int(libc::CLONE_NEWUSER), 0, 0, 0, 0],
    );
    refused("setns", libc::SYS_setns, [0; 5]);
}

pub(crate) fn ptrace() {
    let me = u64::from(std::process::id());
    refused("traceme", libc::SYS_ptrace, [0, 0, 0, 0, 0]);
    refused(
        "attach",
        libc::SYS_ptrace,
        [int(libc::PTRACE_ATTACH.cast_signed()), me, 0, 0, 0],
    );
    refused(
        "seize",
        libc::SYS_ptrace,
        [int(libc::PTRACE_SEIZE.cast_signed()), me, 0, 0, 0],
    );
    refused("kcmp", libc::SYS_kcmp, [me, me, 0, 0, 0]);
}

pub(crate) fn sockets() {
    let refused = |family: i32, kind: i32, protocol: i32| {
        let args = [int(family), int(kind), int(protocol), 0, 0];
        assert_eq!(
            raw(libc::SYS_socket, args),
            Err(Errno::EPERM),
            "{family} {kind} {protocol}"
        );
        // The kernel looks at 32 bits only; so must the filter.
        let dirty = [args[0] | 1 << 32, args[1] | 1 << 32, args[2], 0, 0];
        assert_eq!(
            raw(libc::SYS_socket, dirty),
            Err(Errno::EPERM),
            "dirty {family}"
        );
    };
    for kind in [libc::SOCK_RAW, libc::SOCK_DGRAM] {
        refused(libc::AF_PACKET, kind, 0);
        refused(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC, 0x300);
    }
    for family in [libc::AF_INET, libc::AF_INET6] {
        refused(family, libc::SOCK_RAW, libc::IPPROTO_ICMP);
        refused(
            family,
            libc::SOCK_RAW | libc::SOCK_NONBLOCK,
            libc::IPPROTO_RAW,
        );
        refused(family, libc::SOCK_SEQPACKET, 0);
    }
    for family in [
        libc::AF_VSOCK,
        libc::AF_ALG,
        libc::AF_BLUETOOTH,
        libc::AF_XDP,
        libc::AF_KEY,
    ] {
        refused(family, libc::SOCK_STREAM, 0);
        refused(family, libc::SOCK_RAW, 0);
    }
    for protocol in [
        libc::NETLINK_NETFILTER,
        libc::NETLINK_AUDIT,
        libc::NETLINK_KOBJECT_UEVENT,
    ] {
        refused(libc::AF_NETLINK, libc::SOCK_RAW, protocol);
    }
}

pub(crate) fn others() {
    for (name, number) in [
        ("mount", libc::SYS_mount),
        ("bpf", libc::SYS_bpf),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("keyctl", libc::SYS_keyctl),
        ("setuid", libc::SYS_setuid),
        ("chroot", libc::SYS_chroot),
        ("pivot_root", libc::SYS_pivot_root),
        ("personality", libc::SYS_personality),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("modify_ldt", libc::SYS_modify_ldt),
        ("process_madvise", libc::SYS_process_madvise),
        ("a call of the future", 1000),
    ] {
        refused(name, number, [0; 5]);
    }
    refused(
        "dumpable again",
        libc::SYS_prctl,
        [int(libc::PR_SET_DUMPABLE), 1, 0, 0, 0],
    );
    refused("another filter", libc::SYS_seccomp, [1, 0, 0, 0, 0]);
    refused(
        "terminal injection",
        libc::SYS_ioctl,
        [0, libc::TIOCSTI, 0, 0, 0],
    );
    refused("kill", libc::SYS_kill, [1, int(libc::SIGTERM), 0, 0, 0]);
    let code = int(libc::PROT_WRITE | libc::PROT_EXEC);
    let private = int(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    refused(
        "writable code",
        libc::SYS_mmap,
        [0, 4096, code, private, u64::MAX],
    );
    let limit = [0_u64; 2];
    let new = limit.as_ptr() as u64;
    refused(
        "setting limits",
        libc::SYS_prlimit64,
        [0, u64::from(libc::RLIMIT_NOFILE), new, 0, 0],
    );
}

fn refused(name: &str, number: libc::c_long, args: [u64; 5]) {
    assert_eq!(raw(number, args), Err(Errno::EPERM), "{name}");
}

/// A thread that exists before the filter, and tries a refused call when told to.
pub(crate) fn thread_from_before() -> Waiting {
    let (tell, told) = channel();
    let thread = std::thread::spawn(move || {
        told.recv().unwrap();
        raw(libc::SYS_ptrace, [0; 5])
    });
    (tell, thread)
}

pub(crate) fn threads((tell, before): Waiting) {
    tell.send(()).unwrap();
    assert_eq!(before.join().unwrap(), Err(Errno::EPERM));
    let threads: Vec<_> = (0..16)
        .map(|number| {
            std::thread::Builder::new()
                .name(format!("worker {number}"))
                .spawn(move || {
                    std::thread::park_timeout(Duration::from_millis(5));
                    (number, raw(libc::SYS_ptrace, [0; 5]))
                })
                .unwrap()
        })
        .collect();
    for (expected, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap(), (expected, Err(Errno::EPERM)));
    }
    // A panic that is caught unwinds and prints without new powers.
    assert!(std::thread::spawn(|| panic!("expected")).join().is_err());
    assert!(std::thread::available_parallelism().is_ok());
}
