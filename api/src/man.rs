// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Manual pages from the definitions of the command lines, so that the two cannot differ.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;

/// What a page says besides what the command line says.
#[derive(Debug, Clone, Copy)]
pub struct More<'a> {
    /// Exit codes and what they mean.
    pub exit: &'a [(u8, &'a str)],
    /// Variables of the environment and what they do.
    pub environment: &'a [(&'a str, &'a str)],
    /// Files and what they are.
    pub files: &'a [(&'a str, &'a str)],
    /// Other pages, such as `netcon(1)`.
    pub see_also: &'a [&'a str],
}

/// The day by which pages are dated: of the version, so that the same sources make the same pages.
const REVISED: &str = "2026-11-21";

/// The page of a program, section 1, in roff.
///
/// # Errors
/// None that a buffer in memory has.
pub fn page(command: &Command, more: More<'_>) -> io::Result<Vec<u8>> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone())
        .date(REVISED)
        .source(format!("netcon {version}"))
        .manual("Network Containers");
    let mut page = b".\\\" SPDX-License-Identifier: Apache-2.0 OR MIT\n".to_vec();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(&mut page)?;
    }
    if command
        .get_subcommands()
        .any(|command| !command.is_hide_set())
    {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::default();
    let codes: Vec<(String, &str)> = more
        .exit
        .iter()
        .map(|(code, meaning)| (code.to_string(), *meaning))
        .collect();
    list(
        &mut roff,
        "EXIT STATUS",
        codes
            .iter()
            .map(|(code, meaning)| (code.as_str(), *meaning)),
    );
    list(&mut roff, "ENVIRONMENT", more.environment.iter().copied());
    list(&mut roff, "FILES", more.files.iter().copied());
    if !more.see_also.is_empty() {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman(more.see_also.join(", "))]);
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// Names and what they mean, under a heading; nothing if there are none.
fn list<'a>(roff: &mut Roff, heading: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        roff.control("SH", [heading]);
    }
    for (name, meaning) in rows {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(meaning)]);
    }
}

/// The same table for `--help`.
#[must_use]
pub fn exit_codes(codes: &[(u8, &str)]) -> String {
    let rows: Vec<String> = codes
        .iter()
        .map(|(code, meaning)| format!("  {code}  {meaning}"))
        .collect();
    format!("Exit codes:\n{}", rows.join("\n"))
}
