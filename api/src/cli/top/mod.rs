// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon top`: networks, peers and containers with their rates, until `q`.
//!
//! [`sample`] asks the supervisor on a thread of its own, so that keys are answered whatever the supervisor does; [`view`] is
//! what is shown and what keys do, without a terminal.

mod sample;
mod view;

use self::sample::Sampler;
use self::view::View;
use super::output::{Context, Failure};
use super::terminal;
use clap::Args;
use crossterm::event::{self, Event, KeyEventKind};
use ratatui::DefaultTerminal;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How it is to be shown.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=60))]
    interval: u8,
}

/// How long a key waits at most to be seen, and a signal to be obeyed.
const TICK: Duration = Duration::from_millis(100);

/// Shows it until the user has had enough.
pub(super) fn run(context: Context, options: &Options) -> Result<(), Failure> {
    if context.json {
        return Err(Failure::usage(
            "top is for people; programs ask netcon --json status, network list, peer list and ps",
        ));
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "top needs a terminal; use netcon status, peer list and ps",
        ));
    }
    let client = context.client()?;
    // Without a supervisor there is nothing to look at: said before the screen is taken.
    let sampler = Sampler::start(client, Duration::from_secs(options.interval.into()))?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(|error| cannot(&error))?;
    }
    // Also gives the terminal back when something panics.
    let mut terminal = ratatui::try_init().map_err(|error| cannot(&error))?;
    let result = show(&mut terminal, &sampler, &ended);
    ratatui::restore();
    result.map_err(|error| cannot(&error))
}

fn show(
    terminal: &mut DefaultTerminal,
    sampler: &Sampler,
    ended: &AtomicBool,
) -> std::io::Result<()> {
    let mut view = View::new(terminal::colours());
    while !ended.load(Ordering::Relaxed) {
        while let Some(news) = sampler.take() {
            view.update(news);
        }
        terminal.draw(|frame| view.draw(frame))?;
        if !event::poll(TICK)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                if view.key(key).is_break() {
                    break;
                }
            }
            // A new size is seen by the next drawing.
            Event::Key(_)
            | Event::Resize(..)
            | Event::FocusGained
            | Event::FocusLost
            | Event::Mouse(_)
            | Event::Paste(_) => {}
        }
    }
    Ok(())
}

fn cannot(error: &std::io::Error) -> Failure {
    Failure::other(format!("the terminal cannot be used: {error}"))
}
