// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies of what passes inside the stack, for captures: packets over the internal loopback, which no driver sees. Packets of
//! the overlay pass through the driver's own hands.
use std::collections::VecDeque;
use std::net::SocketAddr;

use super::Stack;
use super::wire::{self, IpPacket, Segment};

/// Copies that wait for the driver, bounded in bytes; what does not fit is counted.
#[derive(Debug)]
pub(super) struct Tap {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
    limit: usize,
    lost: u64,
}

impl Tap {
    /// Copies a packet, with the checksums that the loopback leaves out.
    pub(super) fn note(&mut self, packet: &[u8]) {
        if let Some(copy) = self.room(packet.len()) {
            copy.copy_from_slice(packet);
            wire::fill_checksums(copy);
        }
    }

    /// Memory for a packet of `len` bytes; `None`: it is lost.
    pub(super) fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.bytes + len > self.limit {
            self.lost += 1;
            return None;
        }
        self.bytes += len;
        self.packets.push_back(vec![0; len]);
        self.packets.back_mut().map(Vec::as_mut_slice)
    }
}

/// Between which addresses a packet with ports travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketEnds {
    /// TCP; otherwise UDP.
    pub stream: bool,
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// It opens a connection.
    pub opens: bool,
}

impl PacketEnds {
    /// Reads an IP packet; `None`: it is not whole (a fragment), or neither TCP nor UDP.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        let ip = IpPacket::parse(packet).filter(|ip| ip.fragment.is_none())?;
        let (stream, from, to, opens) = match ip.protocol {
            wire::TCP => {
                let segment = Segment::parse(ip.payload)?;
                (true, segment.src_port, segment.dst_port, segment.opens())
            }
            other => {
                let protocol = wire::datagrams_of(other)?;
                let (from, to, _) = wire::parse_udp(ip.payload, protocol)?;
                (false, from, to, false)
            }
        };
        Some(Self {
            stream,
            from: SocketAddr::new(ip.src, from),
            to: SocketAddr::new(ip.dst, to),
            opens,
        })
    }
}

impl Stack {
    /// Begins to copy packets between local addresses, at most `limit` bytes of which wait; `None` ends it.
    pub fn set_tap(&mut self, limit: Option<usize>) {
        self.tap = limit.map(|limit| Tap {
            packets: VecDeque::new(),
            bytes: 0,
            limit,
            lost: 0,
        });
    }

    /// The next copy, oldest first.
    pub fn poll_tap(&mut self) -> Option<Vec<u8>> {
        let tap = self.tap.as_mut()?;
        let packet = tap.packets.pop_front()?;
        tap.bytes -= packet.len();
        Some(packet)
    }

    /// Packets that did not fit since this was last asked.
    pub fn take_tap_lost(&mut self) -> u64 {
        self.tap
            .as_mut()
            .map_or(0, |tap| std::mem::take(&mut tap.lost))
    }
}
