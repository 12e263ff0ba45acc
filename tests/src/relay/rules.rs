// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the relay can be told, on its command line and while it runs.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use thiserror::Error;

/// How the datagrams of one direction are treated. The default lets everything pass at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Added to every datagram.
    pub delay: Duration,
    /// Up to this much more, at random; does not change the order.
    pub jitter: Duration,
    /// Lost, each for itself.
    pub loss: Chance,
    /// Several in a row lost.
    pub burst: Burst,
    /// Held back so that later ones overtake.
    pub reorder: Reorder,
    /// Sent twice.
    pub duplicate: Chance,
    /// Sent with one bit turned over.
    pub corrupt: Chance,
    /// Bits of payload per second; without it there is no queue.
    pub rate: Option<NonZeroU64>,
    /// Bytes that may wait for the rate; what comes on top is dropped (the newest).
    pub queue: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Chance::NEVER,
            burst: Burst {
                chance: Chance::NEVER,
                length: DEFAULT_BURST,
            },
            reorder: Reorder {
                chance: Chance::NEVER,
                by: DEFAULT_REORDER,
            },
            duplicate: Chance::NEVER,
            corrupt: Chance::NEVER,
            rate: None,
            queue: DEFAULT_QUEUE,
        }
    }
}

impl Rules {
    /// Takes over what a command said; the rest stays.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Delay(delay) => self.delay = delay,
                Change::Jitter(jitter) => self.jitter = jitter,
                Change::Loss(chance) => self.loss = chance,
                Change::Burst(burst) => self.burst = burst,
                Change::Reorder(reorder) => self.reorder = reorder,
                Change::Duplicate(chance) => self.duplicate = chance,
                Change::Corrupt(chance) => self.corrupt = chance,
                Change::Rate(rate) => self.rate = rate,
                Change::Queue(bytes) => self.queue = bytes,
            }
        }
    }
}

/// Length of a burst unless the rule says another.
pub const DEFAULT_BURST: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// How long a datagram is held back unless the rule says another.
pub const DEFAULT_REORDER: Duration = Duration::from_millis(10);
/// Bytes of the queue before the rate unless the rule says another.
pub const DEFAULT_QUEUE: usize = 256 * 1024;

/// A probability, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chance(f64);

impl Chance {
    /// It does not happen.
    pub const NEVER: Self = Self(0.0);

    /// The probability, 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Loss of several datagrams in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// That a datagram begins one.
    pub chance: Chance,
    /// How many are lost, the first included.
    pub length: NonZeroU32,
}

/// Datagrams that are overtaken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reorder {
    /// That a datagram is held back.
    pub chance: Chance,
    /// For how long.
    pub by: Duration,
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the fields of `Rules`")]
pub enum Change {
    Delay(Duration),
    Jitter(Duration),
    Loss(Chance),
    Burst(Burst),
    Reorder(Reorder),
    Duplicate(Chance),
    Corrupt(Chance),
    Rate(Option<NonZeroU64>),
    Queue(usize),
}

/// Which datagrams a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the clients to the target.
    Up,
    /// From the target to the clients.
    Down,
    /// Both.
    Both,
}

impl Direction {
    /// Whether it means datagrams to the target.
    #[must_use]
    pub fn up(self) -> bool {
        matches!(self, Self::Up | Self::Both)
    }

    /// Whether it means datagrams to the clients.
    #[must_use]
    pub fn down(self) -> bool {
        matches!(self, Self::Down | Self::Both)
    }
}

/// One line of the relay's standard input.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `up|down|both KEY=VALUE…`
    Change(Direction, Vec<Change>),
    /// `clear [up|down|both]`: no rules any more.
    Clear(Direction),
    /// `rebind`: each client's upstream socket gets another port, as when a NAT forgot its mappings.
    Rebind,
    /// `to ADDRESS:PORT`: another target; also for those who are clients already.
    To(SocketAddr),
    /// `counts`: prints the figures so far.
    Counts,
    /// `quit`
    Quit,
}

/// Why a line is not understood; says what is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    /// The first word.
    #[error("`{0}` is no command: say up, down, both, clear, rebind, to, counts or quit")]
    Command(String),
    /// A direction without a rule.
    #[error("no rule: say for example `both delay=20ms loss=1%`")]
    NoRule,
    /// A key nobody knows.
    #[error(
        "`{0}` is no rule: delay, jitter, loss, burst, reorder, duplicate, corrupt, rate and queue are"
    )]
    Key(String),
    /// A value that cannot be read.
    #[error("`{value}` does not fit `{key}`: {wanted}")]
    Value {
        /// The rule.
        key: String,
        /// What it was given.
        value: String,
        /// What can be said.
        wanted: &'static str,
    },
}

/// Reads one line. Words are separated by blanks; an empty line is `None`.
pub fn parse(line: &str) -> Result<Option<Command>, RuleError> {
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else {
        return Ok(None);
    };
    let rest: Vec<&str> = words.collect();
    if let Some(direction) = direction(first) {
        return match rest.as_slice() {
            [] => Err(RuleError::NoRule),
            rules => {
                let changes = rules
                    .iter()
                    .map(|word| change(word))
                    .collect::<Result<_, _>>()?;
                Ok(Some(Command::Change(direction, changes)))
            }
        };
    }
    let unknown = || RuleError::Command(line.trim().to_owned());
    Ok(Some(match (first, rest.as_slice()) {
        ("clear", []) => Command::Clear(Direction::Both),
        ("clear", [which]) => Command::Clear(direction(which).ok_or_else(unknown)?),
        ("rebind", []) => Command::Rebind,
        ("to", [address]) => Command::To(address.parse().map_err(|_| RuleError::Value {
            key: "to".to_owned(),
            value: (*address).to_owned(),
            wanted: "an address and a port, such as 127.0.0.1:9993 or [::1]:9993",
        })?),
        ("counts", []) => Command::Counts,
        ("quit", []) => Command::Quit,
        _ => return Err(unknown()),
    }))
}

fn direction(word: &str) -> Option<Direction> {
    match word {
        "up" => Some(Direction::Up),
        "down" => Some(Direction::Down),
        "both" => Some(Direction::Both),
        _ => None,
    }
}

fn change(word: &str) -> Result<Change, RuleError> {
    let (key, value) = word
        .split_once('=')
        .ok_or_else(|| RuleError::Key(word.to_owned()))?;
    let bad = |wanted| RuleError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        wanted,
    };
    let time = |text| duration(text).ok_or_else(|| bad("a time such as 20ms, 500us or 1s"));
    let percent =
        |text| chance(text).ok_or_else(|| bad("a percentage from 0% to 100%, such as 2.5%"));
    // `burst` and `reorder` have a second part after a colon.
    let (head, tail) = match value.split_once(':') {
        Some((head, tail)) => (head, Some(tail)),
        None => (value, None),
    };
    Ok(match key {
        "delay" => Change::Delay(time(value)?),
        "jitter" => Change::Jitter(time(value)?),
        "loss" => Change::Loss(percent(value)?),
        "burst" => Change::Burst(Burst {
            chance: percent(head)?,
            length: match tail {
                None => DEFAULT_BURST,
                Some(text) => text
                    .parse()
                    .map_err(|_| bad("a percentage and how many in a row, such as 1%:20"))?,
            },
        }),
        "reorder" => Change::Reorder(Reorder {
            chance: percent(head)?,
            by: tail.map_or(Ok(DEFAULT_REORDER), time)?,
        }),
        "duplicate" => Change::Duplicate(percent(value)?),
        "corrupt" => Change::Corrupt(percent(value)?),
        "rate" if value == "none" => Change::Rate(None),
        "rate" => Change::Rate(Some(
            scaled(
                value,
                &[
                    ("kbit", 1_000),
                    ("mbit", 1_000_000),
                    ("gbit", 1_000_000_000),
                    ("bit", 1),
                ],
            )
            .and_then(NonZeroU64::new)
            .ok_or_else(|| bad("bits per second such as 512kbit, 20mbit or 1gbit, or none"))?,
        )),
        "queue" => Change::Queue(
            scaled(value, &[("kB", 1_000), ("MB", 1_000_000), ("B", 1)])
                .and_then(|bytes| usize::try_from(bytes).ok())
                .ok_or_else(|| bad("bytes such as 64kB or 1MB"))?,
        ),
        _ => return Err(RuleError::Key(key.to_owned())),
    })
}

fn duration(text: &str) -> Option<Duration> {
    let nanoseconds = scaled(
        text,
        &[("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)],
    )?;
    // An hour: longer is a mistake.
    (nanoseconds <= 3_600_000_000_000).then(|| Duration::from_nanos(nanoseconds))
}

fn chance(text: &str) -> Option<Chance> {
    let number: f64 = text.strip_suffix('%')?.parse().ok()?;
    (0.0..=100.0)
        .contains(&number)
        .then_some(Chance(number / 100.0))
}

/// A whole number with one of the units, the first that fits; 0 needs none.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, *factor)))?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(line: &str) -> Rules {
        let mut rules = Rules::default();
        match parse(line).unwrap() {
            Some(Command::Change(Direction::Both, changes)) => rules.apply(&changes),
            other => panic!("{other:?}"),
        }
        rules
    }

    #[test]
    fn every_rule_is_read() {
        let all = rules(
            "both delay=20ms jitter=500us loss=20% burst=1%:7 reorder=10%:15ms duplicate=2.5% corrupt=0.1% rate=20mbit queue=64kB",
        );
        assert_eq!(all.delay, Duration::from_millis(20));
        assert_eq!(all.jitter, Duration::from_micros(500));
        assert_eq!(all.loss, Chance(0.2));
        assert_eq!(
            (all.burst.chance, all.burst.length.get()),
            (Chance(0.01), 7)
        );
        assert_eq!(
            (all.reorder.chance, all.reorder.by),
            (Chance(0.1), Duration::from_millis(15))
        );
        assert_eq!((all.duplicate, all.corrupt), (Chance(0.025), Chance(0.001)));
        assert_eq!(all.rate.map(NonZeroU64::get), Some(20_000_000));
        assert_eq!(all.queue, 64_000);
        assert_eq!(
            rules("both rate=512kbit").rate.map(NonZeroU64::get),
            Some(512_000)
        );
        assert_eq!(rules("both burst=1%").burst.length, DEFAULT_BURST);
    }

    #[test]
    fn a_rule_leaves_the_others_alone() {
        let mut rules = rules("both delay=20ms rate=1gbit");
        rules.apply(&[Change::Rate(None)]);
        assert_eq!((rules.delay, rules.rate), (Duration::from_millis(20), None));
    }

    #[test]
    fn other_commands_are_read() {
        assert_eq!(parse("  \t"), Ok(None));
        assert_eq!(parse("clear"), Ok(Some(Command::Clear(Direction::Both))));
        assert_eq!(parse("clear up"), Ok(Some(Command::Clear(Direction::Up))));
        assert_eq!(parse("rebind"), Ok(Some(Command::Rebind)));
        assert_eq!(
            parse("to [::1]:7"),
            Ok(Some(Command::To("[::1]:7".parse().unwrap())))
        );
        assert_eq!(parse("counts\n"), Ok(Some(Command::Counts)));
        assert_eq!(parse("quit"), Ok(Some(Command::Quit)));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("sideways loss=1%", "no command"),
            ("up", "no rule"),
            ("up loss", "no rule"),
            ("up los=1%", "`los`"),
            ("up loss=101%", "0% to 100%"),
            ("up loss=NaN%", "0% to 100%"),
            ("up loss=1", "0% to 100%"),
            ("up delay=20", "20ms"),
            ("up delay=2000h", "20ms"),
            ("up delay=99999s", "20ms"),
            ("up rate=0", "20mbit"),
            ("up rate=99999999999999999999gbit", "20mbit"),
            ("up burst=1%:0", "1%:20"),
            ("up reorder=1%:x", "20ms"),
            ("up queue=-1kB", "64kB"),
            ("to localhost", "127.0.0.1:9993"),
            ("clear sideways", "no command"),
            ("quit now", "no command"),
        ] {
            let said = parse(line).unwrap_err().to_string();
            assert!(said.contains(part), "{line}: {said}");
        }
    }

    #[test]
    fn a_line_with_a_mistake_changes_nothing() {
        assert!(parse("both delay=20ms loss=x").is_err());
    }
}
