// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From an HTTP request to a [`Command`]: one table, pure.

use crate::command::{ApiError, Command};
use serde::de::DeserializeOwned;
use std::net::IpAddr;

/// Largest request body, bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Finds the command a request spells.
///
/// # Errors
/// 404 for a path that does not exist, 405 for a method it has not, 400 for a body that is not what it should be.
pub fn route(method: &str, path: &str, body: &[u8]) -> Result<Command, ApiError> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let parts = parts(path).ok_or_else(|| unknown(path))?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    // HEAD is GET whose body the server leaves out (RFC 9110, section 9.3.2).
    let method = if method == "HEAD" { "GET" } else { method };
    match (parts.as_slice(), method) {
        (["status"], "GET") => Ok(Command::Status),
        (["health"], "GET") => Ok(Command::Health),
        (["networks" | "network"], "GET") => Ok(Command::NetworkList),
        (["networks" | "network"], "POST") => Ok(Command::NetworkCreate(json(body)?)),
        (["networks" | "network", "import"], "POST") => Ok(Command::NetworkImport(json(body)?)),
        (["networks" | "network", id], "GET") => Ok(Command::NetworkShow((*id).to_owned())),
        (["networks" | "network", id], "DELETE") => Ok(Command::NetworkDelete((*id).to_owned())),
        (["networks" | "network", id, "peers"], "GET") => Ok(Command::PeerList((*id).to_owned())),
        (["networks" | "network", id, "peers"], "POST") => {
            Ok(Command::PeerAdd((*id).to_owned(), json(body)?))
        }
        (["networks" | "network", id, "peers", peer], "GET") => {
            Ok(Command::PeerShow((*id).to_owned(), (*peer).to_owned()))
        }
        (["networks" | "network", id, "peers", peer], "DELETE") => {
            Ok(Command::PeerRemove((*id).to_owned(), (*peer).to_owned()))
        }
        (["containers"], "GET") => Ok(Command::ContainerList),
        (["containers", id], "GET") => id
            .parse()
            .map(Command::ContainerShow)
            .map_err(|_| ApiError::new(404, "not_found", "A container is named by its number.")),
        _ => match methods(path) {
            Some(methods) => Err(ApiError::new(
                405,
                "method",
                format!("{path} does not take {method}; it takes {methods}."),
            )),
            None => Err(unknown(path)),
        },
    }
}

/// The methods of a path, as in an Allow header; None if there is no such path.
#[must_use]
pub fn methods(path: &str) -> Option<&'static str> {
    let parts = parts(path.split_once('?').map_or(path, |(path, _)| path))?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["status" | "health" | "containers"] | ["containers", _] => Some("GET, HEAD"),
        ["networks" | "network"] | ["networks" | "network", _, "peers"] => Some("GET, HEAD, POST"),
        // Also a network of that name: GET and DELETE are for it.
        ["networks" | "network", "import"] => Some("GET, HEAD, POST, DELETE"),
        ["networks" | "network", _] | ["networks" | "network", _, "peers", _] => {
            Some("GET, HEAD, DELETE")
        }
        _ => None,
    }
}

/// Whether a request may have been made by a person or program of this machine, and not by a web page in its browser: the
/// Host must name this machine (DNS rebinding), Origin and Referer must too (cross-site requests).
///
/// # Errors
/// 403.
pub fn check_origin(
    host: Option<&str>,
    origin: Option<&str>,
    referer: Option<&str>,
) -> Result<(), ApiError> {
    if !host.is_none_or(|host| host.is_empty() || is_local(host)) {
        return Err(ApiError::new(
            403,
            "forbidden",
            "The Host header must be localhost or a loopback address.",
        ));
    }
    for source in [origin, referer].into_iter().flatten() {
        let host = source
            .split_once("://")
            .map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
        if !host.is_some_and(is_local) {
            return Err(ApiError::new(
                403,
                "forbidden",
                "Requests from web pages of other sites are refused.",
            ));
        }
    }
    Ok(())
}

/// `localhost`, `localhost:9993`, `127.0.0.1:9993`, `[::1]`, `netcon` (our own client on the unix socket).
fn is_local(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if port.is_empty() || is_port(port) => host,
            _ => return false,
        },
        None => match authority.find(':') {
            Some(at) if is_port(&authority[at..]) => &authority[..at],
            Some(_) => return false,
            None => authority,
        },
    };
    host.eq_ignore_ascii_case("localhost")
        || host == "netcon"
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|digits| digits.parse::<u16>().is_ok())
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let code = if text.starts_with("unknown field") {
            "unknown_field"
        } else {
            "invalid"
        };
        ApiError::new(400, code, format!("The request is not understood: {text}."))
    })
}

fn unknown(path: &str) -> ApiError {
    ApiError::new(
        404,
        "unknown_path",
        format!("There is no {path}; see /status, /networks, /containers."),
    )
}

/// The parts of a path, decoded; None if one of them is not text.
fn parts(path: &str) -> Option<Vec<String>> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .map(decode)
        .collect()
}

/// Percent-decoding (RFC 3986 2.1); None if it is not UTF-8 or not complete.
fn decode(part: &str) -> Option<String> {
    let mut bytes = part.bytes();
    let mut out = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes one part of a path.
#[must_use]
pub fn encode(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CreateNetwork;

    #[test]
    fn requests_become_commands() {
        assert_eq!(route("GET", "/networks", b""), Ok(Command::NetworkList));
        assert_eq!(route("GET", "/network/?x=1", b""), Ok(Command::NetworkList));
        let create = CreateNetwork {
            name: "demo".into(),
            ..CreateNetwork::default()
        };
        assert_eq!(
            route("POST", "/networks", br#"{"name":"demo"}"#),
            Ok(Command::NetworkCreate(create))
        );
        let key = "a/b+c=";
        assert_eq!(
            route(
                "DELETE",
                &format!("/networks/demo/peers/{}", encode(key)),
                b""
            ),
            Ok(Command::PeerRemove("demo".into(), key.into()))
        );
        assert_eq!(route("PUT", "/networks", b"").unwrap_err().status, 405);
        assert_eq!(route("GET", "/nothing", b"").unwrap_err().status, 404);
        assert_eq!(route("GET", "/networks/%ff", b"").unwrap_err().status, 404);
        assert_eq!(route("GET", "/networks/%", b"").unwrap_err().status, 404);
    }

    #[test]
    fn unknown_fields_are_named() {
        let error = route("POST", "/networks", br#"{"name":"demo","color":1}"#).unwrap_err();
        assert_eq!((error.status, error.code.as_str()), (400, "unknown_field"));
        assert!(error.message.contains("color"), "{}", error.message);
        assert_eq!(
            route("POST", "/networks", b"{").unwrap_err().code,
            "invalid"
        );
    }

    #[test]
    fn only_this_machine_may_ask() {
        for host in [
            "localhost",
            "localhost:9993",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]:9993",
            "[::1]",
            "netcon",
            "",
        ] {
            assert!(check_origin(Some(host), None, None).is_ok(), "{host}");
        }
        for host in [
            "example.org",
            "localhost.example.org",
            "10.0.0.1",
            "127.0.0.1.nip.io",
            "[::1",
            "localhost:",
            "localhost:x",
            "::1",
        ] {
            assert!(check_origin(Some(host), None, None).is_err(), "{host}");
        }
        assert!(check_origin(None, Some("http://localhost:3000"), None).is_ok());
        for origin in [
            "http://evil.example",
            "null",
            "https://localhost.evil.example/",
        ] {
            assert!(
                check_origin(Some("localhost"), Some(origin), None).is_err(),
                "{origin}"
            );
            assert!(
                check_origin(Some("localhost"), None, Some(origin)).is_err(),
                "{origin}"
            );
        }
    }
}
