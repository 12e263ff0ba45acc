// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a classic BPF program over one system call, as the kernel does (Documentation/userspace-api/seccomp_filter.rst,
//! bpf(4) of the BSDs): only the instructions that libseccomp emits; any other is an error.

use crate::table::Decision;
use libc::sock_filter;

/// AUDIT_ARCH_X86_64.
pub(super) const X86_64: u32 = 0xc000_003e;
/// AUDIT_ARCH_I386.
pub(super) const I386: u32 = 0x4000_0003;

/// What the program returns for this call.
pub(super) fn run(
    program: &[sock_filter],
    arch: u32,
    number: u32,
    arguments: &[u64; 6],
) -> Decision {
    let mut data = Vec::with_capacity(64);
    data.extend_from_slice(&number.to_le_bytes());
    data.extend_from_slice(&arch.to_le_bytes());
    data.extend_from_slice(&0_u64.to_le_bytes());
    arguments
        .iter()
        .for_each(|argument| data.extend_from_slice(&argument.to_le_bytes()));

    let mut accumulator = 0_u32;
    let mut at = 0_usize;
    loop {
        let instruction = &program[at];
        at += 1;
        let k = instruction.k;
        let branch = |taken: bool| {
            usize::from(if taken {
                instruction.jt
            } else {
                instruction.jf
            })
        };
        match instruction.code {
            LOAD_WORD => {
                assert!(k.is_multiple_of(4) && k < 64, "offset {k}");
                let k = usize::try_from(k).unwrap();
                accumulator = u32::from_le_bytes(data[k..k + 4].try_into().unwrap());
            }
            AND => accumulator &= k,
            JUMP => at += usize::try_from(k).unwrap(),
            JUMP_EQUAL => at += branch(accumulator == k),
            JUMP_GREATER => at += branch(accumulator > k),
            JUMP_NOT_LESS => at += branch(accumulator >= k),
            JUMP_BITS => at += branch(accumulator & k != 0),
            RETURN => return decision(k),
            code => panic!("instruction {code:#x}"),
        }
    }
}

fn decision(value: u32) -> Decision {
    match value & 0xffff_0000 {
        0x7fff_0000 => Decision::Allow,
        0x7fc0_0000 => Decision::Notify,
        0x0005_0000 => Decision::Errno(u16::try_from(value & 0xffff).unwrap()),
        action => panic!("action {action:#x}"),
    }
}

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_NOT_LESS: u16 = 0x35;
const JUMP_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;
