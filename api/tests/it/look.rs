// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The commands that look at the running node: sockets, whois, ping, capture, events.

use netcon_api::Command;
use netcon_api::model::{CaptureQuery, PingRequest, SocketsQuery};
use serde_json::Value;

use crate::fake::Supervisor;
use crate::netcon::{ok, run};

#[test]
fn sockets_are_asked_for_page_by_page() {
    let supervisor = Supervisor::start();
    let shown = ok(&supervisor, &["sockets", "demo", "--container", "7"]);
    assert_eq!(
        shown,
        "PROTO  LOCAL            REMOTE         STATE  RECV-Q  SEND-Q  RECEIVED   SENT   AGE  PROGRAM\n\
         tcp    10.77.0.1:40000  10.77.0.2:443  ESTAB       0       5      12 B  34 kB  61 s  curl?[2J[4321]\n\
         tcp    10.77.0.1:40000  10.77.0.2:443  ESTAB       0       5      12 B  34 kB  61 s  curl?[2J[4321]\n"
    );
    let asked = |after| Command::SocketList {
        network: "demo".into(),
        query: SocketsQuery {
            after,
            limit: None,
            container: Some(7),
        },
    };
    assert_eq!(supervisor.fake.asked(), [asked(None), asked(Some(1))]);

    let json: Value =
        serde_json::from_str(&ok(&supervisor, &["--json", "sockets", "demo"])).unwrap();
    assert_eq!(json["sockets"].as_array().unwrap().len(), 2);
    assert_eq!(json["sockets"][1]["id"], 2);
    let json: Value = serde_json::from_str(&ok(&supervisor, &["--json", "sockets"])).unwrap();
    assert_eq!(json["demo"]["sockets"][0]["txBytes"], 34_000);
    let all = ok(&supervisor, &["sockets"]);
    assert!(all.starts_with("NETWORK  PROTO  LOCAL"), "{all}");
    let (code, _, errors) = run(&supervisor.socket, &["sockets", "none"], "");
    assert_eq!(code, 5, "{errors}");
}

#[test]
fn whois_says_who_and_fails_for_nobody() {
    let supervisor = Supervisor::start();
    let shown = ok(&supervisor, &["whois", "10.77.0.2", "-n", "demo"]);
    for part in [
        "network     demo",
        "is          peer laptop",
        "route       10.77.0.2/32",
        "endpoint    192.0.2.1:9993",
        "handshake   never",
        "socket      tcp 10.77.0.1:40000 to 10.77.0.2:443 ESTAB of curl?[2J[4321]",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(ok(&supervisor, &["whois", "10.77.0.1"]).contains("is          this host"));
    let (code, output, errors) = run(&supervisor.socket, &["whois", "192.0.2.9"], "");
    assert_eq!(
        (code, output.as_str(), errors.as_str()),
        (5, "", "netcon: nobody has 192.0.2.9 on network demo\n")
    );
    let (code, output, _) = run(&supervisor.socket, &["--json", "whois", "192.0.2.9"], "");
    let json: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, json[0]["kind"].as_str()), (5, Some("nobody")));
}

#[test]
fn ping_prints_what_ping_prints() {
    let supervisor = Supervisor::start();
    let arguments = ["ping", "10.77.0.2", "-c", "2", "-i", "0.01", "-s", "8"];
    let shown = ok(&supervisor, &arguments);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "PING 10.77.0.2 8 data bytes on network demo",
            "64 bytes from 10.77.0.2: icmp_seq=1 ttl=64 time=1.234 ms",
            "64 bytes from 10.77.0.2: icmp_seq=2 ttl=64 time=1.234 ms",
        ]
    );
    assert!(
        lines[5].starts_with("2 packets transmitted, 2 received, 0% packet loss, time "),
        "{shown}"
    );
    assert_eq!(
        lines[6],
        "rtt min/avg/max/mdev = 1.234/1.234/1.234/0.000 ms"
    );
    let asked = supervisor.fake.asked();
    let expected = Command::Ping {
        network: "demo".into(),
        body: PingRequest {
            address: "10.77.0.2".into(),
            timeout_ms: Some(1000),
            size: Some(8),
            sequence: Some(2),
        },
    };
    assert_eq!(asked.last(), Some(&expected));

    let (code, output, errors) = run(&supervisor.socket, &["ping", "10.77.0.3", "-c", "1"], "");
    assert_eq!(code, 1);
    assert!(
        output.contains("icmp_seq=1: no handshake with peer laptop yet\n"),
        "{output}"
    );
    assert!(output.contains("1 packets transmitted, 0 received, 100% packet loss"));
    assert_eq!(errors, "netcon: no reply from 10.77.0.3\n");

    let (code, _, errors) = run(&supervisor.socket, &["ping", "10.99.0.1", "-c", "1"], "");
    assert_eq!((code, errors.as_str()), (5, "netcon: nobody has it\n"));
    for wrong in [["-c", "0"], ["-i", "0"], ["-W", "61"], ["-s", "70000"]] {
        let arguments = [&["ping", "10.77.0.2"], &wrong[..]].concat();
        assert_eq!(run(&supervisor.socket, &arguments, "").0, 2, "{wrong:?}");
    }
    let shown = ok(
        &supervisor,
        &["--json", "ping", "10.77.0.2", "-c", "2", "-i", "0.01"],
    );
    let answers: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1]["timeUs"], 1234);
}

#[test]
fn a_capture_goes_to_a_file_or_a_pipe() {
    let supervisor = Supervisor::start();
    let arguments = ["capture", "demo", "-c", "5", "-s", "96"];
    assert_eq!(ok(&supervisor, &arguments), "PCAPNG");
    let expected = Command::Capture {
        network: "demo".into(),
        query: CaptureQuery {
            snaplen: Some(96),
            count: Some(5),
        },
    };
    assert_eq!(supervisor.fake.asked(), [expected]);
    let file = supervisor.folder.join("file.pcapng");
    let path = file.to_str().unwrap();
    assert_eq!(ok(&supervisor, &["capture", "demo", "-w", path]), "");
    assert_eq!(std::fs::read(&file).unwrap(), b"PCAPNG");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (code, _, errors) = run(
        &supervisor.socket,
        &["capture", "demo", "-w", "/nowhere/file"],
        "",
    );
    assert_eq!(code, 6);
    assert!(errors.contains("/nowhere/file"), "{errors}");
    assert_eq!(run(&supervisor.socket, &["capture", "none"], "").0, 5);
    assert_eq!(
        run(&supervisor.socket, &["capture", "demo", "-s", "0"], "").0,
        2
    );
}

#[test]
fn events_are_lines() {
    let supervisor = Supervisor::start();
    let (code, output, errors) = run(&supervisor.socket, &["events"], "");
    assert_eq!(
        (code, output.as_str(), errors.as_str()),
        (
            1,
            "00:00:00Z network_created network=demo\n",
            "netcon: the supervisor has ended\n"
        )
    );
    let (_, output, _) = run(&supervisor.socket, &["--json", "events"], "");
    let json: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(json["type"], "network_created");
}
