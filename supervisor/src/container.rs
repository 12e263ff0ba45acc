// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A container: one shim's program and everything it forks. One thread receives its trapped calls and runs each to
//! completion; one attends to those that wait. It lives as long as any task has the filter.

use crate::clock;
use crate::metrics::Calls;
use crate::network::Network;
use crate::node::Node;
use crate::parked::{self, Message, Parked, Room};
use crate::sys::{notify, task};
use crate::trap::{self, Call, Verdict};
use netcon_netstack::errno::Errno;
use netcon_shim::table::Trapped;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// A running container.
#[derive(Debug)]
pub struct Container {
    /// Its number; never used twice.
    pub id: u64,
    /// Its network.
    pub network: Arc<Network>,
    /// `argv[0]` as the shim sent it.
    pub argv0: Vec<u8>,
    /// First process.
    pub pid: u32,
    /// Network namespace of its first process. A task in another one (bubblewrap, Chromium) has left for a network of its own.
    pub namespace: Option<u64>,
    /// When it started, since the Unix epoch.
    pub started: Duration,
    /// seccomp notification fd.
    pub notify: Arc<OwnedFd>,
    /// Calls that wait.
    pub room: Room,
    /// Who receives.
    pub duty: Duty,
    /// Its trapped calls so far.
    pub calls: Calls,
    /// Its command line, when it was last looked at.
    pub command: Command,
}

/// The command line of a container's first process. Reading it may block on the program, so only the thread of its parked calls
/// does that, when somebody asks.
#[derive(Debug, Default)]
pub struct Command {
    known: Mutex<Vec<String>>,
    /// Somebody has asked, and the thread has not looked yet.
    asked: AtomicBool,
}

impl Command {
    fn known(&self) -> MutexGuard<'_, Vec<String>> {
        // Every change is a single step.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which thread receives a container's calls, and since when it has been busy with one.
///
/// A call may block for ever on memory of its program (userfaultfd, FUSE). Another thread takes over then; the blocked one
/// finishes its call, if ever, and goes.
#[derive(Debug, Default)]
pub struct Duty {
    /// Number of the thread on duty.
    turn: AtomicU32,
    /// When its present call began, milliseconds of [`Duty::clock`] plus one; 0 between calls.
    busy_since: AtomicU64,
    /// Threads that were relieved and still block.
    blocked: AtomicU32,
}

impl Duty {
    fn begin(&self, turn: u32) {
        if self.turn.load(Ordering::Acquire) == turn {
            self.busy_since.store(Self::clock() + 1, Ordering::Release);
        }
    }

    /// False: another thread has taken over.
    fn end(&self, turn: u32) -> bool {
        if self.turn.load(Ordering::Acquire) != turn {
            self.blocked.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        self.busy_since.store(0, Ordering::Release);
        true
    }

    fn clock() -> u64 {
        u64::try_from(clock::unix().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Container {
    /// Whether a task has moved to a network namespace of its own.
    #[must_use]
    pub fn has_left(&self, tid: u32) -> bool {
        match (self.namespace, task::network_namespace(tid)) {
            (Some(ours), Some(its)) => ours != its,
            _ => false,
        }
    }

    /// `argv[0]`, lossily made text.
    #[must_use]
    pub fn program(&self) -> String {
        String::from_utf8_lossy(&self.argv0).into_owned()
    }

    /// The command line of its first process, as far as it is known: as it is now, or as it was when that process ended.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.command.known().clone()
    }

    /// Has the command line looked at; told when that is done. None: somebody waits for that already.
    #[must_use]
    pub fn ask_for_command(&self) -> Option<oneshot::Receiver<()>> {
        if self.command.asked.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (done, receiver) = oneshot::channel();
        self.room.post(Message::Look(done));
        Some(receiver)
    }

    /// Looks at the command line. For the thread of the parked calls.
    pub fn look_at_command(&self, node: &Node) {
        self.command.asked.store(false, Ordering::Release);
        let found = task::command(self.pid).unwrap_or_default();
        // The number may be another process's by now.
        let is_ours = node.tasks.container_of(self.pid) == Some(self.id);
        if is_ours && !found.is_empty() {
            *self.command.known() = found;
        }
    }

    /// Leaves a call waiting.
    pub fn park(&self, parked: Parked) {
        self.room.post(Message::Park(Box::new(parked)));
    }
}

/// Starts both threads.
pub fn start(node: &Arc<Node>, container: &Arc<Container>) -> io::Result<()> {
    let (n, c) = (Arc::clone(node), Arc::clone(container));
    std::thread::Builder::new()
        .name(format!("parked-{}", container.id))
        .spawn(move || {
            if let Err(error) = parked::run(&n, &c) {
                tracing::error!(container = c.id, %error, "calls that wait are no longer served");
            }
        })?;
    let spawned = start_receiver(node, container, 0);
    if spawned.is_err() {
        container.room.post(Message::End);
    }
    spawned
}

/// A call that takes longer blocks on its program.
const PATIENCE: u64 = 500;
/// Relieved threads of one container; more programs that block themselves wait for each other.
const MOST_BLOCKED: u32 = 8;

/// Has another thread take over from one that blocks.
pub fn relieve(node: &Arc<Node>, container: &Arc<Container>) {
    let duty = &container.duty;
    let since = duty.busy_since.load(Ordering::Acquire);
    if since == 0
        || Duty::clock().saturating_sub(since) < PATIENCE
        || duty.blocked.load(Ordering::Acquire) >= MOST_BLOCKED
    {
        return;
    }
    duty.blocked.fetch_add(1, Ordering::AcqRel);
    duty.busy_since.store(0, Ordering::Release);
    let turn = duty.turn.fetch_add(1, Ordering::AcqRel) + 1;
    tracing::debug!(
        container = container.id,
        turn,
        "a call blocks; another thread takes over"
    );
    if let Err(error) = start_receiver(node, container, turn) {
        tracing::error!(container = container.id, %error, "trapped calls are no longer received");
    }
}

fn start_receiver(node: &Arc<Node>, container: &Arc<Container>, turn: u32) -> io::Result<()> {
    let (node, container) = (Arc::clone(node), Arc::clone(container));
    std::thread::Builder::new()
        .name(format!("calls-{}", container.id))
        .spawn(move || {
            if receive(&node, &container, turn) {
                container.room.post(Message::End);
                node.container_ended(&container);
            }
        })
        .map(drop)
}

/// Threads of one container whose process is known; more are looked up again.
const KNOWN_THREADS: usize = 4096;

/// True when the container has ended; false when another thread has taken over.
fn receive(node: &Arc<Node>, container: &Arc<Container>, turn: u32) -> bool {
    let mut known: HashSet<u32> = HashSet::new();
    loop {
        if node.poll_before_receive && !wait_for_call(&container.notify) {
            return true;
        }
        let note = match notify::receive(container.notify.as_fd()) {
            Ok(note) => note,
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                // The caller died before we took its call, or nobody is left.
                Some(libc::ENOENT) if !is_over(&container.notify) => continue,
                Some(libc::ENOENT) => return true,
                _ => {
                    tracing::error!(container = container.id, %error, "trapped calls are no longer received");
                    return true;
                }
            },
        };
        container.duty.begin(turn);
        let began = clock::now();
        let call = Call {
            notify: Arc::clone(&container.notify),
            id: note.id,
            tid: note.tid,
        };
        if note.tid == 0 {
            // A task in a pid namespace that is not below ours: neither its memory nor its files can be reached.
            call.answer(Verdict::Fail(Errno::EPERM));
            if !container.duty.end(turn) {
                return false;
            }
            continue;
        }
        if known.len() >= KNOWN_THREADS {
            known.clear();
        }
        if known.insert(note.tid) {
            let _ = node.tasks.note(note.tid, container.id);
        }
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            trap::handle(node, container, &call, note.number, &note.args)
        }))
        .unwrap_or_else(|_| {
            tracing::error!(
                container = container.id,
                number = note.number,
                "a call failed inside the supervisor"
            );
            Verdict::Fail(Errno::EIO)
        });
        call.answer(verdict);
        if let Some(trapped) = Trapped::from_number(note.number) {
            container.calls.count(trapped, began.elapsed());
        }
        if !container.duty.end(turn) {
            return false;
        }
    }
}

/// Kernels before 6.11 leave a receiver waiting when the last task goes; poll tells.
fn wait_for_call(notify: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(notify.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => {
                return polled[0]
                    .revents()
                    .is_some_and(|r| r.contains(PollFlags::POLLIN));
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

fn is_over(notify: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(notify.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|n| n > 0)
        && polled[0]
            .revents()
            .is_some_and(|r| r.contains(PollFlags::POLLHUP))
}
