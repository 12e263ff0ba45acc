// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line as typed, and the exit codes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Parser};

/// Arguments of `netcon-supervisor`.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "netcon-supervisor",
    version,
    about = "Runs the virtual networks of this user, in the foreground",
    long_about = "Runs the virtual networks of this user, in the foreground.\n\n\
        Programs join a network with netcon-shim; networks and peers are managed with netcon or over \
        HTTP on localhost. SIGINT and SIGTERM end it.",
    after_help = EXIT_CODES
)]
pub struct Args {
    /// Keep networks and keys in this directory [default: $XDG_STATE_HOME/netcon or ~/.local/state/netcon]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Use this port for the overlay (UDP, next free one if it is busy) and for HTTP on loopback
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// Log more (-v decisions, -vv calls and packets, -vvv everything); RUST_LOG takes precedence
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Port of the overlay and of the control API unless another is asked for.
pub const DEFAULT_PORT: u16 = 9993;

const EXIT_CODES: &str = "Exit codes:\n  \
    0  ended by SIGINT or SIGTERM\n  \
    1  failed while running\n  \
    2  the arguments are wrong\n  \
    3  the state directory cannot be used\n  \
    4  no runtime directory or socket\n  \
    5  no UDP port is free\n  \
    6  this kernel lacks something that is needed\n  \
    7  another supervisor uses the socket or the state directory";

/// How the supervisor ends; the numbers are a promise to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Asked to end by a signal.
    Ended = 0,
    /// Something broke while it ran.
    Failed = 1,
    /// The arguments are wrong (clap exits with it).
    Usage = 2,
    /// The state directory cannot be used.
    State = 3,
    /// No runtime directory or socket.
    Runtime = 4,
    /// No UDP port is free.
    Port = 5,
    /// The kernel lacks something that is needed.
    Kernel = 6,
    /// Another supervisor uses the socket or the state directory.
    Another = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ended => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::State => 3,
            Exit::Runtime => 4,
            Exit::Port => 5,
            Exit::Kernel => 6,
            Exit::Another => 7,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_and_options() {
        let args = Args::try_parse_from(["netcon-supervisor"]).unwrap();
        assert_eq!((args.port, args.verbose, args.state_dir), (9993, 0, None));
        let args = Args::try_parse_from([
            "netcon-supervisor",
            "-vv",
            "--port",
            "7",
            "--state-dir",
            "/x",
        ])
        .unwrap();
        assert_eq!((args.port, args.verbose), (7, 2));
        assert_eq!(args.state_dir, Some(PathBuf::from("/x")));
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for wrong in [
            ["--port", "0"],
            ["--port", "65536"],
            ["--port", "x"],
            ["extra", "y"],
        ] {
            let error = Args::try_parse_from([&["netcon-supervisor"][..], &wrong[..]].concat())
                .unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
        let help = Args::try_parse_from(["netcon-supervisor", "--help"]).unwrap_err();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
        assert!(help.to_string().contains("5  no UDP port is free"));
    }
}
