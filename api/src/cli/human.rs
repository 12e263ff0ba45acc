// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers as people read them.

use std::time::{Duration, UNIX_EPOCH};

/// Seconds since a moment, given in seconds since the Unix epoch.
pub(super) fn since(unix: u64) -> u64 {
    now().saturating_sub(unix)
}

/// Seconds since the Unix epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "ages in tables are of the moment they are printed"
)]
pub(super) fn now() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    now.as_secs()
}

/// A length of time, from seconds.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A number of bytes.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{} kB", count / 1000),
        10_000_000..=9_999_999_999 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

/// One of several things, or a number of them: `1 network`, `2 networks`.
pub(super) fn count(number: usize, of: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {of}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_or_four_digits() {
        assert_eq!(
            [0, 119, 120, 7199, 7200, 172_799, 172_800].map(span),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]
        );
        assert_eq!(
            [9_999, 10_000, 9_999_999, 10_000_000, 10_000_000_000].map(bytes),
            ["9999 B", "10 kB", "9999 kB", "10 MB", "10 GB"]
        );
        assert_eq!(
            [0, 1, 2].map(|n| count(n, "peer")),
            ["0 peers", "1 peer", "2 peers"]
        );
    }
}
