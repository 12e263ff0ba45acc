// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Serves one accepted connection. Bounds: headers and body have sizes and times; the caller bounds the connections.

use crate::command::{Answer, ApiError};
use crate::route::{MAX_BODY, check_origin, route};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, REFERER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::command::{Caller, Handler};

/// Time for the headers, and again for the body, of one request; also how long a connection may idle.
const TIME: Duration = Duration::from_secs(30);
/// Bytes of all headers.
const MAX_HEADERS: usize = 32 * 1024;

/// Answers requests of `caller` until the connection ends.
///
/// # Errors
/// What hyper says of a connection that failed.
pub async fn serve<S, H>(stream: S, caller: Caller, handler: Arc<H>) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler + 'static,
{
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(respond(answer(request, caller, &*handler).await)) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIME)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer<H: Handler>(
    request: Request<Incoming>,
    caller: Caller,
    handler: &H,
) -> Result<Answer, ApiError> {
    let header = |name: HeaderName| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap_or("not text"))
    };
    check_origin(header(HOST), header(ORIGIN), header(REFERER))?;
    let method = request.method().as_str().to_owned();
    let path = request.uri().path().to_owned();
    let too_large = || {
        ApiError::new(
            413,
            "too_large",
            format!("The request is longer than {MAX_BODY} bytes."),
        )
    };
    // What is announced is refused at once, not when it has arrived.
    if usize::try_from(request.body().size_hint().lower())
        .map_or(true, |announced| announced > MAX_BODY)
    {
        return Err(too_large());
    }
    let body = tokio::time::timeout(TIME, Limited::new(request.into_body(), MAX_BODY).collect())
        .await
        .map_err(|_| ApiError::new(408, "too_slow", "The request did not arrive in time."))?
        .map_err(|_| too_large())?
        .to_bytes();
    handler.handle(caller, route(&method, &path, &body)?)
}

fn respond(answer: Result<Answer, ApiError>) -> Response<Full<Bytes>> {
    let (status, json) = match &answer {
        Ok(answer) => (200, serde_json::to_vec_pretty(answer)),
        Err(error) => (
            error.status,
            serde_json::to_vec_pretty(&serde_json::json!({ "error": error })),
        ),
    };
    let (status, mut body) = match json {
        Ok(body) => (status, body),
        Err(_) => (
            500,
            b"{\"error\":{\"code\":\"failed\",\"message\":\"The answer cannot be written.\"}}"
                .to_vec(),
        ),
    };
    body.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Fake;
    impl Handler for Fake {
        fn handle(&self, _: Caller, command: Command) -> Result<Answer, ApiError> {
            if command == Command::Health {
                return Ok(Answer::Health {
                    online: true,
                    version: "1".into(),
                });
            }
            Err(ApiError::new(404, "not_found", "No."))
        }
    }

    async fn exchange(request: &str) -> String {
        let (mut ours, theirs) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(serve(theirs, Caller { uid: 1 }, Arc::new(Fake)));
        ours.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        let _ = served.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_and_refusals() {
        let ok =
            exchange("GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        assert!(ok.starts_with("HTTP/1.1 200"), "{ok}");
        assert!(
            ok.ends_with("\"online\": true,\n  \"version\": \"1\"\n}\n"),
            "{ok}"
        );
        let rebound =
            exchange("GET /health HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
                .await;
        assert!(rebound.starts_with("HTTP/1.1 403"), "{rebound}");
        let missing =
            exchange("GET /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        assert!(missing.contains("\"code\": \"not_found\""), "{missing}");
        let long = format!(
            "POST /networks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            MAX_BODY + 1
        );
        assert!(exchange(&long).await.starts_with("HTTP/1.1 413"));
    }
}
