// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control API: its JSON ([`model`], [`answer`]), its operations, declared once ([`route`]), how they are refused
//! ([`command`], [`origin`]), served ([`server`]), called ([`client`]) and described ([`openapi`]), and the `netcon` command
//! ([`cli`]). Knows nothing of how any of it works.
//!
//! Errors are `{"error":{"code","message"}}`; codes are stable, messages are one sentence for people. Unknown fields of a
//! request are refused by name.
#![forbid(unsafe_code)]

pub mod answer;
pub mod cli;
pub mod client;
pub mod command;
pub mod man;
pub mod model;
pub mod openapi;
pub mod origin;
#[cfg(test)]
mod page;
pub mod route;
pub mod server;
pub mod token;
pub mod wgquick;

pub use command::{ApiError, Caller, Code, Command, Handler};
