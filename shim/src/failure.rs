// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every way in which the shim fails: its sentence and its exit status (as env(1) and timeout(1) have them).

use netcon_shim::filter::BuildError;
use netcon_shim::handover::VERSION;
use netcon_shim::runtime::RuntimeError;
use netcon_shim::start::StartError;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

/// Why the program does not run.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// Standard output cannot be written to.
    Output(io::Error),
    /// There is no such program.
    NotFound(OsString),
    /// The program or its interpreter is there and cannot be executed.
    NotExecutable(PathBuf, io::Error),
    /// The interpreter that a script or a binary names is missing.
    NoInterpreter(PathBuf),
    /// The program may be executed but not read.
    Unreadable(PathBuf),
    /// The folder of the supervisor's socket cannot be trusted.
    Runtime(RuntimeError),
    /// Nobody listens at the supervisor's socket, and none is to be started.
    NoSupervisor(PathBuf),
    /// No supervisor could be started.
    Start(StartError),
    /// The supervisor's socket cannot be connected to.
    Connect(PathBuf, io::Error),
    /// The supervisor's socket is served by another user.
    ForeignSupervisor(PathBuf, u32),
    /// The supervisor said no.
    Refused(String),
    /// The supervisor ended the conversation.
    Lost(io::Error),
    /// The supervisor did not answer in time.
    Silent,
    /// What answers is not a supervisor of this version.
    Strange,
    /// This process cannot be looked at by the supervisor.
    NotDumpable,
    /// A resource for starting (a thread) is missing.
    Resource(io::Error),
    /// The filter cannot be built.
    Build(BuildError),
    /// The kernel did not take the filter.
    Install(io::Error),
    /// The probe call was not answered as agreed.
    Probe(i32),
}

impl Failure {
    /// Prints the sentence; returns the exit status.
    pub(crate) fn report(&self) -> i32 {
        // One write: lines of several shims must not mix. If even that fails, the exit status remains.
        let _ = io::stderr().write_all(format!("netcon-shim: {self}\n").as_bytes());
        self.status()
    }

    fn status(&self) -> i32 {
        match self {
            Self::NotFound(_) | Self::NoInterpreter(_) => 127,
            Self::NotExecutable(..) | Self::Unreadable(_) => 126,
            Self::Usage(_)
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::NoSupervisor(_)
            | Self::Start(_)
            | Self::Connect(..)
            | Self::ForeignSupervisor(..)
            | Self::Refused(_)
            | Self::Lost(_)
            | Self::Silent
            | Self::Strange
            | Self::NotDumpable
            | Self::Resource(_)
            | Self::Build(_)
            | Self::Install(_)
            | Self::Probe(_) => 125,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(
                f,
                "{what}; usage: netcon-shim [--net NAME] [--] PROGRAM [ARGUMENT]..."
            ),
            Self::Output(error) => {
                write!(f, "standard output cannot be written to: {}", plain(error))
            }
            Self::NotFound(command) => write!(
                f,
                "{}: no such program; check its name and PATH",
                command.display()
            ),
            Self::NotExecutable(path, error) => {
                write!(
                    f,
                    "{} cannot be executed ({}); check its permissions and format",
                    path.display(),
                    plain(error)
                )
            }
            Self::NoInterpreter(path) => {
                write!(
                    f,
                    "{} names an interpreter that does not exist; install it",
                    path.display()
                )
            }
            Self::Unreadable(path) => write!(
                f,
                "{} may be executed but not read, so the kernel would hide it from the supervisor; ask its owner for \
                 read permission (chmod a+r)",
                path.display()
            ),
            Self::Runtime(error) => write!(f, "{error}"),
            Self::NoSupervisor(path) => write!(
                f,
                "no supervisor answers at {}; start netcon-supervisor, or set NETCON_SOCKET to where it listens",
                path.display()
            ),
            Self::Start(error) => write!(f, "{error}"),
            Self::Connect(path, error) => write!(
                f,
                "the supervisor's socket {} cannot be connected to ({}); check NETCON_SOCKET and its permissions",
                path.display(),
                plain(error)
            ),
            Self::ForeignSupervisor(path, uid) => write!(
                f,
                "the supervisor at {} belongs to user {uid}; start netcon-supervisor as yourself, or set NETCON_SOCKET",
                path.display()
            ),
            Self::Refused(sentence) => write!(f, "{sentence}"),
            Self::Lost(error) => write!(
                f,
                "the supervisor ended the conversation ({}); see its log, start netcon-supervisor if it is gone, then \
                 try again",
                plain(error)
            ),
            Self::Silent => write!(
                f,
                "the supervisor does not answer; see its log, restart netcon-supervisor"
            ),
            Self::Strange => write!(
                f,
                "what answers at the supervisor's socket does not speak version {VERSION} of the hand-over; install \
                 netcon-shim and netcon-supervisor of one release, then: netcon service restart"
            ),
            Self::NotDumpable => write!(
                f,
                "the kernel hides this process from the supervisor; install netcon-shim readable by all and without \
                 setuid bits or capabilities"
            ),
            Self::Resource(error) => {
                write!(
                    f,
                    "a thread cannot be started ({}); check the limits (ulimit -u)",
                    plain(error)
                )
            }
            Self::Build(error) => write!(
                f,
                "the filter cannot be built ({error}); please report this"
            ),
            Self::Install(error) => write_install(f, error),
            Self::Probe(errno) => write!(
                f,
                "trapped calls do not reach the supervisor (errno {errno}); another sandbox around this command \
                 interferes, run it outside"
            ),
        }
    }
}

fn write_install(f: &mut fmt::Formatter<'_>, error: &io::Error) -> fmt::Result {
    match error.raw_os_error() {
        Some(libc::EBUSY) => write!(
            f,
            "this command already runs under another program's seccomp listener (a sandbox, a container, or another \
             supervisor's network), and the kernel allows one; run it outside of that"
        ),
        Some(libc::ENOSYS | libc::EINVAL) => write!(
            f,
            "the kernel has no seccomp user notification; use Linux 5.14 or newer, built with CONFIG_SECCOMP_FILTER"
        ),
        Some(libc::EPERM | libc::EACCES) => write!(
            f,
            "seccomp filters are forbidden here; allow the system call seccomp in the profile of the container"
        ),
        _ => write!(f, "the kernel does not take the filter ({})", plain(error)),
    }
}

/// The kernel's words without the number that std appends.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}
