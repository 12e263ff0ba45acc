// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon-differential`: random sequences of socket calls on the kernel's sockets and on a virtual network.
//! `ci/differential` prepares what it needs and starts it.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the command line"
)]

use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::{Parser, Subcommand};
use netcon_tests::sequences::drive::{Finding, Plan, Tally, run};
use netcon_tests::sequences::pair::Pair;
use netcon_tests::sequences::step::Step;
use netcon_tests::sequences::{execute, known, verdict};

#[derive(Debug, Parser)]
#[command(name = "netcon-differential", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry out sequences from standard input, one JSON object a line
    Execute,
    /// Make sequences and compare
    Drive {
        #[command(flatten)]
        pair: Commands,
        /// How many
        #[arg(long, default_value_t = 1000)]
        sequences: u64,
        /// They follow from this number, and from --jobs
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many at a time
        #[arg(long, default_value_t = 4)]
        jobs: u64,
        /// Stop after so many differences
        #[arg(long, default_value_t = 10)]
        most: usize,
        /// The list of known differences
        #[arg(long, value_name = "FILE")]
        known: String,
    },
    /// Carry out one sequence on both sides and show it
    Replay {
        #[command(flatten)]
        pair: Commands,
        /// The sequence as JSON, as a finding shows it
        steps: String,
    },
}

#[derive(Debug, clap::Args)]
struct Commands {
    /// Program that executes natively; its argument is the number of the job
    #[arg(long, value_name = "PROGRAM")]
    native: String,
    /// Program that executes on a virtual network; as above
    #[arg(long, value_name = "PROGRAM")]
    supervised: String,
}

impl Commands {
    fn pair(&self, job: u64) -> Pair {
        let command = |program: &String| vec![program.clone(), job.to_string()];
        Pair::new(command(&self.native), command(&self.supervised))
    }
}

fn main() -> ExitCode {
    match answer(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("netcon-differential: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    match args.command {
        Command::Execute => {
            execute::serve()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Replay { pair, steps } => {
            let steps: Vec<Step> = serde_json::from_str(&steps)?;
            print!("{}", verdict::told(&mut pair.pair(0), &steps)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Drive {
            pair,
            sequences,
            seed,
            jobs,
            most,
            known,
        } => {
            let rows = known::rows(&fs::read_to_string(&known)?)?;
            let plan = Plan {
                sequences,
                seed,
                jobs: jobs.max(1),
                most,
                rows,
            };
            drive(&plan, &pair)
        }
    }
}

fn drive(plan: &Plan, pair: &Commands) -> Result<ExitCode, Box<dyn Error>> {
    let tally = Tally::default();
    let start = now();
    let differ = run(plan, &tally, |job| pair.pair(job), report)?;
    let known = tally.known.lock().map_err(|error| error.to_string())?;
    for (row, count) in known.iter() {
        println!("# known, {count} times: {}", plan.rows[*row]);
    }
    let count = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
    let seconds = now().duration_since(start).as_secs_f64();
    println!(
        "# seed {}, {} jobs: {} sequences, {} steps in {seconds:.0} s ({:.0} a second); {differ} differ ({} more of the same); {} known differences met {} times; {} unsteady natively, {} repetitions",
        plan.seed,
        plan.jobs,
        count(&tally.sequences),
        count(&tally.steps),
        count(&tally.sequences) as f64 / seconds.max(0.001),
        count(&tally.repeated),
        known.len(),
        known.values().sum::<u64>(),
        count(&tally.unsteady),
        count(&tally.again),
    );
    Ok(if differ == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(finding: &Finding, pair: &mut Pair) {
    let told = verdict::told(pair, &finding.steps).unwrap_or_else(|error| error.to_string());
    let json = serde_json::to_string(&finding.steps).unwrap_or_default();
    println!("not ok {}\n{told}    again: {json}\n", finding.difference);
}

#[expect(clippy::disallowed_methods, reason = "the driver's clock reader")]
fn now() -> Instant {
    Instant::now()
}
