// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is logged, changed while the supervisor runs.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;

/// Longest filter, bytes.
const LONGEST: usize = 1000;

static FILTER: OnceLock<Filter> = OnceLock::new();

struct Filter {
    at_start: String,
    now: Mutex<String>,
    apply: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

/// Notes the filter with which logging starts, and how to change it. A second call has no effect.
pub(crate) fn set_up(
    at_start: String,
    apply: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static,
) {
    let _already_set_up = FILTER.set(Filter {
        now: Mutex::new(at_start.clone()),
        at_start,
        apply: Box::new(apply),
    });
}

/// The filter, as `RUST_LOG` would have it; empty where nothing is logged.
#[must_use]
pub fn current() -> String {
    FILTER.get().map_or_else(String::new, |filter| {
        filter
            .now
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    })
}

/// Changes the filter; None is the one at the start.
///
/// # Errors
/// One sentence when the text is no filter; the old one stays.
pub fn change(text: Option<&str>) -> Result<(), String> {
    let Some(filter) = FILTER.get() else {
        return Err("Nothing is logged by this supervisor.".to_owned());
    };
    let text = text.unwrap_or(&filter.at_start);
    let fails = |reason: &str| {
        let shown: String = text.chars().take(100).collect();
        format!(
            "{shown:?} is no filter ({reason}); write for example debug, or warn,netcon_supervisor=trace."
        )
    };
    if text.trim().is_empty() || text.len() > LONGEST {
        return Err(fails("it is empty or too long"));
    }
    let parsed = EnvFilter::try_new(text).map_err(|error| fails(&error.to_string()))?;
    let mut now = filter.now.lock().unwrap_or_else(PoisonError::into_inner);
    (filter.apply)(parsed)?;
    text.clone_into(&mut now);
    tracing::info!(filter = text, "what is logged has changed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_filter_changes_and_comes_back() {
        static APPLIED: AtomicUsize = AtomicUsize::new(0);
        set_up("warn".to_owned(), |_filter| {
            APPLIED.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!(current(), "warn");
        change(Some("debug,netcon_api=trace")).unwrap();
        assert_eq!(current(), "debug,netcon_api=trace");
        for wrong in ["", " ", "a=b=c", "x=nonsense", &"debug,".repeat(200)] {
            assert!(change(Some(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(current(), "debug,netcon_api=trace");
        change(None).unwrap();
        assert_eq!(
            (current().as_str(), APPLIED.load(Ordering::Relaxed)),
            ("warn", 2)
        );
    }
}
