// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Differences that are known, each with its reason: `tests/differential/sequences.txt`.

use std::fmt::{self, Display, Formatter};

/// Where two runs of one sequence part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which step of the sequence.
    pub step: usize,
    /// The call; or `S2 after` and the call, when a socket looks different after it.
    pub call: String,
    /// What the socket was before the call natively, and how it looked; or after it, when that is what differs.
    pub state: String,
    /// What came of it natively.
    pub native: String,
    /// What came of it on a virtual network.
    pub supervised: String,
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} | {} | {} | {}",
            self.call, self.state, self.native, self.supervised
        )
    }
}

impl Difference {
    /// What two differences of one cause have in common: the name of the call, and what came of it on both sides.
    #[must_use]
    pub fn sign(&self) -> String {
        let calls = self
            .call
            .split_once(" after ")
            .map_or(("", self.call.as_str()), |(_, call)| ("after ", call));
        let name = calls.1.split('(').next().unwrap_or_default();
        let name = name.rsplit(' ').next().unwrap_or_default();
        let kind = self.state.split(',').next().unwrap_or_default();
        format!(
            "{}{name} | {kind} | {} | {}",
            calls.0, self.native, self.supervised
        )
    }
}

/// One row of the list.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whether the sequence is compared further: the difference leaves both sides in the same state.
    pub goes_on: bool,
    patterns: [String; 4],
    reason: String,
}

impl Row {
    /// Whether this is the difference that the row knows.
    #[must_use]
    pub fn knows(&self, difference: &Difference) -> bool {
        let texts = [
            &difference.call,
            &difference.state,
            &difference.native,
            &difference.supervised,
        ];
        self.patterns
            .iter()
            .zip(texts)
            .all(|(pattern, text)| matches(pattern.as_bytes(), text.as_bytes()))
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.patterns.join(" | "), self.reason)
    }
}

/// Reads the list.
///
/// # Errors
///
/// The line that is no row.
pub fn rows(text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [how, call, state, native, supervised, reason] = parts[..] else {
            return Err(format!("six columns are wanted: {line}"));
        };
        let goes_on = match how {
            "on" => true,
            "end" => false,
            _ => return Err(format!("`on` or `end` is wanted: {line}")),
        };
        rows.push(Row {
            goes_on,
            patterns: [call, state, native, supervised].map(str::to_owned),
            reason: reason.to_owned(),
        });
    }
    Ok(rows)
}

/// `*` stands for anything, `?` for one character.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, text) || (!text.is_empty() && matches(pattern, &text[1..]))
        }
        (Some((b'?', pattern)), Some((_, text))) => matches(pattern, text),
        (Some((one, pattern)), Some((other, text))) if one == other => matches(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_knows_what_its_patterns_say_and_nothing_else() {
        let list =
            rows("# comment\n\non | send(S?, * | tcp? CLOSE* | EPIPE* | ENOTCONN | why\n").unwrap();
        let mut difference = Difference {
            step: 3,
            call: "send(S1, 5, 0)".into(),
            state: "tcp4 CLOSE, OUT HUP".into(),
            native: "EPIPE SIGPIPE".into(),
            supervised: "ENOTCONN".into(),
        };
        assert!(list[0].goes_on && list[0].knows(&difference));
        difference.supervised = "EINVAL".into();
        assert!(!list[0].knows(&difference));
        assert!(rows("on | too | few").is_err());
        assert!(rows("maybe | a | b | c | d | e").is_err());
    }

    #[test]
    fn differences_of_one_cause_have_one_sign() {
        let difference = |call: &str| Difference {
            step: 0,
            call: call.into(),
            state: "tcp4 CLOSE, OUT HUP".into(),
            native: "0".into(),
            supervised: "EINVAL".into(),
        };
        assert_eq!(
            difference("S1 = accept(S0, NULL)").sign(),
            difference("S3 = accept(S2, room 4)").sign()
        );
        assert_eq!(
            difference("bind(S1, any:0)").sign(),
            "bind | tcp4 CLOSE | 0 | EINVAL"
        );
        assert_eq!(
            difference("S1 after bind(S1, any:0)").sign(),
            "after bind | tcp4 CLOSE | 0 | EINVAL"
        );
    }
}
