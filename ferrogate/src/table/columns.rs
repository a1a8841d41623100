//! Aligns the cells of rows.

/// Two blanks between columns; the last cell of a row is not padded.
const GAP: usize = 2;

/// Each row as one line, every column as wide as its widest cell.
pub(super) fn columns(rows: Vec<Vec<String>>) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..count).map(|column| width(column).unwrap_or(0) + GAP).collect();
    let line = |row: Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.concat().trim_end().to_owned()
    };
    rows.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bb", "c"], ["äää", "", "d"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(rows.to_vec()), ["a    bb  c", "äää      d"]);
    }
}
