// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line as typed. What a subcommand takes stands in its own file.

use super::generated::Shell;
use super::{capture, doctor, log, network, peer, ping, service, sockets, top, whois};
use crate::man::exit_codes;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Exit codes: a promise to scripts.
pub(super) const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done"),
    (
        1,
        "something else failed, no reply to a ping, or the doctor found something that stops netcon",
    ),
    (2, "the arguments are wrong"),
    (3, "no supervisor answers, and none could be started"),
    (4, "the supervisor refused"),
    (5, "there is no such network, peer, container or address"),
    (
        6,
        "a file cannot be read or written, or is no wg-quick file",
    ),
    (7, "the supervisor is of another version"),
];

/// Variables that are looked at.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "NETCON_SOCKET",
        "the supervisor's socket, if it is not in its usual place",
    ),
    (
        "NETCON_NO_START",
        "if not empty and not 0, no supervisor is started when none runs",
    ),
    (
        "NETCON_IDLE_EXIT",
        "seconds after which a supervisor that was started and is not needed ends (600; 0: never)",
    ),
    (
        "COLUMNS",
        "columns of the output, instead of the terminal's",
    ),
    ("NO_COLOR", "if not empty, no colours"),
];

fn after_help() -> String {
    let (name, meaning) = ENVIRONMENT[0];
    format!("{}\n\n{name} is {meaning}.", exit_codes(EXIT_CODES))
}

/// Controls this user's netcon-supervisor
#[derive(Debug, Parser)]
#[command(name = "netcon", version, after_help = after_help())]
pub(super) struct Args {
    /// Print what the supervisor answered, as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Cli,
}

#[derive(Debug, Subcommand)]
pub(super) enum Cli {
    /// Show what runs
    Status,
    /// Create, list, show, change, import, export and delete networks
    #[command(subcommand)]
    Network(network::Verb),
    /// Add, list, show, change and remove peers of a network
    #[command(subcommand)]
    Peer(peer::Verb),
    /// List running containers
    Ps,
    /// Print the token by which others may use the control API
    Token {
        /// Make a new one; the old one is worth nothing from then on
        #[arg(long)]
        rotate: bool,
    },
    /// Watch networks, peers and programs, with their rates
    Top(top::Options),
    /// Look after the supervisor's log
    #[command(subcommand)]
    Log(log::Verb),
    /// Install and uninstall
    #[command(subcommand)]
    Service(service::Verb),
    /// Examine what this machine allows, and say what to do where it is too little
    Doctor(doctor::Options),
    /// Print a script by which a shell completes netcon, netcon-shim and netcon-supervisor
    ///
    /// bash: source <(netcon completions bash); zsh: the same, after compinit; fish: netcon completions fish | source.
    Completions {
        /// The shell
        #[arg(required_unless_present = "networks")]
        shell: Option<Shell>,
        /// Print the names of the networks there are instead, for such scripts
        #[arg(long, hide = true, conflicts_with = "shell")]
        networks: bool,
    },
    /// Write the manual pages to a folder
    #[command(hide = true)]
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// List the sockets of programs
    Sockets(sockets::Arguments),
    /// Say who has an address, and which programs talk to it
    Whois(whois::Arguments),
    /// Send echo requests to an address on a network
    Ping(ping::Arguments),
    /// Write a network's packets, in clear, as a pcapng file
    Capture(capture::Arguments),
    /// Follow what happens
    Events,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definition_is_consistent() {
        Args::command().debug_assert();
    }
}
