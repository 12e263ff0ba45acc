// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every operation of the declaration, with every kind of caller and of wrong request, on real sockets.
//!
//! [`example`] has a request that succeeds for each; an operation without one fails the test. The wrong requests are made from
//! it and from the OpenAPI document.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use common::{Fake, Folder, service};
use netcon_api::model::{AddPeer, CreateNetwork};
use netcon_api::route::{MAX_BODY, Method, ROUTES, Route, encode};
use netcon_api::{Caller, Code, Handler, openapi};
use netcon_supervisor::control::{ContainerView, PeerCredentials, Service};
use netcon_supervisor::http::{self, UnixHttp};
use serde_json::{Value, json};

const KEY: &str = "A/+BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const OTHER_KEY: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

/// A target and a body with which an operation succeeds, given network `demo`, its peer [`KEY`] and container 7.
fn example(route: &Route) -> (String, Option<Value>) {
    let plain = |path: &str| (path.to_owned(), None);
    match route.name {
        "status" | "health" | "openapi" | "token_show" | "token_rotate" | "log_show"
        | "network_list" | "container_list" => plain(route.path),
        "log_change" => ("/log".into(), Some(json!({}))),
        "network_create" => (
            "/networks".into(),
            Some(json!({"name": "fresh", "addresses": ["10.9.0.1/24"], "mtu": 1400})),
        ),
        "network_import" => {
            let config = format!(
                "[Interface]\nPrivateKey = {OTHER_KEY}\nAddress = 10.8.0.2/24\n[Peer]\nPublicKey = {KEY}\nAllowedIPs = 10.8.0.0/24\n"
            );
            (
                "/networks/import".into(),
                Some(json!({"config": config, "name": "imported"})),
            )
        }
        "network_show" | "network_delete" => plain("/networks/demo"),
        "network_change" => (
            "/networks/demo".into(),
            Some(
                json!({"name": "renamed", "addresses": ["10.78.0.1/24", "fd78::1/64"], "mtu": null}),
            ),
        ),
        "network_export" => plain("/networks/demo/export?format=json"),
        "peer_list" => plain("/networks/demo/peers"),
        "peer_add" => (
            "/networks/demo/peers".into(),
            Some(
                json!({"name": "new", "publicKey": OTHER_KEY, "endpoint": "192.0.2.9:1", "persistentKeepalive": 25}),
            ),
        ),
        "peer_change" => (
            format!("/networks/demo/peers/{}", encode(KEY)),
            Some(json!({"name": null, "presharedKey": OTHER_KEY, "persistentKeepalive": 25})),
        ),
        "peer_show" | "peer_remove" => plain(&format!("/networks/demo/peers/{}", encode(KEY))),
        "container_show" => plain("/containers/7"),
        "socket_list" => plain("/networks/demo/sockets?limit=10"),
        "whois" => plain("/networks/demo/whois?addr=10.77.0.9"),
        "ping" => (
            "/networks/demo/ping".into(),
            Some(json!({"address": "10.99.0.1", "timeoutMs": 5})),
        ),
        "capture" => plain("/networks/demo/capture?snaplen=96&count=3"),
        "events" | "metrics" => plain(route.path),
        other => panic!("give the operation {other} an example"),
    }
}

/// A supervisor's API on both loopbacks and a unix socket.
struct World {
    addresses: Vec<SocketAddr>,
    unix: UnixHttp,
    service: Arc<Service>,
    fake: Arc<Fake>,
    user: u32,
    _folder: Folder,
}

impl World {
    fn of(user: u32) -> Self {
        let folder = Folder::new();
        let (service, fake) = service(&folder);
        let caller = Caller { uid: user };
        let create = CreateNetwork {
            name: "demo".into(),
            addresses: vec!["10.77.0.1/24".into()],
            ..CreateNetwork::default()
        };
        service.network_create(caller, create).unwrap();
        let peer = AddPeer {
            name: Some("laptop".into()),
            public_key: Some(KEY.into()),
            ..AddPeer::default()
        };
        service.peer_add(caller, "demo".into(), peer).unwrap();
        fake.seen().events_end = true;
        fake.seen().running.push(ContainerView {
            id: 7,
            network: "demo".into(),
            pid: 4321,
            program: "nginx".into(),
            command: Vec::new(),
            started: Duration::ZERO,
            sockets: 1,
            traffic: netcon_netstack::sockets::Traffic::default(),
        });
        let listeners: Vec<TcpListener> = ["127.0.0.1:0", "[::1]:0"]
            .iter()
            .filter_map(|address| TcpListener::bind(address).ok())
            .collect();
        let addresses = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        let unix = http::start_for(user, Arc::clone(&service), listeners).unwrap();
        Self {
            addresses,
            unix,
            service,
            fake,
            user,
            _folder: folder,
        }
    }

    fn ours() -> Self {
        Self::of(us())
    }

    fn token(&self) -> String {
        self.service.token().expose().to_owned()
    }

    fn send(&self, way: Way, request: &[u8]) -> Answer {
        match way {
            Way::Loopback(index) => {
                answer(TcpStream::connect(self.addresses[index]).unwrap(), request)
            }
            Way::Unix(uid) => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let pid = std::process::id();
                self.unix
                    .accept(theirs, PeerCredentials { pid, uid, gid: uid });
                answer(ours, request)
            }
        }
    }

    fn ask(&self, method: &str, target: &str, headers: &str, body: Option<&str>) -> Answer {
        self.send(Way::Loopback(0), &request(method, target, headers, body))
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Loopback(usize),
    /// As this user.
    Unix(u32),
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

fn us() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn request(method: &str, target: &str, headers: &str, body: Option<&str>) -> Vec<u8> {
    let host = if headers.contains("host:") {
        ""
    } else {
        "host: localhost\r\n"
    };
    let body = body.unwrap_or_default();
    format!(
        "{method} {target} HTTP/1.1\r\n{host}{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Head and body of the answer; of an endless one, what comes within a moment.
fn answer<S: Read + Write + Timed>(mut stream: S, request: &[u8]) -> Answer {
    stream.patience(Duration::from_secs(10));
    let _may_be_refused_earlier = stream.write_all(request);
    let mut bytes = Vec::new();
    let mut part = [0; 16_384];
    loop {
        if bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            stream.patience(Duration::from_secs(1));
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no answer to {}: {text:?}", shown(request))),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

fn shown(request: &[u8]) -> String {
    String::from_utf8_lossy(request).chars().take(120).collect()
}

trait Timed {
    fn patience(&self, time: Duration);
}

impl Timed for TcpStream {
    fn patience(&self, time: Duration) {
        self.set_read_timeout(Some(time)).unwrap();
    }
}

impl Timed for UnixStream {
    fn patience(&self, time: Duration) {
        self.set_read_timeout(Some(time)).unwrap();
    }
}

fn spelled(route: &Route, headers: &str) -> Vec<u8> {
    let (target, body) = example(route);
    let body = body.map(|body| body.to_string());
    request(route.method.as_str(), &target, headers, body.as_deref())
}

#[test]
fn the_user_succeeds_on_every_way() {
    for route in ROUTES {
        let ways = World::ours().addresses.len();
        for way in (0..ways).map(Way::Loopback).chain([Way::Unix(us())]) {
            let world = World::ours();
            let answer = world.send(way, &spelled(route, ""));
            assert_eq!(answer.status, 200, "{route:?} {way:?}: {answer:?}");
            let token = format!("authorization: Bearer {}\r\n", world.token());
            if route.method == Method::GET {
                let answer = world.send(way, &spelled(route, &token));
                assert_eq!(answer.status, 200, "{route:?} {way:?}: {answer:?}");
            }
            let answer = world.send(way, &spelled(route, "x-zt1-auth: wrong\r\n"));
            assert_eq!(answer.status, 401, "{route:?} {way:?}: {answer:?}");
        }
    }
}

#[test]
fn strangers_need_the_token_and_learn_nothing_else() {
    let user = us() + 1;
    for route in ROUTES {
        let ways = World::of(user).addresses.len();
        for way in (0..ways).map(Way::Loopback).chain([Way::Unix(us())]) {
            let world = World::of(user);
            assert_ne!(world.user, us());
            let mut refusals = Vec::new();
            for (headers, status, code) in [
                ("", 403, "forbidden"),
                ("x-zt1-auth: wrong\r\n", 401, "unauthorized"),
                ("authorization: Bearer wrong\r\n", 401, "unauthorized"),
                ("authorization: Basic wrong\r\n", 401, "unauthorized"),
            ] {
                let answer = world.send(way, &spelled(route, headers));
                let found = (answer.status, answer.code());
                assert_eq!(found, (status, code.to_owned()), "{route:?} {way:?}");
                assert!(!answer.headers.contains_key("server"), "{answer:?}");
                refusals.push(answer.body);
            }
            // What does not exist looks like what does.
            let nothing = world.send(way, &request("GET", "/nothing", "", None));
            assert_eq!(nothing.body, refusals[0]);
            for name in ["authorization: Bearer", "x-zt1-auth:"] {
                let world = World::of(user);
                let token = format!("{name} {}\r\n", world.token());
                let foreign = format!("{token}origin: http://evil.example\r\n");
                let answer = world.send(way, &spelled(route, &foreign));
                assert_eq!(answer.status, 403, "{route:?} {way:?}: {answer:?}");
                let answer = world.send(way, &spelled(route, &token));
                assert_eq!(answer.status, 200, "{route:?} {way:?}: {answer:?}");
            }
        }
    }
}

#[test]
fn web_pages_of_other_sites_are_refused() {
    let world = World::ours();
    for route in ROUTES {
        for headers in [
            "host: evil.example\r\n",
            "host: 10.0.0.1:9993\r\n",
            "origin: http://evil.example\r\n",
            "origin: null\r\n",
            "referer: http://evil.example/page\r\n",
            "sec-fetch-site: cross-site\r\n",
        ] {
            for way in [Way::Loopback(0), Way::Unix(us())] {
                let answer = world.send(way, &spelled(route, headers));
                let found = (answer.status, answer.code());
                assert_eq!(found, (403, "forbidden".into()), "{route:?} {headers}");
            }
        }
    }
    assert_eq!(world.service.networks().len(), 1);
}

#[test]
fn a_program_in_a_network_is_refused_whatever_it_presents() {
    let world = World::ours();
    for route in ROUTES {
        let stream = TcpStream::connect(world.addresses[0]).unwrap();
        let inode = common::inode(&stream);
        world
            .fake
            .seen()
            .sockets_inside
            .insert(inode, "demo".into());
        let token = format!("x-zt1-auth: {}\r\n", world.token());
        let answer = answer(stream, &spelled(route, &token));
        assert_eq!(answer.status, 403, "{route:?}: {answer:?}");
        assert!(
            answer.body.contains("A program in network demo"),
            "{answer:?}"
        );
    }
}

#[test]
fn wrong_methods_hear_the_right_ones() {
    let world = World::ours();
    for route in ROUTES {
        let (target, _body) = example(route);
        let allowed = netcon_api::route::methods(&target).unwrap();
        let listed: Vec<&str> = allowed.split(", ").collect();
        assert!(
            listed.contains(&route.method.as_str()),
            "{route:?}: {allowed}"
        );
        for method in [
            "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW",
        ] {
            if listed.contains(&method) {
                continue;
            }
            let answer = world.ask(method, &target, "", Some("{}"));
            let found = (answer.status, answer.code());
            assert_eq!(found, (405, "method".into()), "{method} {target}");
            assert_eq!(
                answer.headers.get("allow"),
                Some(&allowed),
                "{method} {target}"
            );
        }
    }
}

#[test]
fn what_does_not_exist_is_404_and_parameters_are_named() {
    let world = World::ours();
    for route in ROUTES {
        let (target, body) = example(route);
        let body = body.map(|body| body.to_string());
        let method = route.method.as_str();
        for (parameter, known) in [
            ("{network}", "demo"),
            ("{peer}", &encode(KEY)),
            ("{id}", "7"),
        ] {
            if !route.path.contains(parameter) {
                continue;
            }
            for unknown in [
                "nobody",
                "99999999999999999999",
                "%00",
                "..%2f..",
                &"x".repeat(3000),
            ] {
                let other = target.replacen(&format!("/{known}"), &format!("/{unknown}"), 1);
                assert_ne!(other, target);
                let answer = world.ask(method, &other, "", body.as_deref());
                let found = (answer.status, answer.code());
                assert_eq!(
                    found,
                    (404, "not_found".into()),
                    "{method} {other}: {answer:?}"
                );
                assert!(answer.body.len() < 1000, "{answer:?}");
            }
        }
        let mark = if target.contains('?') { '&' } else { '?' };
        let answer = world.ask(
            method,
            &format!("{target}{mark}colour=red"),
            "",
            body.as_deref(),
        );
        assert_eq!(answer.code(), "unknown_field", "{route:?}: {answer:?}");
        assert!(answer.body.contains("colour"), "{answer:?}");
        let longer = world.ask(
            method,
            &format!("{}/more/still", route.path),
            "",
            body.as_deref(),
        );
        assert_eq!(longer.code(), "unknown_path", "{route:?}: {longer:?}");
    }
}

/// The schema of an operation's body.
fn schema(document: &Value, route: &Route) -> Value {
    let method = route.method.as_str().to_ascii_lowercase();
    let body = &document["paths"][route.path][method]["requestBody"];
    let schema = &body["content"]["application/json"]["schema"];
    let reference = schema["$ref"].as_str().expect("a body is a named type");
    document
        .pointer(reference.trim_start_matches('#'))
        .unwrap()
        .clone()
}

#[test]
fn wrong_bodies_are_refused_by_name() {
    let document = openapi::document();
    let world = World::ours();
    for route in ROUTES.iter().filter(|route| route.takes_body) {
        let (target, body) = example(route);
        let body = body.expect("it takes a body");
        let method = route.method.as_str();
        let refused = |body: &str, headers: &str, code: Code, word: &str| {
            let answer = world.ask(method, &target, headers, Some(body));
            let found = (answer.status, answer.code());
            let expected = (code.status(), code.as_str().to_owned());
            assert_eq!(found, expected, "{method} {target} {body:.200}: {answer:?}");
            assert!(
                answer.body.contains(word),
                "{method} {target} {body:.200}: {answer:?}"
            );
        };
        for nonsense in [
            "",
            "{",
            "[]",
            "7",
            "\"text\"",
            "null",
            "\u{0}",
            "{}{}",
            "{\"a\":1,}",
        ] {
            // What is wrong about it is serde's to say.
            let answer = world.ask(method, &target, "", Some(nonsense));
            assert_eq!(
                answer.status, 400,
                "{method} {target} {nonsense}: {answer:?}"
            );
        }
        let mut unknown = body.clone();
        unknown["colour"] = json!("red");
        refused(&unknown.to_string(), "", Code::UnknownField, "colour");
        let schema = schema(&document, route);
        assert_eq!(schema["additionalProperties"], false, "{route:?}");
        for field in schema["properties"].as_object().unwrap().keys() {
            let mut wrong = body.clone();
            wrong[field] = json!({"an": "object"});
            refused(&wrong.to_string(), "", Code::Invalid, "understood");
        }
        for field in schema["required"].as_array().into_iter().flatten() {
            let mut missing = body.clone();
            let field = field.as_str().unwrap();
            missing.as_object_mut().unwrap().remove(field);
            refused(&missing.to_string(), "", Code::Invalid, field);
        }
        for media in ["text/xml", "multipart/form-data; boundary=x", "nonsense"] {
            let headers = format!("content-type: {media}\r\n");
            refused(
                &body.to_string(),
                &headers,
                Code::MediaType,
                "application/json",
            );
        }
        let head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n");
        let announced = format!("{head}content-length: {}\r\n\r\n", MAX_BODY + 1);
        let answer = world.send(Way::Loopback(0), announced.as_bytes());
        assert_eq!((answer.status, answer.code()), (413, "too_large".into()));
        let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        let piece = vec![b' '; 65_536];
        for _ in 0..=MAX_BODY / piece.len() {
            chunked.extend_from_slice(b"10000\r\n");
            chunked.extend_from_slice(&piece);
            chunked.extend_from_slice(b"\r\n");
        }
        let answer = world.send(Way::Loopback(0), &chunked);
        assert_eq!((answer.status, answer.code()), (413, "too_large".into()));
        for media in [
            "application/json; charset=utf-8",
            "application/x-www-form-urlencoded",
        ] {
            let world = World::ours();
            let headers = format!("content-type: {media}\r\n");
            let answer = world.ask(method, &target, &headers, Some(&body.to_string()));
            assert_eq!(answer.status, 200, "{route:?} {media}: {answer:?}");
        }
    }
    assert_eq!(world.service.networks().len(), 1);
}

#[test]
fn every_answer_has_the_media_type_it_is_declared_with() {
    let document = openapi::document();
    for route in ROUTES {
        let world = World::ours();
        let answer = world.send(Way::Loopback(0), &spelled(route, ""));
        let method = route.method.as_str().to_ascii_lowercase();
        let declared = &document["paths"][route.path][method]["responses"]["200"]["content"];
        let media = &answer.headers["content-type"];
        assert!(
            declared.as_object().unwrap().contains_key(media),
            "{route:?}: {media}"
        );
    }
}

#[test]
fn a_key_may_be_spelled_as_in_a_url() {
    let world = World::ours();
    let url_safe = KEY.replace('+', "-").replace('/', "_");
    let keys = [
        encode(KEY),
        encode(&url_safe),
        url_safe.trim_end_matches('=').to_owned(),
    ];
    for key in keys.iter().map(String::as_str).chain(["laptop"]) {
        let answer = world.ask("GET", &format!("/network/demo/peers/{key}"), "", None);
        assert_eq!(answer.status, 200, "{key}: {answer:?}");
        assert!(answer.body.contains(KEY), "{answer:?}");
    }
}

#[test]
fn a_change_is_partial() {
    let world = World::ours();
    let change = |target: &str, body: Value| -> Value {
        let answer = world.ask("PATCH", target, "", Some(&body.to_string()));
        assert_eq!(answer.status, 200, "{target} {body}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    };
    let refused = |target: &str, body: Value, code: Code| {
        let before = world.service.networks();
        let answer = world.ask("PATCH", target, "", Some(&body.to_string()));
        assert_eq!(answer.code(), code.as_str(), "{target} {body}: {answer:?}");
        let after = world.service.networks();
        assert_eq!(format!("{before:?}"), format!("{after:?}"), "{body}");
    };
    let peer = format!("/networks/demo/peers/{}", encode(KEY));
    let set = change(
        &peer,
        json!({"endpoint": "192.0.2.9:7", "persistentKeepalive": 25, "presharedKey": OTHER_KEY}),
    );
    assert_eq!(set["name"], "laptop");
    assert_eq!(
        (&set["endpoint"], &set["persistentKeepalive"]),
        (&json!("192.0.2.9:7"), &json!(25))
    );
    assert_eq!(set["hasPresharedKey"], true);
    let last = |world: &World| world.fake.seen().networks["demo"].last().unwrap().clone();
    assert_eq!(last(&world).endpoint, Some("192.0.2.9:7".parse().unwrap()));
    let cleared = change(&peer, json!({"persistentKeepalive": null, "name": "phone"}));
    assert_eq!(cleared["persistentKeepalive"], Value::Null);
    assert_eq!(
        (&cleared["name"], &cleared["endpoint"]),
        (&json!("phone"), &json!("192.0.2.9:7"))
    );
    // Where it has roamed to is not what it was configured with: that stays with the overlay.
    assert_eq!(last(&world).endpoint, None);
    change(&peer, json!({"allowedIps": ["10.77.0.7/32", "fd77::/64"]}));
    assert_eq!(last(&world).allowed_ips.len(), 2);
    for (body, code) in [
        (json!({"allowedIps": null}), Code::Invalid),
        (json!({"allowedIps": []}), Code::Invalid),
        (json!({"allowedIps": ["10.77.0.1/32"]}), Code::Conflict),
        (json!({"endpoint": "nowhere"}), Code::Invalid),
        (json!({"name": "two words"}), Code::Invalid),
        (json!({"presharedKey": "short"}), Code::Invalid),
        (json!({"publicKey": OTHER_KEY}), Code::UnknownField),
    ] {
        refused(&peer, body, code);
    }
    let before = world.service.network("demo").unwrap().config;
    assert_eq!(change("/networks/demo", json!({}))["name"], "demo");
    assert!(
        world.fake.seen().changes.is_empty(),
        "nothing was to change"
    );
    assert_eq!(change("/networks/demo", json!({"mtu": 1300}))["mtu"], 1300);
    assert_eq!(change("/networks/demo", json!({"mtu": null}))["mtu"], 1420);
    for allowed in [false, true] {
        let body = json!({"rawSockets": allowed});
        assert_eq!(change("/networks/demo", body)["rawSockets"], allowed);
        let told = world.fake.seen().changes.last().cloned();
        assert_eq!(told.and_then(|change| change.1.raw_sockets), Some(allowed));
    }
    for (body, code) in [
        (json!({"mtu": 1}), Code::Invalid),
        (json!({"rawSockets": null}), Code::Invalid),
        (json!({"rawSockets": "off"}), Code::Invalid),
        (json!({"name": null}), Code::Invalid),
        (json!({"name": "import"}), Code::Invalid),
        (json!({"name": "../etc"}), Code::Invalid),
        (json!({"addresses": []}), Code::Invalid),
        (
            json!({"addresses": ["10.1.0.1/24", "10.2.0.1/24"]}),
            Code::Invalid,
        ),
        (json!({"addresses": ["10.77.0.7/24"]}), Code::Conflict),
        (json!({"id": "0000000000000001"}), Code::UnknownField),
    ] {
        refused("/networks/demo", body, code);
    }
    let renamed = change("/networks/demo", json!({"name": "home"}));
    assert_eq!(
        (&renamed["name"], &renamed["id"]),
        (&json!("home"), &json!(before.id.to_string()))
    );
    let (from, seen) = world.fake.seen().changes.last().cloned().unwrap();
    assert_eq!(
        (from.as_str(), seen.name.as_deref()),
        ("demo", Some("home"))
    );
    assert!(world.service.network("demo").is_err());
    let by_id = format!("/networks/{}", before.id);
    assert_eq!(world.ask("GET", &by_id, "", None).status, 200);
    // What the node refuses is taken back from disk.
    world.fake.seen().failure = Some("no".into());
    refused(&by_id, json!({"name": "other"}), Code::Failed);
    world.fake.seen().failure = Some("no".into());
    refused(&by_id, json!({"mtu": 1400}), Code::Failed);
    let files = std::fs::read_dir(world.service.state_directory().join("networks")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["home.json"]);
}
