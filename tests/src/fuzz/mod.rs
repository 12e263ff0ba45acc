// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What foreign bytes may not do: the bodies of the fuzz targets. libFuzzer calls them (`fuzz/`, `ci/fuzz`), and so does a test
//! that repeats the committed corpus and a few thousand changes of it (`tests/tests/fuzz.rs`). A body panics when something is
//! wrong; any input is allowed.

mod calls;
#[cfg(feature = "edges")]
mod edges;
mod engine;
mod feed;
mod tunnel;

pub use calls::{netlink_requests, socket_calls};
#[cfg(feature = "edges")]
pub use edges::{control_request, handover, socket_address, state_file, wg_quick};
pub use engine::{engine_packets, engine_segments};
pub use tunnel::{overlay_machine, overlay_messages};

/// A body.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("overlay_messages", overlay_messages),
    ("overlay_machine", overlay_machine),
    ("engine_packets", engine_packets),
    ("engine_segments", engine_segments),
    ("socket_calls", socket_calls),
    ("netlink_requests", netlink_requests),
    #[cfg(feature = "edges")]
    ("handover", handover),
    #[cfg(feature = "edges")]
    ("wg_quick", wg_quick),
    #[cfg(feature = "edges")]
    ("control_request", control_request),
    #[cfg(feature = "edges")]
    ("state_file", state_file),
    #[cfg(feature = "edges")]
    ("socket_address", socket_address),
];

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had no other way; its value does not matter"
)]
fn epoch() -> std::time::Instant {
    std::time::Instant::now()
}
