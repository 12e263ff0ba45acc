// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether anybody needs this supervisor: one that was started on demand ends when nobody has for long enough.
//!
//! Needed is a supervisor with a container, with a client in conversation, or with a connection to its API that has asked
//! something: an event stream, a capture.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// Who needs the supervisor now, and when somebody did last. Shared; cheap.
#[derive(Debug, Clone)]
pub struct Needs(Arc<Mutex<Present>>);

#[derive(Debug)]
struct Present {
    count: usize,
    last: Instant,
}

/// Somebody who needs it, as long as this exists.
#[derive(Debug)]
pub struct Need(Needs);

impl Default for Needs {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Present {
            count: 0,
            last: clock::now(),
        })))
    }
}

impl Needs {
    /// Notes somebody.
    #[must_use]
    pub fn enter(&self) -> Need {
        self.with(|present| present.count += 1);
        Need(self.clone())
    }

    /// Notes that somebody needs it at this moment.
    pub fn touch(&self) {
        self.with(|present| present.last = clock::now());
    }

    /// For how long nobody has needed it; `None` while somebody does.
    #[must_use]
    pub fn idle_for(&self) -> Option<Duration> {
        self.with(|present| {
            (present.count == 0).then(|| clock::now().saturating_duration_since(present.last))
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Present) -> T) -> T {
        // Every change is a single step.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Need {
    fn drop(&mut self) {
        self.0.with(|present| {
            present.count -= 1;
            present.last = clock::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_there_when_all_have_left() {
        let needs = Needs::default();
        assert!(needs.idle_for().is_some());
        let (one, other) = (needs.enter(), needs.enter());
        assert_eq!(needs.idle_for(), None);
        drop(one);
        assert_eq!(needs.idle_for(), None);
        drop(other);
        assert!(
            needs
                .idle_for()
                .is_some_and(|time| time < Duration::from_secs(60))
        );
    }
}
