// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What TCP_INFO tells of a connection (tcp(7), linux/tcp.h), counted from its packets: smoltcp keeps its own figures to itself.
//!
//! Round trips are sampled as smoltcp does (one segment in flight at a time, none that was sent again: RFC 6298), so that the
//! retransmission time-out shown is the one in use; only finer, in microseconds.
use std::time::{Duration, Instant};

use super::wire::{Segment, SynOptions};

/// smoltcp's bounds of the retransmission time-out, and its least margin above the round trip.
const RTO_MIN: Duration = Duration::from_secs(1);
const RTO_MAX: Duration = Duration::from_secs(60);
const MARGIN_MIN: Duration = Duration::from_millis(5);
/// Acknowledgements of one number after which smoltcp sends again without waiting (RFC 5681 §3.2).
const DUPLICATES: u32 = 3;
/// MSS where nothing else is known (RFC 9293 §3.7.1), bytes.
const MSS_DEFAULT: u32 = 536;

/// State of loss recovery as linux/tcp.h numbers it (`enum tcp_ca_state`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Nothing is missing (TCP_CA_Open).
    #[default]
    Open,
    /// Acknowledgements have been repeated (TCP_CA_Disorder).
    Disorder,
    /// After repeated acknowledgements (TCP_CA_Recovery).
    Fast,
    /// After a time-out (TCP_CA_Loss).
    Loss,
}

/// What has been counted of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Options of our SYN and of the peer's.
    pub(crate) syn_out: Option<SynOptions>,
    pub(crate) syn_in: Option<SynOptions>,
    /// We sent the first SYN.
    pub(crate) active: bool,
    /// Segments, and of them those with data.
    pub(crate) segments_in: u32,
    pub(crate) segments_out: u32,
    pub(crate) data_in: u32,
    pub(crate) data_out: u32,
    /// Payload sent, repetitions included; and only these, with their segments (SYN and FIN count as such).
    pub(crate) bytes_out: u64,
    pub(crate) bytes_again: u64,
    pub(crate) segments_again: u32,
    /// Segments that arrived before one that belongs before them.
    pub(crate) out_of_order: u32,
    /// Largest payload received so far, at least [`MSS_DEFAULT`] or what fits until there was one, bytes.
    pub(crate) largest_in: u32,
    /// Windows as told last, bytes.
    pub(crate) window_in: u32,
    pub(crate) window_out: u32,
    /// Smoothed round trip, its variation, the least one; `None` before the first.
    pub(crate) round_trip: Option<(Duration, Duration, Duration)>,
    /// Time until what is not acknowledged is sent again.
    pub(crate) rto: Duration,
    /// Time-outs since the last progress, and in all.
    pub(crate) timeouts: u32,
    pub(crate) timeouts_total: u32,
    /// Loss recovery.
    pub(crate) recovery: Recovery,
    /// Most bytes under way since the last loss, and half of those at the last loss (`None`: there was none).
    pub(crate) most_under_way: u32,
    pub(crate) threshold: Option<u32>,
    /// When data, and acknowledgements, last travelled; before there was any: when the connection began.
    pub(crate) data_sent_at: Instant,
    pub(crate) data_received_at: Instant,
    pub(crate) ack_received_at: Instant,
    /// Bytes a second that were acknowledged during the last sampled round trip; 0: none was.
    pub(crate) delivery_rate: u64,
    /// Time during which something was not acknowledged, up to the last change.
    busy: Duration,
    busy_since: Option<Instant>,
    /// Numbers acknowledged by the peer and received in order, SYN apart.
    acked: u64,
    arrived: u64,
    /// Sequence numbers: the oldest not acknowledged, the next to be sent, the next expected, and where recovery ends.
    una: u32,
    next: u32,
    expected: u32,
    recover: Option<u32>,
    duplicates: u32,
    /// The sampled segment: the number behind it, when it left, and the oldest number not acknowledged then.
    sample: Option<(u32, Instant, u32)>,
    /// Receiver's round trip: the end of a window, and since when it is filled.
    window_end: Option<(u32, Instant)>,
    /// Least time in which a whole window arrived.
    pub(crate) window_time: Option<Duration>,
}

impl Figures {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            syn_out: None,
            syn_in: None,
            active: false,
            segments_in: 0,
            segments_out: 0,
            data_in: 0,
            data_out: 0,
            bytes_out: 0,
            bytes_again: 0,
            segments_again: 0,
            out_of_order: 0,
            largest_in: 0,
            window_in: 0,
            window_out: 0,
            round_trip: None,
            rto: RTO_MIN,
            timeouts: 0,
            timeouts_total: 0,
            recovery: Recovery::Open,
            most_under_way: 0,
            threshold: None,
            data_sent_at: now,
            data_received_at: now,
            ack_received_at: now,
            delivery_rate: 0,
            busy: Duration::ZERO,
            busy_since: None,
            acked: 0,
            arrived: 0,
            una: 0,
            next: 0,
            expected: 0,
            recover: None,
            duplicates: 0,
            sample: None,
            window_end: None,
            window_time: None,
        }
    }

    /// Bytes under way, SYN and FIN included.
    pub(crate) fn under_way(&self) -> u32 {
        self.next.wrapping_sub(self.una)
    }

    /// Time during which something was not acknowledged.
    pub(crate) fn busy(&self, now: Instant) -> Duration {
        let open = self
            .busy_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.busy + open
    }

    /// Maximum segment size that was announced to the peer, and by it (RFC 9293 §3.7.1: 536 where it has said nothing).
    pub(crate) fn announced(&self) -> (Option<u32>, u32) {
        (
            self.syn_out.and_then(|syn| syn.mss).map(u32::from),
            self.syn_in
                .and_then(|syn| syn.mss)
                .map_or(MSS_DEFAULT, u32::from),
        )
    }

    /// A shift of the window counts if both sides have told one (RFC 7323 §2.2): ours and the peer's.
    pub(crate) fn shifts(&self) -> Option<(u8, u8)> {
        Some((self.syn_out?.shift?, self.syn_in?.shift?))
    }

    /// A segment has left. `syn`: its options, if it is a SYN.
    pub(super) fn sent(&mut self, now: Instant, segment: &Segment, syn: Option<SynOptions>) {
        self.segments_out = self.segments_out.wrapping_add(1);
        if segment.rst() {
            return;
        }
        let shift = self.shifts().map_or(0, |(ours, _)| ours);
        if segment.syn() {
            self.window_out = u32::from(segment.window);
            if self.syn_out.is_none() {
                self.syn_out = syn;
                self.active = self.syn_in.is_none();
                (self.una, self.next) = (segment.seq, segment.seq);
            }
        } else {
            self.window_out = u32::from(segment.window) << shift;
        }
        if segment.has_ack() && after(segment.ack, self.expected) {
            self.advance(segment.ack);
        }
        let payload = segment.payload_len_u32();
        let length = payload + u32::from(segment.syn()) + u32::from(segment.fin());
        // A keepalive repeats the last byte that was acknowledged.
        if length == 0 || after(self.una, segment.seq) {
            return;
        }
        let end = segment.seq.wrapping_add(length);
        if payload > 0 {
            self.data_out = self.data_out.wrapping_add(1);
            self.bytes_out += u64::from(payload);
            self.data_sent_at = now;
        }
        if after(self.next, segment.seq) {
            self.sent_again(segment, payload);
        } else if self.sample.is_none() {
            self.sample = Some((end, now, self.una));
        }
        if after(end, self.next) {
            self.next = end;
        }
        self.most_under_way = self.most_under_way.max(self.under_way());
        self.busy_since.get_or_insert(now);
    }

    fn sent_again(&mut self, segment: &Segment, payload: u32) {
        self.segments_again = self.segments_again.wrapping_add(1);
        self.bytes_again += u64::from(payload);
        // Karn: an acknowledgement would not say of which copy it is.
        self.sample = None;
        // The oldest one again: a new event; what follows is part of it.
        if segment.seq != self.una {
            return;
        }
        let lost = self.under_way();
        if self.duplicates >= DUPLICATES && self.timeouts == 0 {
            self.recovery = Recovery::Fast;
        } else {
            self.recovery = Recovery::Loss;
            self.timeouts += 1;
            self.timeouts_total = self.timeouts_total.wrapping_add(1);
            self.rto = (self.rto * 2).min(RTO_MAX);
        }
        if self.recover.is_none() {
            self.threshold = Some(lost / 2);
        }
        self.recover = Some(self.next);
        self.most_under_way = payload;
    }

    /// A segment has arrived. `syn`: its options, if it is a SYN.
    pub(super) fn received(&mut self, now: Instant, segment: &Segment, syn: Option<SynOptions>) {
        self.segments_in = self.segments_in.wrapping_add(1);
        if segment.rst() {
            return;
        }
        if segment.syn() {
            self.window_in = u32::from(segment.window);
            if self.syn_in.is_none() {
                self.syn_in = syn;
                self.expected = segment.seq.wrapping_add(1);
            }
        } else {
            let shift = self.shifts().map_or(0, |(_, peers)| peers);
            self.window_in = u32::from(segment.window) << shift;
        }
        let payload = segment.payload_len_u32();
        if payload > 0 {
            self.data_in = self.data_in.wrapping_add(1);
            self.data_received_at = now;
            self.largest_in = self.largest_in.max(payload);
        }
        let length = payload + u32::from(segment.fin());
        if length > 0 && !segment.syn() {
            if after(segment.seq, self.expected) {
                self.out_of_order = self.out_of_order.wrapping_add(1);
            } else if after(segment.seq.wrapping_add(length), self.expected) {
                self.advance(segment.seq.wrapping_add(length));
                self.measure_window(now);
            }
        }
        if segment.has_ack() {
            self.acknowledged(now, segment, length);
        }
    }

    fn acknowledged(&mut self, now: Instant, segment: &Segment, length: u32) {
        self.ack_received_at = now;
        if self.syn_out.is_none() || after(segment.ack, self.next) || after(self.una, segment.ack) {
            return;
        }
        if segment.ack == self.una {
            if length == 0 && self.under_way() > 0 && !segment.syn() {
                self.duplicates += 1;
                if self.recovery == Recovery::Open {
                    self.recovery = Recovery::Disorder;
                }
            }
            return;
        }
        self.acked += u64::from(segment.ack.wrapping_sub(self.una));
        self.una = segment.ack;
        self.duplicates = 0;
        self.timeouts = 0;
        if self.recovery == Recovery::Disorder {
            self.recovery = Recovery::Open;
        }
        if self.recover.is_some_and(|end| !after(end, segment.ack)) {
            self.recover = None;
            self.recovery = Recovery::Open;
        }
        if let Some((end, at, una)) = self.sample
            && !after(end, segment.ack)
        {
            self.sample = None;
            let took = now.saturating_duration_since(at);
            self.measure(took);
            let micros = took.as_micros().max(1);
            let bytes = u128::from(segment.ack.wrapping_sub(una)) * 1_000_000;
            self.delivery_rate = u64::try_from(bytes / micros).unwrap_or(u64::MAX);
        }
        if self.under_way() == 0 {
            self.busy = self.busy(now);
            self.busy_since = None;
        }
    }

    fn advance(&mut self, expected: u32) {
        self.arrived += u64::from(expected.wrapping_sub(self.expected));
        self.expected = expected;
    }

    /// Numbers acknowledged by the peer (the SYN of an active open and FIN among them) and received in order (FIN among them).
    pub(crate) fn progress(&self) -> (u64, u64) {
        // The SYN of the side that was called is not counted.
        let own = u64::from(!self.active);
        (self.acked.saturating_sub(own), self.arrived)
    }

    /// RFC 6298 §2.
    fn measure(&mut self, took: Duration) {
        let (smoothed, variation, least) = match self.round_trip {
            None => (took, took / 2, took),
            Some((smoothed, variation, least)) => (
                (smoothed * 7 + took) / 8,
                (variation * 3 + smoothed.abs_diff(took)) / 4,
                least.min(took),
            ),
        };
        self.round_trip = Some((smoothed, variation, least));
        self.rto = (smoothed + (variation * 4).max(MARGIN_MIN)).clamp(RTO_MIN, RTO_MAX);
    }

    /// A whole window takes the sender a round trip at least.
    fn measure_window(&mut self, now: Instant) {
        if self
            .window_end
            .is_some_and(|(end, _)| after(end, self.expected))
        {
            return;
        }
        if let Some((_, since)) = self.window_end {
            let took = now.saturating_duration_since(since);
            self.window_time = Some(self.window_time.map_or(took, |least| least.min(took)));
        }
        self.window_end = Some((self.expected.wrapping_add(self.window_out), now));
    }
}

/// Whether sequence number `a` comes after `b`.
fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}
