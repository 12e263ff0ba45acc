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
        HTTP on localhost. netcon-shim and netcon start a supervisor when none runs.\n\n\
        SIGINT and SIGTERM end it, SIGHUP has it read its state directory again.",
    after_help = AFTER_HELP
)]
pub struct Args {
    /// Keep networks and keys in this directory [default: NETCON_STATE_DIR, $XDG_STATE_HOME/netcon or
    /// ~/.local/state/netcon]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Use this port for the overlay (UDP, next free one if it is busy) and for HTTP on loopback [default: NETCON_PORT
    /// or 9993]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// End when nothing has needed it for so long: no program, no connection to its API; 0 is never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub idle_exit: u32,

    /// Write the log to this file, 1 MiB of it and 1 MiB of what was before in FILE.1; SIGHUP opens it anew
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Write a line to this open descriptor when everything is ready
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(3..))]
    pub ready_fd: Option<i32>,

    /// Log more (-v decisions, -vv calls and packets, -vvv everything); RUST_LOG takes precedence
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Port of the overlay and of the control API unless another is asked for.
pub const DEFAULT_PORT: u16 = 9993;

const AFTER_HELP: &str = "Exit codes:\n  \
    0  ended by SIGINT or SIGTERM, or idle\n  \
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
    /// Asked to end by a signal, or idle.
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

impl Args {
    /// The port as said on the command line, else in NETCON_PORT, else [`DEFAULT_PORT`].
    ///
    /// # Errors
    /// A sentence when NETCON_PORT is no port.
    pub fn wanted_port(&self) -> Result<u16, String> {
        if let Some(port) = self.port {
            return Ok(port);
        }
        match std::env::var_os("NETCON_PORT").filter(|value| !value.is_empty()) {
            None => Ok(DEFAULT_PORT),
            Some(value) => value
                .to_str()
                .and_then(|text| text.parse().ok())
                .filter(|port| *port > 0)
                .ok_or_else(|| {
                    format!(
                        "NETCON_PORT={} is not a port; use 1 to 65535.",
                        value.display()
                    )
                }),
        }
    }
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
        assert_eq!((args.port, args.verbose, args.state_dir), (None, 0, None));
        assert_eq!(
            (args.idle_exit, args.log_file, args.ready_fd),
            (0, None, None)
        );
        let args = Args::try_parse_from([
            "netcon-supervisor",
            "-vv",
            "--port",
            "7",
            "--state-dir",
            "/x",
        ])
        .unwrap();
        assert_eq!((args.port, args.verbose), (Some(7), 2));
        assert_eq!(args.state_dir, Some(PathBuf::from("/x")));
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for wrong in [
            ["--port", "0"],
            ["--port", "65536"],
            ["--port", "x"],
            ["--idle-exit", "-1"],
            ["--ready-fd", "2"],
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
