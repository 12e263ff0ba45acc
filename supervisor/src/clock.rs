// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one place that reads a clock. Everything else is given `now`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time; orders events and measures intervals (clock_gettime(2), CLOCK_MONOTONIC).
#[expect(clippy::disallowed_methods, reason = "the clock reader")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Time since the Unix epoch; for timestamps that leave this process. Zero if the clock is before it.
#[expect(clippy::disallowed_methods, reason = "the clock reader")]
#[must_use]
pub fn unix() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_advance_and_are_plausible() {
        let first = now();
        assert!(now() >= first);
        // 2020-01-01: a machine before it could not validate anything anyway.
        assert!(unix() > Duration::from_secs(1_577_836_800));
    }
}
