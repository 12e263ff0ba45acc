// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line. Options end at the program's name: what follows is the program's.

use crate::failure::Failure;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `--man`, for packaging: the manual page.
    Man,
    /// A program.
    Run(Args),
}

/// A program to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// The network by name or id; `None`: the only one there is.
    pub(crate) network: Option<String>,
    /// Whether a supervisor may be started when none runs.
    pub(crate) start: bool,
    /// The program as typed; its argv\[0\].
    pub(crate) command: OsString,
    /// What follows it.
    pub(crate) arguments: Vec<OsString>,
}

/// Text of `--help`.
pub(crate) const HELP: &str = "\
Run a program on a virtual network

Usage: netcon-shim [--net NAME] [--no-start] [--] PROGRAM [ARGUMENT]...

Options:
  --net NAME  Network to run on, by name or id (default: NETCON_NET, else the only one there is)
  --no-start  Do not start a supervisor when none runs
  --help      Print this help
  --version   Print the version

Environment:
  NETCON_NET        Network to run on; set for the program to the one it runs on
  NETCON_SOCKET     Socket of the supervisor
  NETCON_NO_START   As --no-start, unless empty or 0
  NETCON_IDLE_EXIT  Seconds after which a supervisor started by netcon-shim ends when nothing needs it
                    (default: 600; 0: never)

Exit status: the program's own; 125 if netcon-shim fails, 126 if the program cannot be executed,
127 if it is not found.
";

/// Parses what follows the shim's own name. `default` is NETCON_NET; an empty one counts as unset.
pub(crate) fn parse(
    arguments: Vec<OsString>,
    default: Option<OsString>,
) -> Result<Request, Failure> {
    let mut arguments = arguments.into_iter();
    let mut network = default.filter(|name| !name.is_empty());
    let mut start = true;
    let command = loop {
        let Some(argument) = arguments.next() else {
            return Err(Failure::Usage("no program given".to_owned()));
        };
        match argument.as_bytes() {
            b"--" => {
                break arguments
                    .next()
                    .ok_or_else(|| Failure::Usage("no program given".to_owned()))?;
            }
            b"--help" | b"-h" => return Ok(Request::Help),
            b"--version" | b"-V" => return Ok(Request::Version),
            b"--man" => return Ok(Request::Man),
            b"--no-start" => start = false,
            b"--net" => {
                network = Some(
                    arguments
                        .next()
                        .ok_or_else(|| Failure::Usage("--net needs a name".to_owned()))?,
                );
            }
            option => match option.strip_prefix(b"--net=") {
                Some(name) => network = Some(OsString::from_vec(name.to_vec())),
                None if option.len() > 1 && option.starts_with(b"-") => {
                    return Err(Failure::Usage(format!(
                        "unknown option {}",
                        argument.display()
                    )));
                }
                None => break argument,
            },
        }
    };
    Ok(Request::Run(Args {
        network: network.map(checked).transpose()?,
        start,
        command,
        arguments: arguments.collect(),
    }))
}

fn checked(name: OsString) -> Result<String, Failure> {
    match name.into_string() {
        Ok(name) if name.is_empty() => Err(Failure::Usage("--net needs a name".to_owned())),
        Ok(name) if name.len() > netcon_shim::handover::MAX_NETWORK => Err(Failure::Usage(
            "the name of the network is too long".to_owned(),
        )),
        Ok(name) => Ok(name),
        Err(name) => Err(Failure::Usage(format!(
            "{} cannot be the name of a network",
            name.display()
        ))),
    }
}
