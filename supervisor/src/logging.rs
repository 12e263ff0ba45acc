// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Log lines on standard error, which may be a file of bounded size.
//!
//! ERROR: we are broken. WARN: odd but working. INFO: a change a user would notice. DEBUG: decisions,
//! addresses. TRACE: each call and packet. Addresses and names of peers stay at DEBUG and below,
//! except where the line is the answer to what the user asked for (the port in use, for one). Keys
//! and payload are never logged.
//!
//! With a log file, standard output and standard error *are* that file: what the C library or a panic says lands there
//! too. At [`LARGEST`] bytes it becomes `FILE.1`, in place of an older one, and a new one is begun: two files of that size
//! at most.

use std::env::VarError;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;

use crate::log_filter;

/// Bytes of a log file before another is begun.
pub const LARGEST: u64 = 1 << 20;

/// The log file, if there is one.
static FILE: OnceLock<LogFile> = OnceLock::new();

/// Starts logging: `RUST_LOG` if it is set and can be understood, else by the number of `-v`. Colours are for terminals, and
/// not if `NO_COLOR` is set.
///
/// Returns a sentence about a `RUST_LOG` that could not be understood. A second call has no effect.
pub fn start(verbosity: u8) -> Option<String> {
    let wanted = match std::env::var("RUST_LOG") {
        Ok(text) if text.is_empty() => None,
        Ok(text) => Some(
            EnvFilter::try_new(&text)
                .map_err(|error| format!("RUST_LOG={text:?} is not understood ({error})")),
        ),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => Some(Err("RUST_LOG is not text".to_owned())),
    };
    let own = directive(verbosity);
    let asked_for = verbosity > 0 || matches!(wanted, Some(Ok(_)));
    let (filter, complaint) = match wanted {
        Some(Ok(filter)) => (filter, None),
        Some(Err(reason)) => (
            EnvFilter::new(own),
            Some(format!("{reason}; using {own:?}.")),
        ),
        None => (EnvFilter::new(own), None),
    };
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let text = filter.to_string();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Output)
        .with_ansi(!plain && io::stderr().is_terminal())
        .with_target(asked_for)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    if builder.try_init().is_ok() {
        log_filter::set_up(text, move |filter| {
            handle.reload(filter).map_err(|error| format!("{error}."))
        });
    }
    complaint
}

/// Makes `path` standard output, standard error and the log. The first call decides.
///
/// # Errors
/// When it cannot be opened; both are as they were then.
pub fn to_file(path: &Path) -> io::Result<()> {
    let file = LogFile {
        path: path.to_owned(),
        length: Mutex::new(0),
    };
    file.open()?;
    let _first_decides = FILE.set(file);
    Ok(())
}

/// Opens the log file anew, if there is one: somebody may have moved it away.
///
/// # Errors
/// When it cannot be opened; the old one is written on then.
pub fn reopen() -> io::Result<()> {
    FILE.get().map_or(Ok(()), LogFile::open)
}

/// Standard error, and the length of what goes there.
struct Output;

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = FILE.get() {
            file.make_room(line.len());
        }
        io::stderr().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    /// Bytes in it.
    length: Mutex<u64>,
}

impl LogFile {
    fn open(&self) -> io::Result<()> {
        let mut length = self.length.lock().unwrap_or_else(PoisonError::into_inner);
        *length = self.become_output()?;
        Ok(())
    }

    fn become_output(&self) -> io::Result<u64> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path)?;
        let length = regular(&file)?;
        nix::unistd::dup2_stdout(&file)?;
        nix::unistd::dup2_stderr(&file)?;
        Ok(length)
    }

    /// Before a line: begins a new file if the present one is full. What fails is tried again a file later.
    fn make_room(&self, line: usize) {
        let line = u64::try_from(line).unwrap_or(u64::MAX);
        let mut length = self.length.lock().unwrap_or_else(PoisonError::into_inner);
        if length.saturating_add(line) > LARGEST && *length > 0 {
            let mut old = self.path.as_os_str().to_owned();
            old.push(".1");
            *length = std::fs::rename(&self.path, old)
                .and_then(|()| self.become_output())
                .unwrap_or(0);
        }
        *length = length.saturating_add(line);
    }
}

fn regular(file: &File) -> io::Result<u64> {
    let about = file.metadata()?;
    if about.is_file() {
        Ok(about.len())
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// The filter for a number of `-v`: none shows what a user would notice, three show everything.
fn directive(verbosity: u8) -> &'static str {
    match verbosity {
        0 => "warn,netcon_supervisor=info",
        1 => "info,netcon_supervisor=debug,netcon_api=debug",
        2 => "debug,netcon_supervisor=trace,netcon_api=trace",
        3.. => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directive_is_understood() {
        for verbosity in [0, 1, 2, 3, u8::MAX] {
            assert!(EnvFilter::try_new(directive(verbosity)).is_ok());
        }
    }
}
