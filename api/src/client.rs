// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control API over the supervisor's unix socket, blocking.

use crate::command::ApiError;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use tokio::net::UnixStream;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket cannot be reached.
    #[error("no netcon-supervisor answers at {path} ({reason}); start one with: netcon-supervisor")]
    NoSupervisor {
        /// Where it was looked for.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The supervisor refused.
    #[error("{0}")]
    Refused(ApiError),
    /// It does not know what was asked, and is of another version than we are.
    #[error(
        "the netcon-supervisor is version {supervisor}, this netcon {}; install both from the same release and start the supervisor again",
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion {
        /// Version of the supervisor.
        supervisor: String,
    },
    /// What came back is no answer of ours.
    #[error(
        "the supervisor's answer is not understood ({0}); install netcon and netcon-supervisor from the same release and start the supervisor again"
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

impl Client {
    /// The supervisor of this user, or the one `NETCON_SOCKET` names.
    ///
    /// # Errors
    /// When no place for a socket can be determined.
    pub fn new() -> Result<Self, ClientError> {
        netcon_shim::runtime::socket_path(false)
            .map(|path| Self { path })
            .map_err(|error| ClientError::NoSupervisor {
                path: "its usual place".to_owned(),
                reason: error.to_string(),
            })
    }

    /// One request; the answer's JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Value, ClientError> {
        let body = match body {
            Some(body) => {
                serde_json::to_vec(body).map_err(|error| ClientError::Broken(error.to_string()))?
            }
            None => Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        runtime.block_on(self.exchange(method, path, body))
    }

    /// The same, as a type.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let value = self.request("GET", path, None::<&()>)?;
        serde_json::from_value(value).map_err(|error| ClientError::NotUnderstood(error.to_string()))
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Value, ClientError> {
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
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "netcon")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| broken(&e))?;
        let failed = |error: hyper::Error| {
            if error.is_parse() {
                ClientError::NotUnderstood(error.to_string())
            } else {
                ClientError::Broken(error.to_string())
            }
        };
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let other_version = response
            .headers()
            .get(hyper::header::SERVER)
            .and_then(|server| server.to_str().ok()?.strip_prefix("netcon/"))
            .filter(|version| *version != env!("CARGO_PKG_VERSION"))
            .map(|version| ClientError::OtherVersion {
                supervisor: version
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(32)
                    .collect(),
            });
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(failed)?
            .to_bytes();
        let not_understood = |e: serde_json::Error| ClientError::NotUnderstood(e.to_string());
        let value: Value = serde_json::from_slice(&bytes).map_err(not_understood)?;
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let error = value.get("error").cloned().unwrap_or(Value::Null);
        let mut error: ApiError = serde_json::from_value(error).map_err(not_understood)?;
        error.status = status;
        match (other_version, error.code.as_str()) {
            // What a difference of versions explains.
            (Some(other), "unknown_path" | "unknown_field" | "method") => Err(other),
            (Some(_) | None, _) => Err(ClientError::Refused(error)),
        }
    }
}
