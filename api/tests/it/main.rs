// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Both ends of the control API against each other and against bytes: a supervisor that is only a table of answers,
//! raw HTTP, the `netcon` command.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod fake;
mod http;
mod look;
mod netcon;
mod server;
mod wgquick;
