// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The node as the control side looks at it.

use crate::capture::Wanted;
use crate::clock;
use crate::control::observe::{NotCaptured, NotPinged, Observe, SocketView, Whereabouts};
use crate::data::Command;
use crate::events::Events;
use crate::metrics::Figures;
use crate::network::{PAGE, Program, Seen};
use crate::node::Running;
use crate::sys::task;
use netcon_api::answer::Bytes;
use netcon_netstack::sockets::SocketId;
use netcon_netstack::stack::{Ping, PingOutcome};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Sockets looked through for one answer; the caller goes on from there.
const MOST_LOOKED_AT: usize = 65_536;

impl Observe for Running {
    fn sockets(
        &self,
        network: &str,
        after: Option<u64>,
        most: usize,
        wanted: &dyn Fn(&Seen) -> bool,
    ) -> Option<(Vec<SocketView>, Option<u64>)> {
        let network = self.by_name(network)?;
        let mut after = after.map(SocketId);
        let mut found: Vec<Seen> = Vec::new();
        let mut looked_at = 0;
        let more = loop {
            let page = network.page(after, PAGE);
            looked_at += page.len();
            let is_last = page.len() < PAGE;
            let room = most - found.len();
            let mut chosen = page.iter().filter(|seen| wanted(seen));
            found.extend(chosen.by_ref().take(room).cloned());
            // Another one that is wanted: the answer ends before it.
            if chosen.next().is_some() {
                break found.last().map(|seen| seen.row.id.0);
            }
            after = page.last().map(|seen| seen.row.id).or(after);
            if is_last {
                break None;
            }
            if looked_at >= MOST_LOOKED_AT {
                break after.map(|id| id.0);
            }
        };
        let mut programs = Programs::default();
        let views = found.into_iter().map(|seen| SocketView {
            program: programs.of(&seen),
            seen,
        });
        Some((views.collect(), more))
    }

    fn whereabouts(&self, network: &str, address: IpAddr) -> Whereabouts {
        if address.is_loopback() {
            return Whereabouts::Loopback;
        }
        let Some(network) = self.by_name(network) else {
            return Whereabouts::Unknown;
        };
        if network.lock().sockets.stack().is_local(address) {
            return Whereabouts::Own;
        }
        let peer = self.0.data.ask(|reply| Command::PeerOf {
            network: network.index,
            address,
            reply,
        });
        peer.ok()
            .flatten()
            .map_or(Whereabouts::Unknown, Whereabouts::Peer)
    }

    fn ping(&self, network: &str, ping: Ping) -> Result<oneshot::Receiver<PingOutcome>, NotPinged> {
        let network = self.by_name(network).ok_or(NotPinged::NoNetwork)?;
        let (asker, answer) = oneshot::channel();
        let mut state = network.lock();
        if state.stopped {
            return Err(NotPinged::NoNetwork);
        }
        let id = state
            .sockets
            .stack_mut()
            .ping(clock::now(), ping)
            .map_err(NotPinged::Refused)?;
        state.pings.insert(id, asker);
        drop(state);
        self.0.data.wake();
        Ok(answer)
    }

    fn capture(&self, network: &str, wanted: Wanted) -> Result<mpsc::Receiver<Bytes>, NotCaptured> {
        let network = self.by_name(network).ok_or(NotCaptured::NoNetwork)?;
        let mut state = network.lock();
        if state.stopped {
            return Err(NotCaptured::NoNetwork);
        }
        let file = state
            .captures
            .begin(&network.name(), wanted, clock::unix())
            .ok_or(NotCaptured::TooMany)?;
        state.tap();
        drop(state);
        // Sockets that are opened from now on learn of their program as they are; these are caught up with.
        let mut programs = Programs::default();
        let mut learnt = Vec::new();
        network.each_socket(|seen| {
            if seen.program.is_none() {
                learnt.extend(programs.of(&seen).map(|program| (seen.row.id, program)));
            }
        });
        for page in learnt.chunks(PAGE) {
            let mut state = network.lock();
            for (socket, program) in page {
                if let Some(carrier) = state.carriers.get_mut(socket) {
                    carrier.program = Some(Arc::new(program.clone()));
                }
            }
        }
        Ok(file)
    }

    fn figures(&self, names: &dyn Fn(&str, &str) -> Option<String>) -> Figures {
        self.0.figures(names)
    }

    fn events(&self) -> &Arc<Events> {
        &self.0.events
    }

    fn listen_to_events(&self) -> Option<mpsc::Receiver<Bytes>> {
        self.0.events.subscribe()
    }
}

/// Programs by thread, each asked for once.
#[derive(Debug, Default)]
struct Programs(HashMap<u32, Option<Program>>);

impl Programs {
    /// Who has a socket: as it is now, else as it was when the socket was opened.
    fn of(&mut self, seen: &Seen) -> Option<Program> {
        let now = (seen.tid != 0)
            .then(|| {
                self.0
                    .entry(seen.tid)
                    .or_insert_with(|| task::program(seen.tid))
                    .clone()
            })
            .flatten();
        now.or_else(|| seen.program.as_deref().cloned())
    }
}
