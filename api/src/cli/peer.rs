// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon peer …`.

use super::generated;
use super::human::{bytes, count, since, span};
use super::output::{Context, Failure, changed, note, print, typed};
use super::qr;
use super::screen::{Screen, Style};
use super::table::Table;
use crate::command::Command;
use crate::model::{AddPeer, AddedPeer, ChangePeer, Peer, PeersFormat, PeersQuery};
use crate::wgquick::File;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use std::net::{IpAddr, SocketAddr};

/// What can be done with the peers of a network.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Add a peer
    Add(Add),
    /// List the peers of a network
    List {
        /// Name or id
        #[arg(add = ArgValueCandidates::new(generated::networks))]
        network: String,
        /// Print the table of `wg show INTERFACE dump`, for programs that read it
        #[arg(long, conflicts_with = "json")]
        dump: bool,
    },
    /// Show a peer
    Show {
        /// Name or id
        #[arg(add = ArgValueCandidates::new(generated::networks))]
        network: String,
        /// Name or public key
        #[arg(add = ArgValueCandidates::new(generated::peers))]
        peer: String,
    },
    /// Change a peer; its session goes on
    Set(Set),
    /// Remove a peer
    Remove {
        /// Name or id
        #[arg(add = ArgValueCandidates::new(generated::networks))]
        network: String,
        /// Name or public key
        #[arg(add = ArgValueCandidates::new(generated::peers))]
        peer: String,
    },
}

/// A peer to be added.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// Name or id of the network
    #[arg(add = ArgValueCandidates::new(generated::networks))]
    network: String,
    /// What to call the peer
    name: String,
    /// Its public key, base64
    #[arg(long, value_name = "KEY", conflicts_with = "export")]
    public_key: Option<String>,
    /// Make keys for it and print a wg-quick file for its side, with them
    #[arg(long)]
    export: bool,
    /// The same as a QR code, for WireGuard's app on a phone
    #[arg(long, conflicts_with_all = ["public_key", "json"])]
    qr: bool,
    /// Symmetric key mixed into the handshake, base64 [default with --export: a fresh one]
    #[arg(long, value_name = "KEY")]
    preshared_key: Option<String>,
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

/// What is to be changed. What is not named stays; `none` takes away.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// Name or id of the network
    #[arg(add = ArgValueCandidates::new(generated::networks))]
    network: String,
    /// Name or public key
    #[arg(add = ArgValueCandidates::new(generated::peers))]
    peer: String,
    /// What to call it, or `none`
    #[arg(long = "name", value_name = "NAME")]
    new_name: Option<String>,
    /// Symmetric key mixed into the handshake, base64, or `none`
    #[arg(long, value_name = "KEY")]
    preshared_key: Option<String>,
    /// Where it is, or `none`
    #[arg(long = "endpoint", value_name = "HOST:PORT")]
    new_endpoint: Option<String>,
    /// All its addresses
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    allowed_ips: Vec<String>,
    /// Seconds between packets that keep a NAT open, or `none`
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    keepalive: Option<String>,
}

/// Does it.
pub(super) fn run(context: Context, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Add(add) => self::add(context, add),
        Verb::List { network, dump } => {
            let command = |format| Command::PeerList {
                network: network.clone(),
                query: PeersQuery { format },
            };
            if *dump {
                return print(&context.ask_text(&command(PeersFormat::WgDump))?);
            }
            context.show(context.ask(&command(PeersFormat::Json))?, list)
        }
        Verb::Show { network, peer } => {
            let (network, peer) = (network.clone(), peer.clone());
            context.show(context.ask(&Command::PeerShow { network, peer })?, one)
        }
        Verb::Set(set) => {
            let text = |option: &Option<String>| changed(option.as_deref(), "none", "");
            let body = ChangePeer {
                name: text(&set.new_name)?,
                preshared_key: text(&set.preshared_key)?,
                endpoint: text(&set.new_endpoint)?,
                allowed_ips: (!set.allowed_ips.is_empty()).then(|| set.allowed_ips.clone()),
                persistent_keepalive: changed(
                    set.keepalive.as_deref(),
                    "none",
                    "--keepalive takes a number of seconds, or none",
                )?,
                ..ChangePeer::default()
            };
            if body == ChangePeer::default() {
                return Err(Failure::usage(
                    "say what to change: --name, --preshared-key, --endpoint, --allowed-ips or --keepalive",
                ));
            }
            let (network, peer) = (set.network.clone(), set.peer.clone());
            context.show(
                context.ask(&Command::PeerChange {
                    network,
                    peer,
                    body,
                })?,
                one,
            )
        }
        Verb::Remove { network, peer } => {
            let (network, peer) = (network.clone(), peer.clone());
            let answer = context.ask(&Command::PeerRemove { network, peer })?;
            context.show(answer, |peer: &Peer| {
                Screen::sentence(&format!("peer {} is removed", display_name(peer)))
            })
        }
    }
}

fn add(context: Context, add: &Add) -> Result<(), Failure> {
    if add.public_key.is_none() && !(add.export || add.qr) {
        return Err(Failure::usage(
            "give the peer's key with --public-key, or have a configuration with fresh keys printed with --export",
        ));
    }
    let body = AddPeer {
        name: Some(add.name.clone()),
        public_key: add.public_key.clone(),
        preshared_key: add.preshared_key.clone(),
        endpoint: add.endpoint.clone(),
        allowed_ips: add.allowed_ips.clone(),
        persistent_keepalive: add.keepalive,
        our_endpoint: add.our_endpoint.clone(),
        reserved: None,
    };
    let network = add.network.clone();
    let answer = context.ask(&Command::PeerAdd { network, body })?;
    if context.json || !(add.export || add.qr) {
        return context.show(answer, |added: &AddedPeer| list(&vec![added.peer.clone()]));
    }
    let added: AddedPeer = typed(answer)?;
    note(&format!(
        "peer {} is added ({}); this configuration holds its private key and is not kept here",
        add.name,
        added.peer.allowed_ips.join(", ")
    ));
    let config = added.config.unwrap_or_default();
    if add.our_endpoint.is_none()
        && let Some(endpoint) = only_near(&config)
    {
        note(&format!(
            "the peer finds this machine at {endpoint}, which works only near it; say where it is from outside with --our-endpoint"
        ));
    }
    if add.qr {
        let code = qr::lines(&config).ok_or_else(|| {
            Failure::other("the configuration is too long for a QR code; use --export")
        })?;
        return print(&code);
    }
    print(&config)
}

/// The endpoint of an exported file, if it is an address that is not reached from everywhere.
fn only_near(config: &str) -> Option<SocketAddr> {
    let file = File::parse(config).ok()?;
    let endpoint: SocketAddr = file.peers.first()?.endpoint.as_deref()?.parse().ok()?;
    let near = match endpoint.ip() {
        IpAddr::V4(v4) => {
            // 100.64.0.0/10 is shared by customers of one provider (RFC 6598).
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    };
    near.then_some(endpoint)
}

fn one(peer: &Peer) -> Screen {
    let mut screen = Screen::new();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    screen.field("peer", Style::Plain, display_name(peer));
    screen.field("public key", Style::Plain, &peer.public_key);
    screen.field("addresses", Style::Plain, &peer.allowed_ips.join(", "));
    let heard = if peer.endpoint_learned {
        ", where it was heard from"
    } else {
        ""
    };
    let endpoint = format!("{}{heard}", or_none(peer.endpoint.clone()));
    screen.field("endpoint", Style::Plain, &endpoint);
    match peer.last_handshake {
        Some(at) => {
            let ago = format!("{} ago", span(since(at)));
            screen.field("handshake", Style::Good, &ago);
        }
        None => screen.field("handshake", Style::Faint, "never"),
    }
    if peer.unanswered > 0 {
        let tries = count(
            usize::try_from(peer.unanswered).unwrap_or(usize::MAX),
            "handshake",
        );
        let sentence = format!("{tries} without an answer: check its endpoint, port and firewall");
        screen.field("unanswered", Style::Warning, &sentence);
    }
    let transfer = format!(
        "{} received, {} sent",
        bytes(peer.rx_bytes),
        bytes(peer.tx_bytes)
    );
    screen.field("transfer", Style::Plain, &transfer);
    let keepalive = peer
        .persistent_keepalive
        .map(|seconds| format!("every {seconds} s"));
    screen.field("keepalive", Style::Plain, &or_none(keepalive));
    let preshared = if peer.has_preshared_key { "yes" } else { "no" };
    screen.field("preshared", Style::Plain, preshared);
    for (reason, number) in &peer.drops {
        screen.field("dropped", Style::Warning, &format!("{number}: {reason}"));
    }
    screen
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
    .right(&[4, 5])
    .whole(&[2]);
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
