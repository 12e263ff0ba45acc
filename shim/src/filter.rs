// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table as a seccomp program, built with libseccomp.
//!
//! What no rule names is allowed, and a rule may not repeat that default, so each condition is turned into the comparisons
//! under which a call is *not* allowed. A comparison looks at some bits of one register ("masked equal"); an `int` argument
//! is compared by bits 0 to 31 only. Sets and ranges of values become aligned blocks, as address ranges become prefixes; the
//! blocks of one call are disjoint where their actions differ, so that the order in which libseccomp tests them is free.

use crate::sys;
use crate::table::{
    EAFNOSUPPORT, ENOSYS, FOREIGN, NATIVE, NATIVE_FAMILIES, Row, Rule, SERVED_FAMILIES, When,
};
use libc::sock_filter;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use std::fmt;
use std::io::{self, Read, Seek};

/// Builds the program for the native architecture and the foreign one it can enter.
///
/// Numbers of the x32 ABI are refused with ENOSYS: libseccomp treats an ABI that was not added as a foreign architecture.
pub fn program() -> Result<Vec<sock_filter>, BuildError> {
    // Of libseccomp's own questions to the kernel (what it supports) none matters: installing it tells.
    libseccomp::set_api(NOTIFY_API)?;
    let mut native = empty()?;
    add(&mut native, NATIVE)?;
    let mut foreign = empty()?;
    foreign.remove_arch(ScmpArch::Native)?;
    foreign.add_arch(ScmpArch::X86)?;
    add(&mut foreign, FOREIGN)?;
    native.merge(foreign)?;
    export(&native)
}

/// The filter could not be built.
#[derive(Debug)]
pub enum BuildError {
    /// libseccomp refused.
    Library(libseccomp::error::SeccompError),
    /// The program could not be read back.
    Io(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(error) => write!(f, "libseccomp: {error}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<libseccomp::error::SeccompError> for BuildError {
    fn from(error: libseccomp::error::SeccompError) -> Self {
        Self::Library(error)
    }
}

impl From<io::Error> for BuildError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// libseccomp's API level with user notification.
const NOTIFY_API: u32 = 5;

fn empty() -> Result<ScmpFilterContext, BuildError> {
    let mut context = ScmpFilterContext::new(ScmpAction::Allow)?;
    context.set_act_badarch(ScmpAction::Errno(i32::from(ENOSYS)))?;
    Ok(context)
}

fn add(context: &mut ScmpFilterContext, rows: &[Row]) -> Result<(), BuildError> {
    for row in rows {
        // By name: in a context of the foreign architecture numbers are still read as native ones.
        let call = ScmpSyscall::from_name(row.name)?;
        let (action, when) = match row.rule {
            Rule::Trap(_, when) => (ScmpAction::Notify, when),
            Rule::Refuse { errno, when } => (ScmpAction::Errno(i32::from(errno)), when),
        };
        if matches!(when, When::ServedFamily) {
            for block in blocks(&complement(&[NATIVE_FAMILIES, SERVED_FAMILIES].concat())) {
                context.add_rule_conditional(
                    ScmpAction::Errno(i32::from(EAFNOSUPPORT)),
                    call,
                    &[block.compare(0)],
                )?;
            }
        }
        for conditions in alternatives(when) {
            context.add_rule_conditional(action, call, &conditions)?;
        }
    }
    Ok(())
}

/// The condition as alternatives, each a conjunction.
fn alternatives(when: When) -> Vec<Vec<ScmpArgCompare>> {
    let one_of = |argument: u8, ranges: &[(u32, u32)]| -> Vec<Vec<ScmpArgCompare>> {
        blocks(ranges)
            .iter()
            .map(|block| vec![block.compare(argument)])
            .collect()
    };
    match when {
        When::Always => vec![Vec::new()],
        When::ServedFamily => one_of(
            0,
            &SERVED_FAMILIES
                .iter()
                .map(|family| (*family, *family))
                .collect::<Vec<_>>(),
        ),
        When::OptionNotIn { level, options } => {
            let mut all = one_of(1, &complement(&[level]));
            all.extend(one_of(2, &complement(options)));
            all
        }
        When::AddressOrFlags {
            address,
            flags,
            mask,
        } => {
            let mut all = vec![vec![ScmpArgCompare::new(
                u32::from(address),
                ScmpCompareOp::NotEqual,
                0,
            )]];
            let bits = (0..u32::BITS)
                .map(|bit| 1 << bit)
                .filter(|bit| mask & bit != 0);
            all.extend(bits.map(|bit| {
                vec![
                    Block {
                        mask: bit,
                        value: bit,
                    }
                    .compare(flags),
                ]
            }));
            all
        }
        When::InRanges { argument, ranges } => one_of(argument, ranges),
        When::FirstTwo { first, second } => vec![vec![
            Block {
                mask: u32::MAX,
                value: first,
            }
            .compare(0),
            ScmpArgCompare::new(1, ScmpCompareOp::Equal, second),
        ]],
    }
}

/// The values whose bits under `mask` are those of `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    mask: u32,
    value: u32,
}

impl Block {
    fn compare(self, argument: u8) -> ScmpArgCompare {
        ScmpArgCompare::new(
            u32::from(argument),
            ScmpCompareOp::MaskedEqual(u64::from(self.mask)),
            u64::from(self.value),
        )
    }
}

/// Inclusive ranges as the fewest aligned blocks.
fn blocks(ranges: &[(u32, u32)]) -> Vec<Block> {
    let mut all = Vec::new();
    for (first, last) in ranges {
        let mut next = u64::from(*first);
        let end = u64::from(*last) + 1;
        while next < end {
            // The largest power of two that `next` is aligned to and that ends in time; 2^32 for the whole of u32.
            let aligned = next.trailing_zeros().min(u32::BITS);
            let fits = (end - next).ilog2();
            let size = 1_u64 << aligned.min(fits);
            all.push(Block {
                mask: u32::try_from(0x1_0000_0000 - size).expect("a block is at least one value"),
                value: u32::try_from(next).expect("below an end of at most 2^32"),
            });
            next += size;
        }
    }
    all
}

/// All values but these, as inclusive ranges.
fn complement(values: &[u32]) -> Vec<(u32, u32)> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let mut ranges = Vec::new();
    let mut next = Some(0_u32);
    for value in sorted {
        if let Some(first) = next.filter(|first| *first < value) {
            ranges.push((first, value - 1));
        }
        next = value.checked_add(1);
    }
    ranges.extend(next.map(|first| (first, u32::MAX)));
    ranges
}

/// libseccomp writes the program to a descriptor; it is read back from memory.
fn export(context: &ScmpFilterContext) -> Result<Vec<sock_filter>, BuildError> {
    let mut file = sys::memory_file()?;
    context.export_bpf(&file)?;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    // struct sock_filter of linux/filter.h, native byte order.
    let instruction = |bytes: &[u8; 8]| {
        let [code0, code1, jt, jf, k @ ..] = *bytes;
        sock_filter {
            code: u16::from_ne_bytes([code0, code1]),
            jt,
            jf,
            k: u32::from_ne_bytes(k),
        }
    };
    Ok(bytes.as_chunks::<8>().0.iter().map(instruction).collect())
}

#[cfg(test)]
mod interpret;
#[cfg(test)]
mod tests;
