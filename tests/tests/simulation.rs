// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The simulated world itself: its runs are repeatable, its captures readable, and a few seeds pass. `ci/sim` runs many.

use std::fs::File;
use std::io::BufWriter;
use std::process::Command;

use netcon_tests::sim::pcap::Capture;
use netcon_tests::sim::plan::Plan;
use netcon_tests::sim::world::World;

#[test]
fn a_few_seeds() {
    for seed in 0..4 {
        World::new(Plan::of_seed(seed), None).run();
    }
}

#[test]
fn one_seed_is_one_history() {
    for seed in [3, 5] {
        let run = || World::new(Plan::of_seed(seed), None).run();
        let (first, second) = (run(), run());
        assert_eq!(first, second);
        assert_ne!(
            first.fingerprint,
            World::new(Plan::of_seed(seed + 1), None).run().fingerprint
        );
    }
}

#[test]
fn scenarios_differ() {
    let plans: Vec<Plan> = (0..500).map(Plan::of_seed).collect();
    let count = |what: fn(&Plan) -> bool| plans.iter().filter(|plan| what(plan)).count();
    assert!(count(|plan| plan.nodes.len() > 5) > 5);
    assert!(count(|plan| plan.nets.len() == 10) > 5);
    assert!(count(|plan| plan.nodes.iter().any(|node| node.nat.is_some())) > 50);
    assert!(count(|plan| plan.attack.rate > 0) > 100);
    assert!(count(Plan::restarts) > 50);
    assert!(count(Plan::lossless) > 50);
    assert!(count(|plan| plan.nodes.iter().any(|node| node.evil)) > 20);
}

#[test]
fn a_capture_can_be_read() {
    let path = std::env::temp_dir().join(format!("netcon-sim-{}.pcap", std::process::id()));
    let file = BufWriter::new(File::create(&path).unwrap());
    World::new(
        Plan::of_seed(3),
        Some(Capture::new(Box::new(file)).unwrap()),
    )
    .run();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    let read = Command::new("tcpdump")
        .args(["-n", "-r"])
        .arg(&path)
        .output();
    std::fs::remove_file(&path).unwrap();
    // Without tcpdump the header alone was looked at.
    let Ok(read) = read else { return };
    let text = String::from_utf8_lossy(&read.stdout);
    assert!(read.status.success() && text.lines().count() > 10);
    assert!(
        text.contains("198.51.100.1.9993 > ") && text.contains("IP 10.0.0."),
        "datagrams outside and packets inside: {text}"
    );
    assert!(!text.contains("bad"), "{text}");
}
