// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts the node's own threads: one that moves packets, one that looks after sockets nothing else tells about. Both run
//! until the process ends.

use crate::clock;
use crate::data::{self, Handle, Udp};
use crate::node::{Node, Running};
use crate::sys::{allocator, priority, random};
use std::io;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, park_timeout};
use std::time::Duration;

/// Between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Sweeps between two times that free memory is given back.
const TRIM_EVERY: u64 = 30;

/// Starts a node without networks. `folder` is ours, 0700; `udp` is bound to the overlay's port.
pub fn start(folder: PathBuf, udp: UdpSocket) -> io::Result<Running> {
    udp.set_nonblocking(true)?;
    let node = Arc::new(Node::new(folder, Handle::new()?)?);
    let seed = random::bytes()?;
    let udp = Udp::new(udp)?;
    let thread_node = Arc::clone(&node);
    let (ready, started) = mpsc::sync_channel(1);
    Builder::new().name("data".to_owned()).spawn(move || {
        if let Err(error) = priority::short_slices() {
            tracing::debug!(%error, "the data thread keeps the usual slices");
        }
        let _whoever_started_us_waits = ready.send(());
        if let Err(error) = data::run(thread_node, udp, seed) {
            tracing::error!(%error, "packets are no longer moved");
        }
    })?;
    // The sandbox, which closes later, refuses what has been done by then.
    let _thread_has_ended = started.recv();
    let sweep_node = Arc::clone(&node);
    Builder::new().name("sweep".to_owned()).spawn(move || {
        let mut cursor = 0;
        for turn in 1_u64.. {
            park_timeout(SWEEP_INTERVAL);
            sweep_node.sweep(&mut cursor);
            sweep_node.swept(clock::now());
            if turn % TRIM_EVERY == 0 {
                allocator::trim();
            }
        }
    })?;
    Ok(Running(node))
}
