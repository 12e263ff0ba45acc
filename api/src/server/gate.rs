// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may ask.

use std::time::Duration;

use crate::command::{ApiError, Caller};

/// Decides about one connection, request by request: a right that has ended ends with the next request.
pub trait Gate: Send + Sync + 'static {
    /// Whether the request may be made, and in whose name. `tokens` are those that it presents.
    ///
    /// # Errors
    /// What the caller is told; it is told nothing else.
    fn admit(&self, tokens: &[&[u8]]) -> Result<Caller, ApiError>;

    /// Told of each answer, by its HTTP status.
    fn answered(&self, _status: u16) {}

    /// Time for the head of a request to arrive, from the end of the one before.
    fn head_time(&self) -> Duration;
}
