// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the supervisor can be asked, as values; HTTP is one spelling of it. The operations are declared in [`crate::route`].

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::route::{Command, Handler};

/// Declares the codes of refusals: name in JSON, status, meaning.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $status:literal;)+) => {
        /// Why a request was refused. Codes are stable: programs may rely on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum Code {$(
            $(#[doc = $doc])+
            #[serde(rename = $name)]
            $variant,
        )+}

        impl Code {
            /// All of them, by status.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As it stands in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {$(Self::$variant => $name,)+}
            }

            /// Its HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self {$(Self::$variant => $status,)+}
            }

            /// One sentence about it.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {$(Self::$variant => concat!($($doc),+).trim_ascii(),)+}
            }
        }
    };
}

codes! {
    /// The request cannot be right: a value of the wrong type or out of its range, or no JSON.
    Invalid "invalid" 400;
    /// The request is no HTTP/1.1.
    Malformed "malformed" 400;
    /// The request has a field or parameter that does not exist; the message names it.
    UnknownField "unknown_field" 400;
    /// The file is no wg-quick file; the message names the line.
    BadFile "bad_file" 400;
    /// The token is wrong.
    Unauthorized "unauthorized" 401;
    /// The caller may not use this supervisor, or the request comes from a web page.
    Forbidden "forbidden" 403;
    /// There is no such network, peer or container.
    NotFound "not_found" 404;
    /// There is no such path.
    UnknownPath "unknown_path" 404;
    /// The path does not take this method; the Allow header lists those it takes.
    Method "method" 405;
    /// The request did not arrive in time.
    TooSlow "too_slow" 408;
    /// A name, key or address is taken.
    Conflict "conflict" 409;
    /// The body is too large.
    TooLarge "too_large" 413;
    /// The body is something else than JSON.
    MediaType "media_type" 415;
    /// The head of the request is too large.
    HeadTooLarge "head_too_large" 431;
    /// The disk, the kernel or the network refused.
    Failed "failed" 500;
    /// There are too many connections or requests of this kind.
    Busy "busy" 503;
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: Code,
    /// One sentence for people.
    pub message: String,
}

impl ApiError {
    /// A refusal.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Its HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.code.status()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The refusal.
    pub error: ApiError,
}

/// Who asks. It has been established before that they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
}
