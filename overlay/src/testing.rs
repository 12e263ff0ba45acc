// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What unit tests share.

use std::time::Instant;

/// Where a test's virtual clock starts.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other source; only differences to it are used"
)]
pub(crate) fn origin() -> Instant {
    Instant::now()
}
