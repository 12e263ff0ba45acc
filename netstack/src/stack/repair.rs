// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Segments that smoltcp 0.14 would misunderstand, brought into a form that it understands. Each rule stands for a way in which
//! two such engines, or one and its peer, would wait for each other for ever after a loss.
use std::time::Instant;

use smoltcp::socket::tcp;

use super::flow::{Flow, Stage};
use super::wire::{self, IpPacket, Segment};
use super::{FlowId, Stack};

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// Nothing: given as it is.
    None,
    /// Not given: it says nothing new, and would do harm.
    Drop,
    /// Without its data, all of which is known, before it is given as it is.
    Trim,
}

impl Stack {
    /// Gives the segment of a flow to smoltcp.
    pub(super) fn give_repaired(
        &mut self,
        now: Instant,
        id: FlowId,
        ip: &IpPacket<'_>,
        segment: &Segment,
    ) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        match flow.repair(segment) {
            Repair::None => {}
            Repair::Drop => return flow.hear(now),
            Repair::Trim => {
                flow.trimmed = segment.ack;
                let (tuple, expected) = (flow.tuple, flow.sent.1);
                let trimmed =
                    wire::trimmed(ip.payload, tuple.remote, tuple.local, expected, segment);
                self.give_segment(now, id, &trimmed);
            }
        }
        self.give_segment(now, id, ip.bytes);
    }
}

impl Flow {
    fn repair(&self, segment: &Segment) -> Repair {
        let established = matches!(self.stage, Stage::Open | Stage::Orphan { .. });
        if !established || !segment.has_ack() || segment.syn() || segment.rst() {
            return Repair::None;
        }
        if self.is_fin_alone() && segment.is_bare() && segment.ack == self.sent.0.wrapping_sub(1) {
            // The third such acknowledgement would make smoltcp repeat data of which there is none, instead of the FIN, and
            // stop its timer.
            return Repair::Drop;
        }
        let expected = self.sent.1;
        let is_old = |seq: u32| expected.wrapping_sub(seq).cast_signed() >= 0;
        let end = segment.seq.wrapping_add(segment.payload_len_u32());
        if segment.seq == expected || !is_old(segment.seq) || !is_old(end) {
            return Repair::None;
        }
        // smoltcp looks neither at the acknowledgement of a segment whose data is all known nor at its FIN (RFC 9293 section
        // 3.10.7.4: it is to be trimmed). While it repeats lost data itself, all its segments have old numbers: two such
        // sides would never hear each other again.
        let fin_is_new = segment.fin() && end == expected;
        if fin_is_new || segment.ack != self.trimmed {
            Repair::Trim
        } else {
            Repair::None
        }
    }

    /// Everything but our FIN is acknowledged.
    fn is_fin_alone(&self) -> bool {
        self.socket().is_some_and(|socket| {
            socket.send_queue() == 0
                && matches!(
                    socket.state(),
                    tcp::State::FinWait1 | tcp::State::Closing | tcp::State::LastAck
                )
        })
    }
}
