// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What operations answer: JSON, text, or a stream; at once or later.
//!
//! Every type that can be written as JSON is an [`Answer`]. Others say their media type: [`Text`] and [`Stream`] of a
//! [`Media`]. [`Either`] is one of two, told by the media type; [`Later`] comes when its sender is done.

use std::fmt;
use std::marker::PhantomData;

pub use hyper::body::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::client::{ClientError, Response};
use crate::command::{ApiError, Code};

/// Media type of JSON.
pub const JSON: &str = "application/json";

/// An answer on its way out.
#[derive(Debug)]
pub enum Reply {
    /// Whole, with its media type.
    Whole(&'static str, Vec<u8>),
    /// Piece by piece, with its media type, until the sender is dropped. The channel bounds what waits for a slow client.
    Pieces(&'static str, mpsc::Receiver<Bytes>),
    /// Not ready yet.
    Later(Pending),
}

/// A reply that is being made. Dropped with the connection: its maker learns that from the channel.
pub struct Pending(pub(crate) Box<dyn Future<Output = Result<Reply, ApiError>> + Send + Unpin>);

/// A type that an operation may answer.
pub trait Answer: Sized {
    /// What it is for the client.
    type Received;

    /// Its media types, each with the schema of what stands there.
    fn media(schemas: &mut SchemaGenerator) -> Vec<(&'static str, Schema)>;

    /// The reply of the server.
    fn into_reply(self) -> Reply;

    /// The answer that a client has got.
    ///
    /// # Errors
    /// [`ClientError`] when it is something else, or breaks off.
    fn receive(response: Response) -> Result<Self::Received, ClientError>;
}

impl<T: Serialize + DeserializeOwned + JsonSchema> Answer for T {
    type Received = Self;

    fn media(schemas: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![(JSON, schemas.subschema_for::<Self>())]
    }

    fn into_reply(self) -> Reply {
        match serde_json::to_vec_pretty(&self) {
            Ok(mut text) => {
                text.push(b'\n');
                Reply::Whole(JSON, text)
            }
            Err(error) => later(async move { Err(cannot_write(&error)) }),
        }
    }

    fn receive(response: Response) -> Result<Self, ClientError> {
        let text = response.whole()?;
        serde_json::from_slice(&text).map_err(|error| ClientError::NotUnderstood(error.to_string()))
    }
}

fn cannot_write(error: &serde_json::Error) -> ApiError {
    ApiError::new(
        Code::Failed,
        format!("The answer cannot be written: {error}."),
    )
}

fn later(reply: impl Future<Output = Result<Reply, ApiError>> + Send + 'static) -> Reply {
    Reply::Later(Pending(Box::new(Box::pin(reply))))
}

/// A media type that is not JSON.
pub trait Media: Send + 'static {
    /// Its name (RFC 6838), with parameters.
    const NAME: &'static str;
    /// What stands in it.
    const DESCRIPTION: &'static str;
}

/// A whole text.
pub struct Text<M> {
    text: String,
    media: PhantomData<M>,
}

impl<M: Media> Text<M> {
    /// The text `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self {
            text,
            media: PhantomData,
        }
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<M: Media> Answer for Text<M> {
    type Received = String;

    fn media(_schemas: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![(
            M::NAME,
            json_schema!({"type": "string", "description": M::DESCRIPTION}),
        )]
    }

    fn into_reply(self) -> Reply {
        Reply::Whole(M::NAME, self.text.into_bytes())
    }

    fn receive(response: Response) -> Result<String, ClientError> {
        String::from_utf8(response.whole()?)
            .map_err(|error| ClientError::NotUnderstood(error.to_string()))
    }
}

/// Pieces that come as they are made, until the sender is dropped or the client leaves. Give it `try_send` from threads
/// that may not wait: the channel is the bound, and its maker says what is dropped when it is full.
pub struct Stream<M> {
    pieces: mpsc::Receiver<Bytes>,
    media: PhantomData<M>,
}

impl<M: Media> Stream<M> {
    /// What comes through `pieces`.
    #[must_use]
    pub fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self {
            pieces,
            media: PhantomData,
        }
    }
}

impl<M: Media> Answer for Stream<M> {
    /// An iterator of pieces.
    type Received = Response;

    fn media(_schemas: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![(M::NAME, json_schema!({"description": M::DESCRIPTION}))]
    }

    fn into_reply(self) -> Reply {
        Reply::Pieces(M::NAME, self.pieces)
    }

    fn receive(response: Response) -> Result<Response, ClientError> {
        Ok(response)
    }
}

/// One of two answers of different media types.
#[derive(Debug)]
pub enum Either<A, B> {
    /// The first.
    One(A),
    /// The second.
    Other(B),
}

impl<A: Answer, B: Answer> Answer for Either<A, B> {
    type Received = Either<A::Received, B::Received>;

    fn media(schemas: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        let mut media = A::media(schemas);
        media.extend(B::media(schemas));
        media
    }

    fn into_reply(self) -> Reply {
        match self {
            Self::One(one) => one.into_reply(),
            Self::Other(other) => other.into_reply(),
        }
    }

    fn receive(response: Response) -> Result<Self::Received, ClientError> {
        let mut schemas = SchemaGenerator::default();
        let is_one = A::media(&mut schemas)
            .iter()
            .any(|(media, _)| *media == response.media());
        if is_one {
            A::receive(response).map(Either::One)
        } else {
            B::receive(response).map(Either::Other)
        }
    }
}

/// An answer that takes its time. Its sender bounds that time; when it is dropped unsent, the request has failed.
pub struct Later<T>(pub oneshot::Receiver<Result<T, ApiError>>);

impl<T: Answer + Send + 'static> Answer for Later<T> {
    type Received = T::Received;

    fn media(schemas: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        T::media(schemas)
    }

    fn into_reply(self) -> Reply {
        later(async move {
            match self.0.await {
                Ok(result) => result.map(T::into_reply),
                Err(_dropped) => Err(ApiError::new(
                    Code::Failed,
                    "The supervisor has given up on the request.",
                )),
            }
        })
    }

    fn receive(response: Response) -> Result<Self::Received, ClientError> {
        T::receive(response)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

impl<M: Media> fmt::Debug for Text<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({}, {} bytes)", M::NAME, self.text.len())
    }
}

impl<M: Media> fmt::Debug for Stream<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({})", M::NAME)
    }
}

impl<T> fmt::Debug for Later<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}
