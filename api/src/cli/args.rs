// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line as typed.

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::path::PathBuf;

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
    Network(NetworkVerb),
    /// Add, list and remove peers of a network
    #[command(subcommand)]
    Peer(PeerVerb),
    /// List running containers
    Ps,
}

#[derive(Debug, Subcommand)]
pub(super) enum NetworkVerb {
    /// Create a network with a new key
    Create {
        /// Name on this machine
        name: String,
        /// Own address and prefix, once per family [default: random private prefixes]
        #[arg(long = "address", value_name = "ADDRESS/PREFIX")]
        addresses: Vec<String>,
        /// Largest IP packet, in bytes [default: 1420]
        #[arg(long)]
        mtu: Option<u16>,
    },
    /// List networks
    List,
    /// Show a network
    Show {
        /// Name or id
        name: String,
    },
    /// End a network and remove its key
    Delete {
        /// Name or id
        name: String,
    },
    /// Join the network a wg-quick file describes
    Import {
        /// The file, or - for standard input
        file: PathBuf,
        /// Name on this machine [default: the one in the file, else the file's]
        #[arg(long)]
        name: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PeerVerb {
    /// Add a peer
    Add(AddArgs),
    /// List the peers of a network
    List {
        /// Name or id
        network: String,
    },
    /// Remove a peer
    Remove {
        /// Name or id
        network: String,
        /// Name or public key
        peer: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct AddArgs {
    /// Name or id of the network
    pub(super) network: String,
    /// What to call the peer
    pub(super) name: String,
    /// Its public key, base64
    #[arg(long, value_name = "KEY", conflicts_with = "export")]
    pub(super) public_key: Option<String>,
    /// Make keys for it and print a wg-quick file for its side, with them
    #[arg(long)]
    pub(super) export: bool,
    /// Where it is
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) endpoint: Option<String>,
    /// Where it finds this machine [default: this machine's outgoing address; the supervisor's port]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(super) our_endpoint: Option<String>,
    /// Its addresses [default: the next free ones of the network]
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub(super) allowed_ips: Vec<String>,
    /// Seconds between packets that keep a NAT open
    #[arg(long, value_name = "SECONDS")]
    pub(super) keepalive: Option<u16>,
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
