// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control API over the supervisor's unix socket, blocking. One method for each operation comes from the table of
//! [`crate::route`]; [`Client::send`] is below them.

use crate::command::ApiError;
use crate::command::{Code, Command, ErrorBody};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header;
use hyper_util::rt::TokioIo;
use netcon_shim::start::{self, StartError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket cannot be reached.
    #[error(
        "no netcon-supervisor answers at {path} ({reason}); netcon-shim and netcon network start one"
    )]
    NoSupervisor {
        /// Where it was looked for.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// None runs, and none could be started.
    #[error("{0}")]
    NotStarted(#[from] StartError),
    /// The supervisor refused.
    #[error("{0}")]
    Refused(ApiError),
    /// It does not know what was asked, and is of another version than we are.
    #[error(
        "the netcon-supervisor is version {supervisor}, this netcon {}; install both from the same release, then: netcon service restart",
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion {
        /// Version of the supervisor.
        supervisor: String,
    },
    /// What came back is no answer of ours.
    #[error(
        "the supervisor's answer is not understood ({0}); install netcon and netcon-supervisor from the same release, then: netcon service restart"
    )]
    NotUnderstood(String),
    /// The connection broke, or none could be made.
    #[error("the supervisor did not answer to the end ({0}); see its log")]
    Broken(String),
}

/// A way to the supervisor.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
}

/// An answer that has begun to arrive; as an iterator, its pieces as they come.
#[derive(Debug)]
pub struct Response {
    media: String,
    body: Incoming,
    /// Drives the connection, while something is waited for.
    runtime: Runtime,
}

impl Client {
    /// The supervisor of this user, or the one `NETCON_SOCKET` names.
    ///
    /// # Errors
    /// When no place for a socket can be determined.
    pub fn new() -> Result<Self, ClientError> {
        netcon_shim::runtime::socket_path(false)
            .map(Self::at)
            .map_err(|error| ClientError::NoSupervisor {
                path: "its usual place".to_owned(),
                reason: error.to_string(),
            })
    }

    /// The supervisor that serves this socket.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The supervisor's socket.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Starts a supervisor if none answers and `NETCON_NO_START` allows it; the path of its log if one was started.
    ///
    /// # Errors
    /// [`ClientError::NotStarted`], [`ClientError::NoSupervisor`] when there is no place for a socket.
    pub fn start_supervisor(&self) -> Result<Option<PathBuf>, ClientError> {
        let absent = std::os::unix::net::UnixStream::connect(&self.path)
            .is_err_and(|error| start::is_absence(&error));
        if !absent || !start::is_allowed() {
            return Ok(None);
        }
        if let Err(error) = netcon_shim::runtime::socket_path(true) {
            return Err(ClientError::NoSupervisor {
                path: self.path.display().to_string(),
                reason: error.to_string(),
            });
        }
        Ok(start::ensure(&self.path)?)
    }

    /// Has a command done; what the supervisor answers, not read yet.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn send(&self, command: &Command) -> Result<Response, ClientError> {
        let (target, body) = command
            .request()
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        self.exchange(command.route().method.as_str(), &target, body)
    }

    /// The same; the answer as JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn json(&self, command: &Command) -> Result<Value, ClientError> {
        value(self.send(command)?)
    }

    /// A request by method, path and body; the answer as JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Value, ClientError> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        value(self.exchange(method, path, body)?)
    }

    /// The same, as a type.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let value = self.request("GET", path, None::<&()>)?;
        serde_json::from_value(value).map_err(not_understood)
    }

    fn exchange(
        &self,
        method: &str,
        target: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        let answer = runtime.block_on(self.ask(method, target, body))?;
        let status = answer.status();
        let header = |name| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let other = header(header::SERVER).and_then(other_version);
        let media = header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let response = Response {
            media,
            body: answer.into_body(),
            runtime,
        };
        if status.is_success() {
            return Ok(response);
        }
        let refused = serde_json::from_slice::<ErrorBody>(&response.whole()?);
        match (other, refused) {
            // What a difference of versions explains.
            (Some(supervisor), Err(_)) => Err(ClientError::OtherVersion { supervisor }),
            (Some(supervisor), Ok(ErrorBody { error })) if is_of_versions(error.code) => {
                Err(ClientError::OtherVersion { supervisor })
            }
            (Some(_) | None, Ok(ErrorBody { error })) => Err(ClientError::Refused(error)),
            (None, Err(error)) => Err(not_understood(error)),
        }
    }

    async fn ask(
        &self,
        method: &str,
        target: &str,
        body: Option<Vec<u8>>,
    ) -> Result<hyper::Response<Incoming>, ClientError> {
        let stream =
            UnixStream::connect(&self.path)
                .await
                .map_err(|error| ClientError::NoSupervisor {
                    path: self.path.display().to_string(),
                    reason: error.to_string(),
                })?;
        let broken = |error: &dyn std::fmt::Display| ClientError::Broken(error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(&e))?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "netcon");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, crate::answer::JSON);
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| broken(&e))?;
        sender.send_request(request).await.map_err(failed)
    }
}

impl Response {
    /// Its media type, with parameters.
    #[must_use]
    pub fn media(&self) -> &str {
        &self.media
    }

    /// All of it.
    ///
    /// # Errors
    /// [`ClientError`] when it breaks off.
    pub fn whole(self) -> Result<Vec<u8>, ClientError> {
        let Self { body, runtime, .. } = self;
        let whole = runtime.block_on(body.collect()).map_err(failed)?;
        Ok(whole.to_bytes().to_vec())
    }
}

impl Iterator for Response {
    type Item = Result<Bytes, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let frame = self.runtime.block_on(self.body.frame())?;
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(piece)) => return Some(Ok(piece)),
                // Trailers say nothing to us.
                Ok(Err(_trailers)) => {}
                Err(error) => return Some(Err(failed(error))),
            }
        }
    }
}

fn value(response: Response) -> Result<Value, ClientError> {
    serde_json::from_slice(&response.whole()?).map_err(not_understood)
}

/// Codes of what a supervisor of another version does not know.
fn is_of_versions(code: Code) -> bool {
    matches!(code, Code::UnknownPath | Code::UnknownField | Code::Method)
}

/// The version of a server that is not ours, as it may be shown.
fn other_version(server: &str) -> Option<String> {
    let version = server.strip_prefix("netcon/")?;
    let shown = |c: &char| !c.is_control();
    (version != env!("CARGO_PKG_VERSION")).then(|| version.chars().filter(shown).take(32).collect())
}

fn not_understood(error: serde_json::Error) -> ClientError {
    ClientError::NotUnderstood(error.to_string())
}

fn failed(error: hyper::Error) -> ClientError {
    if error.is_parse() {
        ClientError::NotUnderstood(error.to_string())
    } else {
        ClientError::Broken(error.to_string())
    }
}
