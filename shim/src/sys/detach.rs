// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A program that has nothing to do with the process that starts it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What a detached program is started with.
#[derive(Debug)]
pub struct Detached<'a> {
    /// The file to execute.
    pub program: &'a CStr,
    /// Its arguments, `argv[0]` first.
    pub arguments: &'a [CString],
    /// Its whole environment, `NAME=value`.
    pub environment: &'a [CString],
    /// Standard output and standard error.
    pub log: BorrowedFd<'a>,
    /// Its descriptor [`READY_FD`].
    pub ready: BorrowedFd<'a>,
}

/// Number under which the detached program finds the descriptor on which it says that it is ready.
pub const READY_FD: i32 = 3;

/// Starts it: in a session of its own, child of nobody (init or the nearest subreaper takes it), in `/`, with /dev/null to
/// read, no other descriptor, no ignored or blocked signal, umask 077, and the scheduling, the personality and the soft
/// limits of an ordinary process, as far as the kernel allows. Hard limits cannot be raised.
///
/// # Errors
/// When a process cannot be made. That the program cannot be executed is written to the log.
pub fn start_detached(start: &Detached<'_>) -> io::Result<()> {
    let null = File::open("/dev/null")?;
    // Away from the numbers that they are given in the end.
    let null = above(null.as_raw_fd())?;
    let log = above(start.log.as_raw_fd())?;
    let ready = above(start.ready.as_raw_fd())?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (arguments, environment) = (pointers(start.arguments), pointers(start.environment));
    // SAFETY: other threads may exist: until exec or _exit the child makes system calls only, on what was prepared before.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        // SAFETY: as above; the arrays end with a null pointer and their strings live in this copy of the process.
        unsafe {
            libc::setsid();
            match libc::fork() {
                0 => {}
                failed @ ..0 => libc::_exit(-failed),
                _ => libc::_exit(0),
            }
            libc::dup2(null.as_raw_fd(), 0);
            libc::dup2(log.as_raw_fd(), 1);
            libc::dup2(log.as_raw_fd(), 2);
            libc::dup2(ready.as_raw_fd(), READY_FD);
            libc::syscall(libc::SYS_close_range, READY_FD + 1, u32::MAX, 0);
            become_ordinary();
            libc::execve(
                start.program.as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
            );
            let sentence: &[u8] = match *libc::__errno_location() {
                libc::ENOENT => b"it is gone, or its interpreter is missing\n",
                libc::EACCES => b"it may not be executed\n",
                libc::ENOEXEC => b"its file is no program of this machine\n",
                libc::ENOMEM | libc::EAGAIN => {
                    b"the limits of this user do not allow one more program\n"
                }
                _ => b"the kernel does not execute it\n",
            };
            libc::write(2, sentence.as_ptr().cast(), sentence.len());
            libc::_exit(127);
        }
    }
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to a local.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } >= 0 {
            break;
        }
        // ECHILD: this process was started with SIGCHLD ignored; whether it worked shows later.
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return Ok(());
        }
    }
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }
}

/// Takes back what the process has from whoever started it. Every step is an attempt: an ordinary user may not do all.
///
/// # Safety
/// To be called between fork and exec only: it changes the whole process.
unsafe fn become_ordinary() {
    const ALL_CPUS: [u8; 1024] = [0xff; 1024];
    const STACK: libc::rlim_t = 8 << 20;
    // SAFETY: system calls with integers and pointers to locals of the sizes told.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::chdir(c"/".as_ptr());
        libc::umask(0o077);
        libc::personality(0);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        let usual = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const usual);
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            ALL_CPUS.len(),
            ALL_CPUS.as_ptr(),
        );
        libc::syscall(libc::SYS_ioprio_set, 1, 0, 0);
        for resource in 0..16 {
            let mut limit = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            if libc::getrlimit(resource, &raw mut limit) == 0 {
                limit.rlim_cur = match resource {
                    // An unlimited stack changes where everything lies in memory.
                    libc::RLIMIT_STACK => limit.rlim_max.min(STACK),
                    libc::RLIMIT_CORE => 0,
                    _ => limit.rlim_max,
                };
                libc::setrlimit(resource, &raw const limit);
            }
        }
        let score = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if score >= 0 {
            libc::write(score, b"0".as_ptr().cast(), 1);
            libc::close(score);
        }
    }
}

/// A duplicate that is not among the first ten.
fn above(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open.
    let duplicate = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 10) };
    if duplicate < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// Takes an exclusive lock on the file if nobody has it (flock(2)); true if it is taken now.
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: takes integers only.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Waits until the descriptor can be read or its other end is gone, at most `milliseconds` (poll(2)); false when neither
/// happened. Without a descriptor it is a pause.
pub fn wait_readable(fd: Option<BorrowedFd<'_>>, milliseconds: i32) -> bool {
    let mut polled = libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one structure, which is a local.
    unsafe { libc::poll(&raw mut polled, 1, milliseconds) > 0 }
}

/// Whether this process lives in a container of a supervisor: its Internet sockets are unix sockets, or there are none
/// because the supervisor has ended (ENOSYS).
#[must_use]
pub fn is_contained() -> bool {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS);
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // Only unix sockets have that line (unix_show_fdinfo).
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_raw_fd()))
        .is_ok_and(|text| text.contains("scm_fds"))
}
