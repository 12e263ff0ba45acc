// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may speak to the API.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "tests"
)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{Folder, service};
use netcon_supervisor::http;

/// The API on a free port of both loopbacks.
fn start(folder: &Folder) -> (Vec<std::net::SocketAddr>, http::UnixHttp) {
    start_for(nix::unistd::geteuid().as_raw(), folder)
}

/// The same, of another user's supervisor.
fn start_for(user: u32, folder: &Folder) -> (Vec<std::net::SocketAddr>, http::UnixHttp) {
    let (service, _) = service(folder);
    let listeners: Vec<TcpListener> = ["127.0.0.1:0", "[::1]:0"]
        .iter()
        .filter_map(|address| TcpListener::bind(address).ok())
        .collect();
    let addresses = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap())
        .collect();
    (
        addresses,
        http::start_for(user, service, listeners).unwrap(),
    )
}

const REQUEST: &str = "GET /networks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[test]
fn the_user_is_served_on_both_loopbacks() {
    let folder = Folder::new();
    let (addresses, _unix) = start(&folder);
    assert!(!addresses.is_empty());
    for address in addresses {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(REQUEST.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{address}: {answer}");
    }
}

#[test]
fn others_hear_one_sentence() {
    const OTHER: u32 = 65_534;
    let folder = Folder::new();
    let us = nix::unistd::geteuid().as_raw();
    // Root can be somebody else; anybody else is one to the supervisor of somebody else.
    let (user, caller) = if us == 0 { (us, OTHER) } else { (us + 1, us) };
    let (addresses, _unix) = start_for(user, &folder);
    for address in addresses {
        let script = format!(
            "exec 3<>/dev/tcp/{}/{}; printf 'GET /networks HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n' >&3; cat <&3",
            address.ip(),
            address.port()
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).current_dir("/");
        if us == 0 {
            bash.uid(OTHER).gid(OTHER);
        }
        let output = bash.output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{address}: {output:?}");
        assert!(
            answer.contains(&format!("belongs to uid {user}; you are uid {caller}")),
            "{answer}"
        );
    }
}

#[test]
fn connections_are_bounded() {
    let folder = Folder::new();
    let (addresses, _unix) = start(&folder);
    // As many as are served: they stay open and silent.
    let crowd: Vec<TcpStream> = (0..http::MOST_CONNECTIONS)
        .map(|_| TcpStream::connect(addresses[0]).unwrap())
        .collect();
    let mut one_more = TcpStream::connect(addresses[0]).unwrap();
    let mut answer = Vec::new();
    // Closed, not left hanging.
    assert!(matches!(one_more.read_to_end(&mut answer), Ok(0) | Err(_)));
    drop(crowd);
    let served = (0..200).any(|_| {
        std::thread::park_timeout(std::time::Duration::from_millis(10));
        let mut stream = TcpStream::connect(addresses[0]).unwrap();
        let mut answer = String::new();
        stream.write_all(REQUEST.as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200 ")
    });
    assert!(served);
}
