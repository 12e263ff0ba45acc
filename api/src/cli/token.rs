// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon token`.

use super::output::{Context, Failure, print};
use crate::command::Command;
use crate::model::TokenView;

/// Prints the token; with `rotate` a new one.
pub(super) fn run(context: Context, rotate: bool) -> Result<(), Failure> {
    let command = if rotate {
        Command::TokenRotate {}
    } else {
        Command::TokenShow {}
    };
    let answer = context.client()?.json(&command)?;
    if context.json {
        return print(&format!("{answer:#}\n"));
    }
    let TokenView { token, path: _ } = super::output::typed(answer)?;
    print(&format!("{token}\n"))
}
