// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon-relay`: a bad network between real programs. See `docs/relay.md`.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the command line"
)]

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use netcon_tests::relay::nat::Relay;
use netcon_tests::relay::rules::{Command, parse};
use nix::poll::{PollFd, PollFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A longer line is a mistake.
const MAX_LINE: usize = 4096;

/// Passes UDP datagrams on to a target and back, and treats them as a bad network would.
#[derive(Debug, Parser)]
#[command(name = "netcon-relay", version, after_help = HELP)]
struct Args {
    /// Listen here; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Pass on to this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// Send to the target from this address of the machine
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// Chance follows from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A rule to begin with, such as "both loss=1% delay=20ms"; may be given several times
    #[arg(long, value_name = "LINE")]
    rule: Vec<String>,
}

const HELP: &str = "Commands on standard input, one a line, each answered by `ok` or `error: …`:\n  \
    up|down|both RULE…   rules for datagrams to the target, back, or both ways:\n                       \
    delay=20ms jitter=5ms loss=1% burst=0.1%:20 reorder=5%:10ms duplicate=1%\n                       \
    corrupt=0.1% rate=20mbit|none queue=64kB; what is not named stays\n  \
    clear [up|down]      no rules\n  \
    rebind               another port towards the target for every client\n  \
    to ADDRESS:PORT      another target\n  \
    counts               prints the figures so far as a line of JSON\n  \
    quit                 prints the figures and ends, as SIGTERM and SIGINT do";

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netcon-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let signals = end_signals()?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let mut relay = Relay::new(args.listen, args.to, args.bind, args.seed)
        .map_err(|error| format!("cannot relay from {} to {}: {error}", args.listen, args.to))?;
    for rule in &args.rule {
        match parse(rule)? {
            Some(command @ Command::Change(..)) => relay.command(&command)?,
            _ => return Err(format!("--rule: `{rule}` is no rule").into()),
        }
    }
    let address = relay.address()?;
    say(&format!(
        "relay at {} port {} to {}",
        address.ip(),
        address.port(),
        args.to
    ))?;
    let mut input = Input::new()?;
    loop {
        let mut others = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(file) = &input.file {
            others.push(PollFd::new(file.as_fd(), PollFlags::POLLIN));
        }
        relay.wait(now(), &others)?;
        relay.turn(now());
        if signals.read_signal()?.is_some() {
            break;
        }
        let mut quit = false;
        for line in input.lines()? {
            match parse(&line) {
                Ok(None) => {}
                Ok(Some(Command::Counts)) => report(&relay)?,
                Ok(Some(Command::Quit)) => quit = true,
                Ok(Some(command)) => match relay.command(&command) {
                    Ok(()) => say("ok")?,
                    Err(error) => say(&format!("error: {error}"))?,
                },
                Err(error) => say(&format!("error: {error}"))?,
            }
        }
        if quit {
            break;
        }
    }
    report(&relay)
}

/// SIGTERM and SIGINT as something to read.
fn end_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

fn report(relay: &Relay) -> Result<(), Box<dyn Error>> {
    Ok(say(&serde_json::to_string(&relay.report())?)?)
}

fn say(line: &str) -> io::Result<()> {
    println!("{line}");
    io::stdout().flush()
}

#[expect(clippy::disallowed_methods, reason = "the relay's clock reader")]
fn now() -> Instant {
    Instant::now()
}

/// Standard input, line by line, never waited for.
struct Input {
    /// None once it has ended: the relay goes on without.
    file: Option<File>,
    rest: Vec<u8>,
}

impl Input {
    fn new() -> io::Result<Self> {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Self {
            file: Some(file),
            rest: Vec::new(),
        })
    }

    /// The whole lines that are there.
    fn lines(&mut self) -> io::Result<Vec<String>> {
        let Some(file) = &mut self.file else {
            return Ok(Vec::new());
        };
        let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut ready, 0u8)?;
        if ready[0].revents().is_none_or(|events| events.is_empty()) {
            return Ok(Vec::new());
        }
        let mut block = [0; MAX_LINE];
        let len = file.read(&mut block)?;
        if len == 0 {
            self.file = None;
        }
        self.rest.extend_from_slice(&block[..len]);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        // Rather refused as a command than kept for ever.
        if self.rest.len() > MAX_LINE {
            lines.push(String::from_utf8_lossy(&self.rest).into_owned());
            self.rest.clear();
        }
        Ok(lines)
    }
}
