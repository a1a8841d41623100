//! Figures of several rounds as tables of Markdown.
//!
//! A ratio compares two peers within each round. Where a run had errors the peer has no figures and no ratio at all: a
//! proxy that fails fast must not look fast.

use std::fmt::Write as _;

use crate::error::BenchError;
use crate::stats::Spread;

/// What a figure is.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name and unit.
    pub title: &'static str,
    /// How many decimals to print.
    pub decimals: usize,
    /// Whether a ratio of it means something.
    pub compared: bool,
}

impl Column {
    /// A figure worth comparing.
    #[must_use]
    pub const fn compared(title: &'static str, decimals: usize) -> Self {
        Self { title, decimals, compared: true }
    }

    /// A figure that stands for itself.
    #[must_use]
    pub const fn alone(title: &'static str, decimals: usize) -> Self {
        Self { title, decimals, compared: false }
    }
}

/// What one run gave: a figure for each column.
pub type Figures = Vec<Option<f64>>;
/// The same, or what went wrong.
pub type Cell = Result<Figures, String>;

/// All runs of one peer.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whose.
    pub name: String,
    /// One for each round.
    pub cells: Vec<Cell>,
}

impl Row {
    /// A row without runs.
    #[must_use]
    pub fn new(name: &impl ToString) -> Self {
        Self { name: name.to_string(), cells: Vec::new() }
    }

    /// Adds a run, and says at once if something went wrong.
    pub fn push(&mut self, run: Result<Figures, BenchError>) {
        self.cells.push(run.map_err(|error| {
            eprintln!("  {}: {error}", self.name);
            error.to_string()
        }));
    }

    /// The first thing that went wrong.
    fn error(&self) -> Option<&str> {
        let error = self.cells.iter().find_map(|cell| cell.as_ref().err().map(String::as_str));
        if self.cells.is_empty() { Some("it did not run") } else { error }
    }

    /// The figures of a column, one for each round; `None` if a run had errors.
    fn figures(&self, column: usize) -> Option<Vec<Option<f64>>> {
        self.cells.iter().map(|cell| Some(cell.as_ref().ok()?.get(column).copied().flatten())).collect()
    }
}

/// One table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// How the figures came about.
    pub note: String,
    /// What is in the cells.
    pub columns: Vec<Column>,
    /// The peers.
    pub rows: Vec<Row>,
}

impl Table {
    /// Whether every run was without errors.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| row.error().is_none())
    }

    /// The figures and, below them, the ratios.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n{}\n\n", self.title, self.note);
        let rounds = self.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        self.line(&mut text, "", |column| Some(column.title.to_owned()));
        self.line(&mut text, "---", |_| Some("---:".to_owned()));
        for row in &self.rows {
            self.figures(&mut text, row);
        }
        let ratios = self.ratios();
        if !ratios.is_empty() {
            let _ = write!(text, "\nRatios within a round, median (least-greatest) of {rounds}:\n\n");
            self.compared_line(&mut text, "", |_, column| column.title.to_owned());
            self.compared_line(&mut text, "---", |_, _| "---:".to_owned());
            text.push_str(&ratios);
        }
        text
    }

    fn figures(&self, text: &mut String, row: &Row) {
        if let Some(error) = row.error() {
            let _ = writeln!(
                text,
                "| {} | no figures: {} |{}",
                row.name,
                one_line(error),
                " |".repeat(self.columns.len() - 1)
            );
            return;
        }
        let mut index = 0;
        self.line(text, &row.name, |column| {
            let spread =
                row.figures(index).and_then(|figures| Spread::of(figures.into_iter().collect::<Option<Vec<_>>>()?));
            index += 1;
            spread.map(|spread| shown(spread, column.decimals))
        });
    }

    /// Lines of ratios: ours to each of the others, then of the others to the first of them.
    fn ratios(&self) -> String {
        let mut text = String::new();
        let Some((ours, others)) = self.rows.split_first() else { return text };
        let pairs = others.iter().map(|other| (ours, other));
        let rest = others.iter().skip(1).filter_map(|other| Some((other, others.first()?)));
        for (above, below) in pairs.chain(rest) {
            if above.error().is_some() || below.error().is_some() {
                continue;
            }
            self.compared_line(&mut text, &format!("{} / {}", above.name, below.name), |index, _| {
                let ratios = above.figures(index).zip(below.figures(index));
                let spread = ratios.and_then(|(ours, theirs)| Spread::of_ratios(&ours, &theirs));
                spread.map_or_else(|| "-".to_owned(), |spread| shown(spread, 2))
            });
        }
        text
    }

    fn line(&self, text: &mut String, name: &str, mut cell: impl FnMut(&Column) -> Option<String>) {
        let _ = write!(text, "| {name} |");
        for column in &self.columns {
            let _ = write!(text, " {} |", cell(column).unwrap_or_else(|| "-".to_owned()));
        }
        text.push('\n');
    }

    fn compared_line(&self, text: &mut String, name: &str, cell: impl Fn(usize, &Column) -> String) {
        let _ = write!(text, "| {name} |");
        for (index, column) in self.columns.iter().enumerate().filter(|(_, column)| column.compared) {
            let _ = write!(text, " {} |", cell(index, column));
        }
        text.push('\n');
    }
}

fn shown(spread: Spread, decimals: usize) -> String {
    let Spread { min, median, max } = spread;
    if format!("{min:.decimals$}") == format!("{max:.decimals$}") {
        return format!("{median:.decimals$}");
    }
    format!("{median:.decimals$} ({min:.decimals$}-{max:.decimals$})")
}

/// Fit for a cell of a table.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ours: Cell) -> Table {
        let row = |name: &str, cells| Row { name: name.to_owned(), cells };
        Table {
            title: "Small".to_owned(),
            note: "Note.".to_owned(),
            columns: vec![Column::compared("req/s", 0), Column::alone("lost", 0)],
            rows: vec![
                row("ours", vec![ours, Ok(vec![Some(300.0), Some(0.0)])]),
                row("theirs", vec![Ok(vec![Some(100.0), Some(0.0)]), Ok(vec![Some(100.0), Some(0.0)])]),
            ],
        }
    }

    #[test]
    fn figures_and_ratios_have_median_least_and_greatest() {
        let table = table(Ok(vec![Some(100.0), Some(0.0)]));
        let text = table.markdown();
        assert!(table.is_clean());
        for line in ["| ours | 200 (100-300) | 0 |", "| theirs | 100 | 0 |", "| ours / theirs | 2.00 (1.00-3.00) |"] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_run_with_errors_gives_neither_figure_nor_ratio() {
        let table = table(Err("5 other\nthan 2xx".to_owned()));
        let text = table.markdown();
        assert!(!table.is_clean());
        assert!(text.contains("| ours | no figures: 5 other than 2xx | |"), "{text}");
        assert!(!text.contains("ours / theirs") && !text.contains("Ratios"), "{text}");
    }
}
