// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HTTP/1.1 on one accepted stream.
//!
//! [`serve`] owns a connection from its first byte to its end. A request passes, in this order: where it comes from
//! ([`check_origin`]), its body, [`route::route`], [`dispatch`]. An error of any of them is an answer with the error's JSON.
//!
//! Bounds: [`LARGEST_HEAD`] and [`HEAD_TIME`] for the head of a request, idle time before it included; [`MAX_BODY`] and
//! [`BODY_TIME`] for its body; [`WRITE_TIME`] for a client that does not take its answer. A connection that passes one of
//! them is closed, after an answer where one is still possible. The caller of [`serve`] bounds the connections.

mod body;
mod patient;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use self::body::Content;
use self::patient::Patient;
use crate::answer::{JSON, Reply};
use crate::command::{ApiError, Code, ErrorBody};
pub use crate::command::{Caller, Handler};
use crate::origin::check_origin;
use crate::route::{self, MAX_BODY, dispatch};

/// Largest head of a request (request line and headers), in bytes.
pub const LARGEST_HEAD: usize = 32 * 1024;
/// Time for the head of a request to arrive, from the end of the one before.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// Time for the body of a request to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(10);
/// Longest time in which the client takes no byte of an answer.
pub const WRITE_TIME: Duration = Duration::from_secs(10);

/// By this a client that is not understood tells a supervisor of another version.
const SERVER: &str = concat!("netcon/", env!("CARGO_PKG_VERSION"));

/// Serves a connection to its end. That the caller may ask has been established before.
///
/// # Errors
/// When the connection fails, or its client breaks HTTP or a bound of the head.
pub async fn serve<S, H>(stream: S, caller: Caller, handler: Arc<H>) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler + ?Sized + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move {
            let target = request.uri().path().to_owned();
            let reply = answer(request, caller, &*handler).await;
            Ok::<_, Infallible>(response(&target, reply))
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(LARGEST_HEAD)
        // A client may say that it has nothing more to ask and still wants its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_TIME)), service)
        .await
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

fn refusal(error: ApiError) -> Content {
    let mut text = serde_json::to_vec_pretty(&ErrorBody { error }).unwrap_or_default();
    text.push(b'\n');
    Content::whole(text)
}
