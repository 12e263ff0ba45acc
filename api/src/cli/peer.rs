// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon peer …`.

use super::human::{bytes, since, span};
use super::network;
use super::output::{Context, Failure, note, print, typed};
use super::screen::Screen;
use super::table::Table;
use crate::model::{AddPeer, AddedPeer, Peer};
use crate::route::encode;
use clap::{Args, Subcommand};

/// What can be done with the peers of a network.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Add a peer
    Add(Add),
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

/// A peer to be added.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// Name or id of the network
    network: String,
    /// What to call the peer
    name: String,
    /// Its public key, base64
    #[arg(long, value_name = "KEY", conflicts_with = "export")]
    public_key: Option<String>,
    /// Make keys for it and print a wg-quick file for its side, with them
    #[arg(long)]
    export: bool,
    /// Where it is
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// Where it finds this machine [default: this machine's outgoing address; the supervisor's port]
    #[arg(long, value_name = "HOST[:PORT]")]
    our_endpoint: Option<String>,
    /// Its addresses [default: the next free ones of the network]
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    allowed_ips: Vec<String>,
    /// Seconds between packets that keep a NAT open
    #[arg(long, value_name = "SECONDS")]
    keepalive: Option<u16>,
}

/// Does it.
pub(super) fn run(context: Context, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Add(add) => self::add(context, add),
        Verb::List { network } => context.show(context.get(&peers(network))?, list),
        Verb::Remove { network, peer } => {
            let answer = context.ask("DELETE", &path(network, peer))?;
            context.show(answer, |peer: &Peer| {
                Screen::sentence(&format!("peer {} is removed", display_name(peer)))
            })
        }
    }
}

fn add(context: Context, add: &Add) -> Result<(), Failure> {
    if add.public_key.is_none() && !add.export {
        return Err(Failure::usage(
            "give the peer's key with --public-key, or have a configuration with fresh keys printed with --export",
        ));
    }
    let body = AddPeer {
        name: Some(add.name.clone()),
        public_key: add.public_key.clone(),
        preshared_key: None,
        endpoint: add.endpoint.clone(),
        allowed_ips: add.allowed_ips.clone(),
        persistent_keepalive: add.keepalive,
        our_endpoint: add.our_endpoint.clone(),
        reserved: None,
    };
    let answer = context.send("POST", &peers(&add.network), &body)?;
    if context.json || !add.export {
        return context.show(answer, |added: &AddedPeer| list(&vec![added.peer.clone()]));
    }
    let added: AddedPeer = typed(answer)?;
    note(&format!(
        "peer {} is added ({}); this configuration holds its private key and is not kept here",
        add.name,
        added.peer.allowed_ips.join(", ")
    ));
    print(&added.config.unwrap_or_default())
}

fn peers(network: &str) -> String {
    format!("{}/peers", network::path(network))
}

fn path(network: &str, peer: &str) -> String {
    format!("{}/{}", peers(network), encode(peer))
}

fn list(all: &Vec<Peer>) -> Screen {
    let mut table = Table::new(&[
        "NAME",
        "ADDRESSES",
        "ENDPOINT",
        "HANDSHAKE",
        "RECEIVED",
        "SENT",
    ])
    .right(&[4, 5]);
    for peer in all {
        let handshake = peer.last_handshake.map_or_else(
            || "never".to_owned(),
            |at| format!("{} ago", span(since(at))),
        );
        table.row([
            display_name(peer).to_owned(),
            peer.allowed_ips.join(", "),
            peer.endpoint.clone().unwrap_or_else(|| "-".to_owned()),
            handshake,
            bytes(peer.rx_bytes),
            bytes(peer.tx_bytes),
        ]);
    }
    Screen::of(&table)
}

fn display_name(peer: &Peer) -> &str {
    peer.name.as_deref().unwrap_or(&peer.public_key)
}
