// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/wireguard.md says which test shows which rule: the tests exist, and no corner case is without one.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wireguard.md");
    std::fs::read_to_string(path).unwrap()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names of all tests of this crate, and of the supervisor and the engine, which do their part.
fn tests() -> BTreeSet<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["overlay/src", "overlay/tests", "supervisor", "netstack"] {
        sources(&top.join(folder), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ") {
                if std::mem::take(&mut is_test) {
                    names.insert(rest.split('(').next().unwrap().to_owned());
                }
            } else if !line.starts_with("#[") && !line.starts_with("//") {
                is_test = false;
            }
        }
    }
    names
}

/// Names in the page's last columns, between backticks.
fn named(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .flat_map(|line| {
            let cells: Vec<_> = line.trim_end_matches('|').split(" | ").collect();
            let last = (*cells.last().unwrap()).to_owned();
            last.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_test_on_the_page_exists() {
    let tests = tests();
    let named = named(&page());
    assert!(named.len() > 50, "the tables are read: {}", named.len());
    let missing: Vec<_> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_corner_case_has_its_tests_and_each_is_on_the_page() {
    let page = page();
    let named = named(&page);
    let cases: BTreeSet<_> = tests()
        .into_iter()
        .filter(|name| name.starts_with("case_"))
        .collect();
    let missing: Vec<_> = cases.difference(&named).collect();
    assert!(missing.is_empty(), "not on the page: {missing:#?}");
    for number in 1..=22 {
        let prefix = format!("case_{number:02}_");
        assert!(
            cases.iter().any(|name| name.starts_with(&prefix)),
            "{number}"
        );
        assert!(page.contains(&format!("\n| {number} | ")), "{number}");
    }
}
