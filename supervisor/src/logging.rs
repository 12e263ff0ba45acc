// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Log lines on standard error.
//!
//! ERROR: we are broken. WARN: odd but working. INFO: a change a user would notice. DEBUG: decisions,
//! addresses. TRACE: each call and packet. Addresses and names of peers stay at DEBUG and below,
//! except where the line is the answer to what the user asked for (the port in use, for one). Keys
//! and payload are never logged.

use tracing_subscriber::EnvFilter;

/// Starts logging: `RUST_LOG` if it is set and can be understood, else by the number of `-v`.
///
/// Returns a sentence about a `RUST_LOG` that could not be understood. A second call has no effect.
pub fn start(verbosity: u8) -> Option<String> {
    let (filter, complaint) = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (
                EnvFilter::new(directive(verbosity)),
                Some(format!(
                    "RUST_LOG={text:?} is not understood ({error}); using {:?}.",
                    directive(verbosity)
                )),
            ),
        },
        Ok(_) | Err(_) => (EnvFilter::new(directive(verbosity)), None),
    };
    let _already_started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(verbosity > 0)
        .try_init();
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
