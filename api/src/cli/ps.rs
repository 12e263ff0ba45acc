// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon ps`.

use super::human::{bytes, since, span};
use super::output::{Context, Failure};
use super::screen::Screen;
use super::table::Table;
use crate::command::Command;
use crate::model::Container;

/// Lists running containers.
pub(super) fn run(context: Context) -> Result<(), Failure> {
    context.show(context.ask(&Command::ContainerList {})?, screen)
}

fn screen(all: &Vec<Container>) -> Screen {
    let mut table = Table::new(&[
        "ID", "NETWORK", "PID", "SOCKETS", "RECEIVED", "SENT", "UP", "PROGRAM",
    ])
    .right(&[0, 2, 3, 4, 5, 6]);
    for container in all {
        table.row([
            container.id.to_string(),
            container.network.clone(),
            container.pid.to_string(),
            container.sockets.to_string(),
            bytes(container.rx_bytes),
            bytes(container.tx_bytes),
            span(since(container.started)),
            container.program.clone(),
        ]);
    }
    Screen::of(&table)
}
