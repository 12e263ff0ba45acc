// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon whois`.

use super::human::span;
use super::output::{Context, Failure, print};
use super::screen::{Screen, Style};
use super::sockets::{program, running};
use crate::client::Client;
use crate::model::{Whois, WhoisKind, WhoisQuery};
use clap::Args;

/// What it takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address on a network, with a port or without: 10.77.0.2, 10.77.0.2:443, fd77::2
    address: String,
    /// Name or id of the network [default: all that run]
    #[arg(short, long)]
    network: Option<String>,
}

/// Says who has an address.
pub(super) fn run(context: Context, arguments: &Arguments) -> Result<(), Failure> {
    let client = context.client()?;
    let networks = match &arguments.network {
        Some(network) => vec![network.clone()],
        None => running(&client)?,
    };
    let mut answers = Vec::new();
    for network in &networks {
        answers.push(ask(&client, network, &arguments.address)?);
    }
    let known = |whois: &Whois| whois.kind != WhoisKind::Nobody || !whois.sockets.is_empty();
    let found = answers.iter().any(known);
    if context.json {
        let text = match (answers.as_slice(), &arguments.network) {
            ([one], Some(_)) => serde_json::to_string_pretty(one),
            (all, _) => serde_json::to_string_pretty(all),
        };
        let text = text.map_err(|error| Failure::other(error.to_string()))?;
        print(&format!("{text}\n"))?;
    } else {
        let mut screen = Screen::new();
        for whois in answers.iter().filter(|whois| known(whois)) {
            show(&mut screen, whois);
        }
        print(&screen.finish())?;
    }
    if found {
        return Ok(());
    }
    let address = &arguments.address;
    Err(Failure {
        code: 5,
        sentence: match networks.as_slice() {
            [] => "no network runs; see: netcon network list".to_owned(),
            [one] => format!("nobody has {address} on network {one}"),
            several => format!("nobody has {address} on any of {}", several.join(", ")),
        },
    })
}

/// Asks about one network.
pub(super) fn ask(client: &Client, network: &str, address: &str) -> Result<Whois, Failure> {
    let query = WhoisQuery {
        addr: address.to_owned(),
    };
    Ok(client.whois(network.to_owned(), query)?)
}

fn show(screen: &mut Screen, whois: &Whois) {
    screen.field("address", Style::Plain, &whois.address);
    screen.field("network", Style::Plain, &whois.network);
    let is = match (&whois.peer, whois.kind) {
        (Some(peer), _) => match &peer.name {
            Some(name) => format!("peer {name}"),
            None => "a peer without a name".to_owned(),
        },
        (None, WhoisKind::Own) => "this host".to_owned(),
        (None, WhoisKind::Loopback) => {
            "this host, for programs of the same network only".to_owned()
        }
        (None, WhoisKind::Peer) => "a peer that was just removed".to_owned(),
        (None, WhoisKind::Nobody) => "nobody any more".to_owned(),
    };
    screen.field("is", Style::Plain, &is);
    if let Some(peer) = &whois.peer {
        screen.field("public key", Style::Plain, &peer.public_key);
        if let Some(route) = &whois.route {
            screen.field("route", Style::Plain, route);
        }
        let endpoint = peer.endpoint.as_deref().unwrap_or("not known");
        screen.field("endpoint", Style::Plain, endpoint);
        match peer.handshake_age {
            Some(age) => screen.field("handshake", Style::Plain, &format!("{} ago", span(age))),
            None => screen.field("handshake", Style::Warning, "never"),
        }
    }
    for socket in &whois.sockets {
        let remote = socket.remote.as_deref().unwrap_or("-");
        let text = format!(
            "{} {} to {remote} {} of {}",
            socket.protocol,
            socket.local,
            socket.state,
            program(socket)
        );
        screen.field("socket", Style::Plain, &text);
    }
}
