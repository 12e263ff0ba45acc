// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The shim as a process, against a supervisor of the tests' own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod calls;
mod failures;
mod program;
mod support;
