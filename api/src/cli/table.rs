// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables for people: columns as wide as what is in them. Where the terminal ends, lists are broken at their commas and what
//! is still too long is cut.

use super::screen::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What is left at least of a column that is cut, in columns of the terminal.
const NARROWEST: usize = 6;
/// What is left of a name or a key before lists give way, in columns of the terminal.
const RECOGNISED: usize = 12;
/// Blanks between columns.
const GAP: usize = 2;

/// Rows under headings.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
    /// Columns whose content stands at the right: numbers.
    right: &'static [usize],
    /// The column that holds sentences: they go on in the next line at any blank.
    prose: Option<usize>,
    /// The column whose texts are not ours: a comma in them separates nothing.
    verbatim: Option<usize>,
    /// Columns that are cut last: half an address is none.
    whole: &'static [usize],
}

/// What stands in one place of a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text in a style.
    pub(super) fn styled(style: Style, text: impl Into<String>) -> Self {
        Self {
            text: clean(&text.into()),
            style,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::styled(Style::Plain, text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::styled(Style::Plain, text)
    }
}

/// Control characters, which a program's name may hold and a terminal would obey, are shown as `?`.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

impl Table {
    /// Only the headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        let heading = |&heading: &&str| Cell::styled(Style::Heading, heading);
        Self {
            rows: vec![headings.iter().map(heading).collect()],
            right: &[],
            prose: None,
            verbatim: None,
            whole: &[],
        }
    }

    /// With the content of these columns, counted from 0, at the right.
    pub(super) fn right(self, right: &'static [usize]) -> Self {
        Self { right, ..self }
    }

    /// With these columns, counted from 0, cut last.
    pub(super) fn whole(self, whole: &'static [usize]) -> Self {
        Self { whole, ..self }
    }

    /// With sentences in this column, counted from 0.
    pub(super) fn prose(self, column: usize) -> Self {
        Self {
            prose: Some(column),
            ..self
        }
    }

    /// With texts in this column, counted from 0, that are cut where they are too long, whatever stands in them.
    pub(super) fn verbatim(self, column: usize) -> Self {
        Self {
            verbatim: Some(column),
            ..self
        }
    }

    /// One more row.
    pub(super) fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, none of them wider than `limit` if the columns can be narrowed so far. `paint` gives a padded text its
    /// style.
    pub(super) fn lines(
        &self,
        limit: Option<usize>,
        paint: impl Fn(Style, &str) -> String,
    ) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.width()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(width).collect();
        if let Some(limit) = limit {
            // A list needs its longest item, anything else enough to be recognised.
            let floor = |column: usize| {
                if self.prose == Some(column) {
                    return NARROWEST;
                }
                if self.whole.contains(&column) {
                    return width(column);
                }
                if self.verbatim == Some(column) {
                    return RECOGNISED;
                }
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let lists = cells.filter(|cell| cell.text.contains(LIST));
                let items = lists.flat_map(|cell| cell.text.split_inclusive(LIST));
                let longest = items.map(|item| item.trim_end().width()).max();
                longest.map_or(RECOGNISED, |longest| longest.max(NARROWEST))
            };
            let floors: Vec<usize> = (0..columns).map(floor).collect();
            narrow(&mut widths, &floors, limit);
        }
        let mut out = String::new();
        for row in &self.rows {
            let broken: Vec<Vec<String>> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, &width))| {
                    if self.verbatim == Some(column) {
                        return vec![cut(&cell.text, width)];
                    }
                    let prose = self.prose == Some(column);
                    let after = if prose { " " } else { LIST };
                    break_after(after, &cell.text, width)
                })
                .collect();
            let height = broken.iter().map(Vec::len).max().unwrap_or(0);
            for index in 0..height.max(1) {
                let mut line = String::new();
                // Blanks are put before the next text only: lines do not end in them.
                let mut blanks = 0;
                for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                    let text = broken[column].get(index).map_or("", String::as_str);
                    let padding = width.saturating_sub(text.width());
                    let (before, after) = if self.right.contains(&column) {
                        (padding, 0)
                    } else {
                        (0, padding)
                    };
                    if text.is_empty() {
                        blanks += width + GAP;
                    } else {
                        line.push_str(&" ".repeat(blanks + before));
                        line.push_str(&paint(cell.style, text));
                        blanks = after + GAP;
                    }
                }
                out.push_str(&line);
                out.push('\n');
            }
        }
        out
    }
}

/// Takes from the widest column until all fit, or none can give more: first from those whose content is cut, then from lists,
/// whose items go on in the next line.
fn narrow(widths: &mut [usize], floors: &[usize], limit: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    for floor in [floors, &vec![NARROWEST; widths.len()]] {
        while widths.iter().sum::<usize>() + gaps > limit {
            let above = widths
                .iter_mut()
                .zip(floor)
                .filter(|(width, floor)| **width > **floor);
            match above.max_by_key(|(width, _)| **width) {
                Some((widest, _)) => *widest -= 1,
                None => break,
            }
        }
    }
}

/// A text in lines of at most `width`, broken after `separator`. One item that is too long is cut, or goes on in the next line
/// if the text is a list.
fn break_after(separator: &str, text: &str, width: usize) -> Vec<String> {
    if text.width() <= width {
        return vec![text.to_owned()];
    }
    let is_list = text.contains(LIST);
    let mut lines: Vec<String> = Vec::new();
    for item in text.split_inclusive(separator) {
        let fits = |line: &str| line.width() + item.trim_end().width() <= width;
        match lines.last_mut() {
            Some(line) if fits(line) => line.push_str(item),
            Some(_) | None if is_list => {
                let characters: Vec<char> = item.trim_end().chars().collect();
                let pieces = characters
                    .chunks(width.max(1))
                    .map(|piece| piece.iter().collect());
                lines.extend(pieces);
                if let Some(last) = lines.last_mut() {
                    last.push(' ');
                }
            }
            Some(_) | None => lines.push(item.to_owned()),
        }
    }
    lines
        .iter()
        .map(|line| cut(line.trim_end(), width))
        .collect()
}

/// What stands between the items of a list.
const LIST: &str = ", ";

/// As much of a text as fits, with an ellipsis if that is not all.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1; // of the ellipsis
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(table: &Table, limit: Option<usize>) -> String {
        table.lines(limit, |_style, text| text.to_owned())
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["a", "1"]);
        table.row(["long name\x1b[2J", "22"]);
        assert_eq!(
            plain(&table, None),
            "NAME           N\na              1\nlong name?[2J  22\n"
        );
    }

    #[test]
    fn numbers_stand_at_the_right() {
        let mut table = Table::new(&["N", "NAME"]).right(&[0]);
        table.row(["1", "a"]);
        table.row(["4321", "b"]);
        assert_eq!(plain(&table, None), "   N  NAME\n   1  a\n4321  b\n");
    }

    #[test]
    fn lists_are_broken_and_the_widest_column_is_cut_to_fit() {
        let mut table = Table::new(&["NAME", "ADDRESSES", "N"]);
        table.row(["a", "10.77.0.1/24, fd77::1/64", "1"]);
        table.row(["b", "äöü", "22"]);
        let whole = plain(&table, None);
        assert_eq!(plain(&table, Some(34)), whole);
        assert_eq!(
            plain(&table, Some(24)),
            "NAME  ADDRESSES       N\n\
             a     10.77.0.1/24,   1\n      fd77::1/64\n\
             b     äöü             22\n"
        );
        assert_eq!(
            plain(&table, Some(20)),
            "NAME  ADDRESSES   N\n\
             a     10.77.0.1/  1\n      24,\n      fd77::1/64\n\
             b     äöü         22\n"
        );
        // Too little for anything: what is left can still be read.
        assert_eq!(
            plain(&table, Some(3)),
            "NAME  ADDRE…  N\na     10.77.  1\n      0.1/24\n      ,\n      fd77::\n      1/64\nb     äöü     22\n"
        );
        assert_eq!(plain(&Table::new(&[]), Some(0)), "\n");
    }

    #[test]
    fn what_is_kept_whole_is_cut_after_the_others() {
        let mut table = Table::new(&["KEY", "ENDPOINT"]).whole(&[1]);
        table.row(["kkkkkkkkkkkkkkkkkkkkkkkk", "192.0.2.7:51820"]);
        assert_eq!(
            plain(&table, Some(30)),
            "KEY            ENDPOINT\nkkkkkkkkkkkk…  192.0.2.7:51820\n"
        );
        assert_eq!(
            plain(&table, Some(20)),
            "KEY        ENDPOINT\nkkkkkkkk…  192.0.2.…\n"
        );
    }

    #[test]
    fn what_is_not_ours_stays_on_its_line() {
        let mut table = Table::new(&["ADDRESSES", "COMMAND"]).verbatim(1);
        table.row(["10.77.0.1/24, fd77::1/64", "a, b, and a rather long one"]);
        assert_eq!(
            plain(&table, Some(50)),
            "ADDRESSES                 COMMAND\n10.77.0.1/24, fd77::1/64  a, b, and a rather long…\n"
        );
    }

    #[test]
    fn sentences_are_broken_at_blanks() {
        let mut table = Table::new(&["A", "B"]).prose(1);
        table.row(["a", "one two three, four"]);
        assert_eq!(
            plain(&table, Some(13)),
            "A  B\na  one two\n   three,\n   four\n"
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["漢字漢字漢", "1"]);
        assert_eq!(plain(&table, None), "NAME        N\n漢字漢字漢  1\n");
        assert_eq!(plain(&table, Some(10)), "NAME     N\n漢字漢…  1\n");
    }

    #[test]
    fn styles_are_around_texts_and_not_around_blanks() {
        let mut table = Table::new(&["A", "B"]);
        table.row([Cell::styled(Style::Good, "OK"), Cell::from("x")]);
        let lines = table.lines(None, |style, text| match style {
            Style::Plain => text.to_owned(),
            Style::Heading | Style::Good | Style::Warning | Style::Bad | Style::Faint => {
                format!("<{text}>")
            }
        });
        assert_eq!(lines, "<A>   <B>\n<OK>  x\n");
    }
}
