// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starting a supervisor when none runs, so that the first command a user types works.
//!
//! Whoever finds nobody at the socket takes a lock beside it, looks again, and starts one; the others wait for the lock or
//! for an answer. The lock is the kernel's (flock(2)): it goes with the process that holds it. The supervisor says on a
//! pipe that it is ready; a pipe that closes before tells that it has ended, and the last line of its log why.

use crate::sys;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Name of the supervisor's program.
pub const PROGRAM: &str = "netcon-supervisor";
/// Environment: no supervisor is started, unless it is empty or 0.
pub const NO_START: &str = "NETCON_NO_START";
/// Environment: seconds after which a supervisor that was started so and is not needed ends; 0: never.
pub const IDLE_EXIT: &str = "NETCON_IDLE_EXIT";
/// [`IDLE_EXIT`] unless it is set.
pub const DEFAULT_IDLE_SECONDS: u32 = 600;

/// How long a supervisor may take to be ready, or another one to start it; milliseconds.
const PATIENCE: i32 = 15_000;
/// Between two looks at a lock that somebody else holds; milliseconds.
const PAUSE: i32 = 10;
/// The end of the log in which its last line is looked for, bytes.
const TAIL: u64 = 4096;
/// Variables that the supervisor is given; everything else (LD_PRELOAD, say) is the business of whoever set it.
const KEPT: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "XDG_CONFIG_HOME",
    "NETCON_SOCKET",
    "NETCON_STATE_DIR",
    "NETCON_PORT",
    "RUST_LOG",
    "RUST_BACKTRACE",
];

/// Why there is still no supervisor. Displays as a sentence that says what to do.
#[derive(Debug)]
pub enum StartError {
    /// This process lives in a container, and so would the supervisor.
    Contained,
    /// The program is nowhere to be found; with the first place where it was looked for.
    Missing(PathBuf),
    /// Somebody else could have put something in the program's place.
    Untrusted {
        /// The program.
        path: PathBuf,
        /// Why, as a part of a sentence.
        why: String,
    },
    /// [`IDLE_EXIT`] is no number of seconds.
    Idle(OsString),
    /// A file beside the socket, or a process, cannot be made.
    Io {
        /// What was tried: "open", "lock" …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It ended before it was ready.
    Ended {
        /// Its log.
        log: PathBuf,
        /// What it said last.
        last: String,
    },
    /// It, or whoever is starting it, has not come far in fifteen seconds.
    Silent {
        /// Its log.
        log: PathBuf,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contained => write!(
                f,
                "no supervisor answers, and none can be started from inside a network; run this outside of it"
            ),
            Self::Missing(beside) => write!(
                f,
                "no supervisor runs, and there is no {} to start, nor one in PATH; install it, or start it yourself",
                beside.display()
            ),
            Self::Untrusted { path, why } => write!(
                f,
                "no supervisor runs, and {} is not started because {why}; install it where only you or root can write",
                path.display()
            ),
            Self::Idle(value) => write!(
                f,
                "{IDLE_EXIT}={} is not a number of seconds; use 0 for never",
                value.display()
            ),
            Self::Io {
                action,
                path,
                error,
            } => write!(
                f,
                "no supervisor could be started: cannot {action} {} ({error}); make room there, or set NETCON_SOCKET to \
                 another place",
                path.display()
            ),
            Self::Ended { log, last } => write!(
                f,
                "no supervisor could be started: {last} (log: {})",
                log.display()
            ),
            Self::Silent { log } => write!(
                f,
                "the supervisor that was started is not ready after {} s; see its log {}",
                PATIENCE / 1000,
                log.display()
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// Whether the environment allows to start one.
#[must_use]
pub fn is_allowed() -> bool {
    std::env::var_os(NO_START).is_none_or(|value| value.is_empty() || value == "0")
}

/// Whether an error of connect(2) says that no supervisor is there.
#[must_use]
pub fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ECONNREFUSED | libc::ENOTDIR)
    )
}

/// Path of the log of a supervisor that is started so: beside its socket.
#[must_use]
pub fn log_path(socket: &Path) -> PathBuf {
    if socket.extension() == Some(OsStr::new("sock")) {
        socket.with_extension("log")
    } else {
        beside(socket, ".log")
    }
}

/// The line that tells about a start, for standard error.
#[must_use]
pub fn told(log: &Path) -> String {
    format!("started {PROGRAM}; its log is {}", log.display())
}

/// Makes sure that somebody answers at `socket`, whose folder exists ([`crate::runtime::socket_path`]). Gives the path of
/// the log if it was this call that started the supervisor.
///
/// # Errors
/// [`StartError`]; nothing has been left running then, unless it is [`StartError::Silent`].
pub fn ensure(socket: &Path) -> Result<Option<PathBuf>, StartError> {
    if sys::is_contained() {
        return Err(StartError::Contained);
    }
    let idle = idle_seconds()?;
    let program = find()?;
    // The supervisor runs in another folder than we do.
    let socket = &std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
    let log = log_path(socket);
    let Some(lock) = lock(socket, &log)? else {
        return Ok(None);
    };
    if answers(socket) {
        return Ok(None);
    }
    start(&program, &log, idle)?;
    drop(lock);
    Ok(Some(log))
}

/// None: meanwhile somebody answers.
fn lock(socket: &Path, log: &Path) -> Result<Option<File>, StartError> {
    let path = beside(socket, ".start");
    let failed = |action| {
        let path = path.clone();
        move |error| StartError::Io {
            action,
            path,
            error,
        }
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path)
        .map_err(failed("open"))?;
    for _ in 0..PATIENCE / PAUSE {
        if sys::try_lock(&file).map_err(failed("lock"))? {
            return Ok(Some(file));
        }
        if answers(socket) {
            return Ok(None);
        }
        sys::wait_readable(None, PAUSE);
    }
    Err(StartError::Silent {
        log: log.to_owned(),
    })
}

fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

fn start(program: &Path, log: &Path, idle: u32) -> Result<(), StartError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |error| StartError::Io {
            action,
            path,
            error,
        }
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(log)
        .map_err(failed("open", log))?;
    let before = file.metadata().map_err(failed("examine", log))?.len();
    let (mut ready, theirs) = io::pipe().map_err(failed("start", program))?;
    let string =
        |text: &OsStr| CString::new(text.as_bytes()).expect("paths and numbers without zero bytes");
    let arguments = [
        string(OsStr::new(PROGRAM)),
        string(OsStr::new("--idle-exit")),
        string(OsStr::new(&idle.to_string())),
        string(OsStr::new("--log-file")),
        string(log.as_os_str()),
        string(OsStr::new("--ready-fd")),
        string(OsStr::new(&sys::READY_FD.to_string())),
    ];
    sys::start_detached(&sys::Detached {
        program: &string(program.as_os_str()),
        arguments: &arguments,
        environment: &environment(),
        log: file.as_fd(),
        ready: theirs.as_fd(),
    })
    .map_err(failed("start", program))?;
    drop(theirs);
    if !sys::wait_readable(Some(ready.as_fd()), PATIENCE) {
        return Err(StartError::Silent {
            log: log.to_owned(),
        });
    }
    let mut said = [0];
    match ready.read(&mut said) {
        Ok(1) => Ok(()),
        Ok(_) | Err(_) => Err(StartError::Ended {
            log: log.to_owned(),
            last: last_line(log, before),
        }),
    }
}

fn environment() -> Vec<CString> {
    KEPT.iter()
        .filter_map(|name| {
            let mut entry = OsString::from(name);
            entry.push("=");
            let value = std::env::var_os(name)?;
            entry.push(match *name {
                "NETCON_SOCKET" | "NETCON_STATE_DIR" if !value.is_empty() => {
                    std::path::absolute(&value).map_or(value, PathBuf::into_os_string)
                }
                _ => value,
            });
            CString::new(entry.into_vec()).ok()
        })
        .collect()
}

fn idle_seconds() -> Result<u32, StartError> {
    match std::env::var_os(IDLE_EXIT).filter(|value| !value.is_empty()) {
        None => Ok(DEFAULT_IDLE_SECONDS),
        Some(value) => value
            .to_str()
            .and_then(|text| text.parse().ok())
            .ok_or(StartError::Idle(value)),
    }
}

/// What was written behind `before` last, without the program's own name and without anything a terminal would obey.
fn last_line(log: &Path, before: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        // A log that has become shorter was begun anew.
        let from = if before > length { 0 } else { before };
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL))))?;
        let mut text = Vec::new();
        file.take(TAIL).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    let last = last.map_or("it ended without a word", |line| {
        let line = line.trim();
        line.strip_prefix("netcon-supervisor: ").unwrap_or(line)
    });
    last.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// The program: beside this one, then in `libexec` and `lib` of the same prefix, then in PATH.
fn find() -> Result<PathBuf, StartError> {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own
        .parent()
        .map_or_else(|| PathBuf::from("/usr/bin"), Path::to_owned);
    let beside = folder.join(PROGRAM);
    let prefix = folder
        .parent()
        .map_or_else(|| PathBuf::from("/usr"), Path::to_owned);
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = [
        beside.clone(),
        prefix.join("libexec/netcon").join(PROGRAM),
        prefix.join("lib/netcon").join(PROGRAM),
    ]
    .into_iter()
    .chain(
        std::env::split_paths(&search)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(PROGRAM)),
    )
    .find(|path| {
        path.metadata()
            .is_ok_and(|about| about.is_file() && about.mode() & 0o111 != 0)
    });
    let Some(path) = found else {
        return Err(StartError::Missing(beside));
    };
    // Whoever owns this program could have changed it as well.
    let trusted = [0, sys::effective_uid()]
        .into_iter()
        .chain(own.metadata().ok().map(|about| about.uid()))
        .collect::<Vec<_>>();
    verify(path, &trusted)
}

/// The file itself and its folder belong to one of `trusted`, and not everybody may write to them.
fn verify(path: PathBuf, trusted: &[u32]) -> Result<PathBuf, StartError> {
    const STICKY: u32 = 0o1000;
    let untrusted = |why| StartError::Untrusted {
        path: path.clone(),
        why,
    };
    let real = path
        .canonicalize()
        .map_err(|error| untrusted(format!("it cannot be examined ({error})")))?;
    let places = [Some(real.as_path()), real.parent()];
    for place in places.into_iter().flatten() {
        let about = place.metadata().map_err(|error| {
            untrusted(format!("{} cannot be examined ({error})", place.display()))
        })?;
        if !trusted.contains(&about.uid()) {
            return Err(untrusted(format!(
                "{} belongs to user {}",
                place.display(),
                about.uid()
            )));
        }
        if about.mode() & 0o002 != 0 && about.mode() & STICKY == 0 {
            return Err(untrusted(format!(
                "everybody may write to {}",
                place.display()
            )));
        }
    }
    Ok(real)
}

fn beside(socket: &Path, ending: &str) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_log_is_beside_the_socket() {
        assert_eq!(
            log_path(Path::new("/run/user/1/netcon/supervisor.sock")),
            Path::new("/run/user/1/netcon/supervisor.log")
        );
        assert_eq!(log_path(Path::new("/x/s")), Path::new("/x/s.log"));
    }

    #[test]
    fn the_last_line_is_what_is_new() {
        let path = std::env::temp_dir().join(format!("netcon-last-{}", std::process::id()));
        std::fs::write(&path, "old sentence\n").unwrap();
        assert_eq!(last_line(&path, 13), "it ended without a word");
        std::fs::write(
            &path,
            "old sentence\nfirst\nnetcon-supervisor: No \x1b room.\n\n",
        )
        .unwrap();
        assert_eq!(last_line(&path, 13), "No ? room.");
        // Begun anew meanwhile.
        assert_eq!(last_line(&path, 1000), "No ? room.");
        std::fs::write(&path, [b'x'; 10_000]).unwrap();
        assert_eq!(last_line(&path, 0).len(), 4096);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(last_line(&path, 0), "it ended without a word");
    }

    #[test]
    fn a_program_that_others_can_change_is_not_started() {
        let own = sys::effective_uid();
        let folder = std::env::temp_dir().join(format!("netcon-verify-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&folder, 0o755);
        let program = folder.join(PROGRAM);
        std::fs::write(&program, "").unwrap();
        mode(&program, 0o755);
        let verified = verify(program.clone(), &[own]).unwrap();
        assert!(verified.ends_with(PROGRAM));
        let refused = |trusted: &[u32]| match verify(program.clone(), trusted) {
            Err(StartError::Untrusted { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused(&[own + 1]).contains("belongs to user"));
        mode(&program, 0o757);
        assert!(refused(&[own]).contains("everybody may write"));
        mode(&program, 0o755);
        mode(&folder, 0o777);
        assert!(refused(&[own]).contains("everybody may write"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_process_of_the_host_is_not_contained() {
        assert!(!sys::is_contained());
    }
}
