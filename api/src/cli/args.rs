// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line as typed. What a subcommand takes stands in its own file.

use super::{doctor, network, peer};
use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "Exit codes:\n  \
    0  done\n  \
    1  something else failed\n  \
    2  the arguments are wrong\n  \
    3  no supervisor answers\n  \
    4  the supervisor refused\n  \
    5  there is no such network or peer\n  \
    6  a file cannot be read or is no wg-quick file\n  \
    7  the supervisor is of another version\n\n\
    NETCON_SOCKET names the supervisor's socket if it is not in its usual place.";

/// Controls this user's netcon-supervisor
#[derive(Debug, Parser)]
#[command(name = "netcon", version, after_help = EXIT_CODES)]
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
    /// Create, list, show, import and delete networks
    #[command(subcommand)]
    Network(network::Verb),
    /// Add, list and remove peers of a network
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
    /// Examine what this machine allows, and say what to do where it is too little
    Doctor(doctor::Options),
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
