// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gathering: under each network's lock for a moment, the overlay's figures from the data thread.

use super::*;
use crate::clock;
use crate::data::Command;
use crate::network::Network;
use crate::node::Node;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Node {
    /// All figures of the node. `names` are those of networks' peers by their key.
    pub fn figures(&self, names: &dyn Fn(&str, &str) -> Option<String>) -> Figures {
        let mut figures = Figures::default();
        figures.add(BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let networks = self.running_networks();
        figures.add(NETWORKS, &[], networks.len() as u64);
        for network in &networks {
            self.network(&mut figures, network, names);
        }
        self.containers_and_calls(&mut figures);
        let drops = self
            .data
            .ask(|reply| Command::Drops { reply })
            .unwrap_or_default();
        for (reason, count) in drops {
            figures.add(OVERLAY_DROPPED, &[("reason", reason.name())], count);
        }
        let udp = self.data.ask(|reply| Command::UdpCounts { reply });
        let udp = udp.unwrap_or_default();
        figures.add(UDP_RECEIVED, &[], udp.received);
        figures.add(UDP_SENT, &[], udp.sent);
        figures.add(UDP_ERRORS, &[], udp.errors);
        let events = self.events.counts();
        figures.add(EVENTS, &[], events.happened);
        figures.add(EVENTS_LOST, &[], events.lost);
        figures.add(LISTENERS, &[], events.listeners as u64);
        process::show(&mut figures, self.started);
        figures
    }

    fn network(
        &self,
        figures: &mut Figures,
        network: &Network,
        names: &dyn Fn(&str, &str) -> Option<String>,
    ) {
        let name = network.name();
        let labels = [("network", name.as_str())];
        let (counters, sizes, captures, running) = {
            let state = network.lock();
            let stack = state.sockets.stack();
            (
                stack.counters(),
                stack.sizes(),
                state.captures.counts(),
                state.captures.running(),
            )
        };
        figures.add(FLOWS, &labels, sizes.flows as u64);
        figures.add(TIME_WAIT, &labels, sizes.time_wait as u64);
        figures.add(RECEIVED_PACKETS, &labels, counters.packets_in);
        figures.add(RECEIVED_BYTES, &labels, counters.bytes_in);
        figures.add(SENT_PACKETS, &labels, counters.packets_out);
        figures.add(SENT_BYTES, &labels, counters.bytes_out);
        figures.add(LOCAL_PACKETS, &labels, counters.packets_local);
        for (reason, count) in [
            ("malformed", counters.malformed),
            ("misaddressed", counters.misaddressed),
            ("listener_full", counters.syns_dropped),
            ("socket_full", counters.datagrams_dropped),
        ] {
            figures.add(DROPPED, &[labels[0], ("reason", reason)], count);
        }
        figures.add(CAPTURES, &labels, running as u64);
        figures.add(CAPTURED, &labels, captures.packets);
        figures.add(CAPTURE_DROPPED, &labels, captures.dropped);
        let mut states: HashMap<&'static str, u64> = HashMap::new();
        network.each_socket(|seen| *states.entry(seen.row.state).or_default() += 1);
        let mut states: Vec<_> = states.into_iter().collect();
        states.sort_unstable();
        for (state, count) in states {
            figures.add(SOCKETS, &[labels[0], ("state", state)], count);
        }
        let peers = self.data.ask(|reply| Command::PeerStatus {
            network: network.index,
            reply,
        });
        for peer in peers.unwrap_or_default() {
            let key = peer.public_key.to_string();
            let peer_name = names(&name, &key).unwrap_or(key);
            let labels = [labels[0], ("peer", peer_name.as_str())];
            figures.add(PEER_RECEIVED, &labels, peer.rx_bytes);
            figures.add(PEER_SENT, &labels, peer.tx_bytes);
            figures.add(PEER_HANDSHAKES, &labels, peer.handshakes);
            figures.add(PEER_UNANSWERED, &labels, peer.unanswered.into());
            if let Some(at) = peer.last_handshake {
                let age: Duration = clock::unix().saturating_sub(at);
                figures.add_float(PEER_AGE, &labels, age.as_secs_f64());
            }
            for (reason, count) in peer.drops {
                let labels = [labels[0], labels[1], ("reason", reason.name())];
                figures.add(PEER_DROPPED, &labels, count);
            }
        }
    }

    fn containers_and_calls(&self, figures: &mut Figures) {
        let running = self.running();
        figures.add(CONTAINERS, &[], running.len() as u64);
        let started = self.containers_started.load(Ordering::Relaxed);
        figures.add(CONTAINERS_STARTED, &[], started);
        let ended = self.containers_ended.load(Ordering::Relaxed);
        figures.add(CONTAINERS_ENDED, &[], ended);
        let calls = Calls::default();
        calls.absorb(&self.ended_calls);
        let mut parked = 0;
        for container in &running {
            calls.absorb(&container.calls);
            parked += container.room.parked() as u64;
        }
        calls.show(figures);
        figures.add(PARKED, &[], parked);
    }
}
