// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `netcon` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    netcon_api::cli::main()
}
