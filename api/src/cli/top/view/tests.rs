// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::super::sample::{Container, counters, rates};
use super::*;
use crate::model::{Network, Peer};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

fn sample(networks: usize, containers: u64) -> Sample {
    let names = ["demo", "office", "a-network-with-a-name-of-32-char"];
    let network = |index: usize| -> Network {
        let name = names
            .get(index)
            .map_or_else(|| format!("net-{index}"), |name| (*name).to_owned());
        let mut network = json!({
            "id": format!("11223344556677{index:02x}"), "name": name, "status": "OK", "mtu": 1420,
            "assignedAddresses": [format!("10.109.{index}.1/24"), format!("fdac:721:479:eb{index:02x}::1/64")],
            "routes": [], "publicKey": "OWN=", "listenPort": 9993, "peers": 2,
        });
        if index == 1 {
            network["status"] = json!("FAILED");
            network["failure"] = json!("no memory");
        }
        serde_json::from_value(network).unwrap()
    };
    let networks: Vec<Network> = (0..networks).map(network).collect();
    let peer = |index: u64, name: serde_json::Value, endpoint: &str| -> Peer {
        serde_json::from_value(json!({
            "name": name, "publicKey": format!("{index}{}=", "k".repeat(42)), "endpoint": endpoint,
            "allowedIps": [format!("10.109.0.{index}/32"), format!("fdac:721:479:eb77::{index:x}/128")],
            "hasPresharedKey": true, "lastHandshake": 1_800_000_000 - 7 * index,
            "rxBytes": 1_000_000 * index, "txBytes": 12_345 * index, "drops": {"too old": index},
        }))
        .unwrap()
    };
    let peers = networks
        .iter()
        .zip(0..)
        .flat_map(|(network, index)| {
            [
                (
                    network.name.clone(),
                    peer(2 * index + 2, json!("laptop"), "192.0.2.7:51820"),
                ),
                (
                    network.name.clone(),
                    peer(2 * index + 3, json!(null), "[2001:db8:1:2:3:4:5:6]:51820"),
                ),
            ]
        })
        .collect();
    let program = |id: u64| {
        ["nginx", "curl", "a program\x1b[2J", "postgres"][usize::try_from(id).unwrap() % 4]
    };
    let containers = (1..=containers)
        .map(|id| Container {
            id,
            network: "demo".to_owned(),
            pid: 4000 + u32::try_from(id).unwrap(),
            program: program(id).to_owned(),
            command: match id {
                1 => vec!["curl".to_owned(), "http://10.77.0.2/".to_owned()],
                _ => Vec::new(),
            },
            started: 1_800_000_000 - 100 * id * id,
            sockets: usize::try_from(3 * id % 7).unwrap(),
            rx_bytes: 500 * id,
            tx_bytes: 70_000 * id,
        })
        .collect();
    let mut sample = Sample {
        status: serde_json::from_value(json!({
            "version": "1.2.3", "uptimeSeconds": 7300, "udpPort": 9993, "stateDirectory": "/state",
            "networks": networks.len(), "containers": 0, "brokenFiles": [],
        }))
        .unwrap(),
        networks,
        peers,
        containers,
        now: 1_800_000_000,
        rates: HashMap::new(),
    };
    let after = counters(&sample);
    let before = after
        .iter()
        .map(|(of, (rx, tx))| (of.clone(), (rx - rx / 10, tx - tx / 5)))
        .collect();
    sample.rates = rates(&before, &after, Duration::from_secs(1));
    sample
}

use std::collections::HashMap;

fn view(sample: Sample) -> View {
    let mut view = View::new(false);
    view.update(News::Sample(Box::new(sample)));
    view
}

fn press(view: &mut View, code: KeyCode) -> ControlFlow<()> {
    view.key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// What stands on a terminal of that size.
fn screen(view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The screens beside this file. NETCON_WRITE_DOCS=1 writes them anew: look at them then.
#[test]
fn screens_are_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/top/screens");
    for (width, height) in [(80, 24), (200, 50), (40, 8)] {
        let mut view = view(sample(3, 5));
        for tab in Tab::ALL {
            view.open(tab);
            let found = screen(&mut view, width, height);
            let path = folder.join(format!(
                "{}-{width}x{height}.txt",
                tab.title().to_lowercase()
            ));
            if std::env::var_os("NETCON_WRITE_DOCS").is_some() {
                std::fs::write(&path, &found).unwrap();
            }
            let expected = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                found,
                expected,
                "{}; NETCON_WRITE_DOCS=1 writes it",
                path.display()
            );
        }
    }
}

#[test]
fn every_size_shows_something_and_nothing_breaks() {
    for (networks, containers) in [(0, 0), (1, 0), (30, 120)] {
        let mut view = view(sample(networks, containers));
        for width in [1, 10, 29, 30, 40, 79, 80, 132, 200, 400] {
            for height in [1, 3, 4, 5, 6, 9, 10, 24, 100] {
                for tab in Tab::ALL {
                    view.open(tab);
                    view.scroll = usize::MAX;
                    let text = screen(&mut view, width, height);
                    assert!(!text.trim().is_empty(), "{width}x{height}");
                }
            }
        }
    }
}

#[test]
fn keys_change_what_is_shown() {
    let mut view = view(sample(3, 5));
    assert_eq!(view.tab, Tab::Networks);
    assert!(press(&mut view, KeyCode::Tab).is_continue());
    assert_eq!(view.tab, Tab::Peers);
    assert!(press(&mut view, KeyCode::Char('3')).is_continue());
    let first = |view: &mut View| {
        let text = screen(view, 200, 50);
        text.lines().nth(4).unwrap().trim().to_owned()
    };
    assert!(
        first(&mut view).contains("a program?[2J"),
        "{}",
        first(&mut view)
    );
    // By network, then by sockets: the most first.
    for _ in 0..2 {
        assert!(press(&mut view, KeyCode::Char('s')).is_continue());
    }
    assert!(first(&mut view).starts_with("4002"), "{}", first(&mut view));
    assert!(press(&mut view, KeyCode::Char('r')).is_continue());
    assert!(
        !first(&mut view).starts_with("4002"),
        "{}",
        first(&mut view)
    );
    // What is paused stays.
    assert!(press(&mut view, KeyCode::Char('p')).is_continue());
    view.update(News::Sample(Box::new(sample(0, 0))));
    assert!(screen(&mut view, 80, 24).contains("PAUSED") && first(&mut view).contains("40"));
    for enough in [KeyCode::Char('q'), KeyCode::Esc] {
        assert!(press(&mut view, enough).is_break());
    }
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(view.key(control_c).is_break());
    assert!(press(&mut view, KeyCode::Char('c')).is_continue());
}

#[test]
fn long_lists_scroll_to_their_end_and_no_further() {
    let mut view = view(sample(1, 300));
    view.open(Tab::Containers);
    view.sort[2] = 0;
    assert!(screen(&mut view, 80, 24).contains("4300"));
    assert!(press(&mut view, KeyCode::End).is_continue());
    let end = screen(&mut view, 80, 24);
    assert!(end.contains("4001") && !end.contains("4300"), "{end}");
    assert!(press(&mut view, KeyCode::PageDown).is_continue());
    assert_eq!(screen(&mut view, 80, 24), end);
    assert!(press(&mut view, KeyCode::Home).is_continue());
    assert!(screen(&mut view, 80, 24).contains("4300"));
}

#[test]
fn a_lost_supervisor_is_said_and_the_last_sample_stays() {
    let mut view = view(sample(1, 1));
    view.update(News::Lost("no netcon-supervisor answers".to_owned()));
    let text = screen(&mut view, 80, 24);
    assert!(
        text.starts_with("no netcon-supervisor answers") && text.contains("demo"),
        "{text}"
    );
    view.update(News::Sample(Box::new(sample(1, 1))));
    assert!(!screen(&mut view, 80, 24).contains("no netcon-supervisor"));
}
