// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The data thread: everything that happens per packet.
//!
//! A turn: datagrams in (GRO) → opened in place → per network, under its lock: engine, ends of programs, engine → sealed in
//! place outside the lock → datagrams out (GSO); then timers. It touches no program: only the supervisor's own ends.
//!
//! One thread serves all networks, because one UDP port does: which network a datagram is for is known only after the
//! overlay has looked at it.

mod batch;
mod pump;
mod thread;
mod udp;

pub use thread::run;
pub use udp::{Udp, UdpCounts};

use crate::control::Unanswered;
use crate::network::{Network, Token};
use crate::state::PeerTimestamps;
use netcon_overlay::{
    ConfigError, DropReason, IpPrefix, NetworkIndex, PeerConfig, PeerStatus, PrivateKey, PublicKey,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What the overlay is asked by other threads.
#[derive(Debug)]
#[expect(missing_docs, reason = "named as the overlay's methods")]
pub enum Command {
    AddNetwork {
        network: Arc<Network>,
        key: PrivateKey,
        reply: SyncSender<Result<(), ConfigError>>,
    },
    RemoveNetwork {
        network: NetworkIndex,
        reply: SyncSender<()>,
    },
    SetMtu {
        network: NetworkIndex,
        mtu: usize,
        reply: SyncSender<Result<(), ConfigError>>,
    },
    /// Answered with whether the routes of the network have changed.
    SetPeer {
        network: NetworkIndex,
        peer: Box<PeerConfig>,
        /// The greatest that its initiations have shown before a restart.
        timestamp: Option<[u8; 12]>,
        reply: SyncSender<Result<bool, ConfigError>>,
    },
    RemovePeer {
        network: NetworkIndex,
        peer: PublicKey,
        reply: SyncSender<()>,
    },
    PeerStatus {
        network: NetworkIndex,
        reply: SyncSender<Vec<PeerStatus>>,
    },
    Peer {
        network: NetworkIndex,
        peer: PublicKey,
        reply: SyncSender<Option<PeerStatus>>,
    },
    PeerOf {
        network: NetworkIndex,
        address: IpAddr,
        reply: SyncSender<Option<PublicKey>>,
    },
    Drops {
        reply: SyncSender<Vec<(DropReason, u64)>>,
    },
    UdpCounts {
        reply: SyncSender<UdpCounts>,
    },
    Routes {
        network: NetworkIndex,
        reply: SyncSender<Vec<IpPrefix>>,
    },
    SetLeastTime(Duration),
    Timestamps {
        network: NetworkIndex,
        reply: SyncSender<(Duration, PeerTimestamps)>,
    },
    Ping {
        reply: SyncSender<()>,
    },
    Stop,
}

/// The data thread as others see it.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    epoll: Epoll,
    wake: EventFd,
    /// A wake-up is on its way: one is enough.
    woken: AtomicBool,
    commands: Mutex<Vec<Command>>,
    /// Timestamps of handshakes have changed.
    timestamps_changed: AtomicBool,
    /// Who hears of peers that do not answer.
    unanswered: OnceLock<Unanswered>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The data thread has ended.
#[derive(Debug, Clone, Copy)]
pub struct Gone;

impl Handle {
    /// Before the thread runs.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        epoll.add(
            &wake,
            EpollEvent::new(EpollFlags::EPOLLIN, Token::Wake.to_u64()),
        )?;
        Ok(Self(Arc::new(Shared {
            epoll,
            wake,
            woken: AtomicBool::new(false),
            commands: Mutex::new(Vec::new()),
            timestamps_changed: AtomicBool::new(false),
            unanswered: OnceLock::new(),
        })))
    }

    /// Has the thread look at every network.
    pub fn wake(&self) {
        if !self.0.woken.swap(true, Ordering::AcqRel) {
            let _ = self.0.wake.write(1);
        }
    }

    /// Watches one of our ends, edge-triggered. Watching it again has no effect.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        match self.0.epoll.add(fd, EpollEvent::new(flags, token.to_u64())) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.command(Command::Stop);
    }

    /// Asks and waits for the answer: microseconds, except while the thread is busy with a turn.
    pub fn ask<T>(&self, make: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer): (_, Receiver<T>) = sync_channel(1);
        self.command(make(reply));
        answer.recv().map_err(|_| Gone)
    }

    /// Has `hook` told of peers that do not answer; the first one stays.
    pub fn watch_unanswered(&self, hook: Unanswered) {
        if self.0.unanswered.set(hook).is_err() {
            tracing::debug!("somebody hears of peers already");
        }
    }

    /// No initiation of ours is to be older.
    pub fn set_least_time(&self, unix: Duration) {
        self.command(Command::SetLeastTime(unix));
    }

    /// Whether timestamps of handshakes have changed since this was last asked.
    pub fn take_timestamps_changed(&self) -> bool {
        self.0.timestamps_changed.swap(false, Ordering::AcqRel)
    }

    /// Whether the thread ends a turn and answers within that time.
    #[must_use]
    pub fn answers(&self, within: Duration) -> bool {
        let (reply, answer) = sync_channel(1);
        self.command(Command::Ping { reply });
        answer.recv_timeout(within).is_ok()
    }

    fn command(&self, command: Command) {
        self.0
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(command);
        self.wake();
    }

    fn woken(&self) -> Vec<Command> {
        let _ = self.0.wake.read();
        self.0.woken.store(false, Ordering::Release);
        std::mem::take(
            &mut *self
                .0
                .commands
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::epoll::EpollTimeout;

    #[test]
    fn a_thread_that_does_not_run_does_not_answer() {
        let handle = Handle::new().unwrap();
        assert!(!handle.answers(Duration::from_millis(20)));
        let thread = {
            let handle = handle.clone();
            std::thread::spawn(move || {
                loop {
                    let mut events = [EpollEvent::empty()];
                    let _ = handle.0.epoll.wait(&mut events, EpollTimeout::NONE);
                    for command in handle.woken() {
                        // The first one has given up waiting.
                        if let Command::Ping { reply } = command
                            && reply.send(()).is_ok()
                        {
                            return;
                        }
                    }
                }
            })
        };
        assert!(handle.answers(Duration::from_secs(10)));
        thread.join().unwrap();
    }
}
