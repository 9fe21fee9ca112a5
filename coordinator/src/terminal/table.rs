//! Tables of text.

use std::io::{self, Write};

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Columns as wide as their widest cell, two spaces apart. A cell's control characters are escaped.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(columns: &[(&str, Align)]) -> Table {
        let headings = columns.iter().map(|(heading, _)| heading.to_string()).collect();
        Table { columns: columns.iter().map(|(_, align)| *align).collect(), rows: vec![headings] }
    }

    /// A table without headings.
    pub fn without_headings(columns: &[Align]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, which should have a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let cell = |text: String| fanfold_shared::text::one_line(&text, usize::MAX).into_owned();
        self.rows.push(cells.into_iter().map(|text| cell(text.into())).collect());
    }

    /// Writes it; lines have no spaces at their ends.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, align), width) in row.iter().zip(&self.columns).zip(&widths) {
                match align {
                    Align::Left => line += &format!("{cell:<width$}  "),
                    Align::Right => line += &format!("{cell:>width$}  "),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("JOB", Align::Left), ("FAILED", Align::Right), ("DIR", Align::Left)]);
        table.row(["score-1a2b3c4d", "3", "/a"]);
        table.row(["żółw", "1,000,000", "/b\x1b[0m\nc"]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "JOB                FAILED  DIR\nscore-1a2b3c4d          3  /a\nżółw            1,000,000  /b\\x1b[0m\\nc\n"
        );
    }
}
