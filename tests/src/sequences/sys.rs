// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Socket calls with the arguments that a C program can give, wrong ones included. A wrapper never tells the kernel of
//! more room than its buffer has.

use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// An address where a process has no memory.
const NOWHERE: usize = 8;

/// What a pointer argument points to.
#[derive(Debug)]
pub(super) enum Memory<'a> {
    Null,
    Bad,
    Bytes(&'a mut [u8]),
}

impl Memory<'_> {
    fn pointer(&mut self) -> *mut c_void {
        match self {
            Self::Null => ptr::null_mut(),
            Self::Bad => ptr::without_provenance_mut(NOWHERE),
            Self::Bytes(bytes) => bytes.as_mut_ptr().cast(),
        }
    }

    /// The pointer, for a kernel that is told of `len` bytes there.
    fn room(&mut self, len: usize) -> *mut c_void {
        if let Self::Bytes(bytes) = self {
            assert!(
                len <= bytes.len(),
                "the kernel is told of more than there is"
            );
        }
        self.pointer()
    }
}

/// The length beside a buffer that is filled.
#[derive(Debug)]
pub(super) enum Length<'a> {
    Null,
    Bad,
    /// At most the buffer's own; what the kernel takes for negative is refused by it before it writes.
    Of(&'a mut u32),
}

impl Length<'_> {
    fn pointer(&mut self) -> *mut u32 {
        match self {
            Self::Null => ptr::null_mut(),
            Self::Bad => ptr::without_provenance_mut(NOWHERE),
            Self::Of(len) => ptr::from_mut(*len),
        }
    }

    /// Bytes that the kernel may write.
    fn told(&self) -> usize {
        match self {
            Self::Of(len) if **len <= i32::MAX as u32 => **len as usize,
            Self::Null | Self::Bad | Self::Of(_) => 0,
        }
    }
}

type Result<T> = std::result::Result<T, i32>;

fn checked(value: isize) -> Result<usize> {
    usize::try_from(value).map_err(|_| io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

fn checked_int(value: c_int) -> Result<c_int> {
    checked(value as isize).map(|_| value)
}

pub(super) fn socket(family: c_int, kind: c_int, protocol: c_int) -> Result<c_int> {
    // SAFETY: no pointers.
    checked_int(unsafe { libc::socket(family, kind, protocol) })
}

pub(super) fn bind(fd: c_int, mut name: Memory<'_>, len: u32) -> Result<c_int> {
    // SAFETY: the kernel reads at most the room that the buffer has.
    checked_int(unsafe { libc::bind(fd, name.room(len as usize).cast(), len) })
}

pub(super) fn connect(fd: c_int, mut name: Memory<'_>, len: u32) -> Result<c_int> {
    // SAFETY: as `bind`.
    checked_int(unsafe { libc::connect(fd, name.room(len as usize).cast(), len) })
}

pub(super) fn listen(fd: c_int, backlog: c_int) -> Result<c_int> {
    // SAFETY: no pointers.
    checked_int(unsafe { libc::listen(fd, backlog) })
}

pub(super) fn accept(
    fd: c_int,
    mut name: Memory<'_>,
    mut len: Length<'_>,
    flags: Option<c_int>,
) -> Result<c_int> {
    let (room, told) = (name.room(len.told()).cast(), len.pointer());
    checked_int(match flags {
        // SAFETY: the buffer has the room that the length tells, or neither is memory of ours.
        Some(flags) => unsafe { libc::accept4(fd, room, told, flags) },
        // SAFETY: as above.
        None => unsafe { libc::accept(fd, room, told) },
    })
}

pub(super) fn getsockname(fd: c_int, mut name: Memory<'_>, mut len: Length<'_>) -> Result<c_int> {
    // SAFETY: as `accept`.
    checked_int(unsafe { libc::getsockname(fd, name.room(len.told()).cast(), len.pointer()) })
}

pub(super) fn getpeername(fd: c_int, mut name: Memory<'_>, mut len: Length<'_>) -> Result<c_int> {
    // SAFETY: as `accept`.
    checked_int(unsafe { libc::getpeername(fd, name.room(len.told()).cast(), len.pointer()) })
}

pub(super) fn getsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    mut value: Memory<'_>,
    mut len: Length<'_>,
) -> Result<c_int> {
    // SAFETY: as `accept`.
    checked_int(unsafe {
        libc::getsockopt(fd, level, option, value.room(len.told()), len.pointer())
    })
}

pub(super) fn setsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    mut value: Memory<'_>,
    len: u32,
) -> Result<c_int> {
    let told = if len > i32::MAX as u32 {
        0
    } else {
        len as usize
    };
    // SAFETY: the kernel reads at most the room that the buffer has; a negative length it refuses.
    checked_int(unsafe { libc::setsockopt(fd, level, option, value.room(told), len) })
}

pub(super) fn shutdown(fd: c_int, how: c_int) -> Result<c_int> {
    // SAFETY: no pointers.
    checked_int(unsafe { libc::shutdown(fd, how) })
}

pub(super) fn send(fd: c_int, mut data: Memory<'_>, len: usize, flags: c_int) -> Result<usize> {
    // SAFETY: the kernel reads at most the room that the buffer has.
    checked(unsafe { libc::send(fd, data.room(len), len, flags) })
}

pub(super) fn sendto(
    fd: c_int,
    data: &mut [u8],
    flags: c_int,
    mut name: Memory<'_>,
    name_len: u32,
) -> Result<usize> {
    // SAFETY: as `send`, for both buffers.
    checked(unsafe {
        libc::sendto(
            fd,
            data.as_mut_ptr().cast(),
            data.len(),
            flags,
            name.room(name_len as usize).cast(),
            name_len,
        )
    })
}

pub(super) fn write(fd: c_int, data: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is as long as said.
    checked(unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) })
}

pub(super) fn read(fd: c_int, data: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is as long as said.
    checked(unsafe { libc::read(fd, data.as_mut_ptr().cast(), data.len()) })
}

pub(super) fn recv(fd: c_int, mut data: Memory<'_>, len: usize, flags: c_int) -> Result<usize> {
    // SAFETY: the buffer has the room that is said.
    checked(unsafe { libc::recv(fd, data.room(len), len, flags) })
}

pub(super) fn recvfrom(
    fd: c_int,
    data: &mut [u8],
    flags: c_int,
    mut name: Memory<'_>,
    mut len: Length<'_>,
) -> Result<usize> {
    // SAFETY: as `recv`; the address as in `accept`.
    checked(unsafe {
        libc::recvfrom(
            fd,
            data.as_mut_ptr().cast(),
            data.len(),
            flags,
            name.room(len.told()).cast(),
            len.pointer(),
        )
    })
}

fn pieces(data: &mut [u8]) -> [libc::iovec; 2] {
    let (first, second) = data.split_at_mut(data.len() / 2);
    [first, second].map(|part| libc::iovec {
        iov_base: part.as_mut_ptr().cast(),
        iov_len: part.len(),
    })
}

pub(super) fn writev(fd: c_int, data: &mut [u8]) -> Result<usize> {
    let parts = pieces(data);
    // SAFETY: two pieces of one buffer.
    checked(unsafe { libc::writev(fd, parts.as_ptr(), 2) })
}

pub(super) fn readv(fd: c_int, data: &mut [u8]) -> Result<usize> {
    let parts = pieces(data);
    // SAFETY: two pieces of one buffer.
    checked(unsafe { libc::readv(fd, parts.as_ptr(), 2) })
}

/// One message of [`messages`].
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) data: &'a mut [u8],
    pub(super) name: Memory<'a>,
    /// Room of the name, then what the kernel says is in it.
    pub(super) name_len: u32,
    pub(super) control: &'a mut [u8],
    /// What the kernel says is in it.
    pub(super) control_len: usize,
    pub(super) flags: c_int,
    /// Bytes of this message, where several are moved at once.
    pub(super) moved: u32,
}

/// Which of the four calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    Sendmsg,
    Recvmsg,
    Sendmmsg,
    Recvmmsg,
}

/// sendmsg(2) and its relatives; the first two take one message.
pub(super) fn messages(
    fd: c_int,
    all: &mut [Message<'_>],
    flags: c_int,
    which: Move,
) -> Result<usize> {
    let mut parts: Vec<[libc::iovec; 2]> =
        all.iter_mut().map(|message| pieces(message.data)).collect();
    let mut headers: Vec<libc::mmsghdr> = Vec::new();
    for (message, parts) in all.iter_mut().zip(&mut parts) {
        // SAFETY: a structure of numbers and pointers, for which zero is a value.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_name = message.name.room(message.name_len as usize);
        header.msg_hdr.msg_namelen = message.name_len;
        header.msg_hdr.msg_iov = parts.as_mut_ptr();
        header.msg_hdr.msg_iovlen = parts.len();
        if !message.control.is_empty() {
            header.msg_hdr.msg_control = message.control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = message.control.len();
        }
        headers.push(header);
    }
    let count = c_uint::try_from(headers.len()).unwrap_or(0);
    assert!(count > 0, "at least one message");
    // SAFETY: every header points to buffers that live until the end of this function and are as long as said; the first
    // member of `mmsghdr` is the `msghdr`.
    let result = unsafe {
        match which {
            Move::Sendmsg => libc::sendmsg(fd, &raw const headers[0].msg_hdr, flags),
            Move::Recvmsg => libc::recvmsg(fd, &raw mut headers[0].msg_hdr, flags),
            Move::Sendmmsg => libc::sendmmsg(fd, headers.as_mut_ptr(), count, flags) as isize,
            Move::Recvmmsg => {
                libc::recvmmsg(fd, headers.as_mut_ptr(), count, flags, ptr::null_mut()) as isize
            }
        }
    };
    let result = checked(result);
    for (message, header) in all.iter_mut().zip(&headers) {
        message.name_len = header.msg_hdr.msg_namelen;
        message.control_len = header.msg_hdr.msg_controllen;
        message.flags = header.msg_hdr.msg_flags;
        message.moved = header.msg_len;
    }
    result
}

/// ioctl(2) with a pointer to a number. Only requests that read or write one C int, or that the kernel refuses.
pub(super) fn ioctl(fd: c_int, request: c_ulong, value: &mut c_int) -> Result<c_int> {
    const INT_SIZED: [c_ulong; 5] = [
        libc::FIONREAD,
        libc::TIOCOUTQ,
        libc::FIONBIO,
        libc::FIOASYNC,
        0x8905,
    ];
    assert!(
        INT_SIZED.contains(&request),
        "the size of what this request writes is not known"
    );
    // SAFETY: these requests read or write one int.
    checked_int(unsafe { libc::ioctl(fd, request, ptr::from_mut(value)) })
}

pub(super) fn fcntl(fd: c_int, command: c_int, value: c_int) -> Result<c_int> {
    assert!(
        [libc::F_GETFL, libc::F_SETFL, libc::F_GETFD].contains(&command),
        "no pointers"
    );
    // SAFETY: these commands take a number.
    checked_int(unsafe { libc::fcntl(fd, command, value) })
}

pub(super) fn dup(fd: c_int) -> Result<c_int> {
    // SAFETY: no pointers.
    checked_int(unsafe { libc::dup(fd) })
}

/// dup2(2) onto a descriptor of the caller's own making.
pub(super) fn dup2(fd: c_int, onto: c_int) -> Result<c_int> {
    // SAFETY: no pointers. `onto` belongs to a slot, and nothing else uses its number.
    checked_int(unsafe { libc::dup2(fd, onto) })
}

/// Closes a descriptor that belongs to a slot.
pub(super) fn close(fd: c_int) -> Result<c_int> {
    // SAFETY: nobody else uses this number.
    checked_int(unsafe { libc::close(fd) })
}

/// poll(2) without waiting.
pub(super) fn poll(asked: &mut [libc::pollfd]) -> Result<c_int> {
    // SAFETY: as many structures as said.
    checked_int(unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, 0) })
}

pub(super) fn epoll_create() -> Result<c_int> {
    // SAFETY: no pointers.
    checked_int(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

pub(super) fn epoll_add(epoll: c_int, fd: c_int, events: u32, label: u64) -> Result<c_int> {
    let mut event = libc::epoll_event { events, u64: label };
    // SAFETY: the kernel reads one structure.
    checked_int(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })
}

/// epoll_wait(2) without waiting: labels and events.
pub(super) fn epoll_wait(epoll: c_int) -> Result<Vec<(u64, u32)>> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
    // SAFETY: the kernel writes at most as many structures as there are.
    let count = checked_int(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 16, 0) })?;
    let count = usize::try_from(count).unwrap_or(0);
    Ok(events[..count]
        .iter()
        .map(|event| (event.u64, event.events))
        .collect())
}

static PIPE_SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: c_int) {
    PIPE_SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// From now on SIGPIPE is counted.
pub(super) fn count_pipe_signals() {
    // SAFETY: the handler only adds to an atomic number.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGPIPE, &raw const action, ptr::null_mut());
    }
}

/// How many have come since this was asked last.
pub(super) fn pipe_signals() -> u32 {
    PIPE_SIGNALS.swap(0, Ordering::Relaxed)
}

/// Bytes of a `timeval`.
const TIMEVAL: u32 = 16;
const _: () = assert!(size_of::<libc::timeval>() == TIMEVAL as usize);

/// Lets the calls of a blocking socket wait for so many milliseconds.
pub(super) fn limit_waiting(fd: c_int, milliseconds: i64) {
    let limit = libc::timeval {
        tv_sec: 0,
        tv_usec: milliseconds * 1000,
    };
    for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        // SAFETY: one structure, as long as said.
        unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                option,
                (&raw const limit).cast(),
                TIMEVAL,
            );
        }
    }
}
