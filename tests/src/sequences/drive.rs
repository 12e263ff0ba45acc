// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many sequences, several at a time, and the smallest one that shows each difference.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::known::{Difference, Row};
use super::pair::Pair;
use super::step::Step;
use super::strategy::sequences;
use super::verdict::{Verdict, judge};

/// How often a difference must come again before it counts; while a sequence is made smaller, once.
const REPEATS: usize = 3;
/// Sequences tried in making one smaller.
const SMALLER: u32 = 1500;
/// Sequences between two looks at what the others found.
const PORTION: u64 = 50;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many sequences.
    pub sequences: u64,
    /// They follow from this number, and from how many run at a time.
    pub seed: u64,
    /// How many at a time.
    pub jobs: u64,
    /// So many differences are enough.
    pub most: usize,
    /// Known differences.
    pub rows: Vec<Row>,
}

/// Figures of a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Sequences compared.
    pub sequences: AtomicU64,
    /// Steps in them.
    pub steps: AtomicU64,
    /// Sequences that the kernel's sockets do not carry out the same way twice.
    pub unsteady: AtomicU64,
    /// Repetitions.
    pub again: AtomicU64,
    /// Sequences with a difference that this run has found before.
    pub repeated: AtomicU64,
    /// How often each row of the list was met.
    pub known: Mutex<BTreeMap<usize, u64>>,
}

/// A difference and the smallest sequence that shows it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What differs.
    pub difference: Difference,
    /// The sequence.
    pub steps: Vec<Step>,
}

/// Runs sequences; `started` makes the pair of processes of each job, `found` is told of every difference as it comes.
///
/// # Errors
///
/// When a process cannot be had.
///
/// # Panics
///
/// When a job panicked.
pub fn run(
    plan: &Plan,
    tally: &Tally,
    started: impl Fn(u64) -> Pair + Sync,
    found: impl Fn(&Finding, &mut Pair) + Sync,
) -> io::Result<usize> {
    let signs = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let jobs: Vec<_> = (0..plan.jobs)
            .map(|job| {
                let (signs, started, found) = (&signs, &started, &found);
                scope.spawn(move || work(plan, job, tally, signs, started(job), found))
            })
            .collect();
        for job in jobs {
            job.join().expect("a job that does not panic")?;
        }
        Ok(())
    })
    .map(|()| signs.lock().map_or(0, |signs| signs.len()))
}

fn work(
    plan: &Plan,
    job: u64,
    tally: &Tally,
    signs: &Mutex<Vec<String>>,
    pair: Pair,
    found: &impl Fn(&Finding, &mut Pair),
) -> io::Result<()> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&plan.seed.to_le_bytes());
    seed[8..16].copy_from_slice(&job.to_le_bytes());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let pair = RefCell::new(pair);
    let mut left = (plan.sequences + plan.jobs - 1 - job) / plan.jobs;
    while left > 0 && signs.lock().map_or(0, |signs| signs.len()) < plan.most {
        let portion = left.min(PORTION);
        let config = Config {
            cases: u32::try_from(portion).unwrap_or(u32::MAX),
            failure_persistence: None,
            max_shrink_iters: SMALLER,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, rng);
        let done = RefCell::new(0);
        // The sign of the difference that is being made smaller, and what it is by now.
        let shown: RefCell<Option<Difference>> = RefCell::new(None);
        let mut broken: RefCell<Option<io::Error>> = RefCell::new(None);
        let outcome = runner.run(&sequences(), |steps| {
            let smaller = shown.borrow().is_some();
            if !smaller {
                *done.borrow_mut() += 1;
                tally.sequences.fetch_add(1, Ordering::Relaxed);
                tally.steps.fetch_add(steps.len() as u64, Ordering::Relaxed);
            }
            let mut again = 0;
            let repeats = if smaller { 1 } else { REPEATS };
            let verdict = judge(
                &mut pair.borrow_mut(),
                &plan.rows,
                &steps,
                repeats,
                &mut again,
            );
            if smaller {
                return match verdict {
                    Ok(Verdict::Different(difference))
                        if Some(difference.sign())
                            == shown.borrow().as_ref().map(Difference::sign) =>
                    {
                        *shown.borrow_mut() = Some(difference.clone());
                        Err(TestCaseError::fail(difference.to_string()))
                    }
                    Ok(Verdict::Different(_) | Verdict::Same(_) | Verdict::Unsteady) | Err(_) => {
                        Ok(())
                    }
                };
            }
            tally.again.fetch_add(again, Ordering::Relaxed);
            match verdict {
                Err(error) => {
                    *broken.borrow_mut() = Some(error);
                    Err(TestCaseError::fail("no process"))
                }
                Ok(Verdict::Unsteady) => {
                    tally.unsteady.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                Ok(Verdict::Same(used)) => {
                    if let Ok(mut known) = tally.known.lock() {
                        for row in used {
                            *known.entry(row).or_default() += 1;
                        }
                    }
                    Ok(())
                }
                Ok(Verdict::Different(difference)) => {
                    let sign = difference.sign();
                    match signs.lock() {
                        Ok(mut signs) if !signs.contains(&sign) => signs.push(sign),
                        _ => {
                            tally.repeated.fetch_add(1, Ordering::Relaxed);
                            return Ok(());
                        }
                    }
                    *shown.borrow_mut() = Some(difference.clone());
                    Err(TestCaseError::fail(difference.to_string()))
                }
            }
        });
        if let Some(error) = broken.get_mut().take() {
            return Err(error);
        }
        if let (Err(TestError::Fail(_, steps)), Some(difference)) = (outcome, shown.into_inner()) {
            let pair = &mut pair.borrow_mut();
            found(
                &fewest(pair, &plan.rows, Finding { difference, steps })?,
                pair,
            );
        }
        left -= done.into_inner();
        rng = runner.new_rng();
    }
    Ok(())
}

/// Leaves out what comes after the difference, and every single step without which it is still there.
fn fewest(pair: &mut Pair, rows: &[Row], mut finding: Finding) -> io::Result<Finding> {
    let sign = finding.difference.sign();
    let mut at = finding.steps.len();
    while let Some(index) = at.checked_sub(1) {
        at = index;
        let mut steps = finding.steps.clone();
        if index > finding.difference.step {
            steps.truncate(index);
        } else {
            steps.remove(index);
        }
        if let Verdict::Different(difference) = judge(pair, rows, &steps, 1, &mut 0)?
            && difference.sign() == sign
        {
            finding = Finding { difference, steps };
        }
    }
    Ok(finding)
}
