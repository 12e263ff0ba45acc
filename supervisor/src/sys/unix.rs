// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AF_UNIX ends that stand in for Internet sockets (unix(7)).
//!
//! *A* is the program's end (or a momentary duplicate of it), *S* the supervisor's.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, connect,
    getpeername, getsockopt, listen, recv, send, sendto, setsockopt, socket, socketpair, sockopt,
};
use nix::sys::stat::{Mode, fstat};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kind of a stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// For TCP.
    Stream,
    /// For UDP.
    Datagram,
}

/// A fresh, unconnected, close-on-exec socket.
pub fn new(kind: End, nonblocking: bool) -> Result<OwnedFd, Errno> {
    let kind = match kind {
        End::Stream => SockType::Stream,
        End::Datagram => SockType::Datagram,
    };
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, nonblocking);
    let fd = socket(AddressFamily::Unix, kind, flags, None)?;
    if kind == SockType::Stream {
        set_send_buffer(fd.as_fd(), None);
    }
    Ok(fd)
}

/// SO_SNDBUF of a stream end where nothing else was asked for: net.core.wmem_max of a machine as distributed, bytes. TCP
/// takes megabytes, and every small write costs a unix socket several hundred bytes.
const STREAM_SEND_BUFFER: usize = 212_992;

/// Bounds what is written to `fd` and not read at its peer: `shown` as getsockopt(2) shows it, twice what was asked for.
pub fn set_send_buffer(fd: BorrowedFd<'_>, shown: Option<usize>) {
    let asked = shown.map_or(STREAM_SEND_BUFFER, |shown| shown / 2);
    // Only the bound is at stake.
    let _ = setsockopt(&fd, sockopt::SndBuf, &asked);
}

/// A connected pair that keeps the boundaries of messages and hangs up when the other end goes: A and S. S never blocks.
pub fn message_pair(nonblocking: bool) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (a, s) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    if !nonblocking {
        fcntl(&a, FcntlArg::F_SETFL(OFlag::empty()))?;
    }
    Ok((a, s))
}

/// Inode of a socket: its identity, whoever holds it under whatever number.
pub fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(fstat(fd)?.st_ino)
}

/// O_NONBLOCK of the open file, as the program set it.
pub fn is_nonblocking(fd: BorrowedFd<'_>) -> bool {
    fcntl(fd, FcntlArg::F_GETFL)
        .is_ok_and(|flags| OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK))
}

/// SO_RCVTIMEO in microseconds, None when unset.
pub fn receive_timeout(fd: BorrowedFd<'_>) -> Option<std::time::Duration> {
    getsockopt(&fd, sockopt::ReceiveTimeout)
        .ok()
        .and_then(duration)
}

/// SO_SNDTIMEO, None when unset.
pub fn send_timeout(fd: BorrowedFd<'_>) -> Option<std::time::Duration> {
    getsockopt(&fd, sockopt::SendTimeout)
        .ok()
        .and_then(duration)
}

/// Clears a pending error of the stand-in (the true one is the socket model's).
pub fn clear_error(fd: BorrowedFd<'_>) {
    let _ = getsockopt(&fd, sockopt::SocketError);
}

/// True when a read or accept would not block.
pub fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// True when both directions of S are shut: the program's last reference is gone, or both sides have said FIN.
pub fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|n| n > 0)
        && polled[0]
            .revents()
            .is_some_and(|r| r.contains(PollFlags::POLLHUP))
}

/// Bytes plugged into A so that it is not writable while a connection is being made.
#[derive(Debug, Clone, Copy)]
pub struct Plug {
    /// Bytes to drain from S.
    pub bytes: usize,
    /// SO_SNDBUF to restore on A, as setsockopt takes it.
    pub send_buffer: usize,
}

/// SO_SNDBUF while A is plugged: the one block of data that fits takes more than that (its memory is rounded up to a power
/// of two), so that nothing else does.
const PLUGGED_SEND_BUFFER: usize = 3850;

/// Fills A: poll says 0, a native write is refused.
pub fn plug(a: BorrowedFd<'_>) -> Result<Plug, Errno> {
    let doubled = getsockopt(&a, sockopt::SndBuf)?;
    setsockopt(&a, sockopt::SndBuf, &PLUGGED_SEND_BUFFER)?;
    let mut bytes = 0;
    // Once is enough on Linux 6; the bound only guards against a kernel that never refuses.
    while bytes < 65_536 {
        match send(
            a.as_raw_fd(),
            &[0; 4096],
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        ) {
            Ok(n) => bytes += n,
            Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    Ok(Plug {
        bytes,
        send_buffer: doubled / 2,
    })
}

/// Unplugs: A's buffer has its size again, and the kernel shows it writable: one edge. The plug stays in S.
pub fn restore(a: BorrowedFd<'_>, plug: Plug) -> Result<(), Errno> {
    setsockopt(&a, sockopt::SndBuf, &plug.send_buffer)
}

/// What was sent with MSG_OOB is read from `fd` in line (or not): SO_OOBINLINE.
pub fn set_oob_inline(fd: BorrowedFd<'_>, on: bool) {
    let _ = setsockopt(&fd, sockopt::OobInline, &on);
}

/// An option of level SOL_SOCKET as the kernel gives it: at most 16 bytes.
#[allow(unsafe_code)]
pub fn option(fd: BorrowedFd<'_>, name: i32) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0_u8; 16];
    let mut length: libc::socklen_t = 16;
    // SAFETY: the fd is open; value has the length that is given.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result)?;
    value.truncate(length as usize);
    Ok(value)
}

/// Sets an option of level SOL_SOCKET.
#[allow(unsafe_code)]
pub fn set_option(fd: BorrowedFd<'_>, name: i32, value: &[u8]) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the fd is open; value has the length that is given.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            value.as_ptr().cast(),
            length,
        )
    };
    Errno::result(result).map(drop)
}

/// Gives `fresh` what a program can have set on `old` itself.
pub fn copy_options(old: BorrowedFd<'_>, fresh: BorrowedFd<'_>) {
    for name in [
        libc::SO_RCVTIMEO,
        libc::SO_SNDTIMEO,
        libc::SO_RCVLOWAT,
        libc::SO_OOBINLINE,
        libc::SO_PEEK_OFF,
    ] {
        if let Ok(value) = option(old, name) {
            let _ = set_option(fresh, name, &value);
        }
    }
}

/// Takes `bytes` out of S.
pub fn drain(s: BorrowedFd<'_>, bytes: usize) {
    let mut left = bytes;
    let mut scratch = [0_u8; 4096];
    while left > 0 {
        let part = left.min(scratch.len());
        match recv(s.as_raw_fd(), &mut scratch[..part], MsgFlags::MSG_DONTWAIT) {
            Ok(n) if n > 0 => left -= n,
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Sends one byte of ours on A. False if there is no room.
pub fn plant(a: BorrowedFd<'_>) -> bool {
    send(
        a.as_raw_fd(),
        b"\0",
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
    ) == Ok(1)
}

/// Takes up to `bytes` out of S and gives them.
pub fn take(s: BorrowedFd<'_>, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    let mut at = 0;
    while at < bytes {
        match recv(s.as_raw_fd(), &mut out[at..], MsgFlags::MSG_DONTWAIT) {
            Ok(n) if n > 0 => at += n,
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => break,
        }
    }
    out.truncate(at);
    out
}

/// True if an error waits on S: its peer was closed with unread data.
pub fn has_error(s: BorrowedFd<'_>) -> bool {
    getsockopt(&s, sockopt::SocketError).is_ok_and(|error| error != 0)
}

/// A socket in the file system that nobody can find: bound in our folder, kept by O_PATH, unlinked at once.
#[derive(Debug)]
pub struct Hidden(OwnedFd);

impl Hidden {
    /// Binds `fd` inside `folder` (ours, 0700).
    pub fn bind(fd: BorrowedFd<'_>, folder: &Path) -> Result<Self, Errno> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        // Unpredictable: programs of this user can reach the folder too.
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{:016x}", SECRET.hash_one(number)));
        bind(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
        let kept = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let _ = std::fs::remove_file(&path);
        Ok(Self(kept?))
    }

    /// Sends a datagram to it from `fd`, which has no peer.
    pub fn send(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
        let path: PathBuf = format!("/proc/self/fd/{}", self.0.as_raw_fd()).into();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendto(fd.as_raw_fd(), bytes, &UnixAddr::new(&path)?, flags).map(drop)
    }

    /// Connects `fd` to it. EAGAIN: backlog full; ECONNREFUSED: the socket is closed.
    pub fn connect(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let path: PathBuf = format!("/proc/self/fd/{}", self.0.as_raw_fd()).into();
        connect(fd.as_raw_fd(), &UnixAddr::new(&path)?)
    }
}

/// Makes A a listening stand-in.
pub fn set_listening(a: BorrowedFd<'_>, backlog: i32) -> Result<(), Errno> {
    // Backlog::new accepts -1..=SOMAXCONN; more means the maximum, as the kernel caps it.
    let backlog = Backlog::new(backlog.clamp(0, 4096)).unwrap_or(Backlog::MAXCONN);
    listen(&a, backlog)
}

/// Takes a datagram end's peer away (connect(2) with AF_UNSPEC).
#[allow(unsafe_code)]
pub fn disconnect(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let address = libc::sockaddr {
        sa_family: 0,
        sa_data: [0; 14],
    };
    // SAFETY: the fd is open, the address is valid for the length given.
    let result = unsafe { libc::connect(fd.as_raw_fd(), &raw const address, 16) };
    Errno::result(result).map(drop)
}

/// Accepts from a stand-in; the new end is close-on-exec here, `nonblocking` as asked for.
pub fn accept(a: BorrowedFd<'_>, nonblocking: bool) -> Result<OwnedFd, Errno> {
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, nonblocking);
    accept4(a.as_raw_fd(), flags).map(owned)
}

/// Gives S a name that its peer can read back: the number of the connection it carries, behind a proof that it is ours.
pub fn set_name(s: BorrowedFd<'_>, proof: u64, number: u64) -> Result<(), Errno> {
    let mut name = [0_u8; 23];
    name[..7].copy_from_slice(b"netcon/");
    name[7..15].copy_from_slice(&proof.to_be_bytes());
    name[15..].copy_from_slice(&number.to_be_bytes());
    bind(s.as_raw_fd(), &UnixAddr::new_abstract(&name)?)
}

/// What [`set_name`] gave to the peer of `fd`: proof and number.
pub fn peer_name(fd: BorrowedFd<'_>) -> Option<(u64, u64)> {
    let address: UnixAddr = getpeername(fd.as_raw_fd()).ok()?;
    let rest = address.as_abstract()?.strip_prefix(b"netcon/")?;
    let (proof, number) = rest.split_at_checked(8)?;
    Some((
        u64::from_be_bytes(proof.try_into().ok()?),
        u64::from_be_bytes(number.try_into().ok()?),
    ))
}

/// Where connecting programs' ends are joined to ours: a private listener.
#[derive(Debug)]
pub struct Joiner {
    folder: PathBuf,
    /// None after a failure: what it may have queued must never be taken for another's.
    listener: Option<(OwnedFd, Hidden)>,
}

impl Joiner {
    /// Listens in `folder`.
    pub fn new(folder: &Path) -> Result<Self, Errno> {
        let listener = Some(Self::listen(folder)?);
        Ok(Self {
            folder: folder.to_owned(),
            listener,
        })
    }

    /// Connects A and gives the S that belongs to it. `&mut`: between connect and accept nobody else may come.
    pub fn join(&mut self, a: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let (listener, name) = match self.listener.take() {
            Some(listener) => listener,
            None => Self::listen(&self.folder)?,
        };
        let joined = match name.connect(a) {
            Ok(()) => {
                let s = accept(listener.as_fd(), true)?;
                set_send_buffer(s.as_fd(), None);
                s
            }
            Err(error) => {
                self.listener = Some((listener, name));
                return Err(error);
            }
        };
        self.listener = Some((listener, name));
        Ok(joined)
    }

    fn listen(folder: &Path) -> Result<(OwnedFd, Hidden), Errno> {
        let listener = new(End::Stream, true)?;
        let name = Hidden::bind(listener.as_fd(), folder)?;
        set_listening(listener.as_fd(), 16)?;
        Ok((listener, name))
    }
}

fn duration(time: nix::sys::time::TimeVal) -> Option<std::time::Duration> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let micros = u64::try_from(time.tv_usec()).ok()?;
    let value =
        std::time::Duration::from_micros(seconds.checked_mul(1_000_000)?.checked_add(micros)?);
    (!value.is_zero()).then_some(value)
}

#[allow(unsafe_code)]
fn owned(raw: i32) -> OwnedFd {
    // SAFETY: accept4 has just given this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        let path = std::env::temp_dir().join(format!(
            "netcon-unix-test-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn events(fd: &OwnedFd) -> PollFlags {
        let mut polled = [PollFd::new(
            fd.as_fd(),
            PollFlags::POLLIN | PollFlags::POLLOUT,
        )];
        poll(&mut polled, PollTimeout::ZERO).unwrap();
        polled[0].revents().unwrap()
    }

    #[test]
    fn plugged_end_is_not_writable_until_drained() {
        let dir = folder();
        let mut joiner = Joiner::new(&dir).unwrap();
        let a = new(End::Stream, true).unwrap();
        assert_eq!(events(&a), PollFlags::POLLOUT | PollFlags::POLLHUP);
        let s = joiner.join(a.as_fd()).unwrap();
        let before = getsockopt(&a, sockopt::SndBuf).unwrap();
        let plugged = plug(a.as_fd()).unwrap();
        assert_eq!(events(&a), PollFlags::empty());
        assert_eq!(
            send(a.as_raw_fd(), b"x", MsgFlags::MSG_DONTWAIT),
            Err(Errno::EAGAIN)
        );
        restore(a.as_fd(), plugged).unwrap();
        assert_eq!(events(&a), PollFlags::POLLOUT);
        drain(s.as_fd(), plugged.bytes);
        assert_eq!(events(&a), PollFlags::POLLOUT);
        assert_eq!(getsockopt(&a, sockopt::SndBuf).unwrap(), before);
        assert_eq!(
            recv(s.as_raw_fd(), &mut [0; 8], MsgFlags::MSG_DONTWAIT),
            Err(Errno::EAGAIN)
        );
        std::fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn plugged_end_of_a_failed_connection_looks_like_a_refused_one() {
        let dir = folder();
        let mut joiner = Joiner::new(&dir).unwrap();
        let a = new(End::Stream, true).unwrap();
        let s = joiner.join(a.as_fd()).unwrap();
        plug(a.as_fd()).unwrap();
        drop(s);
        assert_eq!(
            events(&a),
            PollFlags::POLLIN | PollFlags::POLLOUT | PollFlags::POLLERR | PollFlags::POLLHUP
        );
        clear_error(a.as_fd());
        assert!(!events(&a).contains(PollFlags::POLLERR));
        std::fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn a_datagram_end_that_leaves_with_something_unread_makes_an_error_of_its_peer() {
        let dir = folder();
        let (a, s) = (
            new(End::Datagram, true).unwrap(),
            new(End::Datagram, true).unwrap(),
        );
        let (to_a, to_s) = (
            Hidden::bind(a.as_fd(), &dir).unwrap(),
            Hidden::bind(s.as_fd(), &dir).unwrap(),
        );
        to_a.connect(s.as_fd()).unwrap();
        to_s.connect(a.as_fd()).unwrap();
        send(s.as_raw_fd(), b"waits", MsgFlags::empty()).unwrap();
        let idle = PollFlags::POLLIN | PollFlags::POLLOUT;
        assert_eq!(events(&a), idle);
        disconnect(s.as_fd()).unwrap();
        assert_eq!(events(&a), idle, "nothing was unread");
        to_s.send(s.as_fd(), b"\0").unwrap();
        to_a.connect(s.as_fd()).unwrap();
        disconnect(s.as_fd()).unwrap();
        to_a.connect(s.as_fd()).unwrap();
        assert_eq!(events(&a), idle | PollFlags::POLLERR);
        let mut into = [0; 8];
        let mut read = || recv(a.as_raw_fd(), &mut into, MsgFlags::MSG_DONTWAIT);
        assert_eq!(read(), Err(Errno::ECONNRESET), "once");
        assert_eq!(read(), Ok(5), "what waits stays");
        send(a.as_raw_fd(), b"x", MsgFlags::empty()).unwrap();
        assert_eq!(recv(s.as_raw_fd(), &mut [0; 8], MsgFlags::empty()), Ok(1));
        std::fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn accepted_end_names_the_connection_it_carries() {
        let dir = folder();
        let a = new(End::Stream, true).unwrap();
        let hidden = Hidden::bind(a.as_fd(), &dir).unwrap();
        set_listening(a.as_fd(), 1).unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        let s = new(End::Stream, true).unwrap();
        set_name(s.as_fd(), 7, 42).unwrap();
        hidden.connect(s.as_fd()).unwrap();
        let c = accept(a.as_fd(), false).unwrap();
        assert_eq!(peer_name(c.as_fd()), Some((7, 42)));
        assert_eq!(accept(a.as_fd(), false).unwrap_err(), Errno::EAGAIN);
        drop(a);
        let late = new(End::Stream, true).unwrap();
        assert_eq!(hidden.connect(late.as_fd()), Err(Errno::ECONNREFUSED));
        std::fs::remove_dir(&dir).unwrap();
    }
}
