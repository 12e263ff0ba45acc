// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon log …`.

use super::output::{Context, Failure};
use super::screen::Screen;
use crate::command::Command;
use crate::model::{Change, ChangeLog, Log};
use clap::Subcommand;

/// What can be done with the supervisor's log.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show what is logged, or change it until the supervisor ends
    Level {
        /// error, warn, info, debug, trace, levels of parts as in RUST_LOG, or `default`
        filter: Option<String>,
    },
}

/// Does it.
pub(super) fn run(context: Context, verb: &Verb) -> Result<(), Failure> {
    let Verb::Level { filter } = verb;
    let command = match filter.as_deref() {
        None => Command::LogShow {},
        Some(filter) => Command::LogChange {
            body: ChangeLog {
                filter: match filter {
                    "default" => Change::Clear,
                    filter => Change::Set(filter.to_owned()),
                },
            },
        },
    };
    context.show(context.ask(&command)?, |log: &Log| {
        Screen::sentence(&log.filter)
    })
}
