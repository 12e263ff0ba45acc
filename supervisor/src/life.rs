// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the main thread does while the supervisor runs: signals, the watchdog, idleness, and the end.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::admission::Socket;
use crate::clock;
use crate::control::Service;
use crate::logging;
use crate::systemd::{Manager, Notice};

/// Time for connections to end; what is left then is reset.
const FAREWELL: Duration = Duration::from_millis(1500);
/// The part of the watchdog's time in which the node has to answer. It is asked three times within that time.
const ANSWER_SHARE: u32 = 6;

/// What ends a supervisor, and what it does meanwhile.
#[derive(Debug)]
pub struct Life<'a> {
    /// SIGINT, SIGTERM, SIGHUP.
    pub signals: &'a SignalFd,
    /// Where clients come in.
    pub socket: &'a Socket,
    /// Whose life it is.
    pub service: &'a Arc<Service>,
    /// Who is told.
    pub manager: &'a Manager,
    /// The watchdog's time.
    pub watchdog: Option<Duration>,
    /// How long nobody may need it before it ends.
    pub idle: Option<Duration>,
}

/// The signals that are read and not handled. Blocked from now on, in this thread and those it will start.
///
/// # Errors
/// What the kernel said.
pub fn signals() -> Result<SignalFd, Errno> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

impl Life<'_> {
    /// Until a signal, or idleness, ends it; everything has been closed then.
    ///
    /// # Errors
    /// When signals can no longer be read. The rest has been closed then, too.
    pub fn live(&self) -> Result<(), Errno> {
        let result = self.wait();
        self.manager.tell(Notice::Stopping);
        self.socket.close();
        self.service.runtime().end(FAREWELL);
        self.service.save_timestamps();
        result
    }

    fn wait(&self) -> Result<(), Errno> {
        let mut watch = self.watchdog.map(|time| Every::new(time / 3));
        let mut look = self
            .idle
            .map(|time| Every::new((time / 4).clamp(Duration::from_millis(50), LONGEST_LOOK)));
        loop {
            let next = [&watch, &look]
                .into_iter()
                .flatten()
                .map(|every| every.next);
            self.pause(next.min())?;
            while let Some(signal) = self.signals.read_signal()? {
                if signal.ssi_signo == Signal::SIGHUP as u32 {
                    self.reload();
                } else {
                    tracing::info!(signal = signal.ssi_signo, "ending");
                    return Ok(());
                }
            }
            if let (Some(every), Some(time)) = (&mut watch, self.watchdog)
                && every.is_due()
            {
                match self.service.runtime().check(time / ANSWER_SHARE) {
                    Ok(()) => self.manager.tell(Notice::Alive),
                    Err(error) => tracing::error!("{error}; the watchdog is not told."),
                }
            }
            if let (Some(every), Some(time)) = (&mut look, self.idle)
                && every.is_due()
                && self.is_idle(time)
            {
                tracing::info!(seconds = time.as_secs(), "ending, because nothing needs it");
                return Ok(());
            }
        }
    }

    fn pause(&self, until: Option<Instant>) -> Result<(), Errno> {
        let timeout = until.map_or(PollTimeout::NONE, |at| {
            let wait = at.saturating_duration_since(clock::now()) + Duration::from_millis(1);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let mut polled = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn is_idle(&self, time: Duration) -> bool {
        let nobody = || {
            let needs = self.service.needs();
            if !self.service.runtime().containers().is_empty() {
                needs.touch();
            }
            needs.idle_for().is_some_and(|idle| idle >= time)
        };
        // Somebody may come in at this moment: asked again behind a closed door.
        nobody()
            && self.socket.close_if(nobody).unwrap_or_else(|error| {
                tracing::error!(%error, "no client can be accepted any more");
                true
            })
    }

    fn reload(&self) {
        self.manager.tell(Notice::Reloading);
        if let Err(error) = logging::reopen() {
            tracing::warn!(%error, "the log cannot be opened anew; the old one is written on");
        }
        tracing::info!("reading the state directory again");
        if let Err(error) = self.service.reload() {
            tracing::error!("{error}");
        }
        self.manager.tell(Notice::Ready);
    }
}

/// Longest time between two looks whether anybody needs the supervisor.
const LONGEST_LOOK: Duration = Duration::from_secs(30);

struct Every {
    interval: Duration,
    next: Instant,
}

impl Every {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: clock::now(),
        }
    }

    fn is_due(&mut self) -> bool {
        let now = clock::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.interval;
        }
        due
    }
}
