// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fuzz targets without a fuzzer: the committed corpus, and seeded changes of it. `NETCON_FUZZ_ROUNDS` says how many changes
//! of each input (20); `NETCON_FUZZ_TARGET` takes one target alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use netcon_tests::fuzz::TARGETS;
use netcon_tests::sim::dice::Dice;

/// Longest input.
const LONGEST: usize = 4096;
/// Inputs that are changed, of each target: the corpus may be large.
const CHANGED: usize = 30;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).expect("a file of the corpus can be read"))
        .collect()
}

/// Another input, a little like `input` and perhaps like `other`.
fn changed(dice: &mut Dice, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..dice.between(1, 4) {
        let at = dice.index(bytes.len() + 1);
        match dice.below(7) {
            0 => bytes.insert(at, dice.byte()),
            1 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            2 if at < bytes.len() => bytes[at] = dice.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            3 => {
                let end = (at + dice.index(32)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + dice.index(64)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[dice.index(other.len() + 1)..]);
            }
            _ => bytes.extend((0..dice.below(40)).map(|_| dice.byte())),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

#[test]
fn corpus_and_changes_of_it() {
    let rounds = std::env::var("NETCON_FUZZ_ROUNDS").map_or(20, |n| n.parse().unwrap());
    let only = std::env::var("NETCON_FUZZ_TARGET").ok();
    for (number, (name, target)) in (0..).zip(TARGETS) {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        let mut inputs = corpus(name);
        assert!(!inputs.is_empty(), "fuzz/corpus/{name} is missing");
        let mut dice = Dice::new(1, number);
        let run = |input: &[u8]| {
            if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
                panic!("{name} fails with {input:02x?}");
            }
        };
        inputs.iter().for_each(|input| run(input));
        while inputs.len() > CHANGED {
            inputs.swap_remove(dice.index(inputs.len()));
        }
        for input in &inputs {
            for _ in 0..rounds {
                let other = &inputs[dice.index(inputs.len())];
                run(&changed(&mut dice, input, other));
            }
        }
    }
}
