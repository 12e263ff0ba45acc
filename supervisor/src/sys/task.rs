// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tasks of supervised programs: their files, state and identity (proc(5), pidfd_open(2), pidfd_getfd(2)).
#![allow(unsafe_code)]

use crate::network::Program;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Inode of the socket that descriptor `fd` of thread `tid` names; None if it is not a socket.
///
/// readlink, never stat: stat may call into FUSE or NFS.
pub fn socket_inode(tid: u32, fd: i32) -> io::Result<Option<u64>> {
    let mut buffer = [0_u8; 64];
    let path = format!("/proc/{tid}/fd/{fd}\0");
    // SAFETY: path is NUL-terminated, buffer is valid for its length.
    let n = unsafe {
        libc::readlink(
            path.as_ptr().cast(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    Ok(parse_socket_link(&buffer[..n]))
}

/// Duplicates descriptor `fd` of thread `tid`, provided it still is the socket with this inode.
///
/// Errors: EBADF when it no longer is; EPERM when the kernel forbids it (Yama, containers).
pub fn duplicate(tid: u32, fd: i32, inode: u64) -> io::Result<OwnedFd> {
    let pidfd = open_thread(tid)?;
    // SAFETY: plain integers; the result is checked.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
    let copy = owned(raw)?;
    if super::unix::inode(copy.as_fd())? == inode {
        Ok(copy)
    } else {
        Err(io::Error::from_raw_os_error(libc::EBADF))
    }
}

/// Duplicates any descriptor `fd` of process `pid`.
pub fn duplicate_any(pid: u32, fd: i32) -> io::Result<OwnedFd> {
    let pidfd = open_thread(pid)?;
    // SAFETY: plain integers; the result is checked.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// Looks for the socket with this inode among the descriptors of process `pid`, at most `limit` of them.
pub fn find_socket(pid: u32, inode: u64, limit: usize) -> Option<i32> {
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .take(limit)
        .flatten()
    {
        if fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()) {
            return entry.file_name().to_str()?.parse().ok();
        }
    }
    None
}

/// True if descriptor `fd` of thread `tid` closes on exec.
pub fn is_cloexec(tid: u32, fd: i32) -> bool {
    fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}"))
        .ok()
        .and_then(|text| {
            text.lines()
                .find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok())
        })
        .is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
}

/// Sends a signal to one thread, as the kernel does for SIGPIPE. Without effect when it is gone.
pub fn signal(tid: u32, signal: nix::sys::signal::Signal) {
    if let Some(process) = process_of(tid) {
        // SAFETY: plain integers; a thread that has gone gives ESRCH.
        unsafe { libc::syscall(libc::SYS_tgkill, process, tid, signal as i32) };
    }
}

/// Scheduler state of a thread: field 3 of `/proc/<tid>/stat`; None when it is gone.
///
/// A parked thread that a signal has hit waits killably: `D`.
pub fn state(tid: u32) -> Option<u8> {
    let text = fs::read(format!("/proc/{tid}/stat")).ok()?;
    let end = text.iter().rposition(|&b| b == b')')?;
    text.get(end + 2).copied()
}

/// Time the process started, clock ticks since boot: with the pid it names one process for ever.
pub fn start_time(pid: u32) -> Option<u64> {
    let text = read_text(format!("/proc/{pid}/stat"))?;
    // Field 22; the fields after the last ')' start with number 3.
    text.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// A file of /proc with a task's name in it, which the task chooses: any bytes (PR_SET_NAME, prctl(2)).
fn read_text(path: String) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Process (thread group) a thread belongs to.
pub fn process_of(tid: u32) -> Option<u32> {
    status_field(&read_text(format!("/proc/{tid}/status"))?, "Tgid:")
}

/// The process a thread belongs to and what it calls itself. Neither file reads the program's memory, so neither can block.
pub fn program(tid: u32) -> Option<Program> {
    let pid = process_of(tid)?;
    let name = read_text(format!("/proc/{pid}/comm"))?;
    Some(Program {
        pid,
        name: name.trim_end_matches('\n').to_owned(),
    })
}

/// Longest command line that is read, in bytes.
const LONGEST_COMMAND: usize = 4096;

/// The command line of a process: what it was started with by the last exec, or what it has written over that. Empty for one
/// that is ending.
///
/// This reads the program's memory, which may block for as long as the program likes (userfaultfd, FUSE).
pub fn command(pid: u32) -> Option<Vec<String>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
    let most = LONGEST_COMMAND as u64 + 1;
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(arguments(&bytes))
}

/// Arguments, each of which ends with a zero (proc_pid_cmdline(5)). What is longer than [`LONGEST_COMMAND`] ends in an ellipsis.
fn arguments(bytes: &[u8]) -> Vec<String> {
    let whole = bytes.len() <= LONGEST_COMMAND;
    let bytes = &bytes[..bytes.len().min(LONGEST_COMMAND)];
    // A program that writes over its arguments fills what is left with zeros.
    let end = bytes
        .iter()
        .rposition(|&b| b != 0)
        .map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    let text = |argument: &[u8]| String::from_utf8_lossy(argument).into_owned();
    let mut all: Vec<String> = bytes[..end].split(|&b| b == 0).map(text).collect();
    if !whole && let Some(last) = all.last_mut() {
        // Half a character may stand there.
        while last.ends_with(char::REPLACEMENT_CHARACTER) {
            last.pop();
        }
        last.push('…');
    }
    all
}

/// Process a pidfd of thread `tid` refers to, in our pid namespace.
pub fn pidfd_target(tid: u32, pidfd: i32) -> Option<u32> {
    status_field(
        &fs::read_to_string(format!("/proc/{tid}/fdinfo/{pidfd}")).ok()?,
        "Pid:",
    )
}

/// Network namespace of a thread: its inode; None when it is gone or hidden.
pub fn network_namespace(tid: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{tid}/ns/net")).ok()?;
    let digits = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    digits.parse().ok()
}

fn status_field(text: &str, name: &str) -> Option<u32> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .trim()
        .parse()
        .ok()
}

fn parse_socket_link(link: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// pidfd of a thread: PIDFD_THREAD (Linux 6.9) sees the descriptors of that very thread; before, those of its process.
fn open_thread(tid: u32) -> io::Result<OwnedFd> {
    static THREAD_FLAG_MISSING: AtomicBool = AtomicBool::new(false);
    const PIDFD_THREAD: i32 = libc::O_EXCL;
    if !THREAD_FLAG_MISSING.load(Ordering::Relaxed) {
        match pidfd_open(tid, PIDFD_THREAD) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                THREAD_FLAG_MISSING.store(true, Ordering::Relaxed);
            }
            result => return result,
        }
    }
    match pidfd_open(tid, 0) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let process =
                process_of(tid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
            pidfd_open(process, 0)
        }
        result => result,
    }
}

fn pidfd_open(pid: u32, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers; the result is checked.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) })
}

fn owned(raw: i64) -> io::Result<OwnedFd> {
    let raw = i32::try_from(raw).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_links_are_told_from_others() {
        assert_eq!(parse_socket_link(b"socket:[123]"), Some(123));
        assert_eq!(parse_socket_link(b"pipe:[123]"), None);
        assert_eq!(parse_socket_link(b"/tmp/socket:[1]"), None);
        assert_eq!(parse_socket_link(b"socket:[x]"), None);
    }

    #[test]
    fn a_command_line_is_told_argument_by_argument_and_bounded() {
        assert_eq!(arguments(b"a\0b c\0\xff\0"), ["a", "b c", "\u{fffd}"]);
        // An empty argument counts where another one follows.
        assert_eq!(arguments(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(
            arguments(b"nginx: master process\0\0\0\0"),
            ["nginx: master process"]
        );
        assert!(arguments(b"").is_empty() && arguments(b"\0\0").is_empty());
        let long = [b"a\0".as_slice(), "ä".repeat(LONGEST_COMMAND).as_bytes()].concat();
        let cut = arguments(&long);
        assert_eq!(cut.len(), 2);
        assert_eq!(
            cut[1].chars().filter(|&c| c == 'ä').count(),
            LONGEST_COMMAND / 2 - 1
        );
        assert!(cut[1].ends_with("ä…"));
        let us = command(std::process::id()).unwrap();
        assert_eq!(us, std::env::args().collect::<Vec<_>>());
        assert_eq!(command(u32::MAX), None);
    }

    #[test]
    fn own_socket_is_found_and_duplicated() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode = super::super::unix::inode(a.as_fd()).unwrap();
        let me = std::process::id();
        assert_eq!(socket_inode(me, a.as_raw_fd()).unwrap(), Some(inode));
        assert_eq!(find_socket(me, inode, 4096), Some(a.as_raw_fd()));
        assert!(duplicate(me, a.as_raw_fd(), inode).is_ok());
        assert!(duplicate(me, a.as_raw_fd(), inode + 1).is_err());
        assert_eq!(process_of(me), Some(me));
        assert!(start_time(me).is_some());
        assert!(state(me).is_some());
    }

    #[test]
    fn a_name_that_is_no_text_hides_nobody() {
        let named = std::thread::spawn(|| {
            nix::sys::prctl::set_name(c"\xff\xfe) R 1").unwrap();
            let tid = nix::unistd::gettid().as_raw().cast_unsigned();
            (process_of(tid), start_time(tid))
        });
        let (process, started) = named.join().unwrap();
        assert_eq!(process, Some(std::process::id()));
        assert!(started >= start_time(std::process::id()));
    }
}
