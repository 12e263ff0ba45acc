// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control API: its JSON ([`model`]), its operations ([`command`]), how they are spelled in HTTP ([`route`], [`server`],
//! [`client`]) and the `netcon` command ([`cli`]). Knows nothing of how any of it works.
//!
//! Errors are `{"error":{"code","message"}}`; codes are stable, messages are one sentence for people. Unknown fields of a
//! request are refused by name.
#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod command;
pub mod model;
pub mod route;
pub mod server;
pub mod wgquick;

pub use command::{Answer, ApiError, Caller, Command, Handler};
