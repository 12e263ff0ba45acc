// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When something must happen without a packet causing it (WireGuard paper section 6). One tunnel has five timers; only the
//! earliest matters to the outside.

use std::time::{Duration, Instant};

/// A session that has sent this many messages asks for a new one.
pub(crate) const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// A session does not send or accept a counter of this or more.
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Age at which the initiator of a session, when it sends, asks for a new one.
pub(crate) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Age at which a session neither sends nor accepts.
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Least time between two initiations to one peer.
pub(crate) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long initiations are repeated before the attempt is given up.
pub(crate) const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// Silence after received data that is broken by a keepalive.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Age at which the initiator of a session, when it receives, asks for a new one: the last moment at which a keepalive and a
/// retry still fit before the session ends.
pub(crate) const REKEY_AFTER_TIME_RECEIVING: Duration = Duration::from_secs(165);
/// Silence after sent data that is taken as the peer having lost the session.
pub(crate) const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(15);
/// Without a new session for this long, all key material is wiped.
pub(crate) const WIPE_AFTER_TIME: Duration = Duration::from_secs(540);
/// Two initiations of a peer within this time are a flood; the second is ignored.
pub(crate) const INITIATION_INTERVAL: Duration = Duration::from_millis(20);
/// Retries are spread over this many milliseconds, so that two peers do not collide for ever.
pub(crate) const JITTER_MS: u32 = 334;

/// Each is set at most once at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Timer {
    /// When to repeat an initiation nobody answered, or give up.
    Retry,
    /// When to break the silence after received data.
    PassiveKeepalive,
    /// When to suspect that the peer has lost the session: data sent, nothing back.
    Unanswered,
    /// When to wipe all keys.
    Wipe,
    /// When to send something to keep a NAT's mapping alive, as configured.
    PersistentKeepalive,
}

impl Timer {
    const ALL: [Self; 5] = [
        Self::Retry,
        Self::PassiveKeepalive,
        Self::Unanswered,
        Self::Wipe,
        Self::PersistentKeepalive,
    ];
}

/// Deadlines of one tunnel.
#[derive(Debug, Default)]
pub(crate) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Sets the timer unless it is running.
    pub(crate) fn start(&mut self, timer: Timer, at: impl FnOnce() -> Instant) {
        self.0[timer as usize].get_or_insert_with(at);
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops and returns one timer that is due.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let timer = Timer::ALL
            .into_iter()
            .find(|timer| self.0[*timer as usize].is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    #[test]
    fn places_match_numbers() {
        for (at, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, at);
        }
    }

    #[test]
    fn each_expires_once_and_start_keeps_the_first() {
        let start = origin();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Wipe, at(9));
        timers.start(Timer::Unanswered, || at(3));
        timers.start(Timer::Unanswered, || at(1));
        assert_eq!(timers.next(), Some(at(3)));
        assert_eq!(timers.expired(at(2)), None);
        assert_eq!(timers.expired(at(3)), Some(Timer::Unanswered));
        assert_eq!(timers.expired(at(3)), None);
        timers.stop(Timer::Wipe);
        assert_eq!(timers.expired(at(100)), None);
    }

    #[test]
    fn derived_constants() {
        assert_eq!(
            REKEY_AFTER_TIME_RECEIVING,
            REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
        );
        assert_eq!(UNANSWERED_TIMEOUT, KEEPALIVE_TIMEOUT + REKEY_TIMEOUT);
        assert_eq!(WIPE_AFTER_TIME, REJECT_AFTER_TIME * 3);
        assert_eq!(
            u128::from(REJECT_AFTER_MESSAGES),
            (1u128 << 64) - (1 << 13) - 1
        );
    }
}
