// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon events`.

use super::output::{Context, Failure, print};
use super::table::clean;
use serde_json::Value;

/// Prints what happens, until interrupted or the supervisor ends.
pub(super) fn run(context: Context) -> Result<(), Failure> {
    let mut stream = String::new();
    for piece in context.client()?.events()? {
        let piece = piece?;
        // Pieces hold whole events.
        stream.push_str(&String::from_utf8_lossy(&piece));
        while let Some(end) = stream.find("\n\n") {
            let event: String = stream.drain(..end + 2).collect();
            if let Some(data) = data(&event) {
                let line = if context.json {
                    data.to_owned()
                } else {
                    sentence(data)
                };
                print(&format!("{line}\n"))?;
            }
        }
    }
    Err(Failure::other("the supervisor has ended"))
}

/// The JSON of an event; None of a comment.
fn data(event: &str) -> Option<&str> {
    event.lines().find_map(|line| line.strip_prefix("data: "))
}

/// An event for people: time of day (UTC), type, and what belongs to it.
fn sentence(data: &str) -> String {
    let Ok(Value::Object(mut event)) = serde_json::from_str(data) else {
        return clean(data);
    };
    let time = event.remove("time").and_then(|time| time.as_f64());
    let kind = event.remove("type");
    event.remove("id");
    let mut line = format!(
        "{} {}",
        time.map_or_else(|| "--:--:--".to_owned(), time_of_day),
        kind.as_ref().and_then(Value::as_str).unwrap_or("?")
    );
    for (name, value) in event {
        match value {
            Value::Null => {}
            Value::String(text) => line.push_str(&format!(" {name}={text}")),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                line.push_str(&format!(" {name}={other}"))
            }
        }
    }
    clean(&line)
}

/// `hh:mm:ss` of a day in UTC, from seconds since the Unix epoch.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest number there is"
)]
fn time_of_day(unix: f64) -> String {
    let seconds = unix as u64 % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}Z", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_lines() {
        let event = "id: 3\nevent: peer_added\ndata: {\"id\":3,\"time\":86461.5,\"type\":\"peer_added\",\"network\":\"demo\",\"peer\":\"x\\u001b[2J\"}\n\n";
        assert_eq!(
            sentence(data(event).unwrap()),
            "00:01:01Z peer_added network=demo peer=x?[2J"
        );
        assert_eq!(data(": a comment\n\n"), None);
        assert_eq!(sentence("no json\x1b"), "no json?");
    }
}
