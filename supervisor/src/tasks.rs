// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which processes live in which container, and which sockets of the host they have connected. `connect` is trapped, so a
//! task that can reach a socket of the supervisor has been seen.

use crate::sys::task;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Processes seen by a receiver. Entries of dead processes are told by their start time and dropped with the container or
/// by [`Tasks::sweep`].
#[derive(Debug, Default)]
pub struct Tasks {
    seen: Mutex<HashMap<u32, Seen>>,
    /// Inode and container, oldest first; at most [`MOST_CONNECTED`], the oldest goes.
    connected: Mutex<VecDeque<(u64, u64)>>,
}

/// Host sockets that are remembered.
const MOST_CONNECTED: usize = 1024;

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

    /// Processes that were seen and their containers, at most `limit` of each.
    pub fn of_all(&self, limit: usize) -> Vec<(u32, u64)> {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let map = self.lock();
        let all = map.iter().map(|(&pid, seen)| (pid, seen.container));
        all.filter(|&(_, container)| {
            let count = counts.entry(container).or_default();
            *count += 1;
            *count <= limit
        })
        .collect()
    }

    /// Notes that a task is about to connect a socket that is not ours.
    pub fn connects(&self, inode: u64, container: u64) {
        let mut connected = self.connected();
        connected.retain(|&(other, _)| other != inode);
        if connected.len() >= MOST_CONNECTED {
            connected.pop_front();
        }
        connected.push_back((inode, container));
    }

    /// The container that has connected a socket of the host.
    pub fn connected_from(&self, inode: u64) -> Option<u64> {
        let connected = self.connected();
        connected
            .iter()
            .rev()
            .find(|&&(other, _)| other == inode)
            .map(|&(_, container)| container)
    }

    /// Forgets a container.
    pub fn forget(&self, container: u64) {
        self.connected().retain(|&(_, of)| of != container);
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
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_container_a_bounded_number_is_looked_at() {
        let tasks = Tasks::default();
        for pid in 0..10 {
            let container = u64::from(pid > 6);
            let started = 1;
            tasks.lock().insert(pid, Seen { container, started });
        }
        let all = tasks.of_all(4);
        let of = |wanted| all.iter().filter(|&&(_, of)| of == wanted).count();
        assert_eq!((of(0), of(1)), (4, 3));
    }

    #[test]
    fn connected_sockets_are_remembered_up_to_a_bound() {
        let tasks = Tasks::default();
        for inode in 0..MOST_CONNECTED as u64 {
            tasks.connects(inode, 7);
        }
        tasks.connects(0, 8);
        tasks.connects(5000, 7);
        assert_eq!(tasks.connected_from(0), Some(8));
        assert_eq!(tasks.connected_from(1), None);
        assert_eq!(tasks.connected_from(5000), Some(7));
        tasks.forget(7);
        assert_eq!(tasks.connected_from(5000), None);
        assert_eq!(tasks.connected_from(0), Some(8));
    }
}
