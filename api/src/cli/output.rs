// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What every subcommand has: the way to the supervisor, output for people or programs, failures with their exit code.

use super::screen::Screen;
use super::suggest;
use super::table::clean;
use crate::client::{Client, ClientError};
use crate::command::{Code, Command};
use crate::model::Change;
use netcon_shim::start;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Write;
use std::str::FromStr;

/// How it ends: the numbers are a promise to scripts (`netcon --help`).
#[derive(Debug)]
pub(super) struct Failure {
    /// Exit code.
    pub(super) code: u8,
    /// For people, without a full stop needed. Empty when everything has been said already.
    pub(super) sentence: String,
}

impl Failure {
    /// Something failed that has no code of its own.
    pub(super) fn other(sentence: impl Into<String>) -> Self {
        Self {
            code: 1,
            sentence: sentence.into(),
        }
    }

    /// The arguments are wrong in a way that clap does not see.
    pub(super) fn usage(sentence: impl Into<String>) -> Self {
        Self {
            code: 2,
            sentence: sentence.into(),
        }
    }

    /// A file cannot be read, or is not what it should be.
    pub(super) fn file(sentence: impl Into<String>) -> Self {
        Self {
            code: 6,
            sentence: sentence.into(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::NoSupervisor { .. } | ClientError::NotStarted(_) => 3,
            ClientError::Refused(refused) if refused.status() == 404 => 5,
            ClientError::Refused(refused) if refused.code == Code::BadFile => 6,
            ClientError::Refused(_) => 4,
            ClientError::OtherVersion { .. } | ClientError::NotUnderstood(_) => 7,
            ClientError::Broken(_) => 1,
        };
        Self {
            code,
            sentence: error.to_string(),
        }
    }
}

/// What the options before the subcommand say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    /// Print what the supervisor answered.
    pub(super) json: bool,
    /// Start a supervisor when none runs.
    pub(super) start: bool,
}

impl Context {
    /// The way to the supervisor, which runs then if it may be started.
    pub(super) fn client(self) -> Result<Client, Failure> {
        let client = Client::new()?;
        if self.start
            && let Some(log) = client.start_supervisor()?
        {
            note(&start::told(&log));
        }
        Ok(client)
    }

    /// Has a command done; what the supervisor answers.
    pub(super) fn ask(self, command: &Command) -> Result<Value, Failure> {
        let client = self.client()?;
        client
            .json(command)
            .map_err(|error| explained(&client, command, error))
    }

    /// The same for a command whose answer is text.
    pub(super) fn ask_text(self, command: &Command) -> Result<String, Failure> {
        let client = self.client()?;
        let bytes = client
            .send(command)
            .map_err(|error| explained(&client, command, error))?
            .whole()?;
        String::from_utf8(bytes)
            .map_err(|error| ClientError::NotUnderstood(error.to_string()).into())
    }

    /// Prints what the API said: as it is for programs, as `people` puts it for people.
    pub(super) fn show<T: DeserializeOwned>(
        self,
        value: Value,
        people: impl FnOnce(&T) -> Screen,
    ) -> Result<(), Failure> {
        if self.json {
            print(&format!("{value:#}\n"))
        } else {
            print(&people(&typed(value)?).finish())
        }
    }
}

/// A refusal, with what was meant if a name was mistyped.
fn explained(client: &Client, command: &Command, error: ClientError) -> Failure {
    let not_found =
        matches!(&error, ClientError::Refused(refused) if refused.code == Code::NotFound);
    let mut failure = Failure::from(error);
    if not_found && let Some(name) = suggest::meant(client, command) {
        failure.sentence.push_str(&format!(" Did you mean {name}?"));
    }
    failure
}

/// What an option that may take something away asks for: nothing if it is not there.
pub(super) fn changed<T: FromStr>(
    option: Option<&str>,
    away: &str,
    otherwise: &str,
) -> Result<Change<T>, Failure> {
    match option {
        None => Ok(Change::Keep),
        Some(text) if text == away => Ok(Change::Clear),
        Some(text) => text
            .parse()
            .map(Change::Set)
            .map_err(|_| Failure::usage(otherwise)),
    }
}

/// An answer as a type.
pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|error| ClientError::NotUnderstood(error.to_string()).into())
}

/// Writes to standard output as it is. Whoever reads it may have had enough: that is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same for bytes.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::other(format!("cannot write the output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A sentence beside the output, on standard error.
#[allow(clippy::print_stderr)] // its purpose
pub(super) fn note(sentence: &str) {
    eprintln!("netcon: {}", clean(sentence));
}
