// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program must decide as the table does, for every number and for arguments around every edge.

use super::interpret::{I386, X86_64, run};
use super::*;
use crate::table::{Decision, X32_BIT, decide, decide_foreign};

/// BPF_MAXINSNS.
const MAX_INSTRUCTIONS: usize = 4096;

/// Values next to every constant of the table, and each with a dirty upper half.
fn edges() -> Vec<u64> {
    let constants = [
        0,
        1,
        2,
        4,
        10,
        16,
        17,
        20,
        21,
        32,
        38,
        40,
        64,
        66,
        67,
        128,
        0x2000,
        0x4000,
        0x5411,
        0x8905,
        0x890b,
        0x8912,
        0x8933,
        0x89ff,
        0x2000_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff_u64,
    ];
    let mut values: Vec<u64> = constants
        .iter()
        .flat_map(|value| [value.wrapping_sub(1), *value, value + 1])
        .collect();
    values.extend((0..64).map(|bit| 1_u64 << bit));
    let dirty: Vec<u64> = values.iter().map(|value| value | 0x1_0000_0000).collect();
    let dirtier: Vec<u64> = values
        .iter()
        .map(|value| value | 0xffff_ffff_0000_0000)
        .collect();
    values.extend(dirty);
    values.extend(dirtier);
    values.sort_unstable();
    values.dedup();
    values
}

/// A seeded xorshift generator.
fn random() -> impl FnMut() -> u64 {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn same(program: &[sock_filter], number: u32, arguments: &[u64; 6]) {
    let native = run(program, X86_64, number, arguments);
    assert_eq!(
        native,
        decide(number, arguments),
        "x86_64 {number:#x} {arguments:x?}"
    );
    // The kernel shows the registers of an i386 call as 32 bits.
    let narrow = arguments.map(|argument| argument & 0xffff_ffff);
    let foreign = run(program, I386, number, &narrow);
    assert_eq!(
        foreign,
        decide_foreign(number, &narrow),
        "i386 {number:#x} {narrow:x?}"
    );
}

#[test]
fn it_fits_the_kernel() {
    let program = program().unwrap();
    assert!(
        program.len() < MAX_INSTRUCTIONS,
        "{} instructions",
        program.len()
    );
}

#[test]
fn every_number_with_every_edge_in_every_argument() {
    let program = program().unwrap();
    let edges = edges();
    for number in 0..1024 {
        same(&program, number, &[0; 6]);
        same(&program, number, &[u64::MAX; 6]);
        let listed = NATIVE.iter().chain(FOREIGN).any(|row| row.number == number);
        for value in edges.iter().filter(|_| listed) {
            for argument in 0..6 {
                for others in [0, 1] {
                    let mut arguments = [others; 6];
                    arguments[argument] = *value;
                    same(&program, number, &arguments);
                }
            }
        }
    }
}

#[test]
fn pairs_of_edges_where_two_arguments_decide() {
    let program = program().unwrap();
    let edges = edges();
    let mut random = random();
    for (number, first, second) in [
        (54, 1, 2),
        (44, 3, 4),
        (45, 3, 4),
        (157, 0, 1),
        (172, 0, 1),
        (41, 0, 1),
        (16, 0, 1),
    ] {
        for a in &edges {
            for b in &edges {
                let mut arguments = std::array::from_fn(|_| random());
                arguments[first] = *a;
                arguments[second] = *b;
                same(&program, number, &arguments);
            }
        }
    }
}

#[test]
fn every_family_and_every_request() {
    let program = program().unwrap();
    for value in 0..0x1_0000_u64 {
        for dirt in [0, 0x1_0000_0000, 0xdead_beef_0000_0000] {
            for number in [41, 53] {
                same(&program, number, &[value | dirt, 1, 0, 0, 0, 0]);
            }
            same(&program, 16, &[3, value | dirt, 0, 0, 0, 0]);
            same(&program, 54, &[3, 1, value | dirt, 0, 0, 0]);
            same(&program, 54, &[3, value | dirt, 20, 0, 0, 0]);
        }
    }
}

#[test]
fn no_number_of_the_x32_abi_passes() {
    let program = program().unwrap();
    for number in 0..1024 {
        for arguments in [[0; 6], [1; 6], [u64::MAX; 6]] {
            let got = run(&program, X86_64, number | X32_BIT, &arguments);
            assert_eq!(got, Decision::Errno(ENOSYS), "{number}");
        }
    }
    for number in [X32_BIT, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX] {
        same(&program, number, &[0; 6]);
    }
}

#[test]
fn numbers_beyond_the_tables_of_the_kernel() {
    let program = program().unwrap();
    let mut random = random();
    for _ in 0..200_000 {
        let [a, b, c, d, ..] = random().to_le_bytes();
        let arguments = std::array::from_fn(|_| random());
        same(&program, u32::from_le_bytes([a, b, c, d]), &arguments);
        same(&program, u32::from_le_bytes([a, b & 3, 0, 0]), &arguments);
    }
}

#[test]
fn an_unknown_architecture_is_refused_and_not_killed() {
    let program = program().unwrap();
    for arch in [0xc000_00b7, 0x4000_0028, 0] {
        assert_eq!(run(&program, arch, 41, &[1; 6]), Decision::Errno(ENOSYS));
    }
}

#[test]
fn blocks_are_exactly_the_ranges() {
    let mut random = random();
    for ranges in [
        complement(&[1, 2, 10]),
        complement(&[0]),
        complement(&[u32::MAX]),
        vec![(0x890b, 0x89ff)],
        complement(&[]),
    ] {
        let blocks = blocks(&ranges);
        let mut values: Vec<u32> = (0..70_000)
            .chain([u32::MAX, u32::MAX - 1, 1 << 31])
            .collect();
        values.extend((0..10_000).map(|_| u32::try_from(random() >> 32).unwrap()));
        for value in values {
            let expected = ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&value));
            let hits = blocks
                .iter()
                .filter(|block| value & block.mask == block.value)
                .count();
            assert_eq!(hits, usize::from(expected), "{value:#x}");
        }
    }
}
