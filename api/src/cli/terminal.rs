// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How wide the terminal is.

use std::io::IsTerminal;

/// Characters in a line of standard output: what COLUMNS says (POSIX, XBD 8.3), else the terminal's own word
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
}
