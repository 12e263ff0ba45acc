// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text for people, as the terminal shows it: cleaned of what a terminal would obey, coloured where that is wanted.

use super::table::{Table, clean};
use super::terminal;

/// What a text means, from which its colour follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Nothing particular.
    Plain,
    /// A heading or a label.
    Heading,
    /// It is as it should be.
    Good,
    /// Something is less than it could be.
    Warning,
    /// Something does not work.
    Bad,
    /// Less important than what is around it.
    Faint,
}

/// Lines to be printed.
#[derive(Debug)]
pub(super) struct Screen {
    text: String,
    width: Option<usize>,
    colours: bool,
}

impl Screen {
    /// Nothing yet; for standard output.
    pub(super) fn new() -> Self {
        Self {
            text: String::new(),
            width: terminal::width(),
            colours: terminal::colours(),
        }
    }

    /// Only this line.
    pub(super) fn sentence(text: &str) -> Self {
        let mut screen = Self::new();
        screen.line(Style::Plain, text);
        screen
    }

    /// Only this table.
    pub(super) fn of(table: &Table) -> Self {
        let mut screen = Self::new();
        screen.table(table);
        screen
    }

    /// One more line.
    pub(super) fn line(&mut self, style: Style, text: &str) {
        let painted = self.paint(style, &clean(text));
        self.text.push_str(&painted);
        self.text.push('\n');
    }

    /// A label and what it is about.
    pub(super) fn field(&mut self, label: &str, style: Style, value: &str) {
        let label = self.paint(Style::Heading, &format!("{label:LABEL$}"));
        let value = self.paint(style, &clean(value));
        self.text.push_str(&label);
        self.text.push_str(&value);
        self.text.push('\n');
    }

    /// A table.
    pub(super) fn table(&mut self, table: &Table) {
        let lines = table.lines(self.width, |style, text| self.paint(style, text));
        self.text.push_str(&lines);
    }

    /// All lines.
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// A clean text with the terminal's codes for its style (ECMA-48, SGR).
    fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Heading => "1",
            Style::Good => "32",
            Style::Warning => "33",
            Style::Bad => "31",
            Style::Faint => "2",
        };
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Columns for a label and the blanks after it.
const LABEL: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(colours: bool) -> Screen {
        Screen {
            text: String::new(),
            width: None,
            colours,
        }
    }

    #[test]
    fn colours_are_ours_and_codes_of_others_are_not() {
        let mut coloured = screen(true);
        coloured.line(Style::Bad, "FAILED\x1b[2J");
        coloured.field("status", Style::Good, "OK\n");
        assert_eq!(
            coloured.finish(),
            "\x1b[31mFAILED?[2J\x1b[0m\n\x1b[1mstatus      \x1b[0m\x1b[32mOK?\x1b[0m\n"
        );
        let mut plain = screen(false);
        plain.line(Style::Bad, "FAILED");
        plain.table(&Table::new(&["A"]));
        assert_eq!(plain.finish(), "FAILED\nA\n");
    }
}
