// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One connection, without a socket.

use std::sync::Arc;

use netcon_api::route::MAX_BODY;
use netcon_api::server::{LARGEST_HEAD, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{Fake, Open};

/// The answer to what a client sends; with `hang_up` it says that it sends no more.
async fn exchange(request: &str, hang_up: bool) -> String {
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let served = tokio::spawn(serve(theirs, Open, Arc::new(Fake::default())));
    ours.write_all(request.as_bytes()).await.unwrap();
    if hang_up {
        ours.shutdown().await.unwrap();
    }
    let mut answer = String::new();
    ours.read_to_string(&mut answer).await.unwrap();
    let _broken_requests_are_errors = served.await.unwrap();
    answer
}

/// A request with these header lines, on a connection that is closed after it.
async fn ask(request: &str, headers: &str) -> String {
    let text = format!("{request} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    exchange(&text, false).await
}

#[tokio::test]
async fn answers_and_refusals() {
    let ok = ask("GET /health", "host: localhost\r\n").await;
    assert!(ok.starts_with("HTTP/1.1 200"), "{ok}");
    assert!(
        ok.ends_with("\"online\": true,\n  \"version\": \"1.2.3\"\n}\n"),
        "{ok}"
    );
    let missing = ask("GET /x", "host: localhost\r\n").await;
    assert!(missing.contains("\"code\": \"unknown_path\""), "{missing}");
    let long = format!("host: localhost\r\ncontent-length: {}\r\n", MAX_BODY + 1);
    let long = ask("POST /networks", &long).await;
    assert!(long.starts_with("HTTP/1.1 413"), "{long}");
}

#[tokio::test]
async fn every_place_that_names_a_host_counts() {
    for (target, headers) in [
        ("/health", "host: evil.example\r\n"),
        ("/health", "host: localhost\r\nhost: evil.example\r\n"),
        ("http://evil.example/health", "host: localhost\r\n"),
        ("http://localhost/health", "host: evil.example\r\n"),
        (
            "/health",
            "host: localhost\r\norigin: http://localhost\r\norigin: http://evil.example\r\n",
        ),
        (
            "/health",
            "host: localhost\r\nreferer: http://localhost/\r\nreferer: http://evil.example/\r\n",
        ),
        (
            "/health",
            "host: localhost\r\nsec-fetch-site: cross-site\r\n",
        ),
    ] {
        let answer = ask(&format!("GET {target}"), headers).await;
        assert!(
            answer.starts_with("HTTP/1.1 403"),
            "{target} {headers}: {answer}"
        );
    }
    for (target, headers) in [
        ("http://localhost:9993/health", "host: localhost:9993\r\n"),
        (
            "/health",
            "host: localhost\r\nsec-fetch-site: same-origin\r\n",
        ),
    ] {
        let answer = ask(&format!("GET {target}"), headers).await;
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "{target} {headers}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_wrong_method_hears_the_right_ones() {
    for (request, allow) in [
        ("PUT /networks", "allow: GET, HEAD, POST\r\n"),
        ("POST /status", "allow: GET, HEAD\r\n"),
        ("POST /networks/x", "allow: GET, HEAD, PATCH, DELETE\r\n"),
        ("DELETE /networks/x/peers", "allow: GET, HEAD, POST\r\n"),
        ("PUT /networks/import", "allow: POST\r\n"),
    ] {
        let answer = ask(request, "host: localhost\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{request}: {answer}");
        assert!(answer.contains(allow), "{request}: {answer}");
    }
    let other = ask("GET /health", "host: localhost\r\n").await;
    assert!(!other.contains("allow:"), "{other}");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let answer = ask("HEAD /health", "host: localhost\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_client_that_sends_no_more_still_gets_its_answer() {
    let answer = exchange("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n", true).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn half_a_body_is_no_body() {
    let request =
        "POST /networks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20\r\n\r\n{\"name\"";
    let answer = exchange(request, true).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("not complete"), "{answer}");
}

#[tokio::test]
async fn every_token_that_is_presented_counts() {
    let right = "A".repeat(43);
    for (headers, status) in [
        (format!("authorization: Bearer {right}\r\n"), 200),
        (format!("authorization: bearer  {right}\r\n"), 200),
        (format!("x-zt1-auth: {right}\r\n"), 200),
        ("x-zt1-auth: wrong\r\n".to_owned(), 401),
        (format!("authorization: Basic {right}\r\n"), 401),
        ("authorization:\r\n".to_owned(), 401),
        (
            format!("authorization: Bearer {right}\r\nx-zt1-auth: wrong\r\n"),
            401,
        ),
    ] {
        let answer = ask("GET /health", &format!("host: localhost\r\n{headers}")).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{headers}: {answer}"
        );
        if status == 401 {
            assert!(answer.contains("www-authenticate: Bearer\r\n"), "{answer}");
            assert!(!answer.contains("server:"), "{answer}");
        }
    }
}

/// To these hyper alone would answer, without content.
#[tokio::test]
async fn what_is_no_http_is_refused_with_a_code() {
    for (request, status, code) in [
        ("GET /health\r\n\r\n", 400, "malformed"),
        (
            "\x16\x03\x01\x02\x00\x01\x00\x01|\x03\x03",
            400,
            "malformed",
        ),
        (
            "GET /health HTTP/1.1\r\nhost localhost\r\n\r\n",
            400,
            "malformed",
        ),
        (
            "POST /networks HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
            400,
            "malformed",
        ),
        (
            &format!("GET /{}", "x".repeat(LARGEST_HEAD)),
            431,
            "head_too_large",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed"),
        (
            &format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(LARGEST_HEAD / 6)),
            431,
            "head_too_large",
        ),
    ] {
        let answer = exchange(request, false).await;
        let shown: String = request.chars().take(80).collect();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{shown:?}: {answer}"
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/json"), "{answer}");
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{answer}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], code, "{answer}");
    }
    // After an answer too, which comes whole.
    let two = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nnonsense\r\n\r\n";
    let answer = exchange(two, false).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("\"code\":\"malformed\""), "{answer}");
}

#[tokio::test]
async fn half_a_head_is_told_and_silence_is_not() {
    let answer = exchange("GET /health HTTP/1.1\r\nhost:", false).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"code\":\"too_slow\""), "{answer}");
    let answer = exchange("", false).await;
    assert_eq!(answer, "");
}
