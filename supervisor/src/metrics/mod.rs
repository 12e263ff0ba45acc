// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Figures for Prometheus (text format 0.0.4, with the names and units that OpenMetrics asks for).
//!
//! A figure is declared in [`FAMILIES`] and gathered in `gather`; a declared one that is not gathered, or the reverse, fails a
//! test. What is counted per packet is plain numbers of the thread or the lock that moves the packet; what is counted per
//! trapped call belongs to its container.

mod calls;
mod gather;
mod process;

pub use calls::Calls;

use std::collections::BTreeMap;
use std::fmt::Write;

/// What a family of figures is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the supervisor runs, except when what it is about is removed.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bounds, with sum and number.
    Histogram,
}

/// One family of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name, with the unit and, for a counter, `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: &Family = &Family { name: $name, kind: Kind::$kind, help: $help };
        )+

        /// All of them, in the order in which they are shown.
        pub const FAMILIES: &[&Family] = &[$($constant,)+];
    };
}

families! {
    BUILD: Gauge "netcon_build_info" "Version of the supervisor; always 1.";
    NETWORKS: Gauge "netcon_networks" "Networks that run.";
    CONTAINERS: Gauge "netcon_containers" "Containers that run.";
    CONTAINERS_STARTED: Counter "netcon_containers_started_total" "Containers that were started.";
    CONTAINERS_ENDED: Counter "netcon_containers_ended_total" "Containers whose last process has ended.";
    SOCKETS: Gauge "netcon_sockets" "Sockets of programs, by state as ss(8) names it.";
    FLOWS: Gauge "netcon_network_tcp_flows" "TCP connections and attempts.";
    TIME_WAIT: Gauge "netcon_network_tcp_time_wait" "Closed TCP connections that are remembered.";
    RECEIVED_PACKETS: Counter "netcon_network_received_packets_total" "IP packets from peers.";
    RECEIVED_BYTES: Counter "netcon_network_received_bytes_total" "Bytes of IP packets from peers.";
    SENT_PACKETS: Counter "netcon_network_sent_packets_total" "IP packets for peers.";
    SENT_BYTES: Counter "netcon_network_sent_bytes_total" "Bytes of IP packets for peers.";
    LOCAL_PACKETS: Counter "netcon_network_local_packets_total" "TCP packets between programs of this host.";
    DROPPED: Counter "netcon_network_dropped_packets_total" "Packets from peers, and datagrams, that were thrown away, by reason.";
    PEER_RECEIVED: Counter "netcon_peer_received_bytes_total" "Bytes of authenticated datagrams from a peer.";
    PEER_SENT: Counter "netcon_peer_sent_bytes_total" "Bytes of datagrams to a peer.";
    PEER_HANDSHAKES: Counter "netcon_peer_handshakes_total" "Handshakes completed with a peer.";
    PEER_AGE: Gauge "netcon_peer_last_handshake_age_seconds" "Time since the last handshake with a peer.";
    PEER_UNANSWERED: Gauge "netcon_peer_unanswered_initiations" "Initiations since a peer was last heard.";
    PEER_DROPPED: Counter "netcon_peer_dropped_packets_total" "What was thrown away from or for a peer, by reason.";
    OVERLAY_DROPPED: Counter "netcon_overlay_dropped_packets_total" "What the overlay threw away, by reason.";
    UDP_RECEIVED: Counter "netcon_udp_received_datagrams_total" "Datagrams that arrived at the overlay's port.";
    UDP_SENT: Counter "netcon_udp_sent_datagrams_total" "Datagrams sent from the overlay's port.";
    UDP_ERRORS: Counter "netcon_udp_errors_total" "Sending and receiving at the overlay's port that the kernel refused.";
    CALLS: Counter "netcon_trapped_calls_total" "Trapped calls of programs, by call.";
    CALL_SECONDS: Counter "netcon_trapped_call_seconds_total" "Time spent in trapped calls until they were answered or parked, by call.";
    CALL_DURATION: Histogram "netcon_trapped_call_duration_seconds" "Trapped calls of all kinds, by how long they took until they were answered or parked.";
    PARKED: Gauge "netcon_parked_calls" "Trapped calls that wait for a connection, data or room.";
    API_REQUESTS: Counter "netcon_api_requests_total" "Requests to the control API, by HTTP status.";
    CAPTURES: Gauge "netcon_captures" "Captures that run.";
    CAPTURED: Counter "netcon_capture_packets_total" "Packets that went into captures.";
    CAPTURE_DROPPED: Counter "netcon_capture_dropped_packets_total" "Packets missing in captures because their readers were too slow.";
    LISTENERS: Gauge "netcon_event_followers" "Readers of the stream of events.";
    EVENTS: Counter "netcon_events_total" "What has happened, whether anybody listened or not.";
    EVENTS_LOST: Counter "netcon_events_lost_total" "Events that followers missed because they were too slow.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" "Processor time of the supervisor.";
    PROCESS_FDS: Gauge "process_open_fds" "Open descriptors of the supervisor.";
    PROCESS_MAX_FDS: Gauge "process_max_fds" "Descriptors that the supervisor may open.";
    PROCESS_THREADS: Gauge "process_threads" "Threads of the supervisor.";
    PROCESS_MEMORY: Gauge "process_resident_memory_bytes" "Memory of the supervisor.";
    PROCESS_START: Gauge "process_start_time_seconds" "When the supervisor started, since the Unix epoch.";
}

/// Figures as they are gathered, in any order.
#[derive(Debug, Default)]
pub struct Figures(BTreeMap<&'static str, Vec<String>>);

impl Figures {
    /// Adds one figure.
    #[allow(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
    pub fn add(&mut self, family: &'static Family, labels: &[(&str, &str)], value: u64) {
        self.line(family, "", labels, &value.to_string());
    }

    /// Adds one that is no whole number.
    pub fn add_float(&mut self, family: &'static Family, labels: &[(&str, &str)], value: f64) {
        self.line(family, "", labels, &value.to_string());
    }

    /// Adds a line of a family; `suffix` for the parts of a histogram.
    fn line(
        &mut self,
        family: &'static Family,
        suffix: &str,
        labels: &[(&str, &str)],
        value: &str,
    ) {
        let mut line = format!("{}{suffix}", family.name);
        for (index, (name, text)) in labels.iter().enumerate() {
            let mark = if index == 0 { '{' } else { ',' };
            // Writing to a string cannot fail.
            let _ = write!(line, "{mark}{name}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            line.push('}');
        }
        line.push(' ');
        line.push_str(value);
        line.push('\n');
        self.0.entry(family.name).or_default().push(line);
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for family in FAMILIES {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let _ = write!(
                text,
                "# HELP {name} {}\n# TYPE {name} {kind}\n",
                family.help,
                name = family.name
            );
            for line in self.0.get(family.name).into_iter().flatten() {
                text.push_str(line);
            }
        }
        text
    }

    /// Families of which there is a figure.
    #[must_use]
    pub fn families(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_say_what_a_family_is() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            let counter = family.kind == Kind::Counter;
            assert_eq!(family.name.ends_with("_total"), counter, "{}", family.name);
            assert!(family.name.starts_with("netcon_") || family.name.starts_with("process_"));
            assert!(family.help.ends_with('.') && !family.help.contains('\n'));
        }
    }

    #[test]
    fn labels_are_escaped_and_families_stand_together() {
        let mut figures = Figures::default();
        figures.add(RECEIVED_PACKETS, &[("network", "a\"b\\c\nd")], 7);
        figures.add(NETWORKS, &[], 2);
        figures.add(RECEIVED_PACKETS, &[("network", "x"), ("more", "y")], 8);
        let text = figures.text();
        assert!(
            text.contains(
                "# TYPE netcon_network_received_packets_total counter\n\
                 netcon_network_received_packets_total{network=\"a\\\"b\\\\c\\nd\"} 7\n\
                 netcon_network_received_packets_total{network=\"x\",more=\"y\"} 8\n"
            ),
            "{text}"
        );
        assert!(text.contains("# TYPE netcon_networks gauge\nnetcon_networks 2\n"));
    }
}
