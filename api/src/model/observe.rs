// SPDX-License-Identifier: Apache-2.0 OR MIT
//! JSON of what can be looked at: sockets, addresses, echo requests, captures, happenings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Peer;
use crate::answer::Media;

/// Sockets of one answer, at most.
pub const SOCKETS_MAX: u32 = 1000;
/// Longest time that an echo request may be waited for, milliseconds.
pub const PING_TIMEOUT_MAX: u32 = 60_000;
/// Largest part of a packet that a capture keeps, bytes.
pub const SNAPLEN_MAX: u32 = 262_144;

/// Parameters of GET /networks/{network}/sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SocketsQuery {
    /// Only sockets after the one with this number: `next` of the answer before.
    #[serde(default)]
    pub after: Option<u64>,
    /// At most so many, 1 to 1000; 1000 if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// Only those of this container.
    #[serde(default)]
    pub container: Option<u64>,
}

/// Sockets of a network, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sockets {
    /// Each as it was when it was looked at; they are not all of one moment.
    pub sockets: Vec<Socket>,
    /// There may be more, to be asked for with `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A socket of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Socket {
    /// Its number; never used again in its network.
    pub id: u64,
    /// `tcp`, `tcp6`, `udp`, `udp6` and the like.
    pub protocol: String,
    /// Local address and port.
    pub local: String,
    /// The other end's, if it is connected or connecting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// State as ss(8) names it: ESTAB, LISTEN, UNCONN …
    pub state: String,
    /// Bytes (TCP) or datagrams (UDP) that wait in the supervisor for the program.
    pub receive_queue: usize,
    /// Bytes that the other end has not acknowledged.
    pub send_queue: usize,
    /// Payload the program was given, bytes.
    pub rx_bytes: u64,
    /// Payload taken from the program, bytes.
    pub tx_bytes: u64,
    /// The container it belongs to.
    pub container: u64,
    /// Process that used it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What that process calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Seconds since it was made.
    pub age: u64,
}

/// Parameters of GET /networks/{network}/whois.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhoisQuery {
    /// `address`, `address:port` or `[address]:port`.
    pub addr: String,
}

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Whois {
    /// The address that was asked for, with the port if one was.
    pub address: String,
    /// The network.
    pub network: String,
    /// What it is.
    pub kind: WhoisKind,
    /// The peer it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// The longest of the peer's prefixes that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Local sockets that are connected to it (and to the port, if one was asked for), at most 64.
    pub sockets: Vec<Socket>,
}

/// What an address is on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhoisKind {
    /// This host's own.
    Own,
    /// Private to this host's programs on the network: 127.0.0.0/8, ::1.
    Loopback,
    /// A peer's, or behind one.
    Peer,
    /// Nobody's: packets for it go nowhere.
    Nobody,
}

/// POST /networks/{network}/ping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PingRequest {
    /// Address on the network.
    pub address: String,
    /// Milliseconds a reply is waited for, 1 to 60000; 1000 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60_000))]
    pub timeout_ms: Option<u32>,
    /// Bytes of payload; 56 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u16>,
    /// Sequence number; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u16>,
}

/// What became of an echo request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PingAnswer {
    /// The address.
    pub address: String,
    /// How it ended.
    pub outcome: PingOutcome,
    /// Bytes of the reply's ICMP message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// Hop limit the reply arrived with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// Microseconds from request to reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_us: Option<u64>,
    /// Why there was no reply, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How an echo request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PingOutcome {
    /// Answered.
    Reply,
    /// Somebody on the way says that it does not arrive.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// It was not sent: nothing leads there.
    NoRoute,
}

/// Parameters of GET /networks/{network}/capture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaptureQuery {
    /// Bytes kept of each packet, 1 to 262144; all if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 262_144))]
    pub snaplen: Option<u32>,
    /// Packets after which the capture ends; it goes on until the client leaves if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub count: Option<u64>,
}

/// A capture file.
#[derive(Debug)]
pub struct Pcapng;

impl Media for Pcapng {
    const NAME: &'static str = "application/x-pcapng";
    const DESCRIPTION: &'static str = "a pcapng file that grows as packets pass";
}

/// Figures for Prometheus.
#[derive(Debug)]
pub struct Prometheus;

impl Media for Prometheus {
    const NAME: &'static str = "text/plain; version=0.0.4; charset=utf-8";
    const DESCRIPTION: &'static str = "Prometheus' text format";
}

/// Happenings as they happen.
#[derive(Debug)]
pub struct EventStream;

impl Media for EventStream {
    const NAME: &'static str = "text/event-stream";
    const DESCRIPTION: &'static str = "server-sent events: the type in `event`, an object of `id`, `time`, `type` and what belongs to the type in `data`";
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Counts up from 1 since the supervisor started; 0 of `lost`.
    pub id: u64,
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

macro_rules! happenings {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal { $($(#[$field_doc:meta])+ $field:ident: $type:ty,)* })+) => {
        /// What can happen.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "type", rename_all_fields = "camelCase")]
        pub enum Happening {$(
            $(#[doc = $doc])+
            #[serde(rename = $name)]
            $variant {$(
                $(#[$field_doc])+
                $field: $type,
            )*},
        )+}

        impl Happening {
            /// The types of all, as they stand in `event`.
            pub const NAMES: &[&str] = &[$($name,)+];

            /// Its type.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {$(Self::$variant { .. } => $name,)+}
            }
        }
    };
}

happenings! {
    /// A network was made or joined.
    NetworkCreated "network_created" {
        /// Its name.
        network: String,
    }
    /// A network's configuration was changed.
    NetworkChanged "network_changed" {
        /// Its name.
        network: String,
    }
    /// A network was deleted.
    NetworkDeleted "network_deleted" {
        /// Its name.
        network: String,
    }
    /// A peer was added.
    PeerAdded "peer_added" {
        /// Network.
        network: String,
        /// Its name, or its key.
        peer: String,
    }
    /// A peer's configuration was changed.
    PeerChanged "peer_changed" {
        /// Network.
        network: String,
        /// Its name, or its key.
        peer: String,
    }
    /// A peer was removed.
    PeerRemoved "peer_removed" {
        /// Network.
        network: String,
        /// Its name, or its key.
        peer: String,
    }
    /// A handshake with a peer was completed. Looked at once a second.
    HandshakeCompleted "handshake_completed" {
        /// Network.
        network: String,
        /// Its name, or its key.
        peer: String,
        /// Where the peer is.
        endpoint: Option<String>,
    }
    /// Handshakes with a peer go unanswered. Looked at once a second.
    HandshakeFailed "handshake_failed" {
        /// Network.
        network: String,
        /// Its name, or its key.
        peer: String,
        /// Where the peer was looked for.
        endpoint: Option<String>,
    }
    /// A peer was heard from another place than before. Looked at once a second.
    EndpointChanged "endpoint_changed" {
        /// Network.
        network: String,
        /// Its name, or its key.
        peer: String,
        /// Where it is now.
        endpoint: Option<String>,
        /// Where it was before.
        before: Option<String>,
    }
    /// A program was started on a network.
    ContainerStarted "container_started" {
        /// Network.
        network: String,
        /// Number of the container.
        container: u64,
        /// First process.
        pid: u32,
        /// Name the program was started with.
        program: String,
    }
    /// The last process of a container has ended.
    ContainerEnded "container_ended" {
        /// Network.
        network: String,
        /// Number of the container.
        container: u64,
        /// First process.
        pid: u32,
        /// Name the program was started with.
        program: String,
    }
    /// A program listens for connections. Looked at once a second.
    ListenerOpened "listener_opened" {
        /// Network.
        network: String,
        /// Container of the program.
        container: u64,
        /// Local address and port.
        local: String,
    }
    /// A program listens no longer. Looked at once a second.
    ListenerClosed "listener_closed" {
        /// Network.
        network: String,
        /// Container of the program.
        container: u64,
        /// Local address and port.
        local: String,
    }
    /// This reader was too slow: events are missing here.
    Lost "lost" {
        /// How many.
        count: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event {
            id: 7,
            time: 1.5,
            what: Happening::ContainerStarted {
                network: "demo".into(),
                container: 3,
                pid: 4,
                program: "curl".into(),
            },
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(
            json,
            r#"{"id":7,"time":1.5,"type":"container_started","network":"demo","container":3,"pid":4,"program":"curl"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
        assert!(Happening::NAMES.contains(&event.what.name()));
    }
}
