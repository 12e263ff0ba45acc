// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which processes live in which container. `connect` is trapped, so a task that can reach a unix socket has been seen.

use crate::sys::task;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Processes seen by a receiver. Entries of dead processes are told by their start time and dropped with the container or
/// by [`Tasks::sweep`].
#[derive(Debug, Default)]
pub struct Tasks(Mutex<HashMap<u32, Seen>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    container: u64,
    /// With the pid: one process for ever.
    started: u64,
}

impl Tasks {
    /// Notes the process of thread `tid`; gives its pid.
    pub fn note(&self, tid: u32, container: u64) -> Option<u32> {
        let process = task::process_of(tid)?;
        let started = task::start_time(process)?;
        self.lock().insert(process, Seen { container, started });
        Some(process)
    }

    /// Container of a process, if it is a task of one.
    pub fn container_of(&self, process: u32) -> Option<u64> {
        let seen = self.lock().get(&process).copied()?;
        (task::start_time(process) == Some(seen.started)).then_some(seen.container)
    }

    /// Processes of a container that were seen, at most `limit`.
    pub fn of_container(&self, container: u64, limit: usize) -> Vec<u32> {
        self.lock()
            .iter()
            .filter(|(_, seen)| seen.container == container)
            .map(|(&pid, _)| pid)
            .take(limit)
            .collect()
    }

    /// Forgets a container.
    pub fn forget(&self, container: u64) {
        let mut map = self.lock();
        map.retain(|_, seen| seen.container != container);
        map.shrink_to_fit();
    }

    /// Forgets processes that have ended.
    pub fn sweep(&self) {
        let all: Vec<(u32, u64)> = self
            .lock()
            .iter()
            .map(|(&pid, seen)| (pid, seen.started))
            .collect();
        for (pid, started) in all {
            if task::start_time(pid) != Some(started) {
                self.lock().remove(&pid);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
