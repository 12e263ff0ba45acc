// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The corpus of configuration files: good ones mean the same to wg-quick(8) after they went through us, bad ones are refused
//! with the line and the reason that their first line says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};

use netcon_api::wgquick::File;

/// Files of one kind, by name.
fn corpus(kind: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus/wgquick")
        .join(kind);
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn bad_files_are_refused_with_their_line_and_the_reason() {
    let files = corpus("bad");
    assert!(files.len() >= 20, "{}", files.len());
    for (name, text) in files {
        let expected = text.lines().next().unwrap().trim_start_matches("# ");
        let found = File::parse(&text).expect_err(&name).to_string();
        assert!(
            found.starts_with(expected),
            "{name}: {found}, not {expected}"
        );
        assert!(
            found.starts_with("line ") || name == "empty.conf",
            "{name}: {found}"
        );
    }
}

#[test]
fn good_files_are_read_back_as_the_same() {
    let files = corpus("good");
    assert!(files.len() >= 20, "{}", files.len());
    for (name, text) in files {
        let mut file = File::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut again = File::parse(&file.to_string()).unwrap();
        file.ignored.clear();
        again.ignored.clear();
        assert_eq!(file, again, "{name}");
    }
}

#[test]
fn every_setting_without_effect_is_said_once() {
    let all = corpus("good");
    let everykey = &all
        .iter()
        .find(|(name, _)| name == "everykey.conf")
        .unwrap()
        .1;
    let ignored = File::parse(everykey).unwrap().ignored;
    for key in [
        "DNS",
        "ListenPort",
        "FwMark",
        "Table",
        "PreUp",
        "PostUp",
        "PreDown",
        "PostDown",
        "SaveConfig",
    ] {
        let said = ignored
            .iter()
            .filter(|sentence| sentence.starts_with(&format!("{key} (line ")));
        assert_eq!(said.count(), 1, "{key}: {ignored:?}");
    }
    assert_eq!(ignored.len(), 9, "{ignored:?}");
    // No command is repeated: it may hold a secret.
    assert!(!ignored.concat().contains("echo"), "{ignored:?}");
}

/// Needs what wg-quick(8) needs: to be root, if only in a user namespace.
#[test]
fn exported_files_mean_the_same_to_wg_quick() {
    let folder = Folder::new();
    for (name, text) in corpus("good") {
        let exported = File::parse(&text).unwrap().to_string();
        let stripped = strip(&folder.write(&name, &text));
        let again = strip(&folder.write("again.conf", &exported));
        assert_eq!(
            Meaning::of(&stripped),
            Meaning::of(&again),
            "{name}:\n{exported}"
        );
        // wg(8) reads all of a file before it looks for the interface, which does not exist.
        let resolvable = ["vpn.example.org", "a-1.vpn_gate.example.net"]
            .iter()
            .fold(again, |text, host| text.replace(host, "localhost"));
        let file = folder.write("set.conf", &resolvable);
        let said = as_root(
            Process::new("wg")
                .arg("setconf")
                .arg("netcon-none0")
                .arg(file),
        );
        let said = String::from_utf8(said.stderr).unwrap();
        assert!(
            said.starts_with("Unable to modify interface: "),
            "{name}: {said}\n{exported}"
        );
    }
}

fn strip(file: &Path) -> String {
    let output = as_root(Process::new("wg-quick").arg("strip").arg(file));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program as root; as the root of a user namespace of its own if we are not.
fn as_root(command: &mut Process) -> Output {
    let mut run = if rustix::process::geteuid().is_root() {
        Process::new("env")
    } else {
        let mut run = Process::new("unshare");
        run.args(["--user", "--map-root-user"]);
        run
    };
    run.arg(command.get_program()).args(command.get_args());
    run.env("WG_ENDPOINT_RESOLUTION_RETRIES", "0");
    run.output()
        .expect("wg-quick, wg and unshare are installed")
}

/// A file of wg(8), as it acts: what is said twice counts once, or last.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    interface: BTreeMap<String, String>,
    peers: BTreeMap<String, Peer>,
}

/// A peer: its other values, and its allowed IPs.
type Peer = (BTreeMap<String, String>, BTreeSet<(IpAddr, u32)>);

impl Meaning {
    fn of(text: &str) -> Self {
        let mut sections: Vec<Vec<(String, String)>> = Vec::new();
        let mut meaning = Self::default();
        let mut in_peer = false;
        for line in text.lines() {
            let line: String = line.split('#').next().unwrap().split_whitespace().collect();
            let (key, value) = line.split_once('=').unwrap_or((&line, ""));
            let (key, value) = (key.to_lowercase(), value.to_owned());
            match key.as_str() {
                "" => {}
                "[interface]" => in_peer = false,
                "[peer]" => {
                    in_peer = true;
                    sections.push(Vec::new());
                }
                _ if in_peer => sections.last_mut().unwrap().push((key, value)),
                "fwmark" => match value.to_lowercase().as_str() {
                    "off" | "0" | "0x0" => {}
                    mark => {
                        let number = mark.strip_prefix("0x").map_or_else(
                            || mark.parse().unwrap(),
                            |digits| u32::from_str_radix(digits, 16).unwrap(),
                        );
                        meaning.interface.insert(key, number.to_string());
                    }
                },
                _ => {
                    meaning.interface.insert(key, value);
                }
            }
        }
        for section in sections {
            let mut values = BTreeMap::new();
            let mut allowed = BTreeSet::new();
            for (key, value) in section {
                match key.as_str() {
                    "allowedips" => {
                        allowed.extend(value.split(',').filter(|ip| !ip.is_empty()).map(network))
                    }
                    "persistentkeepalive"
                        if matches!(value.to_lowercase().as_str(), "off" | "0") =>
                    {
                        values.remove(&key);
                    }
                    _ => {
                        values.insert(key, value);
                    }
                }
            }
            let name = values.remove("publickey").unwrap();
            assert!(meaning.peers.insert(name, (values, allowed)).is_none());
        }
        meaning
    }
}

/// An allowed IP with its host bits zero.
fn network(text: &str) -> (IpAddr, u32) {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().unwrap();
    let length = length
        .parse()
        .unwrap_or_else(|_| if address.is_ipv4() { 32 } else { 128 });
    let zeroed = match address {
        IpAddr::V4(v4) => {
            IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - length).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - length).unwrap_or(0)).into())
        }
    };
    (zeroed, length)
}

/// A folder of this test's, removed with it. wg-quick wants names of at most 15 characters.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("netcon-wgquick-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}
