// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon status`.

use super::human::{count, span};
use super::output::{Context, Failure};
use super::screen::{Screen, Style};
use crate::command::Command;
use crate::model::Status;

/// Shows what runs.
pub(super) fn run(context: Context) -> Result<(), Failure> {
    context.show(context.ask(&Command::Status {})?, screen)
}

fn screen(status: &Status) -> Screen {
    let mut screen = Screen::new();
    screen.field(
        "supervisor",
        Style::Good,
        &format!(
            "netcon-supervisor {}, up {}",
            status.version,
            span(status.uptime_seconds)
        ),
    );
    screen.field(
        "overlay",
        Style::Plain,
        &format!("UDP port {}", status.udp_port),
    );
    screen.field("state", Style::Plain, &status.state_directory);
    screen.field(
        "runs",
        Style::Plain,
        &format!(
            "{}, {}",
            count(status.networks, "network"),
            count(status.containers, "container")
        ),
    );
    for broken in &status.broken_files {
        let sentence = format!("{}: {}", broken.path, broken.reason);
        screen.field("not used", Style::Warning, &sentence);
    }
    screen
}
