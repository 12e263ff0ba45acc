// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tries what netcon needs, or could use. A probe changes the process it runs in (a filter cannot be taken off) and may end
//! it: each [`Part`] is run in a process of its own, which says what came of it in lines that [`Outcome::parse`] reads.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::sys::{notify, tried};

/// Declares an enum whose variants have names.
macro_rules! named {
    ($(#[$meta:meta])* $type:ident { $($(#[doc = $doc:literal])+ $variant:ident $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type {$($(#[doc = $doc])+ $variant,)+}

        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name, for lines and command lines.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {$(Self::$variant => $name,)+}
            }
        }

        impl FromStr for $type {
            type Err = Unknown;

            fn from_str(text: &str) -> Result<Self, Unknown> {
                match text {$($name => Ok(Self::$variant),)+ _ => Err(Unknown)}
            }
        }
    };
}

/// No name of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no such probe")
    }
}

impl std::error::Error for Unknown {}

named! {
    /// One thing that is tried.
    Thing {
        /// A filter with a listener can be installed.
        Listener "listener",
        /// A call in progress is interrupted by fatal signals only (Linux 5.19).
        WaitKillable "wait-killable",
        /// A trapped call is received.
        Receive "receive",
        /// It is answered.
        Answer "answer",
        /// A descriptor is put into the caller.
        AddFd "add-fd",
        /// The receiver may run on the caller's processor (Linux 6.6).
        SyncWakeUp "sync-wake-up",
        /// A second listener is refused, as the kernel promises.
        OneListener "one-listener",
        /// Another process's memory, by process_vm_readv.
        ReadMemory "read-memory",
        /// Another process's memory, by /proc.
        ProcMemory "proc-memory",
        /// Another process's descriptor.
        TakeDescriptor "take-descriptor",
        /// UDP_SEGMENT.
        UdpSegment "udp-segment",
        /// UDP_GRO.
        UdpGro "udp-gro",
        /// io_uring_setup.
        IoUring "io-uring",
        /// A call with an x32 number.
        X32 "x32",
        /// A call through int 0x80.
        I386 "i386",
        /// A socket for pings.
        Ping "ping",
        /// A user namespace.
        UserNamespace "user-namespace",
    }
}

named! {
    /// What one process tries.
    Part {
        /// Everything about notifications, on itself.
        Notifications "notifications",
        /// Is looked at by a [`Part::Reach`]; its first line is a [`Target`].
        Target "target",
        /// Looks at a [`Target`], which is no child of it, as programs are none of the supervisor's.
        Reach "reach",
        /// UDP with offloads.
        Udp "udp",
        /// io_uring.
        IoUring "io-uring",
        /// x32.
        X32 "x32",
        /// i386.
        I386 "i386",
        /// Pings.
        Ping "ping",
        /// User namespaces.
        UserNamespace "user-namespace",
    }
}

/// What came of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What was tried.
    pub thing: Thing,
    /// The errno with which it was refused.
    pub result: Result<(), i32>,
}

impl Outcome {
    fn of<T>(thing: Thing, result: io::Result<T>) -> Self {
        // An error without a number is a wrong result: EIO stands for it.
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        Self {
            thing,
            result: result.map(drop).map_err(errno),
        }
    }

    /// Reads the lines of a part; what is no line of ours is skipped.
    #[must_use]
    pub fn parse(text: &str) -> Vec<Self> {
        let line = |line: &str| {
            let (name, errno) = line.split_once(' ')?;
            Some(Self {
                thing: name.parse().ok()?,
                result: match errno.parse().ok()? {
                    0 => Ok(()),
                    errno => Err(errno),
                },
            })
        };
        text.lines().filter_map(line).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.thing.name(),
            self.result.err().unwrap_or(0)
        )
    }
}

/// A process that lets itself be looked at: where eight known bytes are, and an open descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pid: i32,
    address: usize,
    fd: i32,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.pid, self.address, self.fd)
    }
}

impl FromStr for Target {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let mut parts = text.trim().split(',');
        let mut next = || parts.next().ok_or(Unknown);
        let target = Self {
            pid: next()?.parse().map_err(|_| Unknown)?,
            address: next()?.parse().map_err(|_| Unknown)?,
            fd: next()?.parse().map_err(|_| Unknown)?,
        };
        Ok(target)
    }
}

/// Bytes of a [`Target`], and of the trapped calls.
const COOKIE: [u8; 8] = *b"netcon?!";
/// No descriptor of anybody: only a call with it is one of the probe's.
const NO_FD: i32 = -4_711;
/// How long a part may take, seconds: a call that nobody answers would wait for ever.
const PATIENCE: u32 = 10;

/// Runs a part in this process, which is of no use afterwards; writes a line for each outcome as soon as it is known.
///
/// # Errors
/// When the lines cannot be written, or [`Part::Reach`] is without a target.
pub fn run(part: Part, target: Option<Target>, output: &mut impl Write) -> io::Result<()> {
    tried::end_after(PATIENCE);
    let mut say = |outcome: Outcome| {
        writeln!(output, "{outcome}")?;
        output.flush()
    };
    match part {
        Part::Notifications => notifications(&mut say),
        Part::Target => be_looked_at(output),
        Part::Reach => reach(target.ok_or(io::ErrorKind::InvalidInput)?, &mut say),
        Part::Udp => {
            let socket = UdpSocket::bind(("127.0.0.1", 0))?;
            for (thing, option) in [
                (Thing::UdpSegment, tried::UdpOption::Segment),
                (Thing::UdpGro, tried::UdpOption::Gro),
            ] {
                say(Outcome::of(
                    thing,
                    tried::set_udp_option(socket.as_fd(), option),
                ))?;
            }
            Ok(())
        }
        Part::IoUring => say(Outcome::of(Thing::IoUring, tried::io_uring())),
        Part::X32 => say(Outcome::of(Thing::X32, tried::x32())),
        Part::I386 => say(Outcome::of(Thing::I386, tried::i386())),
        Part::Ping => say(Outcome::of(Thing::Ping, tried::ping_socket())),
        Part::UserNamespace => say(Outcome::of(Thing::UserNamespace, tried::user_namespace())),
    }
}

/// One thread is the program, this one the supervisor.
fn notifications(say: &mut impl FnMut(Outcome) -> io::Result<()>) -> io::Result<()> {
    const WAIT_KILLABLE_RECV: u32 = 1 << 5;
    let (give, take) = channel();
    let program =
        std::thread::Builder::new().spawn(move || be_trapped(WAIT_KILLABLE_RECV, &give))?;
    let trapped = |take: &Receiver<Event>| {
        take.recv()
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    };
    let listener = match trapped(&take)? {
        Event::Trapped(listener, killable) => {
            say(Outcome::of(Thing::Listener, Ok(())))?;
            say(Outcome::of(Thing::WaitKillable, killable))?;
            listener
        }
        Event::Refused(error) => return say(Outcome::of(Thing::Listener, Err::<(), _>(error))),
        Event::Returned(..) => return Err(io::ErrorKind::InvalidData.into()),
    };
    let listener = listener.as_fd();
    say(Outcome::of(
        Thing::SyncWakeUp,
        notify::set_sync_wake_up(listener)
            .then_some(())
            .ok_or_else(io::Error::last_os_error),
    ))?;
    // The first call is answered with an errno that getsockname never gives.
    let call = match notify::receive(listener) {
        Ok(call) => call,
        Err(error) => return say(Outcome::of(Thing::Receive, Err::<(), _>(error))),
    };
    let ours = call.args[0].to_ne_bytes()[..4] == NO_FD.to_ne_bytes()
        && notify::is_valid(listener, call.id);
    say(Outcome::of(
        Thing::Receive,
        ours.then_some(())
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
    ))?;
    let answered = notify::answer(listener, call.id, Err(libc::EOWNERDEAD));
    let answered = answered.and_then(|()| match trapped(&take)? {
        Event::Returned(Err(error)) if error.raw_os_error() == Some(libc::EOWNERDEAD) => Ok(()),
        Event::Returned(_) | Event::Trapped(..) | Event::Refused(_) => {
            Err(io::ErrorKind::InvalidData.into())
        }
    });
    say(Outcome::of(Thing::Answer, answered))?;
    // The second one returns a descriptor.
    let injected = notify::receive(listener).and_then(|call| {
        let (file, _other) = UnixStream::pair()?;
        let result = notify::inject(listener, call.id, file.as_fd(), true);
        if result.is_err() {
            // Or the program would wait.
            notify::answer(listener, call.id, Err(libc::EBADF))?;
        }
        result
    });
    let injected = injected.and_then(|number| match trapped(&take)? {
        Event::Returned(Ok(returned)) if returned == number => Ok(()),
        Event::Returned(_) | Event::Trapped(..) | Event::Refused(_) => {
            Err(io::ErrorKind::InvalidData.into())
        }
    });
    say(Outcome::of(Thing::AddFd, injected))?;
    // Last it tries to be trapped twice.
    let second = match trapped(&take)? {
        Event::Refused(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        Event::Refused(error) => Err(error),
        Event::Trapped(..) | Event::Returned(_) => Err(io::Error::from(io::ErrorKind::InvalidData)),
    };
    say(Outcome::of(Thing::OneListener, second))?;
    drop(program.join());
    Ok(())
}

/// What the trapped thread tells.
enum Event {
    /// It is under a filter; whether with the flag.
    Trapped(OwnedFd, io::Result<()>),
    /// It could not be put under one.
    Refused(io::Error),
    /// A trapped call came back.
    Returned(io::Result<i32>),
}

fn be_trapped(killable: u32, give: &Sender<Event>) {
    // Whoever waits has an end of its own; nothing is to be done if it is gone.
    let tell = |event| drop(give.send(event));
    let (listener, flag) = match tried::trap_getsockname(killable) {
        Ok(listener) => (Ok(listener), Ok(())),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            (tried::trap_getsockname(0), Err(error))
        }
        Err(error) => (Err(error), Ok(())),
    };
    match listener {
        Ok(listener) => tell(Event::Trapped(listener, flag)),
        Err(error) => return tell(Event::Refused(error)),
    }
    let mut cookie = COOKIE;
    for _call in 0..2 {
        tell(Event::Returned(tried::call_getsockname(NO_FD, &mut cookie)));
    }
    match tried::trap_getsockname(0) {
        Ok(listener) => tell(Event::Trapped(listener, Ok(()))),
        Err(error) => tell(Event::Refused(error)),
    }
}

/// Says where it can be looked at, and waits until its input ends.
fn be_looked_at(output: &mut impl Write) -> io::Result<()> {
    let (file, _other) = UnixStream::pair()?;
    let target = Target {
        pid: i32::try_from(std::process::id()).map_err(io::Error::other)?,
        address: COOKIE_IN_MEMORY.as_ptr().addr(),
        fd: file.as_raw_fd(),
    };
    writeln!(output, "{target}")?;
    output.flush()?;
    let mut rest = Vec::new();
    io::stdin().lock().read_to_end(&mut rest).map(drop)
}

static COOKIE_IN_MEMORY: [u8; 8] = COOKIE;

fn reach(target: Target, say: &mut impl FnMut(Outcome) -> io::Result<()>) -> io::Result<()> {
    let right = |bytes: [u8; 8]| {
        (bytes == COOKIE)
            .then_some(())
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    let read = tried::read_by_call(target.pid, target.address).and_then(right);
    say(Outcome::of(Thing::ReadMemory, read))?;
    let read = File::open(format!("/proc/{}/mem", target.pid)).and_then(|memory| {
        let mut bytes = [0; 8];
        let offset = u64::try_from(target.address).map_err(io::Error::other)?;
        memory.read_exact_at(&mut bytes, offset)?;
        right(bytes)
    });
    say(Outcome::of(Thing::ProcMemory, read))?;
    say(Outcome::of(
        Thing::TakeDescriptor,
        tried::take_descriptor(target.pid, target.fd),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_back() {
        let outcomes = [
            Outcome::of(Thing::Listener, Ok(())),
            Outcome::of(
                Thing::AddFd,
                Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM)),
            ),
            Outcome::of(Thing::I386, Err::<(), _>(io::ErrorKind::InvalidData.into())),
        ];
        let text: String = outcomes
            .iter()
            .map(|outcome| format!("{outcome}\n"))
            .collect();
        assert_eq!(text, "listener 0\nadd-fd 1\ni386 5\n");
        assert_eq!(
            Outcome::parse(&format!("noise\n{text}more noise")),
            outcomes
        );
        let target = Target {
            pid: 7,
            address: 4096,
            fd: 3,
        };
        assert_eq!(target.to_string().parse(), Ok(target));
        for bad in ["", "1,2", "1,2,x", "a,b,c"] {
            assert_eq!(bad.parse::<Target>(), Err(Unknown), "{bad}");
        }
    }
}
