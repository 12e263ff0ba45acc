// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a request comes from, by what it says itself: never a web page of another site.

use std::net::IpAddr;

use crate::command::{ApiError, Code};

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
            Code::Forbidden,
            "The Host header must be localhost or a loopback address.",
        ));
    }
    for source in [origin, referer].into_iter().flatten() {
        let host = source
            .split_once("://")
            .map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
        if !host.is_some_and(is_local) {
            return Err(ApiError::new(
                Code::Forbidden,
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

#[cfg(test)]
mod tests {
    use super::*;

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
