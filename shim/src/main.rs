// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon-shim [--net NAME] [--] PROGRAM [ARGUMENT]...`: runs a program on a virtual network.
//!
//! What can fail is tried before the filter is installed, which cannot be undone; what only the supervisor's trial of it
//! shows ends the shim before the program starts. The process keeps nothing of
//! the shim once the program runs: no descriptor, no signal disposition, no thread. That is why there is no Rust runtime
//! around `main`: it would ignore SIGPIPE and open /dev/null in place of a closed standard descriptor, and the program
//! would inherit both.
#![cfg_attr(not(test), no_main)]

mod args;
mod failure;
mod launch;
mod page;
mod program;
#[cfg(test)]
mod tests;

use args::{Args, Request};
use failure::Failure;
use std::ffi::OsString;
use std::io::Write;

/// What the C library calls. The arguments come through `std::env`, which glibc fills before.
#[allow(
    unsafe_code,
    reason = "`main` is the C library's name; nothing else of this program has it"
)]
#[cfg_attr(not(test), unsafe(export_name = "main"))]
#[cfg_attr(test, expect(dead_code, reason = "a test binary has its own"))]
extern "C" fn entry() -> i32 {
    run(std::env::args_os().skip(1).collect())
}

/// Does what the arguments say; returns only with the exit status of a failure, or of `--help` and `--version`.
fn run(arguments: Vec<OsString>) -> i32 {
    let result = match args::parse(arguments, std::env::var_os("NETCON_NET")) {
        Ok(Request::Help) => print(args::HELP),
        Ok(Request::Version) => print(concat!("netcon-shim ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Request::Man) => print(&page::page(args::HELP, env!("CARGO_PKG_VERSION"))),
        Ok(Request::Run(args)) => start(&args),
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => failure.report(),
    }
}

fn start(args: &Args) -> Result<(), Failure> {
    let program = program::find(&args.command, std::env::var_os("PATH").as_deref())?;
    let network = launch::enter(args)?;
    Err(program.execute(&args.command, &args.arguments, &network))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}
