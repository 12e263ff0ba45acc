// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon network …`.

use super::generated;
use super::output::{Context, Failure, changed, note, print};
use super::screen::{Screen, Style};
use super::table::{Cell, Table};
use crate::command::Command;
use crate::model::{
    ChangeNetwork, CreateNetwork, ExportFormat, ExportQuery, ImportNetwork, Imported, Network,
};
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What can be done with networks.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a network with a new key
    Create {
        /// Name on this machine
        name: String,
        /// Own address and prefix, once per family [default: random private prefixes]
        #[arg(long = "address", value_name = "ADDRESS/PREFIX")]
        addresses: Vec<String>,
        /// Largest IP packet, in bytes [default: 1420]
        #[arg(long, value_name = "BYTES")]
        mtu: Option<u16>,
    },
    /// List networks
    List,
    /// Show a network
    Show {
        /// Name or id
        #[arg(add = ArgValueCandidates::new(generated::networks))]
        name: String,
    },
    /// Change a network while it runs
    Set(Set),
    /// Join the network a wg-quick file describes
    Import {
        /// The file, or - for standard input
        file: PathBuf,
        /// Name on this machine [default: the one in the file, else the file's]
        #[arg(long)]
        name: Option<String>,
    },
    /// Print a network as a wg-quick file, with its private key
    Export {
        /// Name or id
        #[arg(add = ArgValueCandidates::new(generated::networks))]
        name: String,
    },
    /// End a network and remove its key
    Delete {
        /// Name or id
        #[arg(add = ArgValueCandidates::new(generated::networks))]
        name: String,
    },
}

/// What is to be changed. What is not named stays.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// Name or id
    #[arg(add = ArgValueCandidates::new(generated::networks))]
    network: String,
    /// New name on this machine
    #[arg(long = "name", value_name = "NAME")]
    new_name: Option<String>,
    /// All own addresses, at most one of each family
    #[arg(long = "address", value_name = "ADDRESS/PREFIX")]
    addresses: Vec<String>,
    /// Largest IP packet, in bytes, or `default`
    #[arg(long, value_name = "BYTES")]
    mtu: Option<String>,
    /// Whether programs may open raw sockets of ICMP
    #[arg(long, value_name = "ON|OFF")]
    raw_sockets: Option<Switch>,
}

/// What is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Longest file that is read as a configuration, bytes.
const MAX_FILE: u64 = 512 * 1024;

/// Does it.
pub(super) fn run(context: Context, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create {
            name,
            addresses,
            mtu,
        } => {
            let body = CreateNetwork {
                name: name.clone(),
                addresses: addresses.clone(),
                mtu: *mtu,
            };
            context.show(context.ask(&Command::NetworkCreate { body })?, one)
        }
        Verb::Set(set) => {
            let body = ChangeNetwork {
                name: set.new_name.clone(),
                addresses: (!set.addresses.is_empty()).then(|| set.addresses.clone()),
                mtu: changed(
                    set.mtu.as_deref(),
                    "default",
                    "--mtu takes a number of bytes, or default",
                )?,
                raw_sockets: set.raw_sockets.map(|switch| switch == Switch::On),
            };
            if body == ChangeNetwork::default() {
                return Err(Failure::usage(
                    "say what to change: --name, --address, --mtu or --raw-sockets",
                ));
            }
            let network = set.network.clone();
            context.show(context.ask(&Command::NetworkChange { network, body })?, one)
        }
        Verb::List => context.show(context.ask(&Command::NetworkList {})?, list),
        Verb::Show { name } => {
            let network = name.clone();
            context.show(context.ask(&Command::NetworkShow { network })?, one)
        }
        Verb::Delete { name } => {
            let network = name.clone();
            let answer = context.ask(&Command::NetworkDelete { network })?;
            context.show(answer, |network: &Network| {
                Screen::sentence(&format!("network {} is deleted", network.name))
            })
        }
        Verb::Export { name } => {
            let command = |format| Command::NetworkExport {
                network: name.clone(),
                query: ExportQuery { format },
            };
            if context.json {
                let answer = context.ask(&command(ExportFormat::Json))?;
                return context.show(answer, |_: &Value| Screen::new());
            }
            let config = context.ask_text(&command(ExportFormat::WgQuick))?;
            note("this configuration holds the private key of this machine on the network");
            print(&config)
        }
        Verb::Import { file, name } => {
            let (config, fallback_name) = read_config(file)?;
            let body = ImportNetwork {
                config,
                name: name.clone(),
                fallback_name,
            };
            context.show(context.ask(&Command::NetworkImport { body })?, imported)
        }
    }
}

fn read_config(file: &Path) -> Result<(String, Option<String>), Failure> {
    let bad = |reason: &dyn std::fmt::Display| {
        Failure::file(format!("cannot read {}: {reason}", file.display()))
    };
    let stdin = file.as_os_str() == "-";
    let mut text = String::new();
    let read = if stdin {
        std::io::stdin().take(MAX_FILE).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(MAX_FILE).read_to_string(&mut text))
    };
    read.map_err(|error| bad(&error))?;
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .filter(|_| !stdin)
        .map(str::to_owned);
    Ok((text, stem))
}

fn one(network: &Network) -> Screen {
    let mut screen = Screen::new();
    screen.field(
        "network",
        Style::Plain,
        &format!("{} ({})", network.name, network.id),
    );
    match &network.failure {
        None => screen.field("status", Style::Good, "OK"),
        Some(failure) => screen.field("status", Style::Bad, &format!("FAILED: {failure}")),
    }
    screen.field(
        "addresses",
        Style::Plain,
        &network.assigned_addresses.join(", "),
    );
    screen.field("public key", Style::Plain, &network.public_key);
    screen.field(
        "listens on",
        Style::Plain,
        &format!("UDP port {}, MTU {}", network.listen_port, network.mtu),
    );
    if !network.raw_sockets {
        screen.field("raw sockets", Style::Plain, "off");
    }
    for route in &network.routes {
        let route = format!("{} via {}", route.target, route.via);
        screen.field("route", Style::Plain, &route);
    }
    screen
}

fn list(all: &Vec<Network>) -> Screen {
    let mut table = Table::new(&["NAME", "ID", "STATUS", "ADDRESSES", "PEERS"]).right(&[4]);
    for network in all {
        table.row([
            Cell::from(network.name.as_str()),
            Cell::styled(Style::Faint, network.id.as_str()),
            match network.failure {
                None => Cell::styled(Style::Good, "OK"),
                Some(_) => Cell::styled(Style::Bad, "FAILED"),
            },
            Cell::from(network.assigned_addresses.join(", ")),
            Cell::from(network.peers.to_string()),
        ]);
    }
    Screen::of(&table)
}

fn imported(imported: &Imported) -> Screen {
    for ignored in &imported.ignored {
        note(&format!("ignored: {ignored}"));
    }
    one(&imported.network)
}
