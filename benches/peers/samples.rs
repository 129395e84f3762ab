//! What was measured, round by round, and the tables that show it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::goal::Criterion;
use crate::server::Kind;
use crate::stats::{ratios, spread};

/// Values of several servers: for each a list for each thing that was measured, in the order of the rounds.
#[derive(Default)]
pub(crate) struct Samples {
    values: BTreeMap<Kind, BTreeMap<&'static str, Vec<f64>>>,
}

impl Samples {
    /// Adds a round's value.
    pub(crate) fn push(&mut self, kind: Kind, what: &'static str, value: f64) {
        self.values.entry(kind).or_default().entry(what).or_default().push(value);
    }

    /// A server's values; none if it was not measured.
    pub(crate) fn of(&self, kind: Kind, what: &str) -> &[f64] {
        self.values.get(&kind).and_then(|values| values.get(what)).map_or(&[], Vec::as_slice)
    }

    /// One server's values over another's, round by round.
    pub(crate) fn ratio(&self, above: Kind, below: Kind, what: &str) -> Vec<f64> {
        ratios(self.of(above, what), self.of(below, what))
    }

    /// Roadstead's values over another's.
    pub(crate) fn ours_over(&self, other: Kind, what: &str) -> Vec<f64> {
        self.ratio(Kind::Roadstead, other, what)
    }

    /// Another's values over Roadstead's.
    pub(crate) fn over_ours(&self, other: Kind, what: &str) -> Vec<f64> {
        self.ratio(other, Kind::Roadstead, what)
    }

    /// The raw figures.
    pub(crate) fn json(&self) -> Value {
        self.values.iter().map(|(kind, values)| (kind.key().to_owned(), json!(values))).collect::<serde_json::Map<_, _>>().into()
    }

    /// A table with a row for each server, and as its last column how much more of something each uses than Roadstead.
    pub(crate) fn table(&self, title: impl Into<String>, columns: &[Column], compared: (&str, &str)) -> Table {
        let (what, label) = compared;
        let mut head = vec!["server".to_owned()];
        head.extend(columns.iter().map(|column| column.title.to_owned()));
        head.push(format!("{label} ÷ ours (IQR)"));
        let mut rows = Vec::new();
        for kind in self.values.keys() {
            let mut row = vec![kind.title().to_owned()];
            row.extend(
                columns.iter().map(|column| {
                    spread(self.of(*kind, column.what)).map_or_else(|| "–".to_owned(), |found| shown(found.median))
                }),
            );
            row.push(if *kind == Kind::Roadstead { "1".to_owned() } else { compared_with(&self.over_ours(*kind, what)) });
            rows.push(row);
        }
        Table { title: title.into(), head, rows }
    }
}

/// A median with its quartiles.
fn compared_with(values: &[f64]) -> String {
    match spread(values) {
        Some(found) => format!("**{}** ({}–{})", shown(found.median), shown(found.low), shown(found.high)),
        None => "–".to_owned(),
    }
}

/// A column of a table.
pub(crate) struct Column {
    what: &'static str,
    title: &'static str,
}

/// A column that shows the medians of something.
pub(crate) const fn column(what: &'static str, title: &'static str) -> Column {
    Column { what, title }
}

/// A table of the page.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = if self.title.is_empty() { String::new() } else { format!("{}\n\n", self.title) };
        text += &line(&self.head);
        text += &line(&vec!["---".to_owned(); self.head.len()]);
        text.extend(self.rows.iter().map(|row| line(row)));
        text
    }
}

/// What a case came to.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) tables: Vec<Table>,
    pub(crate) criteria: Vec<Criterion>,
    /// The raw figures, under a name for each measurement.
    pub(crate) raw: serde_json::Map<String, Value>,
}

impl Outcome {
    /// Adds the table and the raw figures of one measurement.
    pub(crate) fn add(&mut self, name: &str, samples: &Samples, table: Table) {
        self.tables.push(table);
        self.raw.insert(name.to_owned(), samples.json());
    }
}

/// A number with three figures that count, and thousands whole.
pub(crate) fn shown(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    if decimals > 0 || digits.len() < 5 {
        return text;
    }
    let groups: Vec<String> =
        digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    format!("{sign}{}", groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_shown_with_the_figures_that_count() {
        let shown: Vec<String> = [0.0, 0.01234, 0.1234, 1.234, 12.34, 123.4, 1234.0, 123_456.7, -1.5].map(shown).to_vec();
        assert_eq!(shown, ["0", "0.0123", "0.123", "1.23", "12.3", "123", "1234", "123,457", "-1.50"]);
    }

    #[test]
    fn the_last_column_compares_round_by_round() {
        let mut samples = Samples::default();
        for (ours, theirs) in [(1.0, 20.0), (2.0, 40.0), (1.0, 22.0)] {
            samples.push(Kind::Roadstead, "cpu", ours);
            samples.push(Kind::V3, "cpu", theirs);
        }
        let table = samples.table("CPU", &[column("cpu", "CPU-s")], ("cpu", "CPU"));
        assert_eq!(table.rows[0], ["**Roadstead**", "1.00", "1"]);
        assert_eq!(table.rows[1], ["distribution v3", "22.0", "**20.0** (20.0–21.0)"]);
        assert!(
            table.markdown().starts_with("CPU\n\n| server | CPU-s | CPU ÷ ours (IQR) |\n| --- | --- | --- |\n| **Roadstead**")
        );
    }

    #[test]
    fn a_server_that_was_not_measured_has_no_values() {
        assert!(Samples::default().over_ours(Kind::Zot, "cpu").is_empty());
    }
}
