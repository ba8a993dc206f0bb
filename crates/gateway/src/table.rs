//! Aligned tables on standard output.

use std::fmt::Write as _;

use crate::terminal;

/// The fewest columns for the last cell of a row on a narrow terminal.
const LAST_CELL_MIN: usize = 20;

/// Rows of cells. The last cell of a row may be longer than the terminal is wide; it is then shortened.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a header, which is printed on a terminal only: programs read the rows.
    pub(crate) fn with_header(header: &[&str]) -> Self {
        let rows = if terminal::width().is_some() {
            vec![header.iter().map(|cell| (*cell).to_owned()).collect()]
        } else {
            Vec::new()
        };
        Self { rows }
    }

    pub(crate) fn add(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text, for the width of the terminal if standard output is one.
    pub(crate) fn render(&self) -> String {
        self.render_for(terminal::width())
    }

    fn render_for(&self, width: Option<usize>) -> String {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..count.saturating_sub(1))
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let indent: usize = widths.iter().map(|width| width + 2).sum();
        let last_max = width.map(|width| width.saturating_sub(indent).max(LAST_CELL_MIN));
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                // Writing into a string cannot fail.
                let _ = match widths.get(column) {
                    Some(width) => write!(line, "{cell:width$}  "),
                    None => write!(line, "{}", shortened(cell, last_max)),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// The first line of a text, with at most `chars_max` characters.
fn shortened(text: &str, chars_max: Option<usize>) -> String {
    let line = text.trim().lines().next().unwrap_or_default().trim_end();
    match chars_max {
        Some(max) if line.chars().count() > max => {
            let kept: String = line.chars().take(max.saturating_sub(1)).collect();
            format!("{}…", kept.trim_end())
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_one_fits() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let table = Table {
            rows: vec![
                row(["read", "files", "Reads the file at a path, and more\nthan that"]),
                row(["écrire", "f", ""]),
            ],
        };
        assert_eq!(table.render_for(None), "read    files  Reads the file at a path, and more\nécrire  f\n");
        assert_eq!(table.render_for(Some(40)), "read    files  Reads the file at a path…\nécrire  f\n");
        assert_eq!(table.render_for(Some(3)), "read    files  Reads the file at a…\nécrire  f\n");
    }
}
