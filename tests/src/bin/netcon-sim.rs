// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon-sim`: runs scenarios of the simulated world. `ci/sim` builds and starts it.

use std::any::Any;
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use netcon_tests::sim::Tally;
use netcon_tests::sim::pcap::Capture;
use netcon_tests::sim::plan::Plan;
use netcon_tests::sim::world::{Report, World};

const USAGE: &str = "\
usage: ci/sim [--seeds N] [--from K] [--jobs J]      N scenarios (1000), the first of seed K (0)
       ci/sim --seed N [--pcap FILE] [--plan]        one scenario: its figures, what it sends, what it is";

/// Failed seeds that are listed.
const LISTED: usize = 20;
const PROGRESS: Duration = Duration::from_secs(10);

struct Arguments {
    seeds: u64,
    from: u64,
    jobs: usize,
    seed: Option<u64>,
    pcap: Option<String>,
    plan: bool,
}

thread_local! {
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            say(&format!("error: {problem}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    // Where it happened is reported with the seed.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string);
        PLACE.set(place.unwrap_or_default());
    }));
    match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments {
        seeds: 1000,
        from: 0,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        seed: None,
        pcap: None,
        plan: false,
    };
    while let Some(name) = arguments.next() {
        if name == "--plan" {
            parsed.plan = true;
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} is unknown or wants a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name} wants a number, not {value}"))
        };
        match name.as_str() {
            "--seeds" => parsed.seeds = number()?,
            "--from" => parsed.from = number()?,
            "--jobs" => parsed.jobs = usize::try_from(number()?.clamp(1, 256)).unwrap_or(1),
            "--seed" => parsed.seed = Some(number()?),
            "--pcap" => parsed.pcap = Some(value),
            _ => return Err(format!("{name} is unknown")),
        }
    }
    if parsed.pcap.is_some() && parsed.seed.is_none() {
        return Err("--pcap needs --seed: one scenario fills one file".to_owned());
    }
    Ok(parsed)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn run(seed: u64, capture: Option<Capture>) -> Result<Report, String> {
    catch_unwind(AssertUnwindSafe(|| {
        World::new(Plan::of_seed(seed), capture).run()
    }))
    .map_err(|payload| format!("{} ({})", text(&*payload), PLACE.take()))
}

fn text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}

fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let plan = Plan::of_seed(seed);
    if arguments.plan {
        say(&format!("{plan:#?}"));
    }
    let capture = match arguments.pcap.as_ref().map(File::create).transpose() {
        Ok(file) => file.and_then(|file| Capture::new(Box::new(BufWriter::new(file))).ok()),
        Err(error) => {
            say(&format!("error: the capture cannot be written: {error}"));
            return ExitCode::from(2);
        }
    };
    match run(seed, capture) {
        Ok(report) => {
            say(&format!(
                "seed {seed} passed, fingerprint {:016x}: {:?}",
                report.fingerprint, report.tally
            ));
            ExitCode::SUCCESS
        }
        Err(problem) => {
            say(&format!("seed {seed} failed: {problem}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long the run takes is told to people; nothing in it depends on it"
)]
fn many(arguments: &Arguments) -> ExitCode {
    let (next, done, ended) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new((Tally::default(), Vec::<(u64, String)>::new()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= arguments.seeds {
                            return;
                        }
                        let seed = arguments.from + number;
                        let result = run(seed, None);
                        done.fetch_add(1, Ordering::Relaxed);
                        let Ok(mut total) = total.lock() else { return };
                        match result {
                            Ok(report) => total.0.add(&report.tally),
                            Err(problem) => {
                                if total.1.len() < LISTED {
                                    say(&format!("seed {seed} failed: {problem}"));
                                    say(&format!(
                                        "    repeat it: ci/sim --seed {seed} --pcap sim.pcap"
                                    ));
                                }
                                total.1.push((seed, problem));
                            }
                        }
                    }
                })
            })
            .collect();
        let progress = scope.spawn(|| {
            let mut said = Duration::ZERO;
            while !ended.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(200));
                if begun.elapsed() > said + PROGRESS {
                    said = begun.elapsed();
                    let done = done.load(Ordering::Relaxed);
                    say(&format!(
                        "{done} of {} seeds after {} s",
                        arguments.seeds,
                        said.as_secs()
                    ));
                }
            }
        });
        for worker in workers {
            let _ = worker.join();
        }
        ended.store(true, Ordering::Relaxed);
        progress.thread().unpark();
    });
    let Ok((tally, failed)) = total.into_inner() else {
        return ExitCode::FAILURE;
    };
    say(&format!(
        "{} seeds from {} in {:.1} s: {} passed, {} failed; {} virtual hours, {} datagrams, {} sessions, {} inner packets, \
         {} streams, {} resets with a cause, {} attacks, {} faults, {} refused, {} forged, {} spoofed, {} cookies",
        arguments.seeds,
        arguments.from,
        begun.elapsed().as_secs_f64(),
        arguments.seeds - failed.len() as u64,
        failed.len(),
        tally.seconds / 3600,
        tally.datagrams,
        tally.sessions,
        tally.packets,
        tally.streams,
        tally.resets,
        tally.attacks,
        tally.faults,
        tally.refused,
        tally.forged,
        tally.spoofed,
        tally.cookies,
    ));
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
