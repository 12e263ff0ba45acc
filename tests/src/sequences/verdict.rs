// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a sequence comes out the same on both sides, told with care: what comes by chance does not count.

use std::io;

use super::known::{Difference, Row};
use super::message::Outcome;
use super::pair::Pair;
use super::step::Step;

/// How long sockets have to look as they did natively, milliseconds: at first, and in a repetition.
const PATIENCE: (u64, u64) = (60, 400);

/// What is said of a sequence.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The same on both sides, but for these rows of the list.
    Same(Vec<usize>),
    /// The kernel's sockets do not do the same twice.
    Unsteady,
    /// What differs first.
    Different(Difference),
}

/// Runs a sequence on both sides, and what differs again: so often at most.
///
/// # Errors
///
/// When the native process cannot be had. A supervised one that ends or hangs is a difference.
pub fn judge(
    pair: &mut Pair,
    rows: &[Row],
    steps: &[Step],
    repeats: usize,
    again: &mut u64,
) -> io::Result<Verdict> {
    let native = pair.native(steps)?;
    let mut found = compare(
        rows,
        steps,
        &native,
        pair.supervised(steps, &native, PATIENCE.0),
    );
    for _ in 0..repeats {
        if !matches!(found, Verdict::Different(_)) {
            break;
        }
        *again += 1;
        if pair.native(steps)? != native {
            return Ok(Verdict::Unsteady);
        }
        found = compare(
            rows,
            steps,
            &native,
            pair.supervised(steps, &native, PATIENCE.1),
        );
    }
    Ok(found)
}

/// The first difference that the list does not know.
fn compare(
    rows: &[Row],
    steps: &[Step],
    native: &[Outcome],
    supervised: io::Result<Vec<Outcome>>,
) -> Verdict {
    let supervised = match supervised {
        Ok(supervised) => supervised,
        Err(error) => {
            return Verdict::Different(Difference {
                step: steps.len().saturating_sub(1),
                call: "the process".into(),
                state: "any".into(),
                native: "goes on".into(),
                supervised: error.kind().to_string(),
            });
        }
    };
    let mut used = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        for difference in differences(index, step, native, &supervised) {
            match rows.iter().position(|row| row.knows(&difference)) {
                None => return Verdict::Different(difference),
                Some(row) => {
                    used.push(row);
                    if !rows[row].goes_on {
                        return Verdict::Same(used);
                    }
                }
            }
        }
    }
    Verdict::Same(used)
}

fn differences(
    index: usize,
    step: &Step,
    native: &[Outcome],
    supervised: &[Outcome],
) -> Vec<Difference> {
    let (theirs, ours) = (&native[index], &supervised[index]);
    let mut found = Vec::new();
    if theirs.result != ours.result {
        let state = match (step.slot(), index.checked_sub(1)) {
            (Some(slot), Some(before)) => state(&native[before], slot.into()),
            _ => String::new(),
        };
        found.push(Difference {
            step: index,
            call: step.to_string(),
            state: if state.is_empty() {
                "no socket".into()
            } else {
                state
            },
            native: theirs.result.clone(),
            supervised: ours.result.clone(),
        });
    }
    for slot in 0..theirs.looks.len() {
        if theirs.looks[slot] != ours.looks[slot] {
            found.push(Difference {
                step: index,
                call: format!("S{slot} after {step}"),
                state: theirs.kinds[slot].clone(),
                native: theirs.looks[slot].clone(),
                supervised: ours.looks[slot].clone(),
            });
        }
    }
    found
}

fn state(outcome: &Outcome, slot: usize) -> String {
    if outcome.kinds[slot].is_empty() {
        return String::new();
    }
    format!("{}, {}", outcome.kinds[slot], outcome.looks[slot])
}

/// A sequence and what came of it on both sides, for people.
///
/// # Errors
///
/// As [`judge`].
pub fn told(pair: &mut Pair, steps: &[Step]) -> io::Result<String> {
    let native = pair.native(steps)?;
    let supervised = pair.supervised(steps, &native, PATIENCE.1);
    let mut text = String::new();
    for (index, step) in steps.iter().enumerate() {
        text.push_str(&format!("    {step} -> {}\n", native[index].result));
        let Ok(supervised) = &supervised else {
            continue;
        };
        if supervised[index].result != native[index].result {
            text.push_str(&format!("        here {}\n", supervised[index].result));
        }
        for slot in 0..native[index].looks.len() {
            let (theirs, ours) = (&native[index].looks[slot], &supervised[index].looks[slot]);
            if theirs != ours {
                text.push_str(&format!(
                    "        S{slot} looks `{theirs}`, here `{ours}`\n"
                ));
            }
        }
    }
    if let Err(error) = supervised {
        text.push_str(&format!("        here the process ends: {error}\n"));
    }
    Ok(text)
}
