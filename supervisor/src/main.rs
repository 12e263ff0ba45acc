// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `netcon-supervisor` program.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use netcon_supervisor::args::{Args, Exit};
use netcon_supervisor::control::{Runtime, RuntimeError};
use netcon_supervisor::{logging, page, startup, sys, threads};

fn main() -> ExitCode {
    sys::allocator::set_up();
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "--man")
    {
        return print_page();
    }
    let args = Args::parse();
    if let Some(path) = &args.log_file
        && let Err(error) = logging::to_file(path)
    {
        complain(&format!(
            "Cannot write the log to {}: {error}.",
            path.display()
        ));
        return Exit::State.into();
    }
    if let Some(complaint) = logging::start(args.verbose) {
        tracing::warn!("{complaint}");
    }
    let node = |parts: startup::Parts| {
        threads::start(parts.folder, parts.udp.socket)
            .map(|running| Arc::new(running) as Arc<dyn Runtime>)
            .map_err(|error| RuntimeError(format!("Cannot start the node: {error}.")))
    };
    // Kept until the complaint is written: whoever waits for it reads the log when it closes.
    let ready = match args.ready_fd.map(sys::inherited::take).transpose() {
        Ok(ready) => ready,
        Err(error) => {
            complain(&format!("--ready-fd: {error}."));
            return Exit::Usage.into();
        }
    };
    match startup::run(&args, ready.as_ref(), node) {
        Ok(()) => Exit::Ended.into(),
        Err(failure) => {
            complain(&failure.sentence);
            failure.exit.into()
        }
    }
}

/// For packaging.
fn print_page() -> ExitCode {
    match page::page().and_then(|page| std::io::stdout().write_all(&page)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("Cannot write the manual page: {error}."));
            Exit::Failed.into()
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the one place that tells the user why there is no supervisor"
)]
fn complain(sentence: &str) {
    eprintln!("netcon-supervisor: {sentence}");
}
