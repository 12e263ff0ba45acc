// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happens, told to whoever listens (server-sent events, HTML standard, section 9.2).
//!
//! Each listener has a queue of [`WAITING`] events. Who reads too slowly loses the newest ones and is told how many, as soon
//! as there is room again.

use crate::clock;
use netcon_api::answer::Bytes;
use netcon_api::model::{Event, Happening};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Listeners at the same time.
pub const MOST: usize = 32;
/// Events that wait for a listener.
pub const WAITING: usize = 256;
/// Silence after which a comment is sent, so that a connection that is gone is noticed.
const SILENCE: Duration = Duration::from_secs(15);

/// The listeners.
#[derive(Debug, Default)]
pub struct Events(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    listeners: Vec<Listener>,
    counts: Counts,
    /// When something was last sent.
    spoke: Duration,
}

/// What was told so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Happenings, whether anybody listened or not.
    pub happened: u64,
    /// Events that did not fit into a listener's queue.
    pub lost: u64,
    /// Listeners now.
    pub listeners: usize,
}

#[derive(Debug)]
struct Listener {
    sender: Sender<Bytes>,
    /// Events it has missed and not yet been told of.
    lost: u64,
}

impl Events {
    /// Tells what has happened.
    pub fn publish(&self, what: Happening) {
        let mut state = self.lock();
        state.counts.happened += 1;
        if state.listeners.is_empty() {
            return;
        }
        let event = Event {
            id: state.counts.happened,
            time: clock::unix().as_secs_f64(),
            what,
        };
        state.send(&event);
    }

    /// A new listener; None: there are [`MOST`].
    pub fn subscribe(&self) -> Option<Receiver<Bytes>> {
        let mut state = self.lock();
        state
            .listeners
            .retain(|listener| !listener.sender.is_closed());
        if state.listeners.len() >= MOST {
            return None;
        }
        let (sender, receiver) = channel(WAITING);
        // Something to read, so that the answer's head is on its way.
        let _fits_an_empty_queue = sender.try_send(Bytes::from_static(b": listening\n\n"));
        state.listeners.push(Listener { sender, lost: 0 });
        Some(receiver)
    }

    /// Forgets listeners that are gone, and sends what keeps the others' connections alive. To be called every second.
    pub fn tick(&self) {
        let mut state = self.lock();
        state.listeners.retain_mut(|listener| {
            listener.tell_lost();
            !listener.sender.is_closed()
        });
        let now = clock::unix();
        if now.saturating_sub(state.spoke) >= SILENCE {
            state.spoke = now;
            for listener in &state.listeners {
                // One that has a full queue needs none.
                let _ = listener.sender.try_send(Bytes::from_static(b":\n\n"));
            }
        }
    }

    /// Somebody listens.
    pub fn has_listeners(&self) -> bool {
        !self.lock().listeners.is_empty()
    }

    /// Figures.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            listeners: state.listeners.len(),
            ..state.counts
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&mut self, event: &Event) {
        let text = written(event);
        self.spoke = clock::unix();
        for listener in &mut self.listeners {
            listener.tell_lost();
            if listener.lost > 0 || listener.sender.try_send(text.clone()).is_err() {
                listener.lost += 1;
                self.counts.lost += 1;
            }
        }
    }
}

impl Listener {
    fn tell_lost(&mut self) {
        if self.lost == 0 {
            return;
        }
        let event = Event {
            id: 0,
            time: clock::unix().as_secs_f64(),
            what: Happening::Lost { count: self.lost },
        };
        if self.sender.try_send(written(&event)).is_ok() {
            self.lost = 0;
        }
    }
}

/// An event as the stream has it. JSON holds no line break, so one `data` line is all of it.
fn written(event: &Event) -> Bytes {
    let name = event.what.name();
    // Strings and numbers: they can be written.
    let json = serde_json::to_string(event).unwrap_or_default();
    let id = match event.id {
        0 => String::new(),
        id => format!("id: {id}\n"),
    };
    format!("{id}event: {name}\ndata: {json}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(number: u64) -> Happening {
        Happening::NetworkCreated {
            network: format!("n{number}"),
        }
    }

    fn read(receiver: &mut Receiver<Bytes>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn everybody_hears_what_happens_from_now_on() {
        let events = Events::default();
        events.publish(happening(0));
        let mut first = events.subscribe().unwrap();
        events.publish(happening(1));
        let mut second = events.subscribe().unwrap();
        events.publish(happening(2));
        let heard = read(&mut first);
        assert_eq!(heard.len(), 3);
        assert!(
            heard[1].starts_with("id: 2\nevent: network_created\ndata: {"),
            "{heard:?}"
        );
        assert!(heard[1].ends_with("}\n\n") && heard[1].contains(r#""network":"n1""#));
        assert!(read(&mut second)[1].contains(r#""network":"n2""#));
        assert_eq!(
            events.counts(),
            Counts {
                happened: 3,
                lost: 0,
                listeners: 2
            }
        );
    }

    #[test]
    fn who_reads_slowly_is_told_how_many_are_lost() {
        let events = Events::default();
        let mut slow = events.subscribe().unwrap();
        // The greeting takes one place.
        for number in 1..WAITING as u64 + 10 {
            events.publish(happening(number));
        }
        assert_eq!(events.counts().lost, 10);
        assert_eq!(read(&mut slow).len(), WAITING);
        events.publish(happening(9));
        let heard = read(&mut slow);
        assert_eq!(heard.len(), 2);
        assert!(heard[0].starts_with("event: lost\ndata: {"), "{heard:?}");
        assert!(heard[0].contains(r#""count":10"#), "{heard:?}");
        // Also if nothing more happens.
        for number in 0..=WAITING as u64 {
            events.publish(happening(number));
        }
        read(&mut slow);
        events.tick();
        let heard = read(&mut slow);
        assert!(heard[0].contains(r#""count":1"#), "{heard:?}");
    }

    #[test]
    fn listeners_are_counted_and_those_gone_forgotten() {
        let events = Events::default();
        let mut all: Vec<_> = (0..MOST).map(|_| events.subscribe().unwrap()).collect();
        assert!(events.subscribe().is_none());
        all.pop();
        all.push(events.subscribe().unwrap());
        drop(all);
        events.tick();
        assert!(!events.has_listeners());
    }
}
