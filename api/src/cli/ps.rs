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

/// A command line as people read it; as ps(1), it is not quoted. The name where no more is known.
pub(super) fn command_line(command: &[String], program: &str) -> String {
    if command.is_empty() {
        program.to_owned()
    } else {
        command.join(" ")
    }
}

fn screen(all: &Vec<Container>) -> Screen {
    let mut table = Table::new(&[
        "ID", "NETWORK", "PID", "SOCKETS", "RECEIVED", "SENT", "UP", "COMMAND",
    ])
    .right(&[0, 2, 3, 4, 5, 6])
    .verbatim(7);
    for container in all {
        table.row([
            container.id.to_string(),
            container.network.clone(),
            container.pid.to_string(),
            container.sockets.to_string(),
            bytes(container.rx_bytes),
            bytes(container.tx_bytes),
            span(since(container.started)),
            command_line(&container.command, &container.program),
        ]);
    }
    Screen::of(&table)
}
