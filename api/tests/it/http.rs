// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The server, byte by byte.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use netcon_api::Command;
use serde_json::Value;

use crate::fake::Supervisor;

const KEY: &str = "A%2F%2BBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE%3D";

/// Status and JSON of the answer to one request on a connection of its own.
fn ask(supervisor: &Supervisor, request: &str, headers: &str, body: &str) -> (u16, Value) {
    let text = format!(
        "{request} HTTP/1.1\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let (status, body) = split(&raw(supervisor, text.as_bytes()));
    (
        status,
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{request}: {error}: {body:?}")),
    )
}

/// What comes back until the server closes.
fn raw(supervisor: &Supervisor, bytes: &[u8]) -> String {
    exchange(supervisor, bytes, false)
}

/// With `hang_up` the client says that it will send no more.
fn exchange(supervisor: &Supervisor, bytes: &[u8], hang_up: bool) -> String {
    let mut stream = supervisor.connect();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // The server may close before it has read all.
    let _broken_pipe = stream.write_all(bytes);
    if hang_up {
        let _broken_pipe = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    (
        status.unwrap_or_else(|| panic!("{answer:?}")),
        body.to_owned(),
    )
}

fn code(value: &Value) -> &str {
    value["error"]["code"]
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
}

const LOCAL: &str = "host: localhost:9993\r\n";

#[test]
fn every_route_becomes_its_command() {
    let supervisor = Supervisor::start();
    let config = r#"{"config":"[Interface]\nPrivateKey=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\nAddress=10.0.0.2/24\nDNS=1.1.1.1","name":"home"}"#;
    let table = [
        ("GET /status", "", "Status"),
        ("GET /health", "", "Health"),
        ("GET /networks", "", "NetworkList"),
        ("GET /network", "", "NetworkList"),
        (
            "POST /networks",
            r#"{"name":"new","addresses":["10.1.0.1/24"]}"#,
            "NetworkCreate {",
        ),
        ("POST /networks/import", config, "NetworkImport {"),
        (
            "GET /networks/demo",
            "",
            "NetworkShow { network: \"demo\" }",
        ),
        (
            "GET /network/1122334455667788",
            "",
            "NetworkShow { network: \"1122334455667788\" }",
        ),
        (
            "DELETE /networks/demo",
            "",
            "NetworkDelete { network: \"demo\" }",
        ),
        (
            "GET /networks/demo/peers",
            "",
            "PeerList { network: \"demo\", query: PeersQuery { format: Json } }",
        ),
        (
            "POST /networks/demo/peers",
            r#"{"name":"phone"}"#,
            "PeerAdd { network: \"demo\"",
        ),
        (
            &format!("GET /networks/demo/peers/{KEY}"),
            "",
            "PeerShow { network: \"demo\", peer: \"A/+B",
        ),
        (
            &format!("DELETE /networks/demo/peers/{KEY}"),
            "",
            "PeerRemove { network: \"demo\", peer: \"A/+B",
        ),
        ("GET /containers", "", "ContainerList"),
        ("GET /containers/7", "", "ContainerShow { id: 7 }"),
    ];
    for (request, body, expected) in table {
        let (status, _answer) = ask(&supervisor, request, LOCAL, body);
        assert_eq!(status, 200, "{request}");
        let asked = supervisor.fake.asked();
        let [command] = asked.as_slice() else {
            panic!("{request}: {asked:?}")
        };
        assert!(
            format!("{command:?}").starts_with(expected),
            "{request}: {command:?}"
        );
    }
}

#[test]
fn answers_have_the_documented_names() {
    let supervisor = Supervisor::start();
    let (_status, networks) = ask(&supervisor, "GET /networks", LOCAL, "");
    assert_eq!(networks[0]["id"], "1122334455667788");
    assert_eq!(networks[0]["status"], "OK");
    assert_eq!(networks[0]["assignedAddresses"][1], "fd77::1/64");
    let (_status, peers) = ask(&supervisor, "GET /networks/demo/peers", LOCAL, "");
    assert_eq!(peers[0]["allowedIps"][0], "10.77.0.2/32");
    assert_eq!(peers[0]["lastHandshake"], Value::Null);
}

#[test]
fn bad_requests_are_refused_before_the_supervisor_is_asked() {
    let supervisor = Supervisor::start();
    let table = [
        ("GET /nothing", "", 404, "unknown_path"),
        ("GET /networks/%ff", "", 404, "unknown_path"),
        ("GET /networks/demo/peers/a/b", "", 404, "unknown_path"),
        ("GET /../etc/passwd", "", 404, "unknown_path"),
        ("GET /containers/x", "", 404, "not_found"),
        ("PUT /networks", "{}", 405, "method"),
        ("POST /status", "", 405, "method"),
        ("POST /networks", "", 400, "invalid"),
        ("POST /networks", "[]", 400, "invalid"),
        ("POST /networks", r#"{"name":7}"#, 400, "invalid"),
        ("POST /networks", r#"{"name":"a"} x"#, 400, "invalid"),
        (
            "POST /networks",
            r#"{"name":"a","mtu":70000}"#,
            400,
            "invalid",
        ),
        (
            "POST /networks",
            r#"{"name":"a","name":"b"}"#,
            400,
            "invalid",
        ),
        (
            "POST /networks",
            r#"{"name":"a","color":1}"#,
            400,
            "unknown_field",
        ),
        (
            "POST /networks/import",
            r#"{"config":"","privateKey":""}"#,
            400,
            "unknown_field",
        ),
        (
            "POST /networks/demo/peers",
            r#"{"name":"a","allowed_ips":[]}"#,
            400,
            "unknown_field",
        ),
    ];
    for (request, body, status, expected) in table {
        let (found, answer) = ask(&supervisor, request, LOCAL, body);
        assert_eq!(
            (found, code(&answer)),
            (status, expected),
            "{request} {body}"
        );
        assert!(
            answer["error"]["message"].as_str().unwrap().ends_with('.'),
            "{answer}"
        );
    }
    let deep = format!(r#"{{"name":{}"#, "[".repeat(100_000));
    assert_eq!(ask(&supervisor, "POST /networks", LOCAL, &deep).0, 400);
    let (_status, answer) = ask(
        &supervisor,
        "POST /networks",
        LOCAL,
        r#"{"name":"a","color":1}"#,
    );
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("`color`"),
        "{answer}"
    );
    assert_eq!(supervisor.fake.asked(), []);
}

#[test]
fn web_pages_of_other_sites_are_refused() {
    let supervisor = Supervisor::start();
    for good in [
        "",
        "host: 127.0.0.1\r\n",
        "host: [::1]:9993\r\n",
        "host: LOCALHOST\r\norigin: http://localhost:8080\r\nreferer: http://127.0.0.1/x?y\r\n",
    ] {
        assert_eq!(ask(&supervisor, "GET /health", good, "").0, 200, "{good}");
    }
    for bad in [
        "host: evil.example\r\n",
        "host: localhost.evil.example\r\n",
        "host: 127.0.0.1.evil.example:9993\r\n",
        "host: localhost@evil.example\r\n",
        "host: 192.168.0.1:9993\r\n",
        "host: \u{e9}\r\n",
        "host: localhost\r\norigin: null\r\n",
        "host: localhost\r\norigin: http://evil.example\r\n",
        "host: localhost\r\norigin: http://localhost.evil.example\r\n",
        "host: localhost\r\norigin: http://localhost@evil.example\r\n",
        "host: localhost\r\nreferer: http://evil.example/?http://localhost/\r\n",
    ] {
        let (status, answer) = ask(&supervisor, "DELETE /networks/demo", bad, "");
        assert_eq!((status, code(&answer)), (403, "forbidden"), "{bad}");
    }
    assert!(
        supervisor
            .fake
            .asked()
            .iter()
            .all(|command| *command == Command::Health {})
    );
}

#[test]
fn sizes_are_bounded() {
    let supervisor = Supervisor::start();
    let large = format!("{LOCAL}x: {}\r\n", "x".repeat(64 * 1024));
    let answer = raw(
        &supervisor,
        format!("GET /health HTTP/1.1\r\n{large}\r\n").as_bytes(),
    );
    assert_eq!(split(&answer).0, 431);
    let body = " ".repeat((1 << 20) + 1);
    let said = format!(
        "POST /networks HTTP/1.1\r\n{LOCAL}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(split(&raw(&supervisor, said.as_bytes())).0, 413);
    let chunked = format!(
        "POST /networks HTTP/1.1\r\n{LOCAL}connection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(split(&raw(&supervisor, chunked.as_bytes())).0, 413);
    assert_eq!(supervisor.fake.asked(), []);
}

#[test]
fn what_is_not_http_ends_the_connection_only() {
    let supervisor = Supervisor::start();
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"",
        b"GET /heal",
    ] {
        let answer = exchange(&supervisor, bytes, true);
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 400")
                || answer.starts_with("HTTP/1.1 505"),
            "{answer:?}"
        );
    }
    assert_eq!(ask(&supervisor, "GET /health", LOCAL, "").0, 200);
}

#[test]
fn a_connection_serves_several_requests() {
    let supervisor = Supervisor::start();
    let one = format!("GET /health HTTP/1.1\r\n{LOCAL}\r\n");
    let last = format!("GET /status HTTP/1.1\r\n{LOCAL}connection: close\r\n\r\n");
    let answer = raw(&supervisor, format!("{one}{one}{last}").as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!(
        supervisor.fake.asked(),
        [Command::Health {}, Command::Health {}, Command::Status {}]
    );
}
