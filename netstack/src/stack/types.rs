// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The values that go in and out of the engine.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Link;

/// Peers to whom one packet is given at most.
pub const FANOUT_MAX: usize = 256;

/// Addresses, MTU and limits of one network.
#[derive(Debug, Clone)]
pub struct Config {
    /// Largest IP packet that is handed to [`PacketSink`], bytes (1280..=65535).
    pub mtu: usize,
    /// Own IPv4 address and prefix length.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// Own IPv6 address and prefix length.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// Secret: keys initial sequence numbers, port choice, IP identification.
    pub seed: [u8; 32],
    /// Bounds of queues and tables.
    pub limits: Limits,
}
/// Bounds; each says what is dropped when it is reached.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Live TCP flows; more: SYN dropped, connect fails with `ConnectError::TooMany`.
    pub flows: usize,
    /// Bytes of each TCP ring (power of two).
    pub tcp_buffer: usize,
    /// Bytes waiting in one datagram socket (SO_RCVBUF default 212,992); more: datagram dropped.
    pub datagram_queue: usize,
    /// Bytes waiting on the internal loopback; more: packet dropped.
    pub loopback_queue: usize,
}
impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 65_536,
            tcp_buffer: 262_144,
            datagram_queue: 212_992,
            loopback_queue: 4 << 20,
        }
    }
}

/// One TCP connection (or attempt). Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u64);
/// One listening address. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u64);
/// One datagram endpoint. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatagramId(pub u64);

/// Where a listener or datagram endpoint listens. `ip: None` = any address of the families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalAddr {
    /// Exact local address, or None for the wildcard.
    pub ip: Option<IpAddr>,
    /// Families served by a wildcard.
    pub families: Families,
    /// Port, never 0.
    pub port: u16,
}
/// Address families of a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    /// One item per family: true for IPv4.
    pub(super) fn each_v4(self) -> impl Iterator<Item = bool> {
        let (first, second) = match self {
            Self::V4 => (true, None),
            Self::V6 => (false, None),
            Self::Both => (true, Some(false)),
        };
        std::iter::once(first).chain(second)
    }
}

/// Options of a flow that the engine acts on (socket(7), tcp(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpOptions {
    /// SO_KEEPALIVE: Some(TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT).
    pub keepalive: Option<(Duration, Duration, u32)>,
    /// TCP_USER_TIMEOUT.
    pub user_timeout: Option<Duration>,
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// IP_TTL / IPV6_UNICAST_HOPS.
    pub hop_limit: u8,
    /// Time until a connection attempt fails with `Failure::TimedOut` (Linux: tcp_syn_retries 6 = 127 s).
    pub connect_timeout: Duration,
    /// SO_SNDBUF: bytes that may be queued and not acknowledged. `None`: the whole ring.
    pub send_buffer: Option<usize>,
    /// SO_RCVBUF, TCP_WINDOW_CLAMP: largest window, bytes. `None`: the whole ring. Counts from the start of a connection.
    pub receive_buffer: Option<usize>,
    /// TCP_MAXSEG: largest segment either way, bytes. Counts from the start of a connection.
    pub segment: Option<u16>,
    /// IP_MINTTL / IPV6_MINHOPCOUNT: packets with a smaller hop limit are dropped. 0: none is.
    pub least_hops: u8,
    /// TCP_DEFER_ACCEPT: how long a connection without data waits before it is announced to its listener.
    pub defer: Option<Duration>,
    /// TCP_SAVE_SYN: the headers of the SYN that opens a connection are kept.
    pub save_syn: bool,
    /// TCP_LINGER2: how long the peer's FIN is waited for when nobody owns the connection any more.
    pub fin_wait: Duration,
}

impl Default for TcpOptions {
    /// What Linux begins with.
    fn default() -> Self {
        Self {
            keepalive: None,
            user_timeout: None,
            nodelay: false,
            hop_limit: 64,
            connect_timeout: Duration::from_secs(127),
            send_buffer: None,
            receive_buffer: None,
            segment: None,
            least_hops: 0,
            defer: None,
            save_syn: false,
            fin_wait: Duration::from_secs(60),
        }
    }
}

/// What happened in the stack since the last call of [`super::Stack::poll_event`].
/// `Readable`/`Writable` are edge-like: one is queued at most once until the flow is next served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A flow made by `connect` is established.
    Connected(FlowId),
    /// A flow made by `connect` failed before it was established; the id is dead.
    ConnectFailed(FlowId, Failure),
    /// A connection to a listener is established; it belongs to the caller from now on.
    Accepted {
        #[allow(missing_docs)]
        listener: ListenerId,
        #[allow(missing_docs)]
        flow: FlowId,
    },
    /// There is data, or the peer's FIN, to read with `recv`.
    Readable(FlowId),
    /// There is room again after `send` had filled the ring.
    Writable(FlowId),
    /// RST, time-out or a hard ICMP error ended an established flow. What was received before can still be read;
    /// nothing more can be sent. The caller ends it with `abort` or `release`.
    Reset(FlowId, Failure),
    /// Both directions are finished and acknowledged (or TIME_WAIT has begun and is a tombstone); the id is dead.
    Closed(FlowId),
    /// A datagram waits in this endpoint.
    Datagram(DatagramId),
    /// An ICMP error for a datagram this endpoint sent to `to`.
    DatagramError {
        #[allow(missing_docs)]
        id: DatagramId,
        #[allow(missing_docs)]
        to: SocketAddr,
        #[allow(missing_docs)]
        failure: Failure,
        /// The error itself.
        error: Box<IcmpError>,
    },
}

/// An ICMP or ICMPv6 error about a packet of ours, as far as the socket it came from may hear of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcmpError {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// MTU that is told, bytes; 0: none.
    pub info: u32,
    /// Who sent it.
    pub from: IpAddr,
    /// Whom it was sent to.
    pub to: IpAddr,
    /// TTL or hop limit it arrived with.
    pub hop_limit: u8,
    /// Type of service or traffic class it arrived with.
    pub traffic_class: u8,
    /// When it came; `None`: its time is not known.
    pub at: Option<Instant>,
    /// What it quotes of the packet behind the UDP header, of ICMP from its header on.
    pub payload: Vec<u8>,
}

/// Why a flow ended or a datagram did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Failure {
    Refused,
    Reset,
    TimedOut,
    HostUnreachable,
    NetUnreachable,
    PortUnreachable,
    PacketTooBig,
    Prohibited,
    Internal,
}

/// Where outgoing IP packets are written: memory of the caller.
pub trait PacketSink {
    /// True if a packet of MTU size fits. The stack keeps what does not fit and sends it at a later poll.
    fn has_room(&self) -> bool;
    /// Memory of exactly `len` bytes for one packet; called only after `has_room`, `len <= mtu`.
    fn packet(&mut self, len: usize) -> &mut [u8];
    /// The same for a packet that goes to many: to the owner of its destination, if there is one, and to those `to` says.
    fn packet_for(&mut self, len: usize, to: &Fanout) -> &mut [u8] {
        let _ = to;
        self.packet(len)
    }
}

/// To whom a packet for a group or a broadcast address goes: there is no medium that would carry it to all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fanout {
    /// The peers to whom these addresses belong, at most [`FANOUT_MAX`]: they have said that they are members.
    Members(Arc<[IpAddr]>),
    /// Every peer of the network that can be reached, at most [`FANOUT_MAX`].
    Everyone,
    /// Of those, the ones with whom there is a session: it is not worth a handshake.
    Awake,
}

impl Fanout {
    /// Copies that may have to be made.
    #[must_use]
    pub fn copies(&self) -> usize {
        match self {
            Self::Members(members) => members.len() + 1,
            Self::Everyone | Self::Awake => FANOUT_MAX,
        }
    }
}

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Source.
    pub from: SocketAddr,
    /// Destination as the sender wrote it.
    pub to: SocketAddr,
    /// TTL or hop limit it arrived with.
    pub hop_limit: u8,
    /// Type of service or traffic class it arrived with, ECN bits included.
    pub traffic_class: u8,
    /// How many the endpoint had dropped before, for want of room.
    pub dropped: u32,
    /// Interface it came by.
    pub link: Link,
    /// When it arrived; the socket model clears it where the program does not ask.
    pub at: Option<Instant>,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A protocol of datagrams: each has ports of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DatagramProtocol {
    /// UDP (RFC 768).
    #[default]
    Udp,
    /// UDP-Lite (RFC 3828).
    UdpLite,
    /// Echo requests and their replies (icmp(7), ping sockets): the port is the identifier, payloads are whole ICMP messages.
    /// One identifier is of IPv4 and IPv6 alike.
    Echo,
    /// ICMP of one family as it is (raw(7)): there are no ports, every endpoint hears all that its filter passes. What is
    /// received begins with the IP header for IPv4, with the ICMP header for IPv6.
    Icmp,
}

/// The ICMP types an endpoint of [`DatagramProtocol::Icmp`] does not hear: bit t % 32 of word t / 32. Of IPv4 the first
/// word alone counts, and types from 32 on always pass (raw(7), ICMP_FILTER).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IcmpFilter(pub [u32; 8]);

impl IcmpFilter {
    /// Whether a message of that type is heard.
    #[must_use]
    pub fn passes(&self, v4: bool, kind: u8) -> bool {
        let word = usize::from(kind / 32);
        let blocked = self
            .0
            .get(word)
            .is_some_and(|bits| bits >> (kind % 32) & 1 != 0);
        v4 && word > 0 || !blocked
    }
}

/// How one datagram is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendOptions {
    /// TTL or hop limit; 0 counts as 1.
    pub hop_limit: u8,
    /// Type of service or traffic class.
    pub traffic_class: u8,
    /// Larger than the MTU: it is cut into fragments; otherwise refused.
    pub fragment: bool,
    /// Bytes of header and payload that the checksum of UDP-Lite covers; 0: all.
    pub coverage: u16,
    /// Where the engine writes the checksum of a raw ICMPv6 message, bytes from its start (ipv6(7), IPV6_CHECKSUM); `None`:
    /// it leaves the message alone.
    pub checksum_at: Option<u16>,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            hop_limit: 64,
            traffic_class: 0,
            fragment: true,
            coverage: 0,
            checksum_at: Some(2),
        }
    }
}

/// What [`super::Stack::recv`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recv {
    /// So many bytes were taken (0: the closure took none). There may be more: call again until `Empty` or `Finished`.
    Data(usize),
    /// Nothing now; a `Readable` event follows.
    Empty,
    /// The peer's FIN: everything was read.
    Finished,
    /// Unknown id, not yet connected, or the flow was reset and everything was read.
    Dead,
}
/// Why [`super::Stack::connect`] refused at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// `Limits::flows` is reached.
    #[error("too many connections")]
    TooMany,
    /// The 4-tuple is live, or has been in TIME_WAIT for less than one second.
    #[error("connection exists")]
    InUse,
    /// The addresses are of two families, unspecified, multicast, or a port is 0.
    #[error("addresses cannot be connected")]
    Unaddressable,
}
/// Why [`super::Stack::datagram_send`] did not take a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Larger than the MTU where it may not be cut into fragments, or than IP can carry.
    #[error("datagram too big")]
    TooBig,
    /// No route, unknown endpoint, or addresses of two families.
    #[error("no route")]
    NoRoute,
    /// The egress queue is full; the datagram was dropped.
    #[error("queue full")]
    QueueFull,
    /// No message of its protocol: too short, a type that may not be sent, no room for its checksum, or an impossible header.
    #[error("malformed message")]
    Malformed,
    /// A header of the caller's names a source that is not this host's, or a protocol that is not ICMP.
    #[error("not permitted")]
    Forbidden,
}
/// State of a flow for tables (RFC 9293 names).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TcpState {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

/// What the stack has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets given to [`super::Stack::handle_packet`].
    pub packets_in: u64,
    /// Packets written to a [`PacketSink`].
    pub packets_out: u64,
    /// Bytes of `packets_in`.
    pub bytes_in: u64,
    /// Bytes of `packets_out`.
    pub bytes_out: u64,
    /// Packets over the internal loopback.
    pub packets_local: u64,
    /// Times a flow was asked for something to send: the measure of work beside packets.
    pub polls: u64,
    /// Dropped: truncated, impossible lengths, port 0.
    pub malformed: u64,
    /// Dropped: source or destination that may not arrive from the overlay.
    pub misaddressed: u64,
    /// Fragments received.
    pub fragments: u64,
    /// Dropped: SYNs for a full or paused listener, or at `Limits::flows`.
    pub syns_dropped: u64,
    /// Dropped: datagrams for a full endpoint.
    pub datagrams_dropped: u64,
    /// Ignored: ICMP errors about packets that are not under way.
    pub errors_ignored: u64,
    /// Flows ended by a panic in the TCP engine.
    pub panics: u64,
}

/// Sizes of the tables, for tests and tables of the operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// TCP flows, half-open and unread ones included.
    pub flows: usize,
    /// 4-tuples in TIME_WAIT.
    pub time_wait: usize,
    /// Entries of the timer heap.
    pub timers: usize,
    /// Events not yet taken.
    pub events: usize,
    /// Destinations with a smaller MTU than the network's, those about to be forgotten included.
    pub narrow_paths: usize,
}
