// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon ping`, which prints what ping(8) prints.

use super::output::{Context, Failure, print};
use super::sockets::running;
use super::table::clean;
use super::whois;
use crate::client::Client;
use crate::model::{PING_TIMEOUT_MAX, PingAnswer, PingOutcome, PingRequest, WhoisKind};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What it takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address on a network
    address: String,
    /// Stop after so many requests [default: go on until interrupted]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds between requests
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Seconds a reply is waited for
    #[arg(short = 'W', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    timeout: Duration,
    /// Bytes of payload
    #[arg(short = 's', long, value_name = "BYTES", default_value = "56")]
    size: u16,
    /// Name or id of the network [default: the one on which the address is]
    #[arg(short, long)]
    network: Option<String>,
}

/// A length of time that ping can take.
fn seconds(text: &str) -> Result<Duration, String> {
    let most = f64::from(PING_TIMEOUT_MAX) / 1000.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=most).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        Ok(_) | Err(_) => Err(format!("a number of seconds from 0.001 to {most}")),
    }
}

/// Sends echo requests and prints what became of them. Exit code 1 without any reply.
pub(super) fn run(context: Context, arguments: &Arguments) -> Result<(), Failure> {
    let client = context.client()?;
    let network = match &arguments.network {
        Some(network) => network.clone(),
        None => network_of(&client, &arguments.address)?,
    };
    let tally = Arc::new(Mutex::new(Tally::new(&arguments.address)));
    if !context.json {
        end_by_interrupt(Arc::clone(&tally))?;
        print(&format!(
            "PING {} {} data bytes on network {network}\n",
            arguments.address, arguments.size
        ))?;
    }
    let last = arguments.count.unwrap_or(u64::MAX);
    for number in 1..=last {
        let began = now();
        let answer = ask(&client, &network, arguments, number)?;
        if answer.outcome == PingOutcome::NoRoute {
            return Err(Failure {
                code: 5,
                sentence: answer.reason.unwrap_or_default(),
            });
        }
        tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count(&answer);
        if context.json {
            let line = serde_json::to_string(&answer);
            let line = line.map_err(|error| Failure::other(error.to_string()))?;
            print(&format!("{line}\n"))?;
        } else {
            print(&sentence(&answer, number))?;
        }
        if number < last {
            wait(arguments.interval.saturating_sub(began.elapsed()));
        }
    }
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    if !context.json {
        print(&tally.text())?;
    }
    if tally.received > 0 {
        Ok(())
    } else {
        Err(Failure::other(format!(
            "no reply from {}",
            arguments.address
        )))
    }
}

fn ask(
    client: &Client,
    network: &str,
    arguments: &Arguments,
    number: u64,
) -> Result<PingAnswer, Failure> {
    let request = PingRequest {
        address: arguments.address.clone(),
        timeout_ms: u32::try_from(arguments.timeout.as_millis()).ok(),
        size: Some(arguments.size),
        // It wraps, as in ping(8).
        sequence: u16::try_from(number & 0xffff).ok(),
    };
    Ok(client.ping(network.to_owned(), request)?)
}

/// The network on which an address is, if it is on one only.
fn network_of(client: &Client, address: &str) -> Result<String, Failure> {
    let networks = running(client)?;
    let [_, _, ..] = networks.as_slice() else {
        return networks.into_iter().next().ok_or_else(|| Failure {
            code: 5,
            sentence: "no network runs; see: netcon network list".to_owned(),
        });
    };
    let mut found = Vec::new();
    for network in networks {
        if whois::ask(client, &network, address)?.kind != WhoisKind::Nobody {
            found.push(network);
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure {
            code: 5,
            sentence: format!("nobody has {address} on any network"),
        }),
        several => Err(Failure::usage(format!(
            "{address} is on {}; say on which with --network",
            several.join(" and ")
        ))),
    }
}

/// Ctrl-C prints the sum and ends the command, as in ping(8).
fn end_by_interrupt(tally: Arc<Mutex<Tally>>) -> Result<(), Failure> {
    let interrupt = SigSet::from(Signal::SIGINT);
    interrupt
        .thread_block()
        .map_err(|error| Failure::other(format!("cannot wait for Ctrl-C: {error}")))?;
    std::thread::spawn(move || {
        if interrupt.wait().is_ok() {
            let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            let printed = print(&tally.text());
            process::exit(i32::from(tally.received == 0 || printed.is_err()));
        }
    });
    Ok(())
}

fn sentence(answer: &PingAnswer, number: u64) -> String {
    let address = clean(&answer.address);
    match (answer.outcome, answer.time_us) {
        (PingOutcome::Reply, Some(time)) => format!(
            "{} bytes from {address}: icmp_seq={number} ttl={} time={} ms\n",
            answer.bytes.unwrap_or(0),
            answer.ttl.unwrap_or(0),
            milliseconds(time)
        ),
        (PingOutcome::Reply, None) => format!("reply from {address}: icmp_seq={number}\n"),
        (PingOutcome::Unreachable | PingOutcome::Timeout | PingOutcome::NoRoute, _) => {
            let reason = answer.reason.as_deref().unwrap_or("no answer in time");
            format!("icmp_seq={number}: {}\n", clean(reason))
        }
    }
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// What has come of all requests so far.
#[derive(Debug)]
struct Tally {
    address: String,
    began: Instant,
    sent: u64,
    received: u64,
    least: u64,
    most: u64,
    sum: u64,
    squares: u128,
}

impl Tally {
    fn new(address: &str) -> Self {
        Self {
            address: clean(address),
            began: now(),
            sent: 0,
            received: 0,
            least: u64::MAX,
            most: 0,
            sum: 0,
            squares: 0,
        }
    }

    fn count(&mut self, answer: &PingAnswer) {
        self.sent += 1;
        if answer.outcome != PingOutcome::Reply {
            return;
        }
        let time = answer.time_us.unwrap_or(0);
        self.received += 1;
        self.least = self.least.min(time);
        self.most = self.most.max(time);
        self.sum += time;
        self.squares += u128::from(time) * u128::from(time);
    }

    fn text(&self) -> String {
        let lost = (self.sent - self.received) * 100 / self.sent.max(1);
        let mut text = format!(
            "\n--- {} ping statistics ---\n{} packets transmitted, {} received, {lost}% packet loss, time {}ms\n",
            self.address,
            self.sent,
            self.received,
            self.began.elapsed().as_millis()
        );
        if let Some(mean) = self.sum.checked_div(self.received) {
            let variance = (self.squares / u128::from(self.received))
                .saturating_sub(u128::from(mean) * u128::from(mean));
            let deviation = u64::try_from(variance.isqrt()).unwrap_or(u64::MAX);
            text.push_str(&format!(
                "rtt min/avg/max/mdev = {}/{}/{}/{} ms\n",
                milliseconds(self.least),
                milliseconds(mean),
                milliseconds(self.most),
                milliseconds(deviation)
            ));
        }
        text
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "requests are sent at the pace of the clock on the wall"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between requests is what was asked for"
)]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outcome: PingOutcome, time_us: Option<u64>) -> PingAnswer {
        PingAnswer {
            address: "10.0.0.1".into(),
            outcome,
            bytes: time_us.map(|_| 64),
            ttl: time_us.map(|_| 63),
            time_us,
            reason: None,
        }
    }

    #[test]
    fn lines_are_those_of_ping() {
        assert_eq!(
            sentence(&answer(PingOutcome::Reply, Some(12_034)), 7),
            "64 bytes from 10.0.0.1: icmp_seq=7 ttl=63 time=12.034 ms\n"
        );
        assert_eq!(
            sentence(&answer(PingOutcome::Timeout, None), 8),
            "icmp_seq=8: no answer in time\n"
        );
        let mut tally = Tally::new("10.0.0.1");
        assert!(tally.text().contains("0 packets transmitted, 0 received"));
        for time in [1000, 3000] {
            tally.count(&answer(PingOutcome::Reply, Some(time)));
        }
        tally.count(&answer(PingOutcome::Timeout, None));
        let text = tally.text();
        assert!(
            text.contains("3 packets transmitted, 2 received, 33% packet loss"),
            "{text}"
        );
        assert!(
            text.ends_with("rtt min/avg/max/mdev = 1.000/2.000/3.000/1.000 ms\n"),
            "{text}"
        );
    }

    #[test]
    fn lengths_of_time_have_bounds() {
        assert_eq!(seconds("0.2"), Ok(Duration::from_millis(200)));
        for wrong in ["0", "-1", "61", "nan", "inf", "x", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
