// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One engine with open sockets: packets made of the input, and segments that nearly fit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use netcon_netstack::stack::{
    Config, DatagramId, DatagramProtocol, Event, Families, FlowId, Limits, LocalAddr, PacketSink,
    Recv, SendOptions, Stack, TcpOptions,
};

use super::epoch;
use super::feed::Feed;

const MTU: usize = 1420;
const OWN: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 2];

#[derive(Default)]
pub(super) struct Out(pub(super) Vec<Vec<u8>>);

impl PacketSink for Out {
    fn has_room(&self) -> bool {
        self.0.len() < 32
    }

    fn packet(&mut self, len: usize) -> &mut [u8] {
        assert!(self.has_room() && len <= MTU, "a packet without room");
        self.0.push(vec![0; len]);
        self.0.last_mut().expect("just pushed")
    }
}

struct Host {
    now: Instant,
    stack: Stack,
    flows: Vec<FlowId>,
    datagrams: Vec<DatagramId>,
    /// Numbers of the last segment that left: what follows it, what it acknowledged, and its ports, ours first.
    last: (u32, u32, u16, u16),
}

fn options() -> TcpOptions {
    TcpOptions {
        keepalive: Some((Duration::from_secs(9), Duration::from_secs(3), 3)),
        user_timeout: None,
        nodelay: true,
        hop_limit: 64,
        connect_timeout: Duration::from_secs(60),
        send_buffer: None,
        receive_buffer: None,
        ..TcpOptions::default()
    }
}

pub(super) fn stack(host: u8, now: Instant) -> Stack {
    let config = Config {
        mtu: MTU,
        v4: Some((Ipv4Addr::new(10, 0, 0, host), 24)),
        v6: Some((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()), 64)),
        seed: [host; 32],
        limits: Limits {
            flows: 64,
            tcp_buffer: 8192,
            datagram_queue: 16_384,
            loopback_queue: 65_536,
        },
    };
    let mut stack = Stack::new(config, now);
    stack.set_routes(vec![
        (IpAddr::from(Ipv4Addr::new(10, 0, 0, 0)), 24),
        (IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)), 64),
    ]);
    stack
}

impl Host {
    fn new() -> Self {
        let now = epoch();
        let mut stack = stack(1, now);
        let at = |port| LocalAddr {
            ip: None,
            families: Families::Both,
            port,
        };
        stack.listen(at(80), 4, &options());
        let datagram = stack.datagram_open(DatagramProtocol::Udp, at(53));
        Self {
            now,
            stack,
            flows: Vec::new(),
            datagrams: vec![datagram],
            last: (0, 0, 80, 4000),
        }
    }

    fn connect(&mut self, port: u16) {
        let local = SocketAddr::from((OWN, port));
        let flow = self
            .stack
            .connect(self.now, local, (PEER, 80).into(), &options());
        self.flows.extend(flow);
    }

    /// Everything out, everything read.
    fn serve(&mut self) {
        for _ in 0..8 {
            let mut out = Out::default();
            let more = self.stack.poll_transmit(self.now, &mut out);
            for packet in out.0 {
                self.look(&packet);
            }
            while let Some(event) = self.stack.poll_event() {
                if let Event::Accepted { flow, .. } = event {
                    self.flows.push(flow);
                }
            }
            if !more {
                break;
            }
        }
        let sizes = self.stack.sizes();
        assert!(sizes.flows <= 64 && sizes.events == 0, "{sizes:?}");
        assert_eq!(self.stack.counters().panics, 0, "the TCP engine panicked");
    }

    fn look(&mut self, packet: &[u8]) {
        if packet.len() >= 40 && packet[0] == 0x45 && packet[9] == 6 {
            let word = |at: usize| {
                u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
            };
            let header = usize::from(packet[32] >> 4) * 4;
            let data = u32::try_from(packet.len().saturating_sub(20 + header)).unwrap_or(0);
            let flags = packet[33];
            let next =
                word(24).wrapping_add(data + u32::from(flags & 1) + u32::from(flags >> 1 & 1));
            let ports = word(20);
            #[expect(clippy::cast_possible_truncation, reason = "two halves of a word")]
            let (own, other) = ((ports >> 16) as u16, ports as u16);
            self.last = (next, word(28), own, other);
        }
    }

    fn act(&mut self, step: u8, feed: &mut Feed<'_>) {
        let flow = self
            .flows
            .get(usize::from(step >> 4) % self.flows.len().max(1))
            .copied();
        match (step & 7, flow) {
            (0, _) => self.connect(30_000 + u16::from(feed.byte())),
            (1, Some(flow)) => {
                let byte = feed.byte();
                self.stack.send(self.now, flow, |room| {
                    let n = room.len().min(usize::from(byte) * 40);
                    room[..n].fill(byte);
                    n
                });
            }
            (2, Some(flow)) => {
                let most = usize::from(feed.byte()) * 20;
                let got = self
                    .stack
                    .recv(self.now, flow, |bytes| bytes.len().min(most));
                assert!(!matches!(got, Recv::Data(n) if n > most));
            }
            (3, Some(flow)) => self.stack.finish(self.now, flow),
            (4, Some(flow)) => self.stack.abort(self.now, flow),
            (5, Some(flow)) => self.stack.release(self.now, flow),
            (6, _) => {
                let id = self.datagrams[0];
                while self.stack.datagram_recv(id).is_some() {}
                let payload = feed.take(64);
                let to = SocketAddr::from((PEER, feed.u16()));
                let _ = self.stack.datagram_send(
                    self.now,
                    id,
                    OWN.into(),
                    to,
                    payload,
                    SendOptions::default(),
                );
            }
            _ => self.pass(Duration::from_millis(u64::from(feed.u16()))),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.stack.handle_timeout(self.now);
    }

    /// At the end everything must come to rest by itself.
    fn rest(mut self) {
        for flow in std::mem::take(&mut self.flows) {
            self.stack.abort(self.now, flow);
        }
        for _ in 0..200 {
            self.serve();
            for flow in std::mem::take(&mut self.flows) {
                self.stack.abort(self.now, flow);
            }
            let Some(next) = self.stack.poll_timeout() else {
                break;
            };
            self.now = self.now.max(next);
            self.stack.handle_timeout(self.now);
        }
        self.serve();
        assert_eq!(self.stack.sizes().flows, 0, "flows are left");
        assert_eq!(self.stack.poll_timeout(), None, "timers are left");
    }
}

/// Whole packets of the input, between what programs do.
pub fn engine_packets(input: &[u8]) {
    let mut feed = Feed::new(input);
    let mut host = Host::new();
    host.connect(30_000);
    host.serve();
    while !feed.is_empty() {
        let step = feed.byte();
        if step & 8 == 0 {
            host.act(step, &mut feed);
        } else {
            let mut packet = feed.chunk().to_vec();
            // Mostly addressed to us: others are dropped at once.
            if step & 0x10 != 0 && packet.len() >= 40 {
                if packet[0] >> 4 == 6 {
                    packet[8..24]
                        .copy_from_slice(&Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).octets());
                    packet[24..40]
                        .copy_from_slice(&Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets());
                    let len = u16::try_from(packet.len() - 40).unwrap_or(0);
                    packet[4..6].copy_from_slice(&len.to_be_bytes());
                } else {
                    packet[0] = 0x45;
                    let len = u16::try_from(packet.len()).unwrap_or(0);
                    packet[2..4].copy_from_slice(&len.to_be_bytes());
                    packet[12..16].copy_from_slice(&PEER);
                    packet[16..20].copy_from_slice(&OWN);
                }
            }
            host.stack.handle_packet(host.now, &packet);
        }
        host.serve();
    }
    host.rest();
}

/// TCP segments around the numbers in use, between what programs do.
pub fn engine_segments(input: &[u8]) {
    let mut feed = Feed::new(input);
    let mut host = Host::new();
    host.connect(30_000);
    host.serve();
    while !feed.is_empty() {
        let step = feed.byte();
        if step & 8 == 0 {
            host.act(step, &mut feed);
        } else {
            let (next, acked, own, other) = host.last;
            let flags = feed.byte();
            let near = |feed: &mut Feed<'_>| {
                let by = feed.byte();
                match by {
                    0..=127 => 0,
                    128..=191 => i32::from(by) - 160,
                    192..=254 => (i32::from(by) - 223) * 300,
                    255 => feed.u32().cast_signed(),
                }
            };
            let seq = acked.wrapping_add_signed(near(&mut feed));
            let ack = next.wrapping_add_signed(near(&mut feed));
            let window = feed.u16();
            let len = if step & 0x20 == 0 {
                0
            } else {
                feed.below(1400)
            };
            let option_bytes = if step & 0x40 == 0 {
                &[][..]
            } else {
                feed.take(12)
            };
            let ports = if step & 0x80 == 0 {
                (other, own)
            } else {
                (4000 + u16::from(feed.byte() & 3), 80)
            };
            let packet = segment(ports, seq, ack, flags, window, option_bytes, len);
            host.stack.handle_packet(host.now, &packet);
        }
        host.serve();
    }
    host.rest();
}

fn segment(
    ports: (u16, u16),
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: &[u8],
    len: usize,
) -> Vec<u8> {
    let header = 20 + options.len().next_multiple_of(4);
    let total = 20 + header + len;
    let mut packet = vec![0; total];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&u16::try_from(total).unwrap_or(0).to_be_bytes());
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&PEER);
    packet[16..20].copy_from_slice(&OWN);
    packet[20..22].copy_from_slice(&ports.0.to_be_bytes());
    packet[22..24].copy_from_slice(&ports.1.to_be_bytes());
    packet[24..28].copy_from_slice(&seq.to_be_bytes());
    packet[28..32].copy_from_slice(&ack.to_be_bytes());
    packet[32] = u8::try_from(header / 4).unwrap_or(5) << 4;
    packet[33] = flags;
    packet[34..36].copy_from_slice(&window.to_be_bytes());
    packet[40..40 + options.len()].copy_from_slice(options);
    packet
}
