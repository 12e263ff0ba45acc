// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HTTP/1.1 on one accepted stream.
//!
//! [`serve`] owns a connection from its first byte to its end. A request passes, in this order: who asks ([`Gate`]), where it
//! comes from ([`check_origin`]), its body, [`route::route`], [`dispatch`]. An error of any of them is an answer with the error's JSON.
//!
//! Bounds: [`LARGEST_HEAD`] and [`Gate::head_time`] for the head of a request, idle time before it included; [`MAX_BODY`] and
//! [`BODY_TIME`] for its body; [`WRITE_TIME`] for a client that does not take its answer. A connection that passes one of
//! them is closed, after an answer where one is still possible. The caller of [`serve`] bounds the connections.

mod bare;
mod body;
mod gate;
mod patient;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use self::bare::WithoutBare;
use self::body::Content;
pub use self::gate::Gate;
use self::patient::Patient;
use crate::answer::{JSON, Reply};
use crate::command::{ApiError, Code, ErrorBody};
pub use crate::command::{Caller, Handler};
use crate::origin::check_origin;
use crate::route::{self, MAX_BODY, dispatch};

/// Largest head of a request (request line and headers), in bytes.
pub const LARGEST_HEAD: usize = 32 * 1024;
/// Time for the body of a request to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(10);
/// Longest time in which the client takes no byte of an answer.
pub const WRITE_TIME: Duration = Duration::from_secs(10);

/// By this a client that is not understood tells a supervisor of another version.
const SERVER: &str = concat!("netcon/", env!("CARGO_PKG_VERSION"));

/// Serves a connection to its end.
///
/// # Errors
/// When the connection fails, or its client breaks HTTP or a bound of the head.
pub async fn serve<S, G, H>(stream: S, gate: G, handler: Arc<H>) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: Gate,
    H: Handler + ?Sized + 'static,
{
    let head_time = gate.head_time();
    let gate = Arc::new(gate);
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        let gate = Arc::clone(&gate);
        async move {
            let target = request.uri().path().to_owned();
            let answer = match gate.admit(&credentials(request.headers())) {
                Ok(caller) => {
                    let reply = answer(request, caller, &*handler).await;
                    response(&target, reply)
                }
                // Whoever may not ask learns nothing, not even what answers.
                Err(error) => refused(error),
            };
            gate.answered(answer.status().as_u16());
            Ok::<_, Infallible>(answer)
        }
    });
    let kept_back = Arc::new(AtomicBool::new(false));
    let stream = WithoutBare::new(Patient::new(stream, WRITE_TIME), Arc::clone(&kept_back));
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(LARGEST_HEAD)
        // A client may say that it has nothing more to ask and still wants its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let result = (&mut connection).await;
    let Err(error) = &result else { return result };
    let kept_back = kept_back.load(Ordering::Relaxed);
    let parts = connection.into_parts();
    let answer = match error {
        // Between requests nobody waits for an answer.
        error if error.is_timeout() && !parts.read_buf.is_empty() => Some(ApiError::new(
            Code::TooSlow,
            "The request did not arrive in time.",
        )),
        error if kept_back && error.is_parse_too_large() => Some(ApiError::new(
            Code::HeadTooLarge,
            format!("The head of the request is longer than {LARGEST_HEAD} bytes."),
        )),
        error if kept_back || error.is_parse_version_h2() => Some(ApiError::new(
            Code::Malformed,
            format!("This is no HTTP/1.1: {error}."),
        )),
        _ => None,
    };
    if let Some(answer) = answer {
        let _may_be_gone = parts.io.into_inner().write_all(&unasked(&answer)).await;
    }
    result
}

/// The tokens that a request presents, each of which must be right: `Authorization: Bearer`, and ZeroTier's `X-ZT1-Auth`.
fn credentials(headers: &HeaderMap) -> Vec<&[u8]> {
    const SCHEME: usize = "Bearer ".len();
    let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
        let (scheme, token) = value
            .as_bytes()
            .split_at_checked(SCHEME)
            .unwrap_or_default();
        // Another scheme presents no token of ours: none that is right.
        if scheme.eq_ignore_ascii_case(b"Bearer ") {
            token.trim_ascii()
        } else {
            b""
        }
    });
    let zerotier = headers.get_all(HeaderName::from_static("x-zt1-auth"));
    bearer
        .chain(zerotier.iter().map(HeaderValue::as_bytes))
        .collect()
}

async fn answer<H: Handler + ?Sized>(
    request: Request<Incoming>,
    caller: Caller,
    handler: &H,
) -> Result<Reply, ApiError> {
    check_source(request.uri(), request.headers())?;
    let (head, body) = request.into_parts();
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    if route::takes_body(head.method.as_str(), target) {
        check_media(&head.headers)?;
    }
    let body = read(body).await?;
    let command = route::route(head.method.as_str(), target, &body)?;
    let mut reply = dispatch(handler, caller, command)?;
    while let Reply::Later(pending) = reply {
        reply = pending.0.await?;
    }
    Ok(reply)
}

/// What is sent must be JSON. Without a media type it is taken for it, and so is what `curl -d` says of anything; from a web
/// page neither comes so far.
fn check_media(headers: &HeaderMap) -> Result<(), ApiError> {
    const ACCEPTED: [&str; 3] = [
        JSON,
        "application/merge-patch+json",
        "application/x-www-form-urlencoded",
    ];
    let Some(media) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let media = media.to_str().unwrap_or("?");
    let essence = media.split(';').next().unwrap_or_default().trim();
    if ACCEPTED
        .iter()
        .any(|accepted| essence.eq_ignore_ascii_case(accepted))
    {
        Ok(())
    } else {
        Err(ApiError::new(
            Code::MediaType,
            format!("The request is sent as {JSON} or not at all."),
        ))
    }
}

/// Looks at every place where a request can say to whom it goes and where it comes from.
fn check_source(target: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    // What is no text is nobody's name: it is refused as a foreign one.
    let text = |value: &HeaderValue| value.to_str().unwrap_or("?").to_owned();
    // The authority of an absolute request target goes before Host (RFC 9112, section 3.2.2); both must be right.
    let authority = target.authority().map(ToString::to_string);
    let hosts = headers.get_all(header::HOST).iter().map(text);
    for host in hosts.chain(authority) {
        check_origin(Some(&host), None, None)?;
    }
    for origin in headers.get_all(header::ORIGIN).iter().map(text) {
        check_origin(None, Some(&origin), None)?;
    }
    for referer in headers.get_all(header::REFERER).iter().map(text) {
        check_origin(None, None, Some(&referer))?;
    }
    // Browsers say so even where Origin and Referer are left out (Fetch Metadata, section 2.3).
    let site = headers.get_all(HeaderName::from_static("sec-fetch-site"));
    if site.iter().any(|site| site == "cross-site") {
        return Err(ApiError::new(
            Code::Forbidden,
            "Requests from web pages of other sites are refused.",
        ));
    }
    Ok(())
}

async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            Code::TooLarge,
            format!("The request is longer than {MAX_BODY} bytes."),
        )
    };
    // What is announced is refused at once, not when it has arrived.
    let announced = usize::try_from(body.size_hint().lower());
    if announced.is_ok_and(|announced| announced <= MAX_BODY) {
        match tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_broken_off)) => Err(ApiError::new(
                Code::Invalid,
                "The body of the request is not complete.",
            )),
            Err(_elapsed) => Err(ApiError::new(
                Code::TooSlow,
                "The request did not arrive in time.",
            )),
        }
    } else {
        Err(too_large())
    }
}

fn response(target: &str, reply: Result<Reply, ApiError>) -> Response<Content> {
    let (status, media, content) = match reply {
        Ok(Reply::Whole(media, text)) => (200, media, Content::whole(text)),
        Ok(Reply::Pieces(media, pieces)) => (200, media, Content::Pieces(pieces)),
        // It has been waited for.
        Ok(Reply::Later(_)) => {
            let error = ApiError::new(Code::Failed, "The answer was not made.");
            (error.status(), JSON, refusal(error))
        }
        Err(error) => (error.status(), JSON, refusal(error)),
    };
    let mut response = Response::new(content);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // Required with a 405 (RFC 9110, section 15.5.6).
    if status == Code::Method.status()
        && let Some(methods) = route::methods(target)
        && let Ok(methods) = HeaderValue::try_from(methods)
    {
        headers.insert(header::ALLOW, methods);
    }
    response
}

/// The answer to a caller who may not ask.
fn refused(error: ApiError) -> Response<Content> {
    let mut response = Response::new(Content::Whole(Full::default()));
    *response.status_mut() =
        StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    // Required with a 401 (RFC 9110, section 15.5.2).
    if error.code == Code::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    // What it sends is not read.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    *response.body_mut() = refusal(error);
    response
}

/// A whole answer that refuses a client before its request is looked at, and ends the connection.
#[must_use]
pub fn unasked(error: &ApiError) -> Vec<u8> {
    let body = serde_json::json!({ "error": error });
    let body = format!("{body}\n");
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::FORBIDDEN);
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn refusal(error: ApiError) -> Content {
    let mut text = serde_json::to_vec_pretty(&ErrorBody { error }).unwrap_or_default();
    text.push(b'\n');
    Content::whole(text)
}
