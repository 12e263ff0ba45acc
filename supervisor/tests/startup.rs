// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program itself: ready, its end, and the exit codes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use common::Folder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn command(folder: &Path, name: &str, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netcon-supervisor"));
    command
        .env("NETCON_SOCKET", folder.join(format!("{name}.sock")))
        .env_remove("RUST_LOG")
        .arg("--state-dir")
        .arg(folder.join(name))
        .arg("--port")
        .arg(port.to_string())
        .stderr(Stdio::piped());
    command
}

/// Started, and what it said until it was ready.
struct Running(Child, BufReader<ChildStderr>, String);

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(" ready ") {
            assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
        }
        Self(child, lines, said)
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
        let mut rest = String::new();
        self.1.read_to_string(&mut rest).unwrap();
        self.0.wait().unwrap().code()
    }
}

/// Exit code and sentence of a start that must fail.
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while lines.read_line(&mut said).unwrap() > 0 {
        if said.contains(" ready ") {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it started: {said}");
        }
    }
    assert!(
        !said.contains("panicked") && !said.contains("Os {"),
        "{said}"
    );
    (child.wait().unwrap().code(), said)
}

#[test]
fn it_serves_until_it_is_told_to_end() {
    let folder = Folder::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let running = Running::start(&mut command(folder.path(), "a", 24_100));
        let socket = folder.path().join("a.sock");
        let mut stream = UnixStream::connect(&socket).unwrap();
        let body = "{\"name\":\"demo\"}";
        let request = format!(
            "POST /networks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        // The second time it is there already.
        let expected = if signal == Signal::SIGTERM {
            "HTTP/1.1 200"
        } else {
            "HTTP/1.1 409"
        };
        assert!(answer.starts_with(expected), "{answer}");
        assert_eq!(running.end(signal), Some(0));
        assert!(!socket.exists() && !folder.path().join("a.sock.d").exists());
    }
}

#[test]
fn what_is_in_the_way_has_its_exit_code() {
    let folder = Folder::new();
    let path = folder.path();
    let running = Running::start(&mut command(path, "a", 24_200));
    // The same socket and state; then only the state.
    let (code, said) = refused(&mut command(path, "a", 24_200));
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("Another netcon-supervisor"), "{said}");
    let mut same_state = command(path, "a", 24_200);
    same_state.env("NETCON_SOCKET", path.join("b.sock"));
    let (code, said) = refused(&mut same_state);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("--state-dir"), "{said}");
    let mut same_socket = command(path, "b", 24_200);
    same_socket.env("NETCON_SOCKET", path.join("a.sock"));
    let (code, said) = refused(&mut same_socket);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("NETCON_SOCKET"), "{said}");
    assert_eq!(running.end(Signal::SIGTERM), Some(0));

    assert_eq!(refused(command(path, "c", 24_200).arg("--what")).0, Some(2));
    std::fs::write(path.join("file"), "").unwrap();
    let (code, said) = refused(&mut command(path, "file", 24_200));
    assert_eq!(code, Some(3), "{said}");
    std::fs::create_dir(path.join("open")).unwrap();
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(path.join("open"), everybody).unwrap();
    let (code, said) = refused(&mut command(path, "open", 24_200));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("can be written by others"), "{said}");
    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_netcon-supervisor"));
    nowhere.env_clear().stderr(Stdio::piped());
    let (code, said) = refused(&mut nowhere);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("--state-dir"), "{said}");
    let mut no_socket = command(path, "e", 24_200);
    no_socket.env("NETCON_SOCKET", path.join("file"));
    let (code, said) = refused(&mut no_socket);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("not a socket"), "{said}");
    no_socket.env("NETCON_SOCKET", path.join("x".repeat(90)));
    let (code, said) = refused(&mut no_socket);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("too long by"), "{said}");
    no_socket.env("NETCON_SOCKET", path.join("file/s"));
    let (code, said) = refused(&mut no_socket);
    assert_eq!(code, Some(4), "{said}");
    let _taken: Vec<UdpSocket> = (65_500..=65_535)
        .filter_map(|port| UdpSocket::bind(("0.0.0.0", port)).ok())
        .collect();
    let (code, said) = refused(&mut command(path, "d", 65_500));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("--port"), "{said}");
}

#[test]
fn a_busy_port_and_a_corrupt_file_are_told_and_not_fatal() {
    let folder = Folder::new();
    let _taken = UdpSocket::bind("0.0.0.0:24300").unwrap();
    std::fs::create_dir_all(folder.path().join("a/networks")).unwrap();
    let file = folder.path().join("a/networks/demo.json");
    std::fs::write(&file, "{").unwrap();
    let running = Running::start(&mut command(folder.path(), "a", 24_300));
    assert!(
        running
            .2
            .contains("UDP port 24300 is taken; the overlay uses 24301"),
        "{}",
        running.2
    );
    assert!(
        running
            .2
            .contains("demo.json is not used and left as it is"),
        "{}",
        running.2
    );
    assert_eq!(running.end(Signal::SIGTERM), Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{");
}

#[test]
fn log_lines_are_as_asked_for() {
    let folder = Folder::new();
    let said = |port, change: &dyn Fn(&mut Command)| {
        let mut command = command(folder.path(), "a", port);
        change(&mut command);
        let running = Running::start(&mut command);
        let said = running.2.clone();
        assert_eq!(running.end(Signal::SIGTERM), Some(0));
        // Standard error is a pipe here.
        assert!(!said.contains('\x1b'), "{said:?}");
        said
    };
    let plain = said(24_400, &|_| {});
    assert_eq!(plain.lines().count(), 1, "{plain}");
    assert!(!plain.contains("netcon_supervisor::"), "{plain}");
    let verbose = said(24_400, &|command| {
        command.arg("-vvv");
    });
    assert!(verbose.contains("INFO netcon_supervisor::"), "{verbose}");
    let asked = said(24_400, &|command| {
        command.env("RUST_LOG", "netcon_supervisor::startup=info");
    });
    assert!(asked.contains("netcon_supervisor::startup"), "{asked}");
    let malformed = said(24_400, &|command| {
        command.env("RUST_LOG", "netcon_supervisor=loud");
    });
    assert!(
        malformed.contains("WARN") && malformed.contains("RUST_LOG=\"netcon_supervisor=loud\""),
        "{malformed}"
    );
}
