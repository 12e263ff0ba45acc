// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets that wait inside the stack: replies and datagrams for the overlay, everything on the internal loopback.
use std::collections::VecDeque;

use super::{DatagramId, Fanout};

/// Buffers kept for the next packets.
const SPARES: usize = 16;

/// FIFO of packets, bounded in bytes. A packet that does not fit is dropped.
#[derive(Debug)]
pub(super) struct Queue {
    packets: VecDeque<Queued>,
    bytes: usize,
    limit: usize,
    spares: Vec<Vec<u8>>,
    /// Where a packet goes that does not fit.
    void: Vec<u8>,
}

#[derive(Debug)]
struct Queued {
    buffer: Vec<u8>,
    len: usize,
    owner: Option<DatagramId>,
    fanout: Option<Fanout>,
}

/// A packet taken from a [`Queue`]; give it back with [`Queue::recycle`].
#[derive(Debug)]
pub(super) struct Taken {
    buffer: Vec<u8>,
    len: usize,
    fanout: Option<Fanout>,
}

impl Taken {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// To whom it goes, unless to the owner of its destination alone.
    pub(super) fn fanout(&self) -> Option<&Fanout> {
        self.fanout.as_ref()
    }
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            packets: VecDeque::new(),
            bytes: 0,
            limit,
            spares: Vec::new(),
            void: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// True while a sender that can wait may add a packet.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < self.limit
    }

    /// Memory for one packet of `len` bytes and whether it will be kept. A queue that is full by more than twice its
    /// limit gives memory that is thrown away.
    pub(super) fn push(&mut self, len: usize, owner: Option<DatagramId>) -> (&mut [u8], bool) {
        self.push_for(len, owner, None)
    }

    /// As [`Self::push`], for several peers.
    pub(super) fn push_for(
        &mut self,
        len: usize,
        owner: Option<DatagramId>,
        fanout: Option<Fanout>,
    ) -> (&mut [u8], bool) {
        if self.bytes + len > 2 * self.limit {
            self.void.resize(len.max(self.void.len()), 0);
            return (&mut self.void[..len], false);
        }
        let mut buffer = self.spares.pop().unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        self.bytes += len;
        self.packets.push_back(Queued {
            buffer,
            len,
            owner,
            fanout,
        });
        let last = self.packets.back_mut().expect("just pushed");
        (&mut last.buffer[..len], true)
    }

    pub(super) fn pop(&mut self) -> Option<(Taken, Option<DatagramId>)> {
        let Queued {
            buffer,
            len,
            owner,
            fanout,
        } = self.packets.pop_front()?;
        self.bytes -= len;
        Some((
            Taken {
                buffer,
                len,
                fanout,
            },
            owner,
        ))
    }

    pub(super) fn recycle(&mut self, packet: Taken) {
        if self.spares.len() < SPARES {
            self.spares.push(packet.buffer);
        }
    }

    /// Frees what is only kept for speed.
    pub(super) fn trim(&mut self) {
        self.spares = Vec::new();
        self.void = Vec::new();
    }
}
