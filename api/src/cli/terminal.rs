// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the terminal is like.

use std::ffi::OsStr;
use std::io::IsTerminal;

/// Columns of standard output: what COLUMNS says (POSIX, XBD 8.3), else the terminal's own word
/// (TIOCGWINSZ, ioctl_tty(2)); None when the output goes elsewhere and nothing is to be cut.
pub(super) fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok();
    let output = std::io::stdout();
    said.as_deref().and_then(columns).or_else(|| {
        let size = output
            .is_terminal()
            .then(|| rustix::termios::tcgetwinsize(&output).ok());
        size.flatten()
            .map(|size| usize::from(size.ws_col))
            .filter(|&columns| columns > 0)
    })
}

/// Whether standard output shall have colours: it is a terminal that has some, and nobody says NO_COLOR (no-color.org).
pub(super) fn colours() -> bool {
    wants_colours(
        std::io::stdout().is_terminal(),
        std::env::var_os("NO_COLOR").as_deref(),
        std::env::var_os("TERM").as_deref(),
    )
}

fn wants_colours(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

fn columns(text: &str) -> Option<usize> {
    text.parse().ok().filter(|&columns| columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_is_a_positive_number_or_ignored() {
        assert_eq!(columns("80"), Some(80));
        for ignored in ["", "0", "-1", "x", "80x"] {
            assert_eq!(columns(ignored), None, "{ignored:?}");
        }
    }

    #[test]
    fn colours_are_for_terminals_whose_user_wants_them() {
        let xterm = Some(OsStr::new("xterm-256color"));
        assert!(wants_colours(true, None, xterm));
        assert!(wants_colours(true, Some(OsStr::new("")), None));
        assert!(!wants_colours(false, None, xterm));
        assert!(!wants_colours(true, Some(OsStr::new("1")), xterm));
        assert!(!wants_colours(true, None, Some(OsStr::new("dumb"))));
    }
}
