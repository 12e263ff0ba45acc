// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Trapped calls by kind and by how long they took. Each container has its own: its receiver is nearly always one thread, so
//! that counting is never contended.

use super::{CALL_DURATION, CALL_SECONDS, CALLS, Figures};
use netcon_shim::table::{NATIVE, Rule, Trapped};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Kinds of calls that can be told apart.
const KINDS: usize = 32;
/// Upper bounds of the histogram, microseconds; what takes longer is above the last.
const BOUNDS: [u64; 7] = [10, 30, 100, 1_000, 10_000, 100_000, 1_000_000];

/// Counts of calls.
#[derive(Debug, Default)]
pub struct Calls {
    count: [AtomicU64; KINDS],
    nanos: [AtomicU64; KINDS],
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

impl Calls {
    /// Counts one call.
    pub fn count(&self, call: Trapped, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let micros = nanos / 1000;
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        if let (Some(count), Some(time)) =
            (self.count.get(call as usize), self.nanos.get(call as usize))
        {
            count.fetch_add(1, Ordering::Relaxed);
            time.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// Adds what another one has counted.
    pub fn absorb(&self, other: &Self) {
        let all = |calls: &Self| -> Vec<u64> {
            let cells = calls.count.iter().chain(&calls.nanos).chain(&calls.buckets);
            cells.map(|cell| cell.load(Ordering::Relaxed)).collect()
        };
        let ours = self.count.iter().chain(&self.nanos).chain(&self.buckets);
        for (cell, more) in ours.zip(all(other)) {
            cell.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Shows them.
    #[expect(
        clippy::cast_precision_loss,
        reason = "Prometheus has floats only; nanoseconds of 100 days are exact"
    )]
    pub(super) fn show(&self, figures: &mut Figures) {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let mut seconds = 0.0;
        for (call, name) in kinds() {
            let at = call as usize;
            let labels = [("call", name)];
            let time = load(&self.nanos[at]) as f64 / 1e9;
            seconds += time;
            figures.add(CALLS, &labels, load(&self.count[at]));
            figures.add_float(CALL_SECONDS, &labels, time);
        }
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            below += load(bucket);
            let bound = (*bound as f64 / 1e6).to_string();
            figures.line(
                CALL_DURATION,
                "_bucket",
                &[("le", &bound)],
                &below.to_string(),
            );
        }
        below += load(&self.buckets[BOUNDS.len()]);
        figures.line(
            CALL_DURATION,
            "_bucket",
            &[("le", "+Inf")],
            &below.to_string(),
        );
        figures.line(CALL_DURATION, "_sum", &[], &seconds.to_string());
        figures.line(CALL_DURATION, "_count", &[], &below.to_string());
    }
}

/// All kinds, each once, with their names in the kernel.
fn kinds() -> Vec<(Trapped, &'static str)> {
    let mut kinds: Vec<(Trapped, &'static str)> = NATIVE
        .iter()
        .filter_map(|row| match row.rule {
            Rule::Trap(call, _) => Some((call, row.name)),
            Rule::Refuse { .. } => None,
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup_by_key(|(call, _)| *call);
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_kind_and_time() {
        assert!(kinds().iter().all(|(call, _)| (*call as usize) < KINDS));
        let (one, all) = (Calls::default(), Calls::default());
        one.count(Trapped::Connect, Duration::from_micros(10));
        one.count(Trapped::Connect, Duration::from_micros(11));
        all.count(Trapped::Bind, Duration::from_secs(5));
        all.absorb(&one);
        let mut figures = Figures::default();
        all.show(&mut figures);
        let text = figures.text();
        for line in [
            "netcon_trapped_calls_total{call=\"connect\"} 2\n",
            "netcon_trapped_calls_total{call=\"bind\"} 1\n",
            "netcon_trapped_calls_total{call=\"listen\"} 0\n",
            "netcon_trapped_call_seconds_total{call=\"bind\"} 5\n",
            "netcon_trapped_call_duration_seconds_bucket{le=\"0.00001\"} 1\n",
            "netcon_trapped_call_duration_seconds_bucket{le=\"0.00003\"} 2\n",
            "netcon_trapped_call_duration_seconds_bucket{le=\"1\"} 2\n",
            "netcon_trapped_call_duration_seconds_bucket{le=\"+Inf\"} 3\n",
            "netcon_trapped_call_duration_seconds_count 3\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
