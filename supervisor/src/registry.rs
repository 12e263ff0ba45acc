// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which socket of which network an inode stands for.
//!
//! The inode is the identity: it survives dup, fork, exec and SCM_RIGHTS, where (pid, fd) would lie.

use crate::network::Network;
use netcon_netstack::sockets::SocketId;
use netcon_overlay::NetworkIndex;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A socket of the model and the network it lives on.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Network.
    pub network: Arc<Network>,
    /// Socket.
    pub socket: SocketId,
}

/// inode → socket, for all networks of the supervisor. Its lock is a leaf: nothing else is taken while it is held.
#[derive(Debug, Default)]
pub struct Registry(Mutex<HashMap<u64, Entry>>);

impl Registry {
    /// The socket an inode stands for; None: not one of ours.
    pub fn find(&self, inode: u64) -> Option<Entry> {
        self.lock().get(&inode).cloned()
    }

    /// Makes `inode` stand for `entry`. An older entry of a re-used inode number is given back.
    pub fn insert(&self, inode: u64, entry: Entry) -> Option<Entry> {
        self.lock().insert(inode, entry)
    }

    /// Forgets `inode`, unless it stands for another socket by now.
    pub fn remove(&self, inode: u64, network: NetworkIndex, socket: SocketId) {
        let mut map = self.lock();
        if map
            .get(&inode)
            .is_some_and(|entry| entry.socket == socket && entry.network.index == network)
        {
            map.remove(&inode);
        }
        // A burst of connections must not leave its memory behind.
        if map.capacity() > 1024 && map.len() * 8 < map.capacity() {
            map.shrink_to_fit();
        }
    }

    /// Every inode, for the slow sweep.
    pub fn inodes(&self) -> Vec<u64> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
