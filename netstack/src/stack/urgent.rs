// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Urgent data (RFC 9293 §3.8.5, RFC 6093): one byte of the stream that the sender has marked.
//!
//! smoltcp knows no urgent pointer. The stream's positions are followed here, the pointer is written into segments on their
//! way out and read from those that arrive. As everywhere in practice it names the byte behind the urgent one.

use super::wire::Segment;

/// Positions of one flow's streams, and the marked byte of each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Urgent {
    /// Sequence number of the first byte sent.
    pub(super) first_out: u32,
    /// Sequence number of the next byte that is read by the caller.
    next_in: u32,
    /// Sequence number behind the last urgent byte sent: segments before it say so.
    out: Option<u32>,
    /// Sequence number of the last urgent byte announced by the peer and not read yet.
    pending: Option<u32>,
}

impl Urgent {
    /// The stream that is sent begins behind this SYN.
    pub(super) fn begin_out(&mut self, isn: u32) {
        self.first_out = isn.wrapping_add(1);
    }

    /// The last of `queued` bytes is urgent; a mark before it is forgotten.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    pub(super) fn mark(&mut self, queued: u64) {
        self.out = Some(self.first_out.wrapping_add(queued as u32));
    }

    /// The mark for segments on their way out: the sequence number behind the urgent byte.
    pub(super) fn outgoing(&self) -> Option<u32> {
        self.out
    }

    /// What has arrived. `pointer`: the urgent pointer, if the segment has one.
    pub(super) fn note(&mut self, segment: &Segment, pointer: Option<u16>) {
        if segment.syn() {
            self.next_in = segment.seq.wrapping_add(1);
            return;
        }
        // Linux takes a pointer of 0 as the first byte.
        let Some(ahead) = pointer.map(|pointer| u32::from(pointer.saturating_sub(1))) else {
            return;
        };
        let byte = segment.seq.wrapping_add(ahead);
        let newest = self.pending.unwrap_or(self.next_in);
        if at_or_after(byte, newest) {
            self.pending = Some(byte);
        }
    }

    /// Bytes before the urgent one, if it is still to be read.
    pub(super) fn ahead(&self) -> Option<usize> {
        let byte = self.pending?;
        usize::try_from(byte.wrapping_sub(self.next_in)).ok()
    }

    /// The caller has read so many bytes.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    pub(super) fn read(&mut self, bytes: usize) {
        self.next_in = self.next_in.wrapping_add(bytes as u32);
        if self
            .pending
            .is_some_and(|byte| !at_or_after(byte, self.next_in))
        {
            self.pending = None;
        }
    }
}

/// Sequence number `a` is not before `b`.
fn at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}

/// The pointer that a segment with that sequence number carries towards `behind`; `None`: the urgent byte lies before it, or
/// too far ahead (RFC 6093 §6: it is announced once it can be).
pub(super) fn pointer(seq: u32, behind: u32) -> Option<u16> {
    let distance = behind.wrapping_sub(seq);
    (distance != 0)
        .then(|| u16::try_from(distance).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_name_the_byte_behind() {
        assert_eq!(pointer(10, 11), Some(1));
        assert_eq!(pointer(u32::MAX, 4), Some(5));
        assert_eq!(pointer(11, 11), None, "sent already");
        assert_eq!(pointer(12, 11), None, "sent already");
        assert_eq!(pointer(0, 70_000), None, "too far ahead");
    }

    #[test]
    fn the_mark_follows_what_is_read() {
        let mut urgent = Urgent {
            next_in: u32::MAX,
            ..Urgent::default()
        };
        urgent.pending = Some(2);
        assert_eq!(urgent.ahead(), Some(3));
        urgent.read(3);
        assert_eq!(urgent.ahead(), Some(0));
        urgent.read(1);
        assert_eq!(urgent.ahead(), None);
    }
}
