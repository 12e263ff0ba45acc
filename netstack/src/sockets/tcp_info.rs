// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `struct tcp_info` (tcp(7), linux/tcp.h of Linux 6.18).

use std::time::{Duration, Instant};

use super::OptionValue;
use super::info::{MSS_DEFAULT, segment, tcp_state};
use super::state::{Body, Socket};
use super::stream::Stream;
use crate::stack::{Figures, FlowId, Recovery, Stack, TcpState};

/// Size of the struct; programs with an older header ask for a prefix.
const LEN: usize = 280;
/// Congestion window before anything is known, segments (RFC 6928).
const FIRST_WINDOW: usize = 10;
/// Acknowledgement delay once data has arrived, µs.
const ACK_DELAY: usize = 10_000;
/// Nothing has been lost yet: slow start has no end.
const NO_THRESHOLD: usize = 0x7fff_ffff;
/// Variation of the round trip before the first sample, µs (a quarter of the first time-out).
const FIRST_VARIATION: usize = 250_000;
/// TCPI_OPT_SACK, TCPI_OPT_WSCALE.
const OPTION_SACK: u8 = 2;
const OPTION_SHIFT: u8 = 4;

struct Info([u8; LEN]);

impl Info {
    fn u8(&mut self, at: usize, value: u8) {
        self.0[at] = value;
    }

    fn u32(&mut self, at: usize, value: usize) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    fn micros(&mut self, at: usize, value: Duration) {
        self.u32(at, usize::try_from(value.as_micros()).unwrap_or(usize::MAX));
    }
}

/// TCP_INFO of a stream socket. `mtu`: of the path.
pub(super) fn tcp_info(socket: &Socket, stack: &Stack, mtu: usize, now: Instant) -> OptionValue {
    let mut info = Info([0; LEN]);
    let Body::Stream(stream) = &socket.body else {
        return OptionValue::bytes(info.0.to_vec());
    };
    // TIME_WAIT is not of the socket any more: it is CLOSE to its program.
    let state = match tcp_state(stream, stack) {
        6 => 7,
        state => state,
    };
    info.u8(0, state);
    info.u32(80, FIRST_WINDOW);
    info.u32(88, 3); // tcpi_reordering
    info.u64(104, u64::MAX); // tcpi_pacing_rate: not paced
    info.u64(112, socket.options.pacing());
    if let Stream::Listening { backlog, .. } = stream {
        // tcpi_unacked, the queue, is the driver's.
        info.u32(28, *backlog);
        return OptionValue::bytes(info.0.to_vec());
    }
    info.u8(7, 1); // delivery_rate_app_limited
    info.micros(8, Duration::from_secs(1));
    info.u32(16, MSS_DEFAULT);
    info.u32(72, FIRST_VARIATION);
    info.u32(76, NO_THRESHOLD);
    info.u32(148, usize::MAX); // tcpi_min_rtt: none yet
    if let Some(flow) = socket.flow()
        && let Some(figures) = stack.figures(flow)
    {
        let mss = match figures.syn_in {
            Some(_) => segment(socket, mtu).min(figures.announced().1 as usize),
            None => MSS_DEFAULT,
        };
        connection(&mut info, figures, now, mss.max(1));
        info.u8(3, u8::try_from(stack.probes(flow)).unwrap_or(u8::MAX));
        info.u32(60, mtu);
        queues(&mut info, stack, flow, figures, mss.max(1));
    }
    OptionValue::bytes(info.0.to_vec())
}

fn queues(info: &mut Info, stack: &Stack, flow: FlowId, figures: &Figures, mss: usize) {
    let waiting = stack.send_queue(flow);
    info.u32(144, stack.unsent(flow)); // tcpi_notsent_bytes
    let under_way = figures.under_way() as usize;
    info.u32(24, under_way.div_ceil(mss));
    let (acked, arrived) = stack.progress(flow);
    info.u64(120, acked);
    info.u64(128, arrived);
    let handshake = !matches!(stack.state(flow), Some(TcpState::SynSent));
    let originals = figures.data_out.saturating_sub(figures.segments_again) as usize;
    let outstanding = waiting.min(under_way).div_ceil(mss);
    info.u32(
        192,
        originals.saturating_sub(outstanding) + usize::from(handshake),
    );
}

fn connection(info: &mut Info, figures: &Figures, now: Instant, mss: usize) {
    let age = |since: Instant| {
        usize::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(usize::MAX)
    };
    info.u8(
        1,
        match figures.recovery {
            Recovery::Open => 0,
            Recovery::Disorder => 1,
            Recovery::Fast => 3,
            Recovery::Loss => 4,
        },
    );
    let timeouts = u8::try_from(figures.timeouts).unwrap_or(u8::MAX);
    info.u8(2, timeouts);
    info.u8(4, timeouts);
    let (ours, peers) = (figures.syn_out, figures.syn_in);
    let both = |has: fn(&crate::stack::SynOptions) -> bool| {
        ours.as_ref().is_some_and(has) && peers.as_ref().is_some_and(has)
    };
    if both(|syn| syn.sack) {
        info.0[5] |= OPTION_SACK;
    }
    if let Some((ours, peers)) = figures.shifts() {
        info.0[5] |= OPTION_SHIFT;
        info.u8(6, peers | ours << 4);
    }
    info.micros(8, figures.rto);
    let advertised = figures.announced().0.map_or(0, |mss| mss as usize);
    info.u32(12, if figures.data_in > 0 { ACK_DELAY } else { 0 });
    info.u32(16, mss);
    let largest = (figures.largest_in as usize).max(MSS_DEFAULT.min(mss));
    info.u32(20, largest.min(advertised.max(MSS_DEFAULT)));
    let lost = match figures.recovery {
        Recovery::Open | Recovery::Disorder => 0,
        Recovery::Fast => 1,
        Recovery::Loss => (figures.under_way() as usize).div_ceil(mss),
    };
    info.u32(32, lost);
    // Everything repeated is under way until recovery is over.
    info.u32(36, lost.min(figures.segments_again as usize));
    info.u32(44, age(figures.data_sent_at));
    info.u32(52, age(figures.data_received_at));
    info.u32(56, age(figures.ack_received_at));
    info.u32(64, figures.window_out as usize);
    if let Some((smoothed, variation, least)) = figures.round_trip {
        info.micros(68, smoothed);
        info.micros(72, variation);
        info.micros(148, least);
    }
    if let Some(bytes) = figures.threshold {
        info.u32(76, (bytes as usize / mss).max(2));
    }
    info.u32(
        80,
        (figures.most_under_way as usize)
            .div_ceil(mss)
            .max(if figures.threshold.is_some() {
                1
            } else {
                FIRST_WINDOW
            }),
    );
    info.u32(84, advertised);
    if let Some(time) = figures.window_time {
        info.micros(92, time);
    }
    info.u32(96, figures.window_out as usize);
    info.u32(100, figures.segments_again as usize);
    info.u32(136, figures.segments_out as usize);
    info.u32(140, figures.segments_in as usize);
    info.u32(152, figures.data_in as usize);
    info.u32(156, figures.data_out as usize);
    info.u64(160, figures.delivery_rate);
    info.u64(
        168,
        u64::try_from(figures.busy(now).as_micros()).unwrap_or(u64::MAX),
    );
    info.u64(200, figures.bytes_out);
    info.u64(208, figures.bytes_again);
    info.u32(224, figures.out_of_order as usize);
    info.u32(228, figures.window_in as usize);
    info.u32(232, figures.window_out as usize);
    let total = u16::try_from(figures.timeouts_total).unwrap_or(u16::MAX);
    info.0[240..242].copy_from_slice(&total.to_ne_bytes());
}
