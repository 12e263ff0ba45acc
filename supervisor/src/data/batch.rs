// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Outgoing packets in one buffer: the engine writes them where the overlay seals them where the kernel sends them.

use netcon_netstack::stack::{Fanout, PacketSink};
use netcon_overlay::{Ecn, Overlay};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Bytes of the buffer: a few GSO sends.
const CAPACITY: usize = 256 * 1024;
/// Packets of one batch.
const MAX_PACKETS: usize = 256;
/// Segments of one GSO send (UDP_MAX_SEGMENTS).
const MAX_SEGMENTS: usize = 64;
/// Copies of packets for many that one batch may ask for, so that the other networks have their turn.
const MAX_COPIES: usize = 1024;
/// Bytes of one GSO send.
const MAX_SEND: usize = 65_000;

/// Packets of one network, then datagrams.
#[derive(Debug)]
pub(super) struct Batch {
    buffer: Vec<u8>,
    used: usize,
    packets: Vec<Slot>,
    mtu: usize,
    /// Copies that the packets for many ask for.
    copies: usize,
    /// Those packets, by number.
    fanned: Vec<(usize, Fanout)>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    start: usize,
    /// Room for the sealed packet.
    room: usize,
    /// IP packet before sealing.
    len: usize,
    /// Where it goes and how it is marked, once sealed.
    to: Option<(SocketAddr, Ecn)>,
    /// The address on the virtual network that it is for.
    inner: Option<IpAddr>,
}

/// Datagrams that one send carries.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// Where they go.
    pub(super) to: SocketAddr,
    /// Their congestion mark.
    pub(super) ecn: Ecn,
    /// Bytes of each but the last, which may be shorter.
    pub(super) size: usize,
    /// They lie one after the other.
    pub(super) bytes: &'a [u8],
    /// Their numbers in the batch.
    packets: Range<usize>,
}

impl Batch {
    /// Empty.
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; CAPACITY],
            used: 0,
            packets: Vec::with_capacity(MAX_PACKETS),
            mtu: 1420,
            copies: 0,
            fanned: Vec::new(),
        }
    }

    /// Makes it empty, for packets of a network with this MTU.
    pub(super) fn start(&mut self, mtu: usize) {
        self.used = 0;
        self.packets.clear();
        self.mtu = mtu;
        self.copies = 0;
        self.fanned.clear();
    }

    /// Nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packets, not yet sealed.
    pub(super) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(|slot| {
            let start = slot.start + Overlay::HEADROOM;
            &self.buffer[start..start + slot.len]
        })
    }

    /// The packets for many, not yet sealed.
    pub(super) fn for_many(&self) -> impl Iterator<Item = (&[u8], &Fanout)> {
        self.fanned.iter().map(|(number, fanout)| {
            let slot = &self.packets[*number];
            let start = slot.start + Overlay::HEADROOM;
            (&self.buffer[start..start + slot.len], fanout)
        })
    }

    /// Seals every packet for one where it lies; `seal` gives the destination, or None for what is not sent now.
    pub(super) fn seal(
        &mut self,
        mut seal: impl FnMut(&mut [u8], usize) -> Option<(SocketAddr, Ecn)>,
    ) {
        let mut fanned = self.fanned.iter().map(|(number, _)| *number).peekable();
        for (number, slot) in self.packets.iter_mut().enumerate() {
            if fanned.next_if_eq(&number).is_some() {
                continue;
            }
            let memory = &mut self.buffer[slot.start..slot.start + slot.room];
            slot.inner = destination(&memory[Overlay::HEADROOM..]);
            slot.to = seal(memory, slot.len);
        }
    }

    /// The addresses on the virtual network that the packets of a run are for.
    pub(super) fn inner(&self, packets: Range<usize>) -> impl Iterator<Item = IpAddr> {
        self.packets[packets].iter().filter_map(|slot| slot.inner)
    }

    /// Runs of datagrams that one send carries.
    pub(super) fn sends(&self) -> impl Iterator<Item = Run<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < self.packets.len() && self.packets[at].to.is_none() {
                at += 1;
            }
            let first = self.packets.get(at)?;
            let (to, ecn) = first.to?;
            let start = at;
            let mut range: Range<usize> = first.start..first.start + first.room;
            let mut count = 1;
            at += 1;
            while let Some(next) = self.packets.get(at)
                && next.to == Some((to, ecn))
                && next.start == range.end
                && next.room <= first.room
                && count < MAX_SEGMENTS
                && range.len() + next.room <= MAX_SEND
            {
                range.end += next.room;
                count += 1;
                at += 1;
                if next.room < first.room {
                    break;
                }
            }
            Some(Run {
                to,
                ecn,
                size: first.room,
                bytes: &self.buffer[range],
                packets: start..at,
            })
        })
    }
}

impl PacketSink for Batch {
    fn has_room(&self) -> bool {
        self.packets.len() < MAX_PACKETS
            && self.copies < MAX_COPIES
            && self.used + Overlay::sealed_len(self.mtu, self.mtu) <= self.buffer.len()
    }

    fn packet(&mut self, len: usize) -> &mut [u8] {
        let room = Overlay::sealed_len(len, self.mtu);
        let start = self.used;
        self.used += room;
        self.packets.push(Slot {
            start,
            room,
            len,
            to: None,
            inner: None,
        });
        &mut self.buffer[start + Overlay::HEADROOM..start + Overlay::HEADROOM + len]
    }

    fn packet_for(&mut self, len: usize, to: &Fanout) -> &mut [u8] {
        self.fanned.push((self.packets.len(), to.clone()));
        self.copies += to.copies();
        self.packet(len)
    }
}

impl Run<'_> {
    /// Its packets, for [`Batch::inner`].
    pub(super) fn packets(&self) -> Range<usize> {
        self.packets.clone()
    }
}

/// Destination of a packet that the engine wrote (RFC 791, RFC 8200).
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(*packet.get(16..20)?.first_chunk::<4>()?)),
        6 => Some(IpAddr::from(*packet.get(24..40)?.first_chunk::<16>()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_neighbours_to_one_destination_share_a_send() {
        let a: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let b: SocketAddr = "127.0.0.1:2".parse().unwrap();
        let mut batch = Batch::new();
        batch.start(1420);
        for len in [1420, 1420, 60, 1420, 1420, 1420] {
            batch.packet(len);
        }
        let mut to = [Some(a), Some(a), Some(a), Some(b), None, Some(b)].into_iter();
        batch.seal(|_, _| Some((to.next().unwrap()?, Ecn::NotEct)));
        let sends: Vec<_> = batch
            .sends()
            .map(|run| (run.to, run.size, run.bytes.len()))
            .collect();
        let big = Overlay::sealed_len(1420, 1420);
        let small = Overlay::sealed_len(60, 1420);
        assert_eq!(
            sends,
            [(a, big, 2 * big + small), (b, big, big), (b, big, big)]
        );
    }

    #[test]
    fn packets_with_different_marks_share_no_send() {
        let to: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let mut batch = Batch::new();
        batch.start(1420);
        for last in [1, 2, 3] {
            let packet = batch.packet(20);
            packet.copy_from_slice(&[0; 20]);
            packet[0] = 0x45;
            packet[19] = last;
        }
        let mut marks = [Ecn::Ect0, Ecn::Ect0, Ecn::NotEct].into_iter();
        batch.seal(|_, _| Some((to, marks.next().unwrap())));
        let runs: Vec<_> = batch
            .sends()
            .map(|run| (run.ecn, batch.inner(run.packets()).collect::<Vec<_>>()))
            .collect();
        let inner = |last| IpAddr::from([0, 0, 0, last]);
        assert_eq!(
            runs,
            [
                (Ecn::Ect0, vec![inner(1), inner(2)]),
                (Ecn::NotEct, vec![inner(3)])
            ]
        );
    }

    #[test]
    fn packets_for_many_are_not_sealed_in_place_and_count_by_their_copies() {
        let to: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let mut batch = Batch::new();
        batch.start(1420);
        batch.packet(20);
        batch.packet_for(28, &Fanout::Everyone).fill(7);
        batch.packet(24);
        let many: Vec<_> = batch.for_many().map(|(bytes, _)| bytes.to_vec()).collect();
        assert_eq!(many, [vec![7; 28]]);
        let mut sealed = Vec::new();
        batch.seal(|_, len| {
            sealed.push(len);
            Some((to, Ecn::NotEct))
        });
        assert_eq!(sealed, [20, 24]);
        assert_eq!(batch.sends().count(), 2);
        let mut n = 1;
        while batch.has_room() {
            batch.packet_for(28, &Fanout::Everyone);
            n += 1;
        }
        assert_eq!(n, MAX_COPIES / 256);
        batch.start(1420);
        assert!(batch.has_room() && batch.for_many().next().is_none());
    }

    #[test]
    fn a_full_batch_says_so() {
        let mut batch = Batch::new();
        batch.start(1420);
        let mut n = 0;
        while batch.has_room() {
            batch.packet(1420);
            n += 1;
        }
        assert!(n > MAX_SEGMENTS && n <= MAX_PACKETS);
    }
}
