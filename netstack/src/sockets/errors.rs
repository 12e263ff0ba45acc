// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The error queue of a socket (ip(7), IP_RECVERR): what ICMP said of its packets, and what this host said itself.
//!
//! An error that is queued is pending (SO_ERROR) too; taking the errors out of the queue sets and clears what is pending, as
//! `sock_dequeue_err_skb` of the kernel does.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::address::present;
use super::control::{ControlMessage, Told};
use super::names::*;
use super::state::Body;
use super::{Family, SocketId, Sockets};
use crate::errno::Errno;
use crate::stack::{Datagram, IcmpError, Link};

/// ee_origin (linux/errqueue.h).
const LOCAL: u8 = 1;
const ICMP: u8 = 2;
const ICMP6: u8 = 3;

/// What an error costs of SO_RCVBUF, bytes, as the kernel counts it: the buffer with its two fixed parts.
const fn cost(payload: usize) -> usize {
    const FIXED: usize = 576;
    const SHARED: usize = 320;
    const SMALL: usize = 256;
    const HEADERS: usize = 72;
    let needed = payload + HEADERS;
    if needed <= SMALL {
        return SMALL + FIXED;
    }
    (needed + SHARED).next_power_of_two() - SHARED + FIXED
}

/// One error of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedError {
    errno: Errno,
    origin: u8,
    kind: u8,
    code: u8,
    info: u32,
    /// Where the packet was to go, canonical.
    to: SocketAddr,
    /// Of an ICMP error: who sent it and what is known of its packet, without payload.
    told: Option<Datagram>,
    /// What recvmsg(2) gives as data: the payload as far as it was quoted.
    pub payload: Vec<u8>,
}

impl QueuedError {
    /// When it came, if that is known.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.told.as_ref().and_then(|told| told.at)
    }
}

/// The errors of one socket, the oldest first. Bounded by SO_RCVBUF; a new one that finds no room is dropped.
#[derive(Debug, Default)]
pub(crate) struct ErrorQueue {
    waiting: VecDeque<QueuedError>,
    bytes: usize,
}

impl ErrorQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// An ICMP error about a packet to `to`, which came by `link`.
    pub(super) fn push_icmp(
        &mut self,
        room: usize,
        (to, link): (SocketAddr, Link),
        errno: Errno,
        icmp: IcmpError,
    ) {
        let v6 = icmp.from.is_ipv6();
        self.push(
            room,
            QueuedError {
                errno,
                origin: if v6 { ICMP6 } else { ICMP },
                kind: icmp.kind,
                code: icmp.code,
                info: icmp.info,
                to,
                told: Some(Datagram {
                    from: SocketAddr::new(icmp.from, 0),
                    to: SocketAddr::new(icmp.to, 0),
                    hop_limit: icmp.hop_limit,
                    traffic_class: icmp.traffic_class,
                    link,
                    at: icmp.at,
                    dropped: 0,
                    payload: Vec::new(),
                }),
                payload: icmp.payload,
            },
        );
    }

    /// This host itself refused to send a packet to `to` that is larger than `mtu`.
    pub(super) fn push_too_big(&mut self, room: usize, to: SocketAddr, mtu: u32) {
        self.push(
            room,
            QueuedError {
                errno: Errno::EMSGSIZE,
                origin: LOCAL,
                kind: 0,
                code: 0,
                info: mtu,
                to,
                told: None,
                payload: Vec::new(),
            },
        );
    }

    fn push(&mut self, room: usize, error: QueuedError) {
        let cost = cost(error.payload.len());
        if self.bytes + cost < room {
            self.bytes += cost;
            self.waiting.push_back(error);
        }
    }

    fn pop(&mut self) -> Option<QueuedError> {
        let error = self.waiting.pop_front()?;
        self.bytes -= cost(error.payload.len());
        Some(error)
    }

    /// The option was turned off.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }
}

impl Sockets {
    /// An error is pending or queued: poll(2) says POLLERR.
    #[must_use]
    pub fn shows_error(&self, id: SocketId) -> bool {
        self.sockets
            .get(&id)
            .is_some_and(|socket| socket.error.is_some() || !socket.errors.is_empty())
    }

    /// An error is pending (SO_ERROR).
    #[must_use]
    pub fn has_pending_error(&self, id: SocketId) -> bool {
        self.sockets
            .get(&id)
            .is_some_and(|socket| socket.error.is_some())
    }

    /// Errors can come up on this socket without it having a peer: IP_RECVERR or IPV6_RECVERR is on.
    #[must_use]
    pub fn hears_errors(&self, id: SocketId) -> bool {
        self.sockets.get(&id).is_some_and(|socket| {
            matches!(socket.body, Body::Datagram(_))
                && (socket.options.recverr(false) || socket.options.recverr(true))
        })
    }

    /// The oldest error of the queue, for recvmsg(2) with MSG_ERRQUEUE. The next one becomes the pending error; after the
    /// last none is pending.
    pub fn take_queued_error(&mut self, id: SocketId) -> Option<QueuedError> {
        let socket = self.sockets.get_mut(&id)?;
        let taken = socket.errors.pop()?;
        let next = socket.errors.waiting.front();
        match next.filter(|next| next.told.is_some()) {
            Some(next) => socket.error = Some(next.errno),
            None if taken.told.is_some() => socket.error = None,
            None => {}
        }
        Some(taken)
    }

    /// Where the packet was to go, as the socket's family shows it: msg_name.
    #[must_use]
    pub fn error_destination(&self, id: SocketId, error: &QueuedError) -> Option<SocketAddr> {
        let socket = self.sockets.get(&id)?;
        Some(present(socket.family, error.to))
    }

    /// The control messages that come with an error, in Linux' order. `stamp`: when it came, since the Unix epoch.
    #[must_use]
    pub fn error_control(
        &self,
        id: SocketId,
        error: &QueuedError,
        stamp: Duration,
    ) -> Vec<ControlMessage> {
        let Some(socket) = self.sockets.get(&id) else {
            return Vec::new();
        };
        let mut told = Told::new(socket);
        told.stamp(stamp);
        if let Some(icmp) = &error.told {
            self.tell_beside(&mut told, icmp, Some(Ipv4Addr::UNSPECIFIED));
        }
        let mut data = Vec::with_capacity(44);
        data.extend_from_slice(&error.errno.0.to_ne_bytes());
        data.extend_from_slice(&[error.origin, error.kind, error.code, 0]);
        data.extend_from_slice(&error.info.to_ne_bytes());
        data.extend_from_slice(&[0; 4]);
        let offender = error.told.as_ref().map(|icmp| icmp.from.ip());
        match socket.family {
            Family::V4 => {
                data.extend_from_slice(&offender_v4(offender));
                told.tell(SOL_IP, IP_RECVERR, &data);
            }
            Family::V6 => {
                data.extend_from_slice(&offender_v6(offender));
                told.tell(SOL_IPV6, IPV6_RECVERR, &data);
            }
        }
        told.messages
    }
}

/// SO_EE_OFFENDER as struct sockaddr_in; all zero for an error of this host.
fn offender_v4(offender: Option<IpAddr>) -> [u8; 16] {
    let mut bytes = [0; 16];
    if let Some(IpAddr::V4(ip)) = offender {
        bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
        bytes[4..8].copy_from_slice(&ip.octets());
    }
    bytes
}

/// The same as struct sockaddr_in6.
fn offender_v6(offender: Option<IpAddr>) -> [u8; 28] {
    let mut bytes = [0; 28];
    let ip: Option<Ipv6Addr> = offender.map(|ip| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    });
    if let Some(ip) = ip {
        bytes[..2].copy_from_slice(&10_u16.to_ne_bytes());
        bytes[8..24].copy_from_slice(&ip.octets());
    }
    bytes
}
