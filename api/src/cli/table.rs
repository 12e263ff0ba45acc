// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables for people: columns as wide as what is in them, cut where the terminal ends.

/// What is left at least of a column that is cut, in characters.
const NARROWEST: usize = 6;
/// Blanks between columns.
const GAP: usize = 2;

/// Rows under headings.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Only the headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()],
        }
    }

    /// One more row. Control characters, which a program's name may hold, are shown as `?`.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let clean = |cell: String| {
            cell.chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .collect()
        };
        self.rows.push(cells.into_iter().map(clean).collect());
    }
}

impl Table {
    /// The lines, none of them longer than `limit` characters if the columns can be cut so far: the widest one is, with
    /// an ellipsis, until all fit.
    pub(super) fn lines(&self, limit: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(width).collect();
        if let Some(limit) = limit {
            narrow(&mut widths, limit);
        }
        let mut lines = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                let cell = cut(cell, width);
                line.push_str(&format!("{cell:width$}{:GAP$}", ""));
            }
            lines.push_str(line.trim_end());
            lines.push('\n');
        }
        lines
    }
}

/// Takes from the widest column until all fit, or none can give more.
fn narrow(widths: &mut [usize], limit: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > limit {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            Some(_) | None => return,
        }
    }
}

/// At most `width` characters of a cell.
fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let kept = cell.chars().take(width.saturating_sub(1));
    kept.chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        table.row(["long name\x1b[2J".to_owned(), "22".to_owned()]);
        assert_eq!(
            table.lines(None),
            "NAME           N\na              1\nlong name?[2J  22\n"
        );
    }
    #[test]
    fn the_widest_column_is_cut_to_fit() {
        let mut table = Table::new(&["NAME", "ADDRESSES", "N"]);
        table.row(["a", "10.77.0.1/24, fd77::1/64", "1"].map(str::to_owned));
        table.row(["b", "äöü", "22"].map(str::to_owned));
        let whole = table.lines(None);
        assert_eq!(table.lines(Some(34)), whole);
        assert_eq!(
            table.lines(Some(20)),
            "NAME  ADDRESSES   N\na     10.77.0.1…  1\nb     äöü         22\n"
        );
        // Too little for anything: what is left can still be read.
        assert_eq!(
            table.lines(Some(3)),
            "NAME  ADDRE…  N\na     10.77…  1\nb     äöü     22\n"
        );
        assert_eq!(Table::new(&[]).lines(Some(0)), "\n");
    }
}
