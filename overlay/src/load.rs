// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When handshakes cost too much: more of them than a single thread should compute, and a fair share per source then.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Handshake messages with a fitting mac1 in a second that mean load. Each costs some 150 microseconds of curve arithmetic.
const HANDSHAKES_PER_SECOND: u32 = 500;
const SECOND: Duration = Duration::from_secs(1);
/// Under load a source gets one handshake in this time,
const SOURCE_INTERVAL: Duration = Duration::from_millis(50);
/// and this many at once.
const SOURCE_BURST: u32 = 5;
/// Sources remembered; when all are active, others wait.
const MAX_SOURCES: usize = 4096;

/// Counts handshakes.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Set by the caller, who sees more than handshakes.
    forced: bool,
    window_since: Option<Instant>,
    in_window: u32,
    /// Load ends then, unless it goes on.
    until: Option<Instant>,
    /// When each source will have used up nothing: the later, the more it has sent. IPv6 sources are /64 networks.
    sources: BTreeMap<IpAddr, Instant>,
}

impl Load {
    pub(crate) fn force(&mut self, loaded: bool) {
        self.forced = loaded;
    }

    /// Counts a handshake message; whether there is load.
    pub(crate) fn on_handshake(&mut self, now: Instant) -> bool {
        if self
            .window_since
            .is_none_or(|since| now.saturating_duration_since(since) >= SECOND)
        {
            self.window_since = Some(now);
            self.in_window = 0;
        }
        self.in_window = self.in_window.saturating_add(1);
        if self.in_window > HANDSHAKES_PER_SECOND {
            self.until = Some(now + SECOND);
        }
        self.forced || self.until.is_some_and(|until| now < until)
    }

    /// Whether `source` may have a handshake under load; it has used it then.
    pub(crate) fn admit(&mut self, now: Instant, source: SocketAddr) -> bool {
        let source = match source.ip() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        };
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, idle_at| *idle_at > now);
            if self.sources.len() >= MAX_SOURCES {
                return false;
            }
        }
        let idle_at = self.sources.entry(source).or_insert(now);
        *idle_at = (*idle_at).max(now);
        let admitted = *idle_at <= now + SOURCE_INTERVAL * (SOURCE_BURST - 1);
        if admitted {
            *idle_at += SOURCE_INTERVAL;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    #[test]
    fn load_starts_with_a_flood_and_ends_after_it() {
        let now = origin();
        let mut load = Load::default();
        assert!((0..HANDSHAKES_PER_SECOND).all(|_| !load.on_handshake(now)));
        assert!(load.on_handshake(now));
        assert!(load.on_handshake(now + SECOND / 2));
        assert!(!load.on_handshake(now + SECOND * 2));
        load.force(true);
        assert!(load.on_handshake(now + SECOND * 9));
    }

    #[test]
    fn sources_have_equal_shares() {
        let now = origin();
        let mut load = Load::default();
        let source = "192.0.2.1:1".parse().unwrap();
        assert_eq!((0..100).filter(|_| load.admit(now, source)).count(), 5);
        assert!(load.admit(now, "192.0.2.2:1".parse().unwrap()));
        assert_eq!(
            (0..100)
                .filter(|_| load.admit(now + SECOND, source))
                .count(),
            5
        );
        let rate = (0..1000)
            .filter(|ms| load.admit(now + SECOND * 2 + Duration::from_millis(*ms), source))
            .count();
        assert!((20..=25).contains(&rate), "{rate}");
        assert_eq!(
            (1..100)
                .filter(|host| load.admit(now, format!("[2001:db8::{host:x}]:1").parse().unwrap()))
                .count(),
            5
        );
    }

    #[test]
    fn sources_are_bounded_and_forgotten() {
        let now = origin();
        let mut load = Load::default();
        let source = |number: u32| SocketAddr::new(IpAddr::V4(number.into()), 1);
        assert!(
            (0..)
                .take(MAX_SOURCES)
                .all(|number| load.admit(now, source(number)))
        );
        assert!(!load.admit(now, source(99_999)));
        assert!(load.admit(now + SECOND, source(99_999)));
        assert_eq!(load.sources.len(), 1);
    }
}
