// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `netcon` command: arguments, requests, tables, exit codes.
#![allow(clippy::print_stderr)] // its output is its purpose

mod args;
mod table;
mod terminal;

use self::args::{Args, Cli, NetworkVerb, PeerVerb};
use self::table::Table;
use crate::client::{Client, ClientError};
use crate::model::{
    AddPeer, AddedPeer, Container, CreateNetwork, ImportNetwork, Imported, Network, Peer, Status,
};
use crate::route::encode;
use clap::Parser;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("netcon: {}", failure.sentence);
            ExitCode::from(failure.code)
        }
    }
}

/// How it ends: the numbers are a promise to scripts (`netcon --help`).
struct Failure {
    code: u8,
    sentence: String,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::NoSupervisor { .. } => 3,
            ClientError::Refused(refused) if refused.status == 404 => 5,
            ClientError::Refused(refused) if refused.code == "bad_file" => 6,
            ClientError::Refused(_) => 4,
            ClientError::OtherVersion { .. } | ClientError::NotUnderstood(_) => 7,
            ClientError::Broken(_) => 1,
        };
        Self {
            code,
            sentence: error.to_string(),
        }
    }
}

/// Longest file that is read as a configuration, bytes.
const MAX_FILE: u64 = 512 * 1024;

fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new()?;
    let json = args.json;
    match &args.command {
        Cli::Status => show(json, client.request("GET", "/status", None::<&()>)?, status),
        Cli::Network(NetworkVerb::Create {
            name,
            addresses,
            mtu,
        }) => {
            let body = CreateNetwork {
                name: name.clone(),
                addresses: addresses.clone(),
                mtu: *mtu,
            };
            show(
                json,
                client.request("POST", "/networks", Some(&body))?,
                network,
            )
        }
        Cli::Network(NetworkVerb::List) => show(
            json,
            client.request("GET", "/networks", None::<&()>)?,
            networks,
        ),
        Cli::Network(NetworkVerb::Show { name }) => show(
            json,
            client.request("GET", &format!("/networks/{}", encode(name)), None::<&()>)?,
            network,
        ),
        Cli::Network(NetworkVerb::Delete { name }) => {
            let path = format!("/networks/{}", encode(name));
            show(
                json,
                client.request("DELETE", &path, None::<&()>)?,
                |n: &Network| format!("network {} is deleted\n", n.name),
            )
        }
        Cli::Network(NetworkVerb::Import { file, name }) => {
            let (config, fallback_name) = read_config(file)?;
            let body = ImportNetwork {
                config,
                name: name.clone(),
                fallback_name,
            };
            show(
                json,
                client.request("POST", "/networks/import", Some(&body))?,
                imported,
            )
        }
        Cli::Peer(PeerVerb::Add(add)) => {
            let body = AddPeer {
                name: Some(add.name.clone()),
                public_key: add.public_key.clone(),
                preshared_key: None,
                endpoint: add.endpoint.clone(),
                allowed_ips: add.allowed_ips.clone(),
                persistent_keepalive: add.keepalive,
                our_endpoint: add.our_endpoint.clone(),
            };
            if add.public_key.is_none() && !add.export {
                return Err(Failure {
                    code: 2,
                    sentence: "give the peer's key with --public-key, or have a configuration with fresh keys printed with --export"
                        .to_owned(),
                });
            }
            let path = format!("/networks/{}/peers", encode(&add.network));
            let answer = client.request("POST", &path, Some(&body))?;
            if json || !add.export {
                return show(json, answer, |added: &AddedPeer| {
                    peers(&vec![added.peer.clone()])
                });
            }
            let added: AddedPeer = typed(answer)?;
            eprintln!(
                "peer {} is added ({}); this configuration holds its private key and is not kept here",
                add.name,
                added.peer.allowed_ips.join(", ")
            );
            print(&added.config.unwrap_or_default())
        }
        Cli::Peer(PeerVerb::List { network }) => show(
            json,
            client.request(
                "GET",
                &format!("/networks/{}/peers", encode(network)),
                None::<&()>,
            )?,
            peers,
        ),
        Cli::Peer(PeerVerb::Remove { network, peer }) => {
            let path = format!("/networks/{}/peers/{}", encode(network), encode(peer));
            show(
                json,
                client.request("DELETE", &path, None::<&()>)?,
                |p: &Peer| format!("peer {} is removed\n", display_name(p)),
            )
        }
        Cli::Ps => show(
            json,
            client.request("GET", "/containers", None::<&()>)?,
            containers,
        ),
    }
}

fn read_config(file: &std::path::Path) -> Result<(String, Option<String>), Failure> {
    let bad = |reason: &dyn std::fmt::Display| Failure {
        code: 6,
        sentence: format!("cannot read {}: {reason}", file.display()),
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

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|error| ClientError::NotUnderstood(error.to_string()).into())
}

/// Prints what the API said: as it is for programs, as `table` puts it for people.
fn show<T: DeserializeOwned>(
    json: bool,
    value: Value,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if json {
        print(&format!("{value:#}\n"))
    } else {
        // Names of files and programs may hold anything; a terminal would obey it.
        let shown = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
        print(&table(&typed(value)?).chars().map(shown).collect::<String>())
    }
}

/// Writes to standard output. Whoever reads it may have had enough: that is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure {
            code: 1,
            sentence: format!("cannot write the output: {error}"),
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn status(status: &Status) -> String {
    let mut text = format!(
        "netcon-supervisor {}, up {}\noverlay on UDP port {}\nstate in {}\n{} networks, {} containers\n",
        status.version,
        span(status.uptime_seconds),
        status.udp_port,
        status.state_directory,
        status.networks,
        status.containers
    );
    for broken in &status.broken_files {
        text.push_str(&format!("not used: {}: {}\n", broken.path, broken.reason));
    }
    text
}

fn network(network: &Network) -> String {
    let status = match &network.failure {
        None => "OK".to_owned(),
        Some(failure) => format!("FAILED: {failure}"),
    };
    let mut text = format!(
        "network     {} ({})\nstatus      {status}\naddresses   {}\npublic key  {}\nlistens on  UDP port {}, MTU {}\n",
        network.name,
        network.id,
        network.assigned_addresses.join(", "),
        network.public_key,
        network.listen_port,
        network.mtu
    );
    for route in &network.routes {
        text.push_str(&format!("route       {} via {}\n", route.target, route.via));
    }
    text
}

fn networks(all: &Vec<Network>) -> String {
    let mut table = Table::new(&["NAME", "ID", "STATUS", "ADDRESSES", "PEERS"]);
    for network in all {
        let status = if network.failure.is_none() {
            "OK"
        } else {
            "FAILED"
        };
        table.row([
            network.name.clone(),
            network.id.clone(),
            status.to_owned(),
            network.assigned_addresses.join(", "),
            network.peers.to_string(),
        ]);
    }
    table.lines(terminal::width())
}

fn imported(imported: &Imported) -> String {
    for ignored in &imported.ignored {
        eprintln!("netcon: ignored: {ignored}");
    }
    network(&imported.network)
}

fn peers(all: &Vec<Peer>) -> String {
    let mut table = Table::new(&[
        "NAME",
        "ADDRESSES",
        "ENDPOINT",
        "HANDSHAKE",
        "RECEIVED",
        "SENT",
    ]);
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
    table.lines(terminal::width())
}

fn containers(all: &Vec<Container>) -> String {
    let mut table = Table::new(&["ID", "NETWORK", "PID", "SOCKETS", "UP", "PROGRAM"]);
    for container in all {
        table.row([
            container.id.to_string(),
            container.network.clone(),
            container.pid.to_string(),
            container.sockets.to_string(),
            span(since(container.started)),
            container.program.clone(),
        ]);
    }
    table.lines(terminal::width())
}

fn display_name(peer: &Peer) -> &str {
    peer.name.as_deref().unwrap_or(&peer.public_key)
}

#[expect(
    clippy::disallowed_methods,
    reason = "ages in tables are of the moment they are printed"
)]
fn since(unix: u64) -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    now.as_secs().saturating_sub(unix)
}

fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{} kB", count / 1000),
        10_000_000..=9_999_999_999 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}
