// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was meant when there is no network or peer of the name that was typed.

use crate::client::Client;
use crate::command::Command;
use crate::model::{Network, Peer, PeersQuery};
use crate::route::decode;
use serde::de::DeserializeOwned;

/// A name that exists and is much like the one in a command that was not found; None if there is no such.
pub(super) fn meant(client: &Client, command: &Command) -> Option<String> {
    let (target, _body) = command.request().ok()?;
    let path = target.split('?').next()?;
    let parts: Vec<String> = path.split('/').skip(1).map(decode).collect::<Option<_>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let ["networks", network, rest @ ..] = parts.as_slice() else {
        return None;
    };
    let networks: Vec<Network> = typed(client, &Command::NetworkList {})?;
    let known = |known: &Network| known.name == *network || known.id == *network;
    if !networks.iter().any(known) {
        return nearest(network, networks.into_iter().map(|network| network.name));
    }
    let ["peers", peer] = rest else {
        return None;
    };
    let command = Command::PeerList {
        network: (*network).to_owned(),
        query: PeersQuery::default(),
    };
    let peers: Vec<Peer> = typed(client, &command)?;
    nearest(peer, peers.into_iter().filter_map(|peer| peer.name))
}

fn typed<T: DeserializeOwned>(client: &Client, command: &Command) -> Option<T> {
    serde_json::from_value(client.json(command).ok()?).ok()
}

/// The most similar of some names, if it is similar enough to be meant.
fn nearest(typed: &str, names: impl Iterator<Item = String>) -> Option<String> {
    // What clap takes for subcommands and options.
    const SIMILAR: f64 = 0.7;
    names
        .map(|name| {
            (
                strsim::jaro(&typed.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_names_are_not() {
        let names = || ["demo", "office", "lab-2"].map(str::to_owned).into_iter();
        for (typed, meant) in [
            ("dmeo", Some("demo")),
            ("Demo", Some("demo")),
            ("ofice", Some("office")),
            ("lab2", Some("lab-2")),
            ("production", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names()).as_deref(), meant, "{typed}");
        }
    }
}
