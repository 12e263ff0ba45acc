// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One direction of the relay: what happens to each datagram, and when it goes on. Follows from the seed and the times given.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::rules::{Chance, Rules};

/// Datagrams that may be on their way in one direction; what comes on top is dropped (the newest).
pub const MAX_WAITING: usize = 65_536;
/// Their bytes, likewise.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// What became of the datagrams of one direction. `received + duplicated` is the sum of `sent`, `lost`, `lost_in_bursts`,
/// `queue_full`, `overflowed`, `unsent` and `waiting`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Came in.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Went on.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost in a burst.
    pub lost_in_bursts: u64,
    /// Dropped in front of the rate.
    pub queue_full: u64,
    /// Dropped because of [`MAX_WAITING`].
    pub overflowed: u64,
    /// Could not be sent: the kernel refused, or the client was forgotten.
    pub unsent: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Held back for others to overtake.
    pub held_back: u64,
    /// One bit turned over.
    pub corrupted: u64,
    /// On their way now.
    pub waiting: u64,
}

/// One direction. `T` says where a datagram is to go.
#[derive(Debug)]
pub struct Link<T> {
    /// How datagrams that come from now on are treated.
    pub rules: Rules,
    rng: SmallRng,
    burst_left: u32,
    /// When the last admitted datagram will have passed the rate.
    free_at: Option<Instant>,
    /// When the last one in order is due.
    last_due: Option<Instant>,
    /// On their way, by when they are due and in which order they came.
    waiting: BTreeMap<(Instant, u64), (T, Vec<u8>)>,
    waiting_bytes: usize,
    serial: u64,
    counts: Counts,
}

impl<T: Copy> Link<T> {
    /// A link without rules.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rules: Rules::default(),
            rng: SmallRng::seed_from_u64(seed),
            burst_left: 0,
            free_at: None,
            last_due: None,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            serial: 0,
            counts: Counts::default(),
        }
    }

    /// What became of the datagrams so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            waiting: self.waiting.len() as u64,
            ..self.counts
        }
    }

    /// A datagram came in.
    pub fn handle_datagram(&mut self, now: Instant, to: T, mut bytes: Vec<u8>) {
        self.counts.received += 1;
        self.counts.received_bytes += bytes.len() as u64;
        if self.burst_left == 0 && self.happens(self.rules.burst.chance) {
            self.burst_left = self.rules.burst.length.get();
        }
        if self.burst_left > 0 {
            self.burst_left -= 1;
            self.counts.lost_in_bursts += 1;
            return;
        }
        if self.happens(self.rules.loss) {
            self.counts.lost += 1;
            return;
        }
        if !bytes.is_empty() && self.happens(self.rules.corrupt) {
            let bit = self.rng.random_range(0..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            self.counts.corrupted += 1;
        }
        if self.happens(self.rules.duplicate) {
            self.counts.duplicated += 1;
            self.admit(now, to, bytes.clone());
        }
        self.admit(now, to, bytes);
    }

    /// The next datagram that is due; the caller says with [`Link::not_sent`] if it could not be sent.
    pub fn poll_datagram(&mut self, now: Instant) -> Option<(T, Vec<u8>)> {
        let first = self.waiting.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let (to, bytes) = first.remove();
        self.waiting_bytes -= bytes.len();
        self.counts.sent += 1;
        self.counts.sent_bytes += bytes.len() as u64;
        Some((to, bytes))
    }

    /// The datagram that was polled last, of so many bytes, was not sent.
    pub fn not_sent(&mut self, bytes: usize) {
        self.counts.sent -= 1;
        self.counts.sent_bytes -= bytes as u64;
        self.counts.unsent += 1;
    }

    /// When the next datagram is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(key, _)| key.0)
    }

    /// Through the rate's queue and onto its way.
    fn admit(&mut self, now: Instant, to: T, bytes: Vec<u8>) {
        let Some(passed) = self.pass_rate(now, bytes.len()) else {
            self.counts.queue_full += 1;
            return;
        };
        if self.waiting.len() >= MAX_WAITING || self.waiting_bytes + bytes.len() > MAX_WAITING_BYTES
        {
            self.counts.overflowed += 1;
            return;
        }
        let mut due = passed + self.rules.delay;
        if !self.rules.jitter.is_zero() {
            due += self.rng.random_range(Duration::ZERO..=self.rules.jitter);
        }
        // Jitter, and a delay that has become shorter, keep the order; only `reorder` breaks it.
        due = self.last_due.map_or(due, |last| last.max(due));
        if self.happens(self.rules.reorder.chance) {
            self.counts.held_back += 1;
            due += self.rules.reorder.by;
        } else {
            self.last_due = Some(due);
        }
        self.waiting_bytes += bytes.len();
        self.waiting.insert((due, self.serial), (to, bytes));
        self.serial += 1;
    }

    /// When a datagram that comes now has passed the rate; `None` when the queue is full.
    fn pass_rate(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate) = self.rules.rate else {
            return Some(now);
        };
        let start = self.free_at.map_or(now, |free| free.max(now));
        let queued = (start - now).as_secs_f64() * rate_as_float(rate.get()) / 8.0;
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        if start > now && queued + f64::from(size) > self.rules.queue as f64 {
            return None;
        }
        let passed =
            start + Duration::from_secs_f64(f64::from(size) * 8.0 / rate_as_float(rate.get()));
        self.free_at = Some(passed);
        Some(passed)
    }

    fn happens(&mut self, chance: Chance) -> bool {
        chance.get() > 0.0 && self.rng.random_bool(chance.get())
    }
}

/// Exact up to 2^53 bits per second, far beyond any link.
fn rate_as_float(rate: u64) -> f64 {
    rate as f64
}

#[cfg(test)]
mod tests {
    use super::super::rules::{Command, parse};
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do as the start"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    fn link(seed: u64, rules: &str) -> Link<()> {
        let mut link = Link::new(seed);
        match parse(rules).unwrap() {
            Some(Command::Change(_, changes)) => link.rules.apply(&changes),
            other => panic!("{other:?}"),
        }
        link
    }

    fn number(i: u32) -> Vec<u8> {
        let mut bytes = vec![0; 100];
        bytes[..4].copy_from_slice(&i.to_be_bytes());
        bytes
    }

    /// `count` datagrams of 100 bytes, one each millisecond; what comes out and when.
    fn pass(link: &mut Link<()>, count: u32) -> Vec<(Duration, u32)> {
        let start = start();
        let mut out = Vec::new();
        let mut take = |link: &mut Link<()>, now: Instant| {
            while let Some(((), bytes)) = link.poll_datagram(now) {
                out.push((
                    now - start,
                    u32::from_be_bytes(bytes[..4].try_into().unwrap()),
                ));
            }
        };
        for i in 0..count {
            let now = start + Duration::from_millis(i.into());
            while let Some(due) = link.poll_timeout().filter(|due| *due < now) {
                take(link, due);
            }
            link.handle_datagram(now, (), number(i));
            take(link, now);
        }
        while let Some(due) = link.poll_timeout() {
            take(link, due);
        }
        let counts = link.counts();
        assert_eq!(
            counts.received + counts.duplicated,
            counts.sent
                + counts.lost
                + counts.lost_in_bursts
                + counts.queue_full
                + counts.overflowed
                + counts.unsent
                + counts.waiting
        );
        assert_eq!(counts.sent, out.len() as u64);
        out
    }

    fn numbers(out: &[(Duration, u32)]) -> Vec<u32> {
        out.iter().map(|(_, i)| *i).collect()
    }

    fn near(count: u64, wanted: u64, what: &str) {
        assert!(
            count.abs_diff(wanted) < wanted / 5,
            "{what}: {count}, not about {wanted}"
        );
    }

    #[test]
    fn without_rules_everything_passes_at_once() {
        let out = pass(&mut Link::new(1), 100);
        assert_eq!(numbers(&out), (0..100).collect::<Vec<_>>());
        assert!(
            out.iter()
                .all(|(at, i)| *at == Duration::from_millis((*i).into()))
        );
    }

    #[test]
    fn delay_and_jitter_keep_the_order() {
        let out = pass(&mut link(2, "up delay=20ms jitter=5ms"), 1000);
        assert_eq!(numbers(&out), (0..1000).collect::<Vec<_>>());
        let waits: Vec<_> = out
            .iter()
            .map(|(at, i)| *at - Duration::from_millis((*i).into()))
            .collect();
        assert!(
            waits
                .iter()
                .all(|wait| (20..=25).contains(&wait.as_millis())),
            "{waits:?}"
        );
        assert!(
            waits.iter().any(|wait| wait.as_millis() < 21)
                && waits.iter().any(|wait| wait.as_millis() > 23)
        );
    }

    #[test]
    fn loss_is_as_often_as_asked() {
        let mut lossy = link(3, "up loss=20%");
        pass(&mut lossy, 10_000);
        near(lossy.counts().lost, 2000, "lost");
        let mut all = link(3, "up loss=100%");
        assert!(pass(&mut all, 100).is_empty());
    }

    #[test]
    fn a_burst_loses_neighbours() {
        let mut bursty = link(4, "up burst=1%:20");
        let out = numbers(&pass(&mut bursty, 10_000));
        let gaps: Vec<_> = out
            .windows(2)
            .map(|pair| pair[1] - pair[0] - 1)
            .filter(|gap| *gap > 0)
            .collect();
        assert!(
            !gaps.is_empty() && gaps.iter().all(|gap| gap % 20 == 0),
            "{gaps:?}"
        );
    }

    #[test]
    fn held_back_datagrams_are_overtaken() {
        let mut mixed = link(5, "up reorder=10%:5ms");
        let out = numbers(&pass(&mut mixed, 10_000));
        near(mixed.counts().held_back, 1000, "held back");
        let late = out.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
        near(late, 1000, "overtaken");
        let mut sorted = out;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn copies_are_the_same_datagram() {
        let mut double = link(6, "up duplicate=5%");
        let out = numbers(&pass(&mut double, 10_000));
        near(double.counts().duplicated, 500, "copies");
        assert_eq!(out.len() as u64, 10_000 + double.counts().duplicated);
    }

    #[test]
    fn corruption_turns_one_bit() {
        let mut bad = link(7, "up corrupt=100%");
        let now = start();
        bad.handle_datagram(now, (), vec![0; 64]);
        let ((), bytes) = bad.poll_datagram(now).unwrap();
        assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        bad.handle_datagram(now, (), Vec::new());
        assert_eq!(bad.poll_datagram(now), Some(((), Vec::new())));
    }

    #[test]
    fn the_rate_holds_and_its_queue_is_bounded() {
        // 100 bytes a millisecond are 800 kbit/s: twice the rate.
        let mut slow = link(8, "up rate=400kbit queue=1kB");
        let out = pass(&mut slow, 1000);
        near(out.len() as u64, 500, "passed");
        assert!(
            out.windows(2)
                .all(|pair| pair[1].0 - pair[0].0 >= Duration::from_micros(1999))
        );
        let longest = out
            .iter()
            .map(|(at, i)| *at - Duration::from_millis((*i).into()))
            .max()
            .unwrap();
        assert!(
            longest <= Duration::from_millis(22),
            "{longest:?} in a queue of 20 ms"
        );
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut far = link(9, "up delay=1s");
        let now = start();
        for _ in 0..MAX_WAITING + 10 {
            far.handle_datagram(now, (), vec![0]);
        }
        let counts = far.counts();
        assert_eq!(
            (counts.waiting, counts.overflowed),
            (MAX_WAITING as u64, 10)
        );
        let mut big = link(9, "up delay=1s");
        for _ in 0..1100 {
            big.handle_datagram(now, (), vec![0; 65_000]);
        }
        assert_eq!(big.counts().waiting, (MAX_WAITING_BYTES / 65_000) as u64);
    }

    #[test]
    fn the_seed_decides() {
        let rules = "up loss=20% reorder=10% duplicate=5% jitter=3ms";
        let first = pass(&mut link(10, rules), 500);
        assert_eq!(first, pass(&mut link(10, rules), 500));
        assert_ne!(first, pass(&mut link(11, rules), 500));
    }

    #[test]
    fn a_shorter_delay_does_not_overtake() {
        let mut link = link(12, "up delay=50ms");
        let now = start();
        link.handle_datagram(now, (), number(0));
        link.rules = Rules::default();
        link.handle_datagram(now, (), number(1));
        assert_eq!(link.poll_datagram(now), None);
        let later = now + Duration::from_millis(50);
        assert_eq!(link.poll_datagram(later), Some(((), number(0))));
        assert_eq!(link.poll_datagram(later), Some(((), number(1))));
    }

    #[test]
    fn what_was_not_sent_is_counted() {
        let mut link = Link::new(13);
        let now = start();
        link.handle_datagram(now, (), vec![0; 10]);
        let ((), bytes) = link.poll_datagram(now).unwrap();
        link.not_sent(bytes.len());
        let counts = link.counts();
        assert_eq!((counts.sent, counts.sent_bytes, counts.unsent), (0, 0, 1));
    }
}
