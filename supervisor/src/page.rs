// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The manual page, from the definition of the command line.

use std::io;

use clap::CommandFactory;
use netcon_api::man::{self, More};

use crate::args::Args;

/// The page in roff (man(7)).
///
/// # Errors
/// None that a buffer in memory has.
pub fn page() -> io::Result<Vec<u8>> {
    let mut command = Args::command();
    command.build();
    let help = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let code = |line: &str| {
        let (code, meaning) = line.trim().split_once("  ")?;
        Some((code.parse().ok()?, meaning.to_owned()))
    };
    let exit: Vec<(u8, String)> = help.lines().filter_map(code).collect();
    let exit: Vec<(u8, &str)> = exit
        .iter()
        .map(|(code, meaning)| (*code, meaning.as_str()))
        .collect();
    man::page(
        &command,
        More {
            exit: &exit,
            environment: &[
                ("NETCON_SOCKET", "where its unix socket is to be"),
                (
                    "XDG_RUNTIME_DIR",
                    "folder below which the socket is unless NETCON_SOCKET names it",
                ),
                (
                    "XDG_STATE_HOME",
                    "folder below which networks and keys are kept",
                ),
                ("RUST_LOG", "what is logged"),
            ],
            files: &[
                (
                    "~/.local/state/netcon/networks/NAME.json",
                    "a network with its keys, of mode 0600",
                ),
                (
                    "~/.local/state/netcon/token",
                    "the token by which others may use the control API",
                ),
            ],
            see_also: &["netcon(1)", "netcon-shim(1)"],
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_exit_codes_are_on_it() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        assert!(
            page.contains("\\-\\-state\\-dir") && page.contains("\\-\\-port"),
            "{page}"
        );
        for code in 0..=7 {
            assert!(page.contains(&format!("\\fB{code}\\fR")), "{code}: {page}");
        }
        assert!(
            page.contains("another supervisor uses the socket"),
            "{page}"
        );
    }
}
