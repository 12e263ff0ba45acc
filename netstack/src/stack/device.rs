// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device smoltcp sees: one packet in, packets out straight into the caller's sink or an internal queue.
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant;

use super::queue::Queue;
use super::{PacketSink, urgent, wire};

/// Where packets go.
pub(super) enum Out<'p> {
    Sink(&'p mut dyn PacketSink),
    Queue(&'p mut Queue),
}

/// What an interface of one path is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Largest IP packet, bytes.
    pub(super) mtu: usize,
    /// Fill in checksums (never verified: what arrives is authenticated).
    pub(super) checksums: bool,
}

/// The last packet that left, for sequence numbers that smoltcp does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: usize,
    pub(super) packets: u64,
    pub(super) segment: Option<wire::Segment>,
    /// Of a SYN.
    pub(super) syn: Option<wire::SynOptions>,
}

/// What is written into a flow's segments after smoltcp.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Sequence number behind the flow's urgent byte.
    pub(super) urgent: Option<u32>,
    /// Largest maximum segment size that a SYN may tell (TCP_MAXSEG), bytes.
    pub(super) most: Option<u16>,
}

/// One use of an interface.
pub(super) struct Port<'r, 'p> {
    packet: Option<&'r [u8]>,
    out: Out<'p>,
    link: Link,
    marks: Marks,
    sent: Sent,
}

impl<'r, 'p> Port<'r, 'p> {
    pub(super) fn new(link: Link, packet: Option<&'r [u8]>, out: Out<'p>) -> Self {
        Self {
            packet,
            out,
            link,
            marks: Marks::default(),
            sent: Sent::default(),
        }
    }

    /// The same for a flow whose segments smoltcp does not write as they are to be.
    pub(super) fn with_marks(mut self, marks: Marks) -> Self {
        self.marks = marks;
        self
    }

    pub(super) fn sent(&self) -> Sent {
        self.sent
    }
}

impl Device for Port<'_, '_> {
    type RxToken<'a>
        = Rx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let packet = self.packet.take()?;
        let out: &mut dyn Emit = &mut self.out;
        Some((
            Rx(packet),
            Tx {
                out,
                sent: &mut self.sent,
                marks: self.marks,
                checksums: self.link.checksums,
            },
        ))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        let room = match &self.out {
            Out::Sink(sink) => sink.has_room(),
            Out::Queue(queue) => queue.has_room(),
        };
        let out: &mut dyn Emit = &mut self.out;
        room.then_some(Tx {
            out,
            sent: &mut self.sent,
            marks: self.marks,
            checksums: self.link.checksums,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::ignored();
        if self.link.checksums {
            checksum.ipv4 = Checksum::Tx;
            checksum.tcp = Checksum::Tx;
        }
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.link.mtu;
        capabilities.checksum = checksum;
        capabilities
    }
}

/// The packet that arrived.
pub(super) struct Rx<'a>(&'a [u8]);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for one packet.
pub(super) struct Tx<'a> {
    out: &'a mut dyn Emit,
    sent: &'a mut Sent,
    marks: Marks,
    checksums: bool,
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let buffer = self.out.memory(len);
        let result = f(buffer);
        self.sent.bytes += len;
        self.sent.packets += 1;
        self.sent.segment = wire::Segment::of_plain_packet(buffer);
        self.sent.syn = None;
        let Some(segment) = self.sent.segment else {
            return result;
        };
        if segment.syn() {
            if let Some(most) = self.marks.most {
                wire::limit_mss(buffer, most, self.checksums);
            }
            self.sent.syn = wire::syn_options(buffer);
        } else if let Some(behind) = self.marks.urgent
            && !segment.rst()
            && let Some(pointer) = urgent::pointer(segment.seq, behind)
        {
            wire::set_urgent(buffer, pointer, self.checksums);
        }
        result
    }
}

/// Hides the lifetime of [`Out`] from the tokens.
trait Emit {
    fn memory(&mut self, len: usize) -> &mut [u8];
}

impl Emit for Out<'_> {
    fn memory(&mut self, len: usize) -> &mut [u8] {
        match self {
            Out::Sink(sink) => sink.packet(len),
            Out::Queue(queue) => queue.push(len, None).0,
        }
    }
}
