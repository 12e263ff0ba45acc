// SPDX-License-Identifier: Apache-2.0 OR MIT
//! smoltcp's interfaces, shared by all flows: they hold no state of a flow, only the MTU, the clock and the random numbers
//! from which smoltcp takes initial sequence numbers.
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::time::Instant as Micros;
use smoltcp::wire::HardwareAddress;

use super::device::{Link, Marks, Out, Port, Sent};

/// MTUs that path MTU discovery falls back to, descending: IPv6 minimum (RFC 8200 §5), then IPv4 (RFC 791, RFC 1191 §7).
const LOWER_MTUS: [usize; 3] = [1280, 1006, 576];
/// Largest IP packet on the internal loopback.
const LOOPBACK_MTU: usize = 65_535;
/// smoltcp treats time zero as "at once" and "never"; its clock starts well above.
const CLOCK_START_MICROS: i64 = 1_000_000_000;

/// Which interface a flow uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Path {
    /// Over the overlay; 0 is the full MTU, higher classes are smaller MTUs.
    Overlay {
        /// Index into the interfaces.
        class: usize,
    },
    /// Both ends are local.
    Loopback,
}

/// A panic inside smoltcp: the flow it served cannot go on.
#[derive(Debug)]
pub(super) struct Panicked;

pub(super) struct Interfaces {
    overlay: Vec<(Link, Interface)>,
    loopback: (Link, Interface),
    epoch: Instant,
}

impl Interfaces {
    pub(super) fn new(mtu: usize, now: Instant) -> Self {
        // One that is no lower now may become so.
        let lower = LOWER_MTUS.into_iter().filter(|lower| *lower <= mtu);
        let overlay = std::iter::once(mtu)
            .chain(lower)
            .map(|mtu| Link {
                mtu,
                checksums: true,
            })
            .map(|link| (link, interface(link, 0)))
            .collect();
        let loopback = Link {
            mtu: LOOPBACK_MTU,
            checksums: false,
        };
        Self {
            overlay,
            loopback: (loopback, interface(loopback, 0)),
            epoch: now,
        }
    }

    /// Changes the full MTU. Flows of a lower class keep theirs.
    pub(super) fn set_mtu(&mut self, mtu: usize) {
        let link = Link {
            mtu,
            checksums: true,
        };
        if let Some(full) = self.overlay.first_mut() {
            *full = (link, interface(link, 0));
        }
    }

    /// The class whose MTU is at most `mtu`; the smallest one of the family if none is.
    pub(super) fn class_for(&self, ip: IpAddr, mtu: usize) -> usize {
        let floor = if ip.is_ipv4() { 576 } else { 1280 };
        let fits = |link: &Link| link.mtu <= mtu.max(floor);
        self.overlay
            .iter()
            .position(|(link, _)| fits(link))
            .unwrap_or(0)
    }

    /// The greatest MTU of a class that is smaller than `mtu`; the smallest one if none is.
    pub(super) fn below(&self, mtu: usize) -> usize {
        let mut classes = self.overlay.iter().map(|(link, _)| link.mtu);
        let smallest = self.overlay.last().map_or(mtu, |(link, _)| link.mtu);
        classes.find(|class| *class < mtu).unwrap_or(smallest)
    }

    /// Lets smoltcp send at most one packet of `set`.
    pub(super) fn egress(
        &mut self,
        now: Instant,
        path: Path,
        set: &mut SocketSet<'static>,
        marks: Marks,
        out: Out<'_>,
    ) -> Result<Sent, Panicked> {
        let micros = self.micros(now);
        let (link, interface) = self.at(path);
        let mut port = Port::new(*link, None, out).with_marks(marks);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            interface.poll_egress(micros, &mut port, set)
        }));
        let sent = port.sent();
        self.checked(path, outcome.map(|_| sent))
    }

    /// Gives smoltcp one packet for `set`; replies go to `out`.
    pub(super) fn ingress(
        &mut self,
        now: Instant,
        path: Path,
        set: &mut SocketSet<'static>,
        packet: &[u8],
        out: Out<'_>,
    ) -> Result<Sent, Panicked> {
        let micros = self.micros(now);
        let (link, interface) = self.at(path);
        let mut port = Port::new(*link, Some(packet), out);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            interface.poll_ingress_single(micros, &mut port, set)
        }));
        let sent = port.sent();
        self.checked(path, outcome.map(|_| sent))
    }

    /// As [`Self::ingress`] for a SYN that opens a connection: the sequence number of the answer is `isn`.
    pub(super) fn ingress_syn(
        &mut self,
        now: Instant,
        path: Path,
        set: &mut SocketSet<'static>,
        packet: &[u8],
        isn: u32,
        marks: Marks,
        out: Out<'_>,
    ) -> Result<Sent, Panicked> {
        let micros = self.micros(now);
        let link = self.at(path).0;
        let mut once = interface(link, seed_for(isn));
        let mut port = Port::new(link, Some(packet), out).with_marks(marks);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            once.poll_ingress_single(micros, &mut port, set)
        }));
        outcome.map(|_| port.sent()).map_err(|_| Panicked)
    }

    /// Runs `connect` with a context whose next sequence number is `isn`.
    pub(super) fn with_isn<R>(
        &self,
        path: Path,
        isn: u32,
        connect: impl FnOnce(&mut Interface) -> R,
    ) -> R {
        let link = match path {
            Path::Overlay { class } => self.overlay[class].0,
            Path::Loopback => self.loopback.0,
        };
        connect(&mut interface(link, seed_for(isn)))
    }

    /// When smoltcp wants to be polled for `set`; a time that has come is `now`.
    pub(super) fn poll_at(
        &mut self,
        now: Instant,
        path: Path,
        set: &SocketSet<'static>,
    ) -> Result<Option<Instant>, Panicked> {
        let micros = self.micros(now);
        let epoch = self.epoch;
        let (_, interface) = self.at(path);
        let outcome = catch_unwind(AssertUnwindSafe(|| interface.poll_at(micros, set)));
        let at = self.checked(path, outcome)?;
        Ok(at.map(|at| {
            let since = u64::try_from(at.total_micros() - CLOCK_START_MICROS).unwrap_or(0);
            (epoch + Duration::from_micros(since)).max(now)
        }))
    }

    /// RFC 6528 §3: a clock of 4 µs ticks plus the keyed offset of the 4-tuple.
    pub(super) fn isn(&self, now: Instant, offset: u32) -> u32 {
        let ticks = now.saturating_duration_since(self.epoch).as_micros() / 4;
        let ticks = u32::try_from(ticks & u128::from(u32::MAX)).expect("masked");
        ticks.wrapping_add(offset)
    }

    fn at(&mut self, path: Path) -> &mut (Link, Interface) {
        match path {
            Path::Overlay { class } => &mut self.overlay[class],
            Path::Loopback => &mut self.loopback,
        }
    }

    /// After a panic the interface is replaced, so that nothing half-done is seen by the next flow.
    fn checked<T>(&mut self, path: Path, outcome: std::thread::Result<T>) -> Result<T, Panicked> {
        outcome.map_err(|_| {
            let (link, broken) = self.at(path);
            *broken = interface(*link, 0);
            Panicked
        })
    }

    fn micros(&self, now: Instant) -> Micros {
        let since = now.saturating_duration_since(self.epoch).as_micros();
        Micros::from_micros(i64::try_from(since).unwrap_or(i64::MAX / 2) + CLOCK_START_MICROS)
    }
}

/// An interface that takes packets for any address: which addresses are ours is decided before.
fn interface(link: Link, random_seed: u64) -> Interface {
    struct Nothing;
    impl super::PacketSink for Nothing {
        fn has_room(&self) -> bool {
            false
        }

        fn packet(&mut self, _len: usize) -> &mut [u8] {
            &mut []
        }
    }
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = random_seed;
    let mut nothing = Nothing;
    let mut port = Port::new(link, None, Out::Sink(&mut nothing));
    let mut interface = Interface::new(config, &mut port, Micros::from_micros(CLOCK_START_MICROS));
    interface.set_any_ip(true);
    interface
}

/// The seed after which smoltcp's generator (a 64-bit linear congruential step, of which the top three bits choose which 32
/// bits are given out) yields `value` second: the first number is the interface's IP identification. Should the generator
/// change, the numbers are still keyed, only no longer monotonic.
fn seed_for(value: u32) -> u64 {
    // With the top three bits clear, the output is bits 29..61 of the state.
    let after = u64::from(value) << 29;
    step_back(step_back(after))
}

fn step_back(state: u64) -> u64 {
    const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
    const INCREMENT: u64 = 0x7590_ef39;
    state
        .wrapping_sub(INCREMENT)
        .wrapping_mul(inverse(MULTIPLIER))
}

/// Inverse of an odd number modulo 2^64 (Newton: each round doubles the correct bits, starting with 3).
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut round = 0;
    while round < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::flow::Endpoint;
    use crate::stack::queue::Queue;
    use std::net::SocketAddr;

    #[test]
    fn the_sequence_number_is_the_one_asked_for() {
        #[expect(clippy::disallowed_methods, reason = "any instant does")]
        let now = Instant::now();
        let mut interfaces = Interfaces::new(1420, now);
        for isn in [0, 1, 0x1234_5678, u32::MAX] {
            let path = Path::Overlay { class: 0 };
            let mut endpoint = Endpoint::new(4096, 4096);
            let local: SocketAddr = "10.0.0.1:1".parse().unwrap();
            let remote: SocketAddr = "10.0.0.2:2".parse().unwrap();
            interfaces
                .with_isn(path, isn, |interface| {
                    endpoint
                        .socket_mut()
                        .connect(interface.context(), remote, local)
                })
                .unwrap();
            let mut queue = Queue::new(10_000);
            let sent = interfaces
                .egress(
                    now,
                    path,
                    endpoint.set_mut(),
                    Marks::default(),
                    Out::Queue(&mut queue),
                )
                .unwrap();
            assert_eq!(sent.segment.unwrap().seq, isn);
        }
    }
}
