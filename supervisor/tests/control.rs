// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration: files and node stay in step, bad requests change nothing.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "tests"
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Fake, Folder, service};
use netcon_api::answer::Either;
use netcon_api::model::{AddPeer, Change, ExportFormat, ExportQuery, ImportNetwork};
use netcon_api::wgquick::File;
use netcon_api::{Caller, Handler};
use netcon_overlay::{PeerStatus, PrivateKey};
use netcon_shim::handover::refusal;
use netcon_supervisor::control::service::{
    ChangedNetwork, ChangedPeer, ImportedNetwork, NewNetwork, NewPeer,
};
use netcon_supervisor::control::{
    Admitted, ControlError, Observe, PeerCredentials, RunningTimestamps, Runtime, Service,
};
use netcon_supervisor::state::{PeerEntry, StateDir};

fn new(name: &str, addresses: &[&str]) -> NewNetwork {
    NewNetwork {
        name: name.parse().unwrap(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        mtu: None,
    }
}

fn peer(name: &str) -> NewPeer {
    NewPeer {
        name: Some(name.to_owned()),
        our_endpoint: Some("192.0.2.7".to_owned()),
        ..NewPeer::default()
    }
}

fn restarted(folder: &Folder) -> (Service, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let state = StateDir::open(&folder.path().join("state")).unwrap();
    let runtime: Arc<dyn Runtime> = Arc::<Fake>::clone(&fake);
    (Service::start(state, runtime, 9993).unwrap(), fake)
}

#[test]
fn a_network_survives_a_restart() {
    let folder = Folder::new();
    let (first, _) = service(&folder);
    let made = first.create(new("demo", &["10.77.0.1/24"])).unwrap().config;
    assert_eq!(made.addresses.len(), 2, "an IPv6 prefix is added");
    assert!(made.addresses[1].to_string().starts_with("fd"));
    let added = first.add_peer("demo", peer("laptop")).unwrap();
    assert_eq!(added.peer.allowed_ips[0].to_string(), "10.77.0.2/32");
    drop(first);
    let (second, fake) = restarted(&folder);
    let known = second.network(&made.id.to_string()).unwrap();
    assert_eq!(known.config.name, made.name);
    assert_eq!(known.config.peers[0].name.as_deref(), Some("laptop"));
    assert_eq!(fake.seen().networks["demo"].len(), 1);
    second.delete("demo").unwrap();
    assert!(fake.seen().networks.is_empty());
    drop(second);
    assert!(restarted(&folder).0.networks().is_empty());
}

#[test]
fn timestamps_of_handshakes_survive_a_restart() {
    let folder = Folder::new();
    let (first, fake) = service(&folder);
    for name in ["demo", "other"] {
        first.create(new(name, &[])).unwrap();
    }
    let key = first
        .add_peer("demo", peer("laptop"))
        .unwrap()
        .peer
        .public_key;
    let own = Duration::new(1_800_000_000, 999_999_999);
    let shown = |stamp| vec![("demo".to_owned(), [(key, [stamp; 12])].into())];
    let tell =
        |fake: &Fake, own, peers| fake.seen().timestamps = Some(RunningTimestamps { own, peers });
    tell(&fake, own, shown(7));
    first.save_timestamps();
    // Nothing has changed since: nothing is forgotten either.
    first.save_timestamps();
    drop(first);
    let (second, fake) = restarted(&folder);
    let later = own + Duration::from_millis(20);
    assert_eq!(
        fake.seen().least_time,
        later,
        "newer, as timestamps tell it"
    );
    assert_eq!(fake.seen().restored.get(&key), Some(&[7; 12]));
    // A clock that went back does not take our own back; the network that is removed is forgotten.
    tell(&fake, Duration::from_secs(1), shown(9));
    second.save_timestamps();
    let file = folder.path().join("state/timestamps/timestamps.json");
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains(&key.to_string())
    );
    second.delete("demo").unwrap();
    tell(&fake, Duration::from_secs(2), Vec::new());
    second.save_timestamps();
    assert!(
        !std::fs::read_to_string(&file)
            .unwrap()
            .contains(&key.to_string())
    );
    drop(second);
    assert_eq!(restarted(&folder).1.seen().least_time, later);
}

#[test]
fn timestamps_that_cannot_be_read_are_as_if_there_were_none() {
    for text in [
        "",
        "{}",
        r#"{"own":[1,0],"peers":{"0123456789abcdef":{"AAAA":"00"}}}"#,
        r#"{"own":[18446744073709551615,4294967295],"peers":{}}"#,
    ] {
        let folder = Folder::new();
        drop(service(&folder));
        std::fs::write(folder.path().join("state/timestamps/timestamps.json"), text).unwrap();
        let least = restarted(&folder).1.seen().least_time;
        assert!(least < Duration::from_secs(1), "{text}");
    }
}

#[test]
fn random_prefixes_differ() {
    let folder = Folder::new();
    let (service, _) = service(&folder);
    let a = service.create(new("a", &[])).unwrap().config;
    let b = service.create(new("b", &[])).unwrap().config;
    assert_ne!(a.addresses, b.addresses);
    assert_ne!(a.private_key.public(), b.private_key.public());
    assert!(a.addresses[0].address().is_ipv4() && a.addresses[1].address().is_ipv6());
}

#[test]
fn an_exported_peer_is_the_other_side_of_us() {
    let folder = Folder::new();
    let (service, _) = service(&folder);
    let made = service
        .create(new("demo", &["10.77.0.1/24", "fd00::1/64"]))
        .unwrap()
        .config;
    let added = service.add_peer("demo", peer("laptop")).unwrap();
    let export = added.export.unwrap();
    assert_eq!(export.private_key.public(), added.peer.public_key);
    let own: Vec<String> = export.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["10.77.0.2/24", "fd00::2/64"]);
    assert_eq!(export.us.public_key, made.private_key.public());
    assert_eq!(export.us.endpoint.as_deref(), Some("192.0.2.7:9993"));
    let key = |peer: &PeerEntry| *peer.preshared_key.as_ref().unwrap().as_bytes();
    assert_eq!(key(&export.us), key(&added.peer));
    let routes: Vec<String> = export
        .us
        .allowed_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(routes, ["10.77.0.0/24", "fd00::/64"]);
    // The other side takes it as it is, beside the network it came from.
    let there = service
        .add_network(ImportedNetwork {
            name: "there".parse().unwrap(),
            private_key: export.private_key,
            addresses: export.addresses,
            mtu: Some(export.mtu),
            wg_quick: None,
            peers: vec![export.us],
        })
        .unwrap();
    assert_eq!(there.config.private_key.public(), added.peer.public_key);
}

#[test]
fn what_clashes_changes_nothing() {
    let folder = Folder::new();
    let (service, fake) = service(&folder);
    let made = service
        .create(new("demo", &["10.77.0.1/24"]))
        .unwrap()
        .config;
    let first = service.add_peer("demo", peer("laptop")).unwrap().peer;
    let conflict = |result: Result<_, ControlError>| match result {
        Err(ControlError::Conflict(sentence) | ControlError::Invalid(sentence)) => sentence,
        Err(other) => panic!("{other:?}"),
        Ok(()) => panic!("accepted"),
    };
    conflict(service.create(new("demo", &[])).map(drop));
    conflict(
        service
            .create(NewNetwork {
                mtu: Some(100),
                ..new("small", &[])
            })
            .map(drop),
    );
    conflict(service.add_peer("demo", peer("laptop")).map(drop));
    conflict(service.add_peer("demo", peer("not a name")).map(drop));
    for bad in [
        NewPeer {
            public_key: Some(first.public_key),
            ..peer("again")
        },
        NewPeer {
            public_key: Some(made.private_key.public()),
            ..peer("ourselves")
        },
        NewPeer {
            allowed_ips: vec!["10.77.0.2/32".parse().unwrap()],
            ..peer("thief")
        },
        NewPeer {
            allowed_ips: vec!["10.77.0.1/32".parse().unwrap()],
            ..peer("thief")
        },
        NewPeer {
            endpoint: Some("no port".to_owned()),
            ..peer("lost")
        },
        NewPeer {
            our_endpoint: Some("no host".to_owned()),
            ..peer("lost")
        },
    ] {
        conflict(service.add_peer("demo", bad).map(drop));
    }
    let same_key = ImportedNetwork {
        name: "copy".parse().unwrap(),
        private_key: made.private_key.clone(),
        addresses: made.addresses.clone(),
        mtu: None,
        wg_quick: None,
        peers: Vec::new(),
    };
    conflict(service.add_network(same_key).map(drop));
    assert!(matches!(
        service.remove_peer("demo", "nobody"),
        Err(ControlError::NotFound(_))
    ));
    assert!(matches!(
        service.delete("nothing"),
        Err(ControlError::NotFound(_))
    ));
    assert_eq!(service.networks().len(), 1);
    assert_eq!(service.network("demo").unwrap().config.peers.len(), 1);
    assert_eq!(fake.seen().networks["demo"].len(), 1);
    assert_eq!(restarted_peers(&folder, service), 1);
}

fn restarted_peers(folder: &Folder, service: Arc<Service>) -> usize {
    drop(service);
    restarted(folder).0.networks()[0].config.peers.len()
}

#[test]
fn what_the_node_refuses_is_taken_back() {
    let folder = Folder::new();
    let (service, fake) = service(&folder);
    fake.seen().failure = Some("no".to_owned());
    assert!(matches!(
        service.create(new("demo", &[])),
        Err(ControlError::Failed(_))
    ));
    assert!(service.networks().is_empty());
    service.create(new("demo", &[])).unwrap();
    fake.seen().failure = Some("no".to_owned());
    assert!(matches!(
        service.add_peer("demo", peer("x")),
        Err(ControlError::Failed(_))
    ));
    assert!(service.network("demo").unwrap().config.peers.is_empty());
    drop(service);
    let (again, _) = restarted(&folder);
    assert!(again.network("demo").unwrap().config.peers.is_empty());
}

#[test]
fn a_network_that_does_not_start_is_kept_and_says_why() {
    let folder = Folder::new();
    drop(service(&folder).0.create(new("demo", &[])).unwrap());
    let fake = Arc::new(Fake::default());
    fake.seen().failure = Some("the moon is full".to_owned());
    let state = StateDir::open(&folder.path().join("state")).unwrap();
    let service = Service::start(state, fake, 9993).unwrap();
    assert_eq!(
        service.network("demo").unwrap().failure.as_deref(),
        Some("the moon is full")
    );
    let Admitted::Refused { sentence, .. } = service.admit(None, Vec::new(), credentials(7)) else {
        panic!("admitted")
    };
    assert!(sentence.contains("the moon is full"));
    // It can be changed and removed nevertheless.
    service.add_peer("demo", peer("laptop")).unwrap();
    service.delete("demo").unwrap();
}

#[test]
fn a_corrupt_file_keeps_its_name() {
    let folder = Folder::new();
    drop(service(&folder));
    let path = folder.path().join("state/networks/demo.json");
    std::fs::write(&path, "{ broken").unwrap();
    let (service, _) = restarted(&folder);
    assert!(service.networks().is_empty());
    assert_eq!(service.broken()[0].name, "demo");
    let error = service.create(new("demo", &[])).unwrap_err().to_string();
    assert!(
        error.contains("demo.json") && error.contains("cannot be read"),
        "{error}"
    );
    let error = service.network("demo").unwrap_err().to_string();
    assert!(error.contains("demo.json"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{ broken");
}

#[test]
fn names_of_endpoints_are_resolved_in_the_background() {
    let folder = Folder::new();
    let (service, fake) = service(&folder);
    service.create(new("demo", &[])).unwrap();
    let with_name = NewPeer {
        endpoint: Some("localhost:7".to_owned()),
        ..peer("laptop")
    };
    service.add_peer("demo", with_name).unwrap();
    let resolved = (0..500).any(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        fake.seen().networks["demo"][0].endpoint.is_some()
    });
    assert!(resolved);
}

#[test]
fn a_peer_that_does_not_answer_is_sought_at_the_address_its_name_has_now() {
    let folder = Folder::new();
    let (service, fake) = service(&folder);
    service.create(new("demo", &[])).unwrap();
    let key = |number| PrivateKey::from_random([number; 32]).public();
    let old: std::net::SocketAddr = "192.0.2.9:9".parse().unwrap();
    // One by name and one by address do not answer; one by name was heard from in the meantime.
    for (number, endpoint, unanswered) in [
        (1, "localhost:7", 3),
        (2, "192.0.2.9:9", 3),
        (3, "localhost:8", 0),
    ] {
        fake.seen().status.push(PeerStatus {
            public_key: key(number),
            endpoint: Some(old),
            endpoint_learned: false,
            last_handshake: None,
            handshakes: 0,
            rx_bytes: 0,
            tx_bytes: 0,
            unanswered,
            waiting: 0,
            drops: Vec::new(),
        });
        let with_name = NewPeer {
            public_key: Some(key(number)),
            endpoint: Some(endpoint.to_owned()),
            ..peer(&format!("peer{number}"))
        };
        service.add_peer("demo", with_name).unwrap();
    }
    let endpoint = |number| {
        let seen = fake.seen();
        let mut peers = seen.networks["demo"].iter();
        peers
            .find(|peer| peer.public_key == key(number))
            .and_then(|peer| peer.endpoint)
    };
    for number in [3, 2, 9, 1] {
        fake.miss("demo", key(number));
    }
    fake.miss("gone", key(1));
    let sought = (0..500).any(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        endpoint(1).is_some_and(|at| at.ip().is_loopback() && at.port() == 7)
    });
    assert!(sought);
    assert_eq!(endpoint(2), Some(old), "an address stays as it is written");
    assert_eq!(endpoint(3), None, "who was heard from is left where it is");
}

#[test]
fn a_late_answer_does_not_replace_where_a_peer_has_called_from() {
    let folder = Folder::new();
    let (service, fake) = service(&folder);
    service.create(new("demo", &[])).unwrap();
    let roamed = PrivateKey::from_random([7; 32]).public();
    fake.seen().status.push(PeerStatus {
        public_key: roamed,
        endpoint: Some("192.0.2.9:9".parse().unwrap()),
        endpoint_learned: true,
        last_handshake: None,
        handshakes: 0,
        rx_bytes: 0,
        tx_bytes: 0,
        unanswered: 0,
        waiting: 0,
        drops: Vec::new(),
    });
    for (name, public_key) in [("roamed", Some(roamed)), ("other", None)] {
        let with_name = NewPeer {
            public_key,
            endpoint: Some("localhost:7".to_owned()),
            ..peer(name)
        };
        service.add_peer("demo", with_name).unwrap();
    }
    let endpoint = |of_roamed: bool| {
        let seen = fake.seen();
        let mut peers = seen.networks["demo"].iter();
        peers
            .find(|peer| (peer.public_key == roamed) == of_roamed)
            .and_then(|peer| peer.endpoint)
    };
    // Names are looked up in the order in which they were asked for.
    let other_resolved = (0..500).any(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        endpoint(false).is_some()
    });
    assert!(other_resolved);
    assert_eq!(endpoint(true), None);
}

#[test]
fn a_file_that_a_person_has_edited_is_checked() {
    let folder = Folder::new();
    drop(service(&folder).0.create(new("demo", &[])).unwrap());
    let path = folder.path().join("state/networks/demo.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let edited = text.replace("\"mtu\": 1420", "\"mtu\": 576");
    assert_ne!(text, edited);
    std::fs::write(&path, edited).unwrap();
    let (service, fake) = restarted(&folder);
    let failure = service.network("demo").unwrap().failure.unwrap();
    assert!(failure.contains("from 1280 to 9000"), "{failure}");
    assert!(fake.seen().networks.is_empty());
}

#[test]
fn our_endpoint_needs_no_port_and_mtus_have_a_range() {
    let folder = Folder::new();
    let (service, _) = service(&folder);
    let caller = Caller { uid: 0 };
    let add_peer = |add| service.peer_add(caller, "demo".to_owned(), add);
    service.create(new("demo", &["10.77.0.1/24"])).unwrap();
    for (name, said, exported) in [
        ("a", "server.example", "Endpoint = server.example:9993"),
        ("b", "server.example:7", "Endpoint = server.example:7"),
        ("c", "192.0.2.7", "Endpoint = 192.0.2.7:9993"),
        ("d", "2001:db8::7", "Endpoint = [2001:db8::7]:9993"),
    ] {
        let add = AddPeer {
            name: Some(name.to_owned()),
            our_endpoint: Some(said.to_owned()),
            ..AddPeer::default()
        };
        let Ok(added) = add_peer(add) else {
            panic!("{said}")
        };
        let config = added.config.unwrap();
        assert!(config.contains(exported), "{said}");
    }
    for bad in ["a b", "server.example:0", "server.example:x", ""] {
        let add = AddPeer {
            our_endpoint: Some(bad.to_owned()),
            ..AddPeer::default()
        };
        let refused = add_peer(add).unwrap_err();
        assert!(refused.message.contains("HOST:PORT"), "{refused}");
    }
    for mtu in [1, 1279, 9001] {
        let import = ImportNetwork {
            config: format!(
                "[Interface]\nPrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\nAddress = 10.1.0.2/24\nMTU = {mtu}\n"
            ),
            name: Some("other".to_owned()),
            fallback_name: None,
        };
        let refused = service.network_import(caller, import).unwrap_err();
        assert!(
            refused.message.contains("line 4") && refused.message.contains("from 1280 to 9000"),
            "{refused}"
        );
    }
    assert_eq!(service.networks().len(), 1);
}

#[test]
fn shims_are_admitted_to_what_exists() {
    let folder = Folder::new();
    let (service, fake) = service(&folder);
    let admit =
        |network: Option<&str>, pid| service.admit(network, b"x".to_vec(), credentials(pid));
    let refused = |answer, expected: u16| match answer {
        Admitted::Refused { code, sentence } if code == expected => sentence,
        other => panic!("{other:?}"),
    };
    refused(admit(None, 7), refusal::NETWORK_NOT_NAMED);
    refused(admit(Some("demo"), 7), refusal::UNKNOWN_NETWORK);
    service.create(new("demo", &[])).unwrap();
    let Admitted::Accepted(one) = admit(None, 7) else {
        panic!()
    };
    let Admitted::Accepted(two) = admit(Some("demo"), 7) else {
        panic!()
    };
    assert_eq!((one.network.as_str(), one.peer.pid), ("demo", 7));
    assert_ne!(one.container, two.container);
    service.create(new("other", &[])).unwrap();
    let sentence = refused(admit(None, 7), refusal::NETWORK_NOT_NAMED);
    assert!(sentence.contains("demo, other"), "{sentence}");
    let sentence = refused(admit(Some("../x"), 7), refusal::UNKNOWN_NETWORK);
    assert!(sentence.contains("demo, other"), "{sentence}");
    fake.seen().inside.insert(8, "demo".to_owned());
    for network in [None, Some("demo")] {
        assert!(matches!(admit(network, 8), Admitted::Inside { network } if network == "demo"));
    }
    refused(admit(Some("other"), 8), refusal::OTHER_NETWORK);
}

#[test]
fn no_secret_is_shown() {
    let folder = Folder::new();
    let (service, _) = service(&folder);
    let made = service.create(new("demo", &[])).unwrap();
    let added = service.add_peer("demo", peer("laptop")).unwrap();
    let secret = added.export.as_ref().unwrap().private_key.clone();
    let shown = format!("{made:?} {added:?}");
    for key in [&made.config.private_key, &secret] {
        assert!(!shown.contains(key.to_base64().as_str()));
    }
    assert_eq!(
        PrivateKey::from_bytes(*secret.as_bytes()).public(),
        added.peer.public_key
    );
}

fn credentials(pid: u32) -> PeerCredentials {
    PeerCredentials {
        pid,
        uid: 0,
        gid: 0,
    }
}

/// The corpus of the API's own tests: what is imported is exported with the same meaning, also after a restart.
#[test]
fn imported_files_are_exported_with_the_same_meaning() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests/corpus/wgquick/good");
    let folder = Folder::new();
    let caller = Caller { uid: 0 };
    let mut seen = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (service, _) = restarted(&folder);
        let import = ImportNetwork {
            config: text.clone(),
            name: Some("x".to_owned()),
            fallback_name: None,
        };
        service.network_import(caller, import).unwrap();
        drop(service);
        let (service, _) = restarted(&folder);
        let export = |service: &Service| {
            let query = ExportQuery {
                format: ExportFormat::WgQuick,
            };
            match service.network_export(caller, "x".to_owned(), query) {
                Ok(Either::Other(text)) => text.as_str().to_owned(),
                Ok(Either::One(_)) | Err(_) => panic!("no file"),
            }
        };
        let before = File::parse(&text).unwrap();
        let after = File::parse(&export(&service)).unwrap();
        let name = path.display();
        let first: Vec<_> = before.interface.first_addresses().collect();
        assert_eq!(after.interface.addresses, first, "{name}");
        assert_eq!(
            after.interface.mtu,
            before.interface.mtu.or(Some(1420)),
            "{name}"
        );
        assert_eq!(
            after.interface.listen_port, before.interface.listen_port,
            "{name}"
        );
        assert_eq!(
            after.interface.private_key, before.interface.private_key,
            "{name}"
        );
        assert_eq!(after.interface.unused, before.interface.unused, "{name}");
        assert_eq!(after.peers, before.peers, "{name}");
        service.delete("x").unwrap();
        seen += 1;
    }
    assert!(seen >= 20, "{seen}");
}

#[test]
fn changes_are_told() {
    let folder = Folder::new();
    let (service, fake) = service(&folder);
    let mut heard = fake.listen_to_events().unwrap();
    service.create(new("demo", &[])).unwrap();
    service.add_peer("demo", peer("laptop")).unwrap();
    let renamed = ChangedPeer {
        name: Change::Set("phone".into()),
        ..ChangedPeer::default()
    };
    service.change_peer("demo", "laptop", renamed).unwrap();
    service.remove_peer("demo", "phone").unwrap();
    let smaller = ChangedNetwork {
        mtu: Change::Set(1300),
        ..ChangedNetwork::default()
    };
    service.change_network("demo", smaller).unwrap();
    service.delete("demo").unwrap();
    assert!(service.delete("demo").is_err());
    let text: String = std::iter::from_fn(|| heard.try_recv().ok())
        .map(|piece| String::from_utf8(piece.to_vec()).unwrap())
        .collect();
    let told: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(
        told,
        [
            "network_created",
            "peer_added",
            "peer_changed",
            "peer_removed",
            "network_changed",
            "network_deleted"
        ]
    );
    assert!(
        text.contains(r#""network":"demo","peer":"laptop""#),
        "{text}"
    );
}
