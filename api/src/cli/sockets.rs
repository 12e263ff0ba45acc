// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon sockets`.

use super::human::{bytes, span};
use super::output::{Context, Failure, print};
use super::screen::Screen;
use super::table::Table;
use super::terminal;
use crate::client::Client;
use crate::model::{Network, NetworkStatus, Socket, Sockets, SocketsQuery};
use clap::Args;
use serde_json::{Map, Value, json};

/// What it takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name or id of the network [default: all that run]
    network: Option<String>,
    /// Only the sockets of this container
    #[arg(long, value_name = "ID")]
    container: Option<u64>,
}

/// Columns from which on everything has room.
const WIDE: usize = 120;

/// Lists sockets of programs.
pub(super) fn run(context: Context, arguments: &Arguments) -> Result<(), Failure> {
    let client = context.client()?;
    if let Some(network) = &arguments.network {
        let sockets = all(&client, network, arguments.container)?;
        return if context.json {
            print(&format!("{:#}\n", json!({ "sockets": sockets })))
        } else {
            print(&screen(&[(network.clone(), sockets)], false).finish())
        };
    }
    let mut networks = Vec::new();
    for network in running(&client)? {
        let sockets = all(&client, &network, arguments.container)?;
        networks.push((network, sockets));
    }
    if context.json {
        let by_name: Map<String, Value> = networks
            .into_iter()
            .map(|(name, sockets)| (name, json!({ "sockets": sockets })))
            .collect();
        print(&format!("{:#}\n", Value::Object(by_name)))
    } else {
        print(&screen(&networks, true).finish())
    }
}

/// Names of the networks that run.
pub(super) fn running(client: &Client) -> Result<Vec<String>, Failure> {
    let networks: Vec<Network> = client.network_list()?;
    let running = |network: &Network| network.status == NetworkStatus::Ok;
    Ok(networks
        .into_iter()
        .filter(running)
        .map(|network| network.name)
        .collect())
}

/// Page by page.
fn all(client: &Client, network: &str, container: Option<u64>) -> Result<Vec<Socket>, Failure> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let query = SocketsQuery {
            after,
            limit: None,
            container,
        };
        let page: Sockets = client.socket_list(network.to_owned(), query)?;
        found.extend(page.sockets);
        // An answer that goes on where it began would go on for ever.
        match page.next {
            Some(next) if after.is_none_or(|after| next > after) => after = Some(next),
            Some(_) | None => return Ok(found),
        }
    }
}

fn screen(networks: &[(String, Vec<Socket>)], named: bool) -> Screen {
    let wide = terminal::width().is_none_or(|width| width >= WIDE);
    let mut headings = if named { vec!["NETWORK"] } else { vec![] };
    headings.extend(["PROTO", "LOCAL", "REMOTE", "STATE"]);
    if wide {
        headings.extend(["RECV-Q", "SEND-Q", "RECEIVED", "SENT", "AGE"]);
    }
    headings.push("PROGRAM");
    let mut table = Table::new(&headings).right(match (wide, named) {
        (true, true) => &[5, 6, 7, 8, 9],
        (true, false) => &[4, 5, 6, 7, 8],
        (false, _) => &[],
    });
    for (network, sockets) in networks {
        for socket in sockets {
            let mut row = if named { vec![network.clone()] } else { vec![] };
            row.extend([
                socket.protocol.clone(),
                socket.local.clone(),
                socket.remote.clone().unwrap_or_else(|| "-".to_owned()),
                socket.state.clone(),
            ]);
            if wide {
                row.extend([
                    socket.receive_queue.to_string(),
                    socket.send_queue.to_string(),
                    bytes(socket.rx_bytes),
                    bytes(socket.tx_bytes),
                    span(socket.age),
                ]);
            }
            row.push(program(socket));
            table.row(row);
        }
    }
    Screen::of(&table)
}

/// Program and process, as far as they are known.
pub(super) fn program(socket: &Socket) -> String {
    match (&socket.program, socket.pid) {
        (Some(program), Some(pid)) => format!("{program}[{pid}]"),
        (Some(one), None) => one.clone(),
        (None, Some(pid)) => format!("[{pid}]"),
        (None, None) => format!("container {}", socket.container),
    }
}
