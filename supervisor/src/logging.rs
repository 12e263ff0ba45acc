// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Log lines on standard error.
//!
//! ERROR: we are broken. WARN: odd but working. INFO: a change a user would notice. DEBUG: decisions,
//! addresses. TRACE: each call and packet. Addresses and names of peers stay at DEBUG and below,
//! except where the line is the answer to what the user asked for (the port in use, for one). Keys
//! and payload are never logged.

use std::env::VarError;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::log_filter;

/// Starts logging: `RUST_LOG` if it is set and can be understood, else by the number of `-v`. Colours are for terminals, and
/// not if `NO_COLOR` is set.
///
/// Returns a sentence about a `RUST_LOG` that could not be understood. A second call has no effect.
pub fn start(verbosity: u8) -> Option<String> {
    let wanted = match std::env::var("RUST_LOG") {
        Ok(text) if text.is_empty() => None,
        Ok(text) => Some(
            EnvFilter::try_new(&text)
                .map_err(|error| format!("RUST_LOG={text:?} is not understood ({error})")),
        ),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => Some(Err("RUST_LOG is not text".to_owned())),
    };
    let own = directive(verbosity);
    let asked_for = verbosity > 0 || matches!(wanted, Some(Ok(_)));
    let (filter, complaint) = match wanted {
        Some(Ok(filter)) => (filter, None),
        Some(Err(reason)) => (
            EnvFilter::new(own),
            Some(format!("{reason}; using {own:?}.")),
        ),
        None => (EnvFilter::new(own), None),
    };
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let text = filter.to_string();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(!plain && std::io::stderr().is_terminal())
        .with_target(asked_for)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    if builder.try_init().is_ok() {
        log_filter::set_up(text, move |filter| {
            handle.reload(filter).map_err(|error| format!("{error}."))
        });
    }
    complaint
}

/// The filter for a number of `-v`: none shows what a user would notice, three show everything.
fn directive(verbosity: u8) -> &'static str {
    match verbosity {
        0 => "warn,netcon_supervisor=info",
        1 => "info,netcon_supervisor=debug,netcon_api=debug",
        2 => "debug,netcon_supervisor=trace,netcon_api=trace",
        3.. => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directive_is_understood() {
        for verbosity in [0, 1, 2, 3, u8::MAX] {
            assert!(EnvFilter::try_new(directive(verbosity)).is_ok());
        }
    }
}
