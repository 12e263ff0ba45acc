// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What udp(7) does between calls and datagrams: several calls make one (UDP_CORK, MSG_MORE), one makes several (UDP_SEGMENT).

use std::net::SocketAddr;
use std::time::Instant;

use super::datagram::{LOOPBACK_MTU, PAYLOAD_MAX_V4, PAYLOAD_MAX_V6};
use super::names::*;
use super::state::Body;
use super::{SendControl, SocketId, Sockets};
use crate::errno::Errno;

/// Datagrams of one call (UDP_MAX_SEGMENTS).
const SEGMENTS_MAX: usize = 128;
/// Headers of a datagram of IPv4 and IPv6, bytes.
const HEADERS_V4: usize = 28;
const HEADERS_V6: usize = 48;

/// A datagram that is not whole yet. At most one per socket, no longer than a datagram can be.
#[derive(Debug)]
pub(crate) struct Corked {
    to: SocketAddr,
    control: SendControl,
    payload: Vec<u8>,
}

impl Sockets {
    /// As [`Self::udp_send`], with what control messages and flags of sendmsg(2) ask for.
    ///
    /// # Errors
    /// Those; for a source that is no address of this host on the network ENETUNREACH (IPv4) or EINVAL (IPv6); EINVAL for too many
    /// segments.
    pub fn udp_send_with(
        &mut self,
        now: Instant,
        id: SocketId,
        to: Option<SocketAddr>,
        payload: &[u8],
        control: &SendControl,
    ) -> Result<usize, Errno> {
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        if !socket.options.protocol().is_udp() {
            return self.send_one(now, id, to, payload, control);
        }
        let more = control.more || socket.options.is_on(SOL_UDP, UDP_CORK);
        let Body::Datagram(datagram) = &mut socket.body else {
            return Err(Errno::EOPNOTSUPP);
        };
        let Some(corked) = &mut datagram.corked else {
            if more {
                return self.cork(id, to, payload, control);
            }
            return self.send_segments(now, id, to, payload, control);
        };
        // Where it goes, and how, is what the first call has said.
        let whole = corked.payload.len() + payload.len();
        if whole > largest(corked.to) {
            datagram.corked = None;
            return Err(Errno::EMSGSIZE);
        }
        corked.payload.extend_from_slice(payload);
        if let Some(errno) = socket.error.take() {
            datagram.corked = None;
            return Err(errno);
        }
        if !more {
            self.uncork(now, id)?;
        }
        Ok(payload.len())
    }

    /// Sends what is corked, if anything is.
    pub(super) fn uncork(&mut self, now: Instant, id: SocketId) -> Result<(), Errno> {
        let corked = match self.sockets.get_mut(&id).map(|socket| &mut socket.body) {
            Some(Body::Datagram(datagram)) => datagram.corked.take(),
            Some(Body::Stream(_)) | None => None,
        };
        let Some(corked) = corked else { return Ok(()) };
        let Corked {
            to,
            control,
            payload,
        } = corked;
        // The port may be 0, which only connect(2) can say.
        let to = (to.port() != 0).then_some(to);
        self.send_segments(now, id, to, &payload, &control)
            .map(drop)
    }

    /// The first part of a datagram.
    fn cork(
        &mut self,
        id: SocketId,
        to: Option<SocketAddr>,
        payload: &[u8],
        control: &SendControl,
    ) -> Result<usize, Errno> {
        self.udp_autobind(id)?;
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        let to = socket.destined(to, &self.stack)?;
        if payload.len() > largest(to) {
            return Err(Errno::EMSGSIZE);
        }
        if let Some(errno) = socket.error.take() {
            return Err(errno);
        }
        if let Body::Datagram(datagram) = &mut socket.body {
            datagram.corked = Some(Corked {
                to,
                control: *control,
                payload: payload.to_vec(),
            });
        }
        Ok(payload.len())
    }

    fn send_segments(
        &mut self,
        now: Instant,
        id: SocketId,
        to: Option<SocketAddr>,
        payload: &[u8],
        control: &SendControl,
    ) -> Result<usize, Errno> {
        let socket = self.sockets.get(&id).ok_or(Errno::EBADF)?;
        let option = u16::try_from(socket.options.value(SOL_UDP, UDP_SEGMENT)).unwrap_or(0);
        let segment = usize::from(control.segment.unwrap_or(option));
        if segment == 0 {
            return self.send_one(now, id, to, payload, control);
        }
        let destination = socket.destined(to, &self.stack)?;
        if payload.len() > largest(destination) {
            return self.send_one(now, id, to, payload, control);
        }
        let v6 = destination.is_ipv6();
        let (headers, unchecked) = if v6 {
            (HEADERS_V6, (SOL_UDP, UDP_NO_CHECK6_TX))
        } else {
            (HEADERS_V4, (SOL_SOCKET, SO_NO_CHECK))
        };
        let unchecked = socket.options.is_on(unchecked.0, unchecked.1);
        let mtu = if self.stack.is_local(destination.ip()) {
            LOOPBACK_MTU
        } else {
            self.stack.path_mtu(now, destination.ip())
        };
        if headers + payload.len().min(segment) > mtu {
            return Err(Errno::EMSGSIZE);
        }
        if payload.len() <= segment {
            return self.send_one(now, id, to, payload, control);
        }
        if payload.len() > segment * SEGMENTS_MAX || unchecked {
            return Err(Errno::EINVAL);
        }
        for (index, part) in payload.chunks(segment).enumerate() {
            match self.send_one(now, id, to, part, control) {
                Ok(_) => {}
                Err(errno) if index == 0 => return Err(errno),
                Err(_) => break,
            }
            // What became of the first is told once.
            if self.has_pending_error(id) {
                break;
            }
        }
        Ok(payload.len())
    }
}

fn largest(to: SocketAddr) -> usize {
    if to.is_ipv6() {
        PAYLOAD_MAX_V6
    } else {
        PAYLOAD_MAX_V4
    }
}
