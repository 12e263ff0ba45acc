// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `netcon` command. [`args`] is the command line; each subcommand has a file of its own with what it takes and does;
//! [`output`] is how they ask and print, [`screen`] and [`table`] how it looks.

mod args;
mod beside;
mod capture;
mod doctor;
mod events;
mod generated;
mod human;
mod log;
mod network;
mod output;
mod peer;
mod ping;
mod ps;
mod qr;
mod screen;
mod service;
mod sockets;
mod status;
mod suggest;
mod table;
mod terminal;
mod token;
mod top;
mod whois;

use self::args::{Args, Cli};
use self::output::{Context, Failure, note};
use clap::Parser;
use std::process::ExitCode;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    generated::complete();
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(failure) => {
            note(&failure.sentence);
            ExitCode::from(failure.code)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Failure> {
    let context = Context {
        json: args.json,
        // Those ask what runs; the others want something done.
        start: !matches!(
            args.command,
            Cli::Status | Cli::Ps | Cli::Top(_) | Cli::Doctor(_) | Cli::Log(_) | Cli::Service(_)
        ),
    };
    match &args.command {
        Cli::Doctor(options) => return doctor::run(context, options),
        Cli::Top(options) => top::run(context, options),
        Cli::Log(verb) => log::run(context, verb),
        Cli::Service(verb) => service::run(context, verb),
        Cli::Completions { shell, networks } => generated::completions(*shell, *networks),
        Cli::Man { folder } => generated::write_pages(folder),
        Cli::Status => status::run(context),
        Cli::Network(verb) => network::run(context, verb),
        Cli::Peer(verb) => peer::run(context, verb),
        Cli::Ps => ps::run(context),
        Cli::Token { rotate } => token::run(context, *rotate),
        Cli::Sockets(arguments) => sockets::run(context, arguments),
        Cli::Whois(arguments) => whois::run(context, arguments),
        Cli::Ping(arguments) => ping::run(context, arguments),
        Cli::Capture(arguments) => capture::run(context, arguments),
        Cli::Events => events::run(context),
    }?;
    Ok(ExitCode::SUCCESS)
}
