// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use netcon_overlay::{PresharedKey, PrivateKey};

use super::*;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("netcon-state-{}-{number}", std::process::id()));
        let _left_by_an_earlier_run = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}

fn network(name: &str) -> NetworkConfig {
    let private_key = PrivateKey::from_random([7; 32]);
    NetworkConfig {
        version: Version::One,
        id: NetworkId(0xabc),
        name: name.parse().unwrap(),
        addresses: vec![
            "10.77.0.1/24".parse().unwrap(),
            "fd00::1/64".parse().unwrap(),
        ],
        mtu: DEFAULT_MTU,
        raw_sockets: true,
        wg_quick: None,
        peers: vec![PeerEntry {
            name: Some("laptop".to_owned()),
            public_key: private_key.public(),
            preshared_key: Some(PresharedKey::from_bytes([9; 32])),
            endpoint: Some("host.example:9993".to_owned()),
            allowed_ips: vec!["10.77.0.2/32".parse().unwrap()],
            persistent_keepalive: Some(25),
            reserved: [1, 2, 255],
        }],
        private_key,
    }
}

fn text(network: &NetworkConfig) -> String {
    serde_json::to_string_pretty(network).unwrap()
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = Folder::new();
    let root = folder.0.join("a/b");
    let state = StateDir::open(&root).unwrap();
    let mut saved = network("demo");
    state.save_new(&saved).unwrap();
    saved.peers.clear();
    saved.peers.push(PeerEntry {
        name: None,
        preshared_key: None,
        endpoint: None,
        persistent_keepalive: None,
        ..network("demo").peers.remove(0)
    });
    state.save(&saved).unwrap();
    let loaded = state.load().unwrap();
    assert!(loaded.broken.is_empty());
    assert_eq!(text(&loaded.networks[0]), text(&saved));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let file = state.file(&saved.name);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("networks")), 0o700);
    // Nothing but the file is left in the directory.
    assert_eq!(fs::read_dir(root.join("networks")).unwrap().count(), 1);
    state.remove(&saved.name).unwrap();
    state.remove(&saved.name).unwrap();
    assert!(state.load().unwrap().networks.is_empty());
}

#[test]
fn a_person_can_read_the_file() {
    let mut config = network("demo");
    assert!(
        !text(&config).contains("raw_sockets"),
        "the usual is not said"
    );
    config.raw_sockets = false;
    assert!(text(&config).contains("\"raw_sockets\": false"));
    let text = text(&network("demo"));
    assert!(text.contains("\"name\": \"demo\""));
    assert!(text.contains("\"id\": \"0000000000000abc\""));
    assert!(text.contains("\"10.77.0.1/24\""));
    assert!(text.contains("\"endpoint\": \"host.example:9993\""));
}

#[test]
fn bad_files_are_kept_and_named() {
    let folder = Folder::new();
    let state = StateDir::open(&folder.0).unwrap();
    let good = text(&network("good"));
    let bad = [
        ("cut", good[..good.len() / 2].to_owned()),
        ("empty", String::new()),
        ("garbage", "\u{0}\u{1}".to_owned()),
        (
            "newer",
            text(&network("newer")).replace("\"version\": 1", "\"version\": 2"),
        ),
        ("other", good.clone()),
        (
            "strange",
            text(&network("strange")).replacen("\"mtu\"", "\"surprise\": 1, \"mtu\"", 1),
        ),
        ("key", text(&network("key")).replace('=', "")),
    ];
    fs::write(folder.0.join("networks/good.json"), &good).unwrap();
    for (name, content) in &bad {
        fs::write(folder.0.join(format!("networks/{name}.json")), content).unwrap();
    }
    fs::write(folder.0.join("networks/not a name.json"), &good).unwrap();
    fs::write(folder.0.join("networks/binary.json"), [0xff, 0xfe]).unwrap();
    fs::create_dir(folder.0.join("networks/folder.json")).unwrap();
    nix::unistd::mkfifo(
        &folder.0.join("networks/pipe.json"),
        nix::sys::stat::Mode::S_IRUSR,
    )
    .unwrap();
    let loaded = state.load().unwrap();
    assert_eq!(loaded.networks.len(), 1);
    let names: Vec<&str> = loaded
        .broken
        .iter()
        .map(|broken| broken.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "binary",
            "cut",
            "empty",
            "folder",
            "garbage",
            "key",
            "newer",
            "not a name",
            "other",
            "pipe",
            "strange"
        ]
    );
    for broken in &loaded.broken {
        assert!(
            broken.path.exists() && !broken.reason.is_empty(),
            "{broken:?}"
        );
        // The reason of a bad key must not be the key.
        assert!(!broken.reason.contains("BwcH"), "{broken:?}");
    }
    for (name, content) in &bad {
        let path = folder.0.join(format!("networks/{name}.json"));
        assert_eq!(&fs::read_to_string(path).unwrap(), content);
        assert!(state.save_new(&network(name)).is_err());
    }
}

#[test]
fn one_supervisor_at_a_time() {
    let folder = Folder::new();
    let first = StateDir::open(&folder.0).unwrap();
    assert!(matches!(
        StateDir::open(&folder.0),
        Err(StateError::Locked { .. })
    ));
    drop(first);
    StateDir::open(&folder.0).unwrap();
}

#[test]
fn directories_of_others_are_refused() {
    let folder = Folder::new();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
    let error = StateDir::open(&folder.0).unwrap_err();
    assert!(error.to_string().contains("written by others"), "{error}");
    assert!(!folder.0.join("networks").exists());
    let file = folder.0.join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(StateDir::open(&file), Err(StateError::Io { .. })));
}

#[test]
fn leftovers_of_a_crash_are_removed() {
    let folder = Folder::new();
    drop(StateDir::open(&folder.0).unwrap());
    let leftover = folder.0.join("networks/.unfinished");
    fs::write(&leftover, "half").unwrap();
    let state = StateDir::open(&folder.0).unwrap();
    assert!(!leftover.exists());
    fs::write(&leftover, "half").unwrap();
    state.save(&network("demo")).unwrap();
    assert_eq!(state.load().unwrap().networks.len(), 1);
}

#[test]
fn where_the_state_is() {
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(
        default_directory(path("/s"), path("/h")).unwrap(),
        PathBuf::from("/s/netcon")
    );
    assert_eq!(
        default_directory(path("relative"), path("/h")).unwrap(),
        PathBuf::from("/h/.local/state/netcon")
    );
    assert!(default_directory(None, None).is_err());
}
