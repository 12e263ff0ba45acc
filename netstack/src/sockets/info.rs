// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be read of a socket: options that show its state, TCP_INFO, rows for tables.

use std::net::SocketAddr;
use std::ops::Bound;
use std::time::Instant;

use super::address::{present, present_bound};
use super::datagram::DatagramState;
use super::names::*;
use super::state::{Body, Socket, Traffic};
use super::stream::Stream;
use super::tcp_info::tcp_info;
use super::{Family, Kind, OptionValue, SocketId, Sockets};
use crate::errno::Errno;
use crate::stack::{DatagramProtocol, PacketEnds, Stack, TcpState};

/// Maximum segment size before anything is known (RFC 9293 §3.7.1), bytes.
pub(super) const MSS_DEFAULT: usize = 536;
/// MTU of the loopback as IPv4 and IPv6 take it, bytes.
const LOOPBACK_MTU: usize = 65_535;
const LOOPBACK_MTU_V6: usize = 65_536;

/// One socket for tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketRow {
    /// The socket.
    pub id: SocketId,
    /// `tcp`, `udp`, `udplite`, `icmp` (echo) or `raw`; with a 6 for IPv6.
    pub protocol: &'static str,
    /// Local address as getsockname(2) shows it.
    pub local: SocketAddr,
    /// Peer as getpeername(2) shows it; also that of a connection attempt.
    pub remote: Option<SocketAddr>,
    /// State as ss(8) names it.
    pub state: &'static str,
    /// Bytes not yet acknowledged by the peer.
    pub send_queue: usize,
    /// Bytes (TCP) or datagrams (UDP) not yet read.
    pub receive_queue: usize,
    /// Payload so far.
    pub traffic: Traffic,
}

/// The sockets of this host between which a packet travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owners {
    /// Whose it is, if it comes from a local address.
    pub sender: Option<SocketId>,
    /// For whom it is, if it goes to a local address; of a SYN, the listener.
    pub receiver: Option<SocketId>,
}

impl Sockets {
    /// All sockets, oldest first.
    pub fn rows(&self) -> impl Iterator<Item = SocketRow> + '_ {
        self.sockets
            .iter()
            .map(|(id, socket)| self.row(*id, socket))
    }

    /// The sockets with a greater number than `after`, oldest first: a page of all, for a caller that does not hold them up.
    pub fn rows_after(&self, after: Option<SocketId>) -> impl Iterator<Item = SocketRow> + '_ {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sockets
            .range((start, Bound::Unbounded))
            .map(|(id, socket)| self.row(*id, socket))
    }

    /// One socket.
    #[must_use]
    pub fn row_of(&self, id: SocketId) -> Option<SocketRow> {
        self.sockets.get(&id).map(|socket| self.row(id, socket))
    }

    /// Notes what a program's end of a stream was given and what was taken from it, bytes.
    pub fn count_stream(&mut self, id: SocketId, received: u64, sent: u64) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.traffic += Traffic { received, sent };
        }
    }

    /// Payload so far; zero of a socket that is gone.
    #[must_use]
    pub fn traffic(&self, id: SocketId) -> Traffic {
        self.sockets
            .get(&id)
            .map_or_else(Traffic::default, |socket| socket.traffic)
    }

    /// Whose packet this is: any bytes are safe.
    #[must_use]
    pub fn owners(&self, packet: &[u8]) -> Owners {
        let Some(ends) = PacketEnds::of(packet) else {
            return Owners::default();
        };
        Owners {
            sender: self.owner(ends.stream, ends.from, ends.to, false),
            receiver: self.owner(ends.stream, ends.to, ends.from, ends.opens),
        }
    }

    fn owner(
        &self,
        stream: bool,
        local: SocketAddr,
        remote: SocketAddr,
        opens: bool,
    ) -> Option<SocketId> {
        if !self.stack.is_local(local.ip()) {
            return None;
        }
        if !stream {
            let endpoint = self.stack.datagram_at(local, remote)?;
            return self.datagrams.get(&endpoint).copied();
        }
        if let Some(flow) = self.stack.flow_at(local, remote) {
            return self.socket_of(flow);
        }
        let listener = self.stack.listener_at(local).filter(|_| opens)?;
        self.socket_of_listener(listener)
    }

    fn row(&self, id: SocketId, socket: &Socket) -> SocketRow {
        let binding = &socket.binding;
        let (protocol, remote, state) = match &socket.body {
            Body::Stream(stream) => {
                let remote = match stream {
                    Stream::Connecting { peer, .. } | Stream::Connected { peer, .. } => Some(*peer),
                    Stream::Idle | Stream::Failed | Stream::Listening { .. } => None,
                };
                let protocol = if socket.family == Family::V4 {
                    "tcp"
                } else {
                    "tcp6"
                };
                (protocol, remote, name_of(tcp_state(stream, &self.stack)))
            }
            Body::Datagram(datagram) => {
                let protocol = match (socket.options.protocol(), socket.family) {
                    (DatagramProtocol::Udp, Family::V4) => "udp",
                    (DatagramProtocol::Udp, Family::V6) => "udp6",
                    (DatagramProtocol::UdpLite, Family::V4) => "udplite",
                    (DatagramProtocol::UdpLite, Family::V6) => "udplite6",
                    (DatagramProtocol::Echo, Family::V4) => "icmp",
                    (DatagramProtocol::Echo, Family::V6) => "icmp6",
                    (DatagramProtocol::Icmp, Family::V4) => "raw",
                    (DatagramProtocol::Icmp, Family::V6) => "raw6",
                };
                (
                    protocol,
                    datagram.peer,
                    if datagram.peer.is_some() {
                        "ESTAB"
                    } else {
                        "UNCONN"
                    },
                )
            }
        };
        let flow = socket.flow();
        let receive_queue = match &socket.body {
            Body::Stream(_) => flow.map_or(0, |flow| self.stack.recv_queue(flow)),
            Body::Datagram(datagram) => datagram
                .endpoint
                .map_or(0, |endpoint| self.stack.datagram_queued(endpoint)),
        };
        SocketRow {
            id,
            protocol,
            local: present_bound(socket.family, binding.ip, binding.families, binding.port),
            remote: remote.map(|peer| present(socket.family, peer)),
            state,
            send_queue: flow.map_or(0, |flow| self.stack.send_queue(flow)),
            receive_queue,
            traffic: socket.traffic,
        }
    }
}

/// Options that show the state of a socket rather than what was set; `None`: an ordinary option.
pub(super) fn option_of_state(
    socket: &mut Socket,
    id: SocketId,
    level: i32,
    name: i32,
    stack: &Stack,
    now: Instant,
) -> Option<Result<OptionValue, Errno>> {
    let stream = matches!(socket.body, Body::Stream(_));
    let mtu = match socket.last_peer() {
        Some(peer) if stack.is_local(peer.ip()) => {
            if socket.peer_is_v6() {
                LOOPBACK_MTU_V6
            } else {
                LOOPBACK_MTU
            }
        }
        Some(peer) => stack.path_mtu(now, peer.ip()),
        None => 0,
    };
    let number = match (level, name) {
        (SOL_SOCKET, SO_TYPE) => match socket.kind() {
            Kind::Stream => 1,
            Kind::Datagram if socket.options.protocol() == DatagramProtocol::Icmp => 3,
            Kind::Datagram => 2,
        },
        (SOL_SOCKET, SO_PROTOCOL) => match socket.kind() {
            Kind::Stream => 6,
            Kind::Datagram => socket.options.protocol().number(socket.family),
        },
        (SOL_SOCKET, SO_DOMAIN) => socket.family.number(),
        (SOL_SOCKET, SO_ACCEPTCONN) => i32::from(matches!(
            socket.body,
            Body::Stream(Stream::Listening { .. })
        )),
        (SOL_SOCKET, SO_ERROR) => socket.error.take().map_or(0, |errno| errno.0),
        (SOL_SOCKET, SO_MEMINFO) => {
            let Body::Datagram(DatagramState {
                endpoint: Some(endpoint),
                ..
            }) = &socket.body
            else {
                return None;
            };
            // The last of its numbers is sk_drops.
            let dropped = stack.datagram_dropped(*endpoint).to_ne_bytes();
            return Some(socket.options.get(level, name).map(|value| {
                let mut bytes = value.as_bytes().to_vec();
                let at = bytes.len().saturating_sub(dropped.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&dropped);
                OptionValue::bytes(bytes)
            }));
        }
        (SOL_SOCKET, SO_COOKIE) => {
            return Some(Ok(OptionValue::bytes(id.0.to_ne_bytes().to_vec())));
        }
        (SOL_SOCKET, SO_PEERNAME) => {
            let peer = socket.last_peer().ok_or(Errno::ENOTCONN);
            return Some(
                peer.map(|peer| OptionValue::bytes(sockaddr(present(socket.family, peer)))),
            );
        }
        (SOL_IP, IP_MTU) | (SOL_IPV6, IPV6_MTU) => {
            if level == SOL_IPV6 && socket.family == Family::V4 {
                return None;
            }
            if socket.last_peer().is_none() {
                return Some(Err(Errno::ENOTCONN));
            }
            int(mtu)
        }
        (SOL_IP, IP_MULTICAST_IF) => {
            let address = socket.groups.v4_address?;
            return Some(Ok(OptionValue::bytes(address.octets().to_vec())));
        }
        // The kernel shows where the protocol's number would be on a raw socket.
        (SOL_IP, IP_PROTOCOL) => i32::from(socket.held_port()),
        (SOL_IPV6, IPV6_ADDRFORM) if socket.family == Family::V6 => {
            if socket.peer().is_none() {
                return Some(Err(Errno::ENOTCONN));
            }
            socket.family.number()
        }
        // struct ip6_mtuinfo: an empty address, and the MTU.
        (SOL_IPV6, IPV6_PATHMTU) if socket.family == Family::V6 => {
            if socket.last_peer().is_none() {
                return Some(Err(Errno::ENOTCONN));
            }
            let mut info = vec![0; 28];
            info.extend_from_slice(&int(mtu).to_ne_bytes());
            return Some(Ok(OptionValue::bytes(info)));
        }
        (SOL_TCP, TCP_WINDOW_CLAMP)
            if stream && socket.options.value(SOL_TCP, TCP_WINDOW_CLAMP) == 0 =>
        {
            int(socket.flow().map_or(0, |flow| stack.receive_capacity(flow)))
        }
        (SOL_TCP, TCP_MAXSEG) if stream => {
            match (socket.peer(), socket.options.value(SOL_TCP, TCP_MAXSEG)) {
                (Some(_), _) => int(segment(socket, mtu)),
                (None, 0) => int(MSS_DEFAULT),
                (None, set) => set,
            }
        }
        (SOL_TCP, TCP_INFO) if stream => return Some(Ok(tcp_info(socket, stack, mtu, now))),
        (SOL_TCP, TCP_SAVED_SYN) if stream => {
            let saved = socket.flow().and_then(|flow| stack.saved_syn(flow));
            return Some(Ok(OptionValue::bytes(
                saved.map_or_else(Vec::new, <[u8]>::to_vec),
            )));
        }
        _ => return None,
    };
    Some(Ok(OptionValue::int(number)))
}

/// Largest segment, bytes: the MTU less the fixed headers, at most what TCP_MAXSEG asked for.
pub(super) fn segment(socket: &Socket, mtu: usize) -> usize {
    let headers = if socket.peer_is_v6() { 60 } else { 40 };
    let wanted = usize::try_from(socket.options.value(SOL_TCP, TCP_MAXSEG)).unwrap_or(0);
    let most = if mtu >= LOOPBACK_MTU {
        // Half of the window that Linux's loopback opens with (tcp_bound_to_half_wnd).
        if socket.peer_is_v6() { 32_732 } else { 32_741 }
    } else {
        mtu.saturating_sub(headers)
    };
    if wanted == 0 { most } else { most.min(wanted) }
}

/// The state as the kernel numbers it (net/tcp_states.h).
pub(super) fn tcp_state(stream: &Stream, stack: &Stack) -> u8 {
    match stream {
        Stream::Idle | Stream::Failed => 7,
        Stream::Connecting { .. } => 2,
        Stream::Listening { .. } => 10,
        Stream::Connected { live: false, .. } | Stream::Connected { flow: None, .. } => 7,
        Stream::Connected {
            flow: Some(flow),
            live: true,
            ..
        } => match stack.state(*flow) {
            Some(TcpState::Established) => 1,
            Some(TcpState::SynSent) => 2,
            Some(TcpState::SynReceived) => 3,
            Some(TcpState::FinWait1) => 4,
            Some(TcpState::FinWait2) => 5,
            Some(TcpState::TimeWait) => 6,
            Some(TcpState::Closed) | None => 7,
            Some(TcpState::CloseWait) => 8,
            Some(TcpState::LastAck) => 9,
            Some(TcpState::Closing) => 11,
        },
    }
}

/// The name ss(8) gives a state.
const fn name_of(state: u8) -> &'static str {
    match state {
        1 => "ESTAB",
        2 => "SYN-SENT",
        3 => "SYN-RECV",
        4 => "FIN-WAIT-1",
        5 => "FIN-WAIT-2",
        6 => "TIME-WAIT",
        8 => "CLOSE-WAIT",
        9 => "LAST-ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        _ => "UNCONN",
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn sockaddr(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend_from_slice(&2_u16.to_ne_bytes());
            bytes.extend_from_slice(&v4.port().to_be_bytes());
            bytes.extend_from_slice(&v4.ip().octets());
            bytes.extend_from_slice(&[0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend_from_slice(&10_u16.to_ne_bytes());
            bytes.extend_from_slice(&v6.port().to_be_bytes());
            bytes.extend_from_slice(&v6.flowinfo().to_be_bytes());
            bytes.extend_from_slice(&v6.ip().octets());
            bytes.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

fn int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
