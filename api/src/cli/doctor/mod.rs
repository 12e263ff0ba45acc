// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon doctor`: what this kernel, this user and this container allow, and what to do where that is too little.
//!
//! [`children`] tries what would change or end a process in processes of its own, [`kernel`] puts that into words, [`host`]
//! looks at the rest. A failure stops netcon; a warning takes something away.

mod children;
mod host;
mod kernel;

use super::output::{Context, Failure, print};
use super::screen::{Screen, Style};
use super::table::{Cell, Table};
use clap::Args;
use netcon_kernel::probe;
use serde::Serialize;
use std::process::ExitCode;

/// What the doctor is asked for.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Try one thing in this process, and say what came of it
    #[arg(long, hide = true, value_name = "PART")]
    probe: Option<probe::Part>,
    /// The process that is looked at
    #[arg(long, hide = true, requires = "probe", value_name = "TARGET")]
    target: Option<probe::Target>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    /// For programs; stable.
    id: &'static str,
    /// For people.
    title: &'static str,
    level: Level,
    /// What is so.
    finding: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// What it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Something is less than it could be.
    Warning,
    /// netcon does not work.
    Failure,
}

impl Check {
    fn ok(id: &'static str, title: &'static str, finding: impl Into<String>) -> Self {
        Self {
            id,
            title,
            level: Level::Ok,
            finding: finding.into(),
            remedy: None,
        }
    }

    fn warning(self, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.worse(Level::Warning, finding, remedy)
    }

    fn failure(self, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.worse(Level::Failure, finding, remedy)
    }

    fn worse(self, level: Level, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level,
            finding: finding.into(),
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// The kernel's words without the number that std appends.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

/// All of it, as JSON.
#[derive(Debug, Serialize)]
struct Report {
    /// No check is a failure.
    ok: bool,
    checks: Vec<Check>,
}

/// Examines this machine; exit code 1 if something stops netcon.
pub(super) fn run(context: Context, options: &Options) -> Result<ExitCode, Failure> {
    if let Some(part) = options.probe {
        return probe::run(part, options.target, &mut std::io::stdout())
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| Failure::other(error.to_string()));
    }
    let mut checks = kernel::checks(&children::examine()?);
    checks.extend(host::checks());
    let ok = checks.iter().all(|check| check.level < Level::Failure);
    let report = Report { ok, checks };
    if context.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::other(error.to_string()))?;
        print(&format!("{text}\n"))?;
    } else {
        print(&screen(&report).finish())?;
    }
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn screen(report: &Report) -> Screen {
    let mut table = Table::new(&["CHECK", "", "FINDING"]).prose(2);
    for check in &report.checks {
        let result = match check.level {
            Level::Ok => Cell::styled(Style::Good, "ok"),
            Level::Warning => Cell::styled(Style::Warning, "warning"),
            Level::Failure => Cell::styled(Style::Bad, "FAILURE"),
        };
        table.row([
            Cell::from(check.title),
            result,
            Cell::from(check.finding.as_str()),
        ]);
        if let Some(remedy) = &check.remedy {
            table.row([
                Cell::from(""),
                Cell::from(""),
                Cell::styled(Style::Heading, format!("→ {remedy}")),
            ]);
        }
    }
    let mut screen = Screen::of(&table);
    let number = |level| {
        report
            .checks
            .iter()
            .filter(|check| check.level == level)
            .count()
    };
    let (failures, warnings) = (number(Level::Failure), number(Level::Warning));
    screen.line(Style::Plain, "");
    match (failures, warnings) {
        (0, 0) => screen.line(Style::Good, "netcon works here."),
        (0, _) => screen.line(
            Style::Warning,
            "netcon works here, with less than it could have.",
        ),
        (_, _) => screen.line(
            Style::Bad,
            "netcon does not work here: see the failures above.",
        ),
    }
    screen
}
