// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon service …`.

mod install;
mod restart;

use super::output::{Context, Failure};
use clap::Subcommand;

/// What can be done with the installation.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Install the three programs, their manual pages, completions and systemd units for this user
    Install(install::Install),
    /// Remove what was installed; networks and their keys stay
    Uninstall(install::Uninstall),
    /// End the supervisor, and start the one that is installed now; programs lose their connections
    Restart,
    /// Have the supervisor read its state directory again
    Reload,
}

/// Does it.
pub(super) fn run(context: Context, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Install(options) => install::install(context, options),
        Verb::Uninstall(options) => install::uninstall(context, options),
        Verb::Restart => restart::restart(context),
        Verb::Reload => restart::reload(),
    }
}
