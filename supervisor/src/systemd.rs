// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a service manager is told, and what it gives: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). Without one
//! nothing is told and nothing given.

use std::env::VarError;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::sys::inherited;

/// First of the descriptors that are passed (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Manager(Option<UnixDatagram>);

/// What it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Everything listens, or has been read again.
    Ready,
    /// The configuration is being read again.
    Reloading,
    /// The end has begun.
    Stopping,
    /// The watchdog need not bite.
    Alive,
}

impl Manager {
    /// The one that NOTIFY_SOCKET names.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn of_this_process() -> io::Result<Self> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self(None));
        };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that does not read must not hold us up; the next notice comes.
        socket.set_nonblocking(true)?;
        Ok(Self(Some(socket)))
    }

    /// Tells it; without a manager nothing happens.
    pub fn tell(&self, notice: Notice) {
        let Some(socket) = &self.0 else { return };
        let text = match notice {
            Notice::Ready => "READY=1",
            Notice::Reloading => "RELOADING=1",
            Notice::Stopping => "STOPPING=1",
            Notice::Alive => "WATCHDOG=1",
        };
        if let Err(error) = socket.send(text.as_bytes()) {
            tracing::warn!(%error, text, "the service manager was not told");
        }
    }
}

/// The watchdog's time, if it watches this process.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC")
        .filter(|time| *time > 0)
        .map(Duration::from_micros)
}

/// The sockets that were passed to this process.
///
/// # Errors
/// EBADF when one of them is not there.
pub fn sockets() -> io::Result<Vec<OwnedFd>> {
    if number("LISTEN_PID") != Some(u64::from(std::process::id())) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(16);
    (FIRST..)
        .zip(0..count)
        .map(|(number, _)| inherited::take(number))
        .collect()
}

fn number(variable: &str) -> Option<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().ok(),
        Err(VarError::NotPresent | VarError::NotUnicode(_)) => None,
    }
}
