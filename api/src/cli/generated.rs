// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is made of the command line's definition: manual pages, and what a shell completes.

use super::args::{self, Args};
use super::beside::Program;
use super::output::{Failure, note, print_bytes};
use crate::client::Client;
use crate::command::Command;
use crate::man::{self, More};
use crate::model::{Network, Peer, PeersQuery};
use clap::{CommandFactory, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Shells that complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    /// GNU bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

impl Shell {
    /// The script by which the shell asks this program what can stand at the cursor.
    pub(super) fn script(self) -> Result<Vec<u8>, Failure> {
        let shell: &dyn EnvCompleter = match self {
            Self::Bash => &Bash,
            Self::Zsh => &Zsh,
            Self::Fish => &Fish,
        };
        let mut script = Vec::new();
        shell
            .write_registration("COMPLETE", "netcon", "netcon", "netcon", &mut script)
            .map_err(|error| Failure::other(error.to_string()))?;
        Ok(script)
    }
}

/// Answers a shell that asks what can stand at the cursor, and ends; otherwise nothing.
pub(super) fn complete() {
    CompleteEnv::with_factory(Args::command).complete();
}

/// `netcon completions`.
pub(super) fn completions(shell: Option<Shell>, names: bool) -> Result<(), Failure> {
    let mut text = Vec::new();
    if names {
        let networks: Vec<Network> = typed(&Command::NetworkList {}).unwrap_or_default();
        for network in networks {
            text.extend_from_slice(network.name.as_bytes());
            text.push(b'\n');
        }
    }
    if let Some(shell) = shell {
        text.extend(shell.script()?);
        for program in Program::ALL {
            match program.completions(shell) {
                Ok(script) => text.extend(script),
                // The programs may have been installed apart.
                Err(error) => note(&format!(
                    "nothing is completed for {}: {}",
                    program.name(),
                    error.sentence
                )),
            }
        }
    }
    print_bytes(&text)
}

/// Writes all manual pages of this program to a folder.
pub(super) fn write_pages(folder: &Path) -> Result<(), Failure> {
    for (name, page) in pages()? {
        let path = folder.join(name);
        std::fs::write(&path, page)
            .map_err(|error| Failure::file(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(())
}

/// The manual pages of this program: one for itself, one for each subcommand.
pub(super) fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut root = Args::command().disable_help_subcommand(true);
    root.build();
    let mut all = Vec::new();
    collect(&root, &mut all).map_err(|error| Failure::other(error.to_string()))?;
    Ok(all)
}

fn collect(command: &clap::Command, all: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let more = if name == "netcon" {
        More {
            exit: args::EXIT_CODES,
            environment: args::ENVIRONMENT,
            files: &[],
            see_also: &["netcon-shim(1)", "netcon-supervisor(1)", "wg-quick(8)"],
        }
    } else {
        More {
            exit: &[],
            environment: &[],
            files: &[],
            see_also: &["netcon(1)"],
        }
    };
    all.push((format!("{name}.1"), man::page(command, more)?));
    for command in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        collect(command, all)?;
    }
    Ok(())
}

/// Names of the networks there are, for completion.
pub(super) fn networks() -> Vec<CompletionCandidate> {
    let networks: Option<Vec<Network>> = typed(&Command::NetworkList {});
    let candidate = |network: Network| {
        CompletionCandidate::new(network.name)
            .help(Some(network.assigned_addresses.join(", ").into()))
    };
    networks
        .unwrap_or_default()
        .into_iter()
        .map(candidate)
        .collect()
}

/// Names of the peers there are, of all networks, for completion.
pub(super) fn peers() -> Vec<CompletionCandidate> {
    let networks: Option<Vec<Network>> = typed(&Command::NetworkList {});
    let of = |network: Network| {
        let query = PeersQuery::default();
        let peers = typed::<Vec<Peer>>(&Command::PeerList {
            network: network.name,
            query,
        });
        peers.unwrap_or_default()
    };
    let peers = networks.unwrap_or_default().into_iter().flat_map(of);
    peers
        .filter_map(|peer| peer.name)
        .map(CompletionCandidate::new)
        .collect()
}

/// Without a supervisor there is nothing to complete; that is said when the command runs.
fn typed<T: DeserializeOwned>(command: &Command) -> Option<T> {
    serde_json::from_value(Client::new().ok()?.json(command).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "netcon.1",
            "netcon-status.1",
            "netcon-network-create.1",
            "netcon-peer-add.1",
            "netcon-doctor.1",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        let text = |name: &str| {
            let (_, page) = pages.iter().find(|(found, _)| found == name).unwrap();
            String::from_utf8(page.clone()).unwrap()
        };
        let main = text("netcon.1");
        for (code, meaning) in args::EXIT_CODES {
            let meaning = meaning.replace('-', "\\-");
            assert!(
                main.contains(&format!("\\fB{code}\\fR\n{meaning}\n")),
                "{code}: {main}"
            );
        }
        assert!(main.contains("NETCON_SOCKET") && main.contains("SEE ALSO"));
        // What only packaging and the doctor's own processes use is not for people.
        assert!(!names.contains(&"netcon-man.1") && !text("netcon-doctor.1").contains("probe"));
        assert!(text("netcon-peer-add.1").contains("\\-\\-our\\-endpoint"));
    }
}
