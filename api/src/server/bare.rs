// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A stream that keeps back the answers without content which the HTTP library writes by itself.
//!
//! To a head that it does not understand it says only a status. Every refusal of ours has a content: so the bare one is
//! recognised where it passes, and [`super::serve`] sends its own instead.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest head that is looked at; a bare one has a status, a length and a date.
const LONGEST: usize = 256;

/// The stream. All else passes as before.
#[derive(Debug)]
pub(super) struct WithoutBare<S> {
    stream: S,
    /// A bare refusal was kept back.
    kept_back: Arc<AtomicBool>,
}

impl<S> WithoutBare<S> {
    /// `kept_back` is set when a bare refusal was not written.
    pub(super) fn new(stream: S, kept_back: Arc<AtomicBool>) -> Self {
        Self { stream, kept_back }
    }
}

/// Whether this is a refusal without content and nothing else: what is sent in the middle of an answer never is.
fn is_bare(bytes: &[u8]) -> bool {
    let Some(head) = bytes.strip_suffix(b"\r\n\r\n") else {
        return false;
    };
    let refuses = |line: &str| {
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| line.strip_prefix("HTTP/1.0 "));
        status.is_some_and(|status| status.starts_with("4"))
    };
    bytes.len() <= LONGEST
        && str::from_utf8(head).is_ok_and(|head| {
            let mut lines = head.split("\r\n");
            lines.next().is_some_and(refuses)
                && lines.clone().any(|line| line == "content-length: 0")
                && lines.all(|line| line.contains(": ") && !line.starts_with("content-type"))
        })
}

impl<S: AsyncRead + Unpin> AsyncRead for WithoutBare<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithoutBare<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if is_bare(buffer) {
            self.kept_back.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(buffer.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is sent instead comes then.
        if self.kept_back.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_refusal_without_content_is_bare() {
        let bare = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sat, 21 Nov 2026 18:00:00 GMT\r\n\r\n";
        assert!(is_bare(bare.as_bytes()));
        for other in [
            bare.replace("400 Bad Request", "200 OK"),
            bare.replace("length: 0", "length: 1"),
            bare.replace("connection: close", "content-type: application/json"),
            format!("{bare}x"),
            format!("x{bare}"),
            format!("{bare}{bare}"),
            bare.trim_end().to_owned(),
            "\r\n\r\n".to_owned(),
            String::new(),
        ] {
            assert!(!is_bare(other.as_bytes()), "{other:?}");
        }
    }
}
