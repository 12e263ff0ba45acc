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
use std::time::Duration;

use common::{Folder, inode, service};
use netcon_supervisor::control::PeerCredentials;
use netcon_supervisor::{clock, http};

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

/// Nobody, to the supervisor of anybody else.
const OTHER: u32 = 65_534;

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
    let folder = Folder::new();
    let us = nix::unistd::geteuid().as_raw();
    // Root can be somebody else; anybody else is one to the supervisor of somebody else.
    let user = if us == 0 { us } else { us + 1 };
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
            answer.contains("another user's") && !answer.to_lowercase().contains("server:"),
            "{answer}"
        );
    }
}

/// A connection that a program of a container comes to hold is refused before long, though not every request is a search.
#[test]
fn containers_are_looked_through_now_and_then() {
    let folder = Folder::new();
    let (service, fake) = service(&folder);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let user = nix::unistd::geteuid().as_raw();
    let _unix = http::start_for(user, service, vec![listener]).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let held = inode(&stream);
    let mut ask = || {
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        while !answer.contains("}\n") {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).unwrap();
            assert_ne!(count, 0, "{answer}");
            answer.push_str(std::str::from_utf8(&part[..count]).unwrap());
        }
        answer
    };
    // As many requests as fit: far more than searches.
    let begun = clock::now();
    let mut requests = 0;
    while begun.elapsed() < Duration::from_millis(250) {
        assert!(ask().starts_with("HTTP/1.1 200 "));
        requests += 1;
    }
    let searches = fake.seen().searches;
    let most = begun.elapsed().as_millis() / 100 + 1;
    assert!(
        searches >= 1 && searches as u128 <= most,
        "{searches} of {requests}"
    );
    fake.seen().sockets_inside.insert(held, "demo".to_owned());
    let told = clock::now();
    loop {
        let answer = ask();
        if answer.starts_with("HTTP/1.1 403 ") {
            break;
        }
        assert!(told.elapsed() < Duration::from_secs(5), "{answer}");
    }
    // A new one is looked for before its first request.
    let mut other = TcpStream::connect(address).unwrap();
    let held = inode(&other);
    fake.seen().sockets_inside.insert(held, "demo".to_owned());
    other.write_all(REQUEST.as_bytes()).unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn connections_are_bounded() {
    let folder = Folder::new();
    let (addresses, unix) = start(&folder);
    // As many as are served: they stay open and silent.
    let crowd: Vec<TcpStream> = (0..http::MOST_CONNECTIONS)
        .map(|_| TcpStream::connect(addresses[0]).unwrap())
        .collect();
    let mut one_more = TcpStream::connect(addresses[0]).unwrap();
    let mut answer = Vec::new();
    // Closed, not left hanging; it hears why if it listens.
    let _reset = one_more.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 503 "));
    // Those on the unix socket have places of their own.
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let uid = nix::unistd::geteuid().as_raw();
    let pid = std::process::id();
    unix.accept(theirs, PeerCredentials { pid, uid, gid: 0 });
    ours.write_all(REQUEST.as_bytes()).unwrap();
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(crowd);
    let served = (0..200).any(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        let mut stream = TcpStream::connect(addresses[0]).unwrap();
        let mut answer = String::new();
        stream.write_all(REQUEST.as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200 ")
    });
    assert!(served);
}

/// Needs root: another user's connections are needed beside the user's own.
#[test]
fn strangers_do_not_keep_the_user_out() {
    if nix::unistd::geteuid().as_raw() != 0 {
        return;
    }
    let folder = Folder::new();
    let (addresses, _unix) = start(&folder);
    let many = http::MOST_CONNECTIONS + http::MOST_STRANGERS;
    let script = format!(
        "import socket,sys\nall=[socket.create_connection(('127.0.0.1',{})) for _ in range({many})]\n\
         for one in all:\n try: one.sendall(b'GET /status HTTP/1.1')\n except OSError: pass\n\
         print('there',flush=True)\nsys.stdin.read()",
        addresses[0].port()
    );
    let mut crowd = Command::new("/usr/bin/python3")
        .args(["-c", &script])
        .current_dir("/")
        .uid(OTHER)
        .gid(OTHER)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut there = [0; 6];
    crowd
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut there)
        .unwrap();
    for address in addresses {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(REQUEST.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{address}: {answer}");
    }
    drop(crowd.stdin.take());
    assert!(crowd.wait().unwrap().success());
}
