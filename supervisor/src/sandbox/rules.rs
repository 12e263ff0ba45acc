// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The calls that the supervisor makes, each with who needs it. What is not here is refused.

use std::collections::BTreeMap;

use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// Calls by number; an empty list of rules means that the arguments do not matter.
pub(super) fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = PLAIN
        .iter()
        .flat_map(|(calls, _who)| calls.iter().map(|call| (*call, Vec::new())))
        .collect();
    for (call, alternatives) in [
        (libc::SYS_socket, sockets()?),
        (
            libc::SYS_socketpair,
            vec![rule([equals(0, libc::AF_UNIX)?])?],
        ),
        (libc::SYS_clone, vec![thread()?]),
        (libc::SYS_mmap, not_writable_code()?),
        (libc::SYS_mprotect, not_writable_code()?),
        (libc::SYS_ioctl, one_of(1, IOCTLS)?),
        (libc::SYS_prctl, one_of(0, PRCTLS)?),
        (libc::SYS_seccomp, one_of(0, SECCOMP_QUESTIONS)?),
        // Reading limits, of programs too; never setting them.
        (libc::SYS_prlimit64, vec![rule([null(2)?])?]),
        // SIGPIPE for a program whose trapped write failed; SIGABRT for abort(3); 0 asks.
        (libc::SYS_tgkill, one_of(2, SIGNALS)?),
        (libc::SYS_kill, one_of(1, &[0])?),
        (
            libc::SYS_pidfd_send_signal,
            one_of(1, &[0, libc::SIGPIPE as u64])?,
        ),
    ] {
        rules.insert(call, alternatives);
    }
    Ok(rules)
}

/// Calls whose arguments do not matter here, and who makes them.
const PLAIN: &[(&[i64], &str)] = &[
    (
        &[
            libc::SYS_brk,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_madvise,
            libc::SYS_membarrier,
        ],
        "the allocator",
    ),
    (
        &[
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_readv,
            libc::SYS_writev,
            libc::SYS_pread64,
            libc::SYS_pwrite64,
            libc::SYS_preadv,
            libc::SYS_pwritev,
            libc::SYS_splice,
            libc::SYS_close,
            libc::SYS_close_range,
            libc::SYS_fcntl,
            libc::SYS_dup,
            libc::SYS_dup3,
        ],
        "every descriptor",
    ),
    (
        &[
            libc::SYS_openat,
            libc::SYS_lseek,
            libc::SYS_fstat,
            libc::SYS_newfstatat,
            libc::SYS_statx,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
            libc::SYS_readlinkat,
            libc::SYS_getdents64,
            libc::SYS_flock,
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_ftruncate,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_unlinkat,
            libc::SYS_mkdirat,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            libc::SYS_umask,
            libc::SYS_getcwd,
            libc::SYS_memfd_create,
            libc::SYS_pipe2,
        ],
        "state files, /proc of programs, hidden names of listeners",
    ),
    #[cfg(target_arch = "x86_64")]
    (
        &[
            libc::SYS_open,
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_access,
            libc::SYS_readlink,
            libc::SYS_rename,
            libc::SYS_unlink,
            libc::SYS_mkdir,
            libc::SYS_rmdir,
            libc::SYS_chmod,
            libc::SYS_dup2,
            libc::SYS_poll,
            libc::SYS_select,
            libc::SYS_epoll_wait,
            libc::SYS_time,
        ],
        "older names of the same, which C libraries still use",
    ),
    (
        &[
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_accept,
            libc::SYS_accept4,
            libc::SYS_connect,
            libc::SYS_getsockname,
            libc::SYS_getpeername,
            libc::SYS_getsockopt,
            libc::SYS_setsockopt,
            libc::SYS_sendto,
            libc::SYS_recvfrom,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_sendmmsg,
            libc::SYS_recvmmsg,
            libc::SYS_shutdown,
        ],
        "overlay, API, hand-over, the ends of programs' sockets",
    ),
    (
        &[
            libc::SYS_epoll_create1,
            libc::SYS_epoll_ctl,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
            libc::SYS_ppoll,
            libc::SYS_pselect6,
            libc::SYS_eventfd2,
            libc::SYS_timerfd_create,
            libc::SYS_timerfd_settime,
            libc::SYS_timerfd_gettime,
            libc::SYS_signalfd4,
        ],
        "event loops",
    ),
    (
        &[
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
        ],
        "serving programs",
    ),
    (
        &[
            // Decided by stage 2.
            libc::SYS_clone3,
            libc::SYS_futex,
            libc::SYS_set_robust_list,
            libc::SYS_rseq,
            libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity,
            libc::SYS_getcpu,
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_sigaltstack,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_rt_sigtimedwait,
            libc::SYS_restart_syscall,
        ],
        "threads and signals of the C library",
    ),
    (
        &[
            libc::SYS_nanosleep,
            libc::SYS_clock_nanosleep,
            libc::SYS_clock_gettime,
            libc::SYS_clock_getres,
            libc::SYS_gettimeofday,
            libc::SYS_getrandom,
            libc::SYS_uname,
            libc::SYS_sysinfo,
            libc::SYS_getrusage,
            libc::SYS_getpid,
            libc::SYS_getppid,
            libc::SYS_gettid,
            libc::SYS_getuid,
            libc::SYS_geteuid,
            libc::SYS_getgid,
            libc::SYS_getegid,
        ],
        "time, randomness and who we are",
    ),
];

/// Requests of ioctl(2): seccomp_unotify(2), queue lengths, non-blocking, the terminal of the log,
/// and interface numbers in scoped addresses.
const IOCTLS: &[u64] = &[
    0xc050_2100, // SECCOMP_IOCTL_NOTIF_RECV
    0xc018_2101, // SECCOMP_IOCTL_NOTIF_SEND
    0x4008_2102, // SECCOMP_IOCTL_NOTIF_ID_VALID
    0x4018_2103, // SECCOMP_IOCTL_NOTIF_ADDFD
    0x4008_2104, // SECCOMP_IOCTL_NOTIF_SET_FLAGS
    0x541b,      // FIONREAD
    0x8905,      // SIOCATMARK
    0x5411,      // SIOCOUTQ
    0x5421,      // FIONBIO
    0x5451,      // FIOCLEX
    0x5401,      // TCGETS
    0x5413,      // TIOCGWINSZ
    0x8933,      // SIOCGIFINDEX
];

/// Options of prctl(2): names of threads and of anonymous memory.
const PRCTLS: &[u64] = &[
    libc::PR_SET_NAME as u64,
    libc::PR_GET_NAME as u64,
    libc::PR_GET_DUMPABLE as u64,
    libc::PR_GET_NO_NEW_PRIVS as u64,
    0x5356_4d41, // PR_SET_VMA
];

/// Operations of seccomp(2) that only ask: SECCOMP_GET_ACTION_AVAIL, SECCOMP_GET_NOTIF_SIZES.
const SECCOMP_QUESTIONS: &[u64] = &[2, 3];

const SIGNALS: &[u64] = &[0, libc::SIGPIPE as u64, libc::SIGABRT as u64];

/// Stream and datagram sockets of the families that carry the overlay, the API and programs' ends;
/// netlink for sock_diag and for the C library's choice of addresses.
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    // The type without SOCK_CLOEXEC and SOCK_NONBLOCK.
    let kind = |kind: i32| condition(1, SeccompCmpOp::MaskedEq(0xf), kind);
    let mut rules = vec![rule([equals(0, libc::AF_UNIX)?])?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for of in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            rules.push(rule([equals(0, family)?, kind(of)?])?);
        }
    }
    for protocol in [libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG] {
        rules.push(rule([equals(0, libc::AF_NETLINK)?, equals(2, protocol)?])?);
    }
    Ok(rules)
}

/// A thread of this process and nothing else: no child, no namespace.
fn thread() -> Result<SeccompRule, BackendError> {
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    let relevant = u64::from((libc::CLONE_THREAD | namespaces).unsigned_abs());
    rule([condition(
        0,
        SeccompCmpOp::MaskedEq(relevant),
        libc::CLONE_THREAD,
    )?])
}

/// Memory may be writable or executable (libraries of the name service are loaded late), not both.
fn not_writable_code() -> Result<Vec<SeccompRule>, BackendError> {
    [libc::PROT_WRITE, libc::PROT_EXEC]
        .into_iter()
        .map(|protection| {
            let mask = u64::from(protection.unsigned_abs());
            rule([condition(2, SeccompCmpOp::MaskedEq(mask), 0)?])
        })
        .collect()
}

fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values
        .iter()
        .map(|value| {
            rule([SeccompCondition::new(
                argument,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                *value,
            )?])
        })
        .collect()
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.to_vec())
}

fn equals(argument: u8, value: i32) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Eq, value)
}

/// A comparison of the lower 32 bits, which are all that the kernel reads of an int.
fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: i32,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operator,
        u64::from(value.cast_unsigned()),
    )
}

/// The whole argument is a null pointer.
fn null(argument: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}
