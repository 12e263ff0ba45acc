// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon capture`.

use super::output::{Context, Failure};
use crate::model::{CaptureQuery, SNAPLEN_MAX};
use clap::Args;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// What it takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name or id of the network
    network: String,
    /// Write to this file [default: standard output]
    #[arg(short = 'w', long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many packets [default: go on until interrupted]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Keep so many bytes of each packet [default: all]
    #[arg(short = 's', long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=i64::from(SNAPLEN_MAX)))]
    snaplen: Option<u32>,
}

/// Writes a network's packets as pcapng.
pub(super) fn run(context: Context, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.write.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage(format!(
            "packets are no text for a terminal: name a file with -w FILE, or write netcon capture {} | tcpdump -r -",
            arguments.network
        )));
    }
    let client = context.client()?;
    let query = CaptureQuery {
        snaplen: arguments.snaplen,
        count: arguments.count,
    };
    let pieces = client.capture(arguments.network.clone(), query)?;
    let mut output: Box<dyn Write> = match &arguments.write {
        None => Box::new(io::stdout()),
        Some(path) => {
            // What programs say to each other is nobody else's business.
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            Box::new(options.open(path).map_err(|error| {
                Failure::file(format!("cannot write {}: {error}", path.display()))
            })?)
        }
    };
    for piece in pieces {
        match output.write_all(&piece?).and_then(|()| output.flush()) {
            Ok(()) => {}
            // Whoever reads it has had enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => {
                return Err(Failure::other(format!("cannot write the packets: {error}")));
            }
        }
    }
    Ok(())
}
