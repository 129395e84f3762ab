//! The page that shows what was measured.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use anyhow::Result;

use crate::goal::{Bound, Criterion, Verdict, Weight};
use crate::samples::{Outcome, Table, shown};
use crate::server::Kind;
use crate::stage::Stage;

const HEADER: &str = include_str!("header.md");

/// The tables and the verdicts of a case.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) outcome: Outcome,
}

/// The page.
pub(crate) struct Page {
    facts: Vec<(&'static str, String)>,
    versions: Vec<(Kind, Option<String>)>,
    sections: Vec<Section>,
}

impl Page {
    /// A page about a machine and some programs.
    pub(crate) fn new(facts: Vec<(&'static str, String)>, versions: Vec<(Kind, Option<String>)>) -> Self {
        Self { facts, versions, sections: Vec::new() }
    }

    /// Adds a case and prints its tables.
    pub(crate) fn add(&mut self, section: Section) {
        let tables = section.outcome.tables.iter().map(Table::markdown).collect::<Vec<_>>().join("\n");
        print(&format!("{tables}\n{}", verdicts(section.outcome.criteria.iter())));
        self.sections.push(section);
    }

    /// All that was judged.
    pub(crate) fn criteria(&self) -> impl Iterator<Item = &Criterion> {
        self.sections.iter().flat_map(|section| &section.outcome.criteria)
    }

    /// Prints the verdicts and writes the page: where it is told to if the run was whole, else beside the raw figures.
    pub(crate) fn finish(&self, stage: &Stage) -> Result<()> {
        let options = &stage.options;
        let whole = !options.quick && options.only.is_empty();
        let path = if whole { options.page.clone() } else { options.work.join("performance.md") };
        fs::write(&path, self.text())?;
        print(&format!("\n{}", verdicts(self.criteria())));
        eprintln!("written: {}; raw figures: {}/*.json", path.display(), options.work.display());
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        let _ = write!(text, "\n## Goals\n\n{}", verdicts(self.criteria()));
        let mut title = "";
        for section in &self.sections {
            if section.title != title {
                title = section.title;
                let _ = write!(text, "\n## {title}\n");
            }
            for table in &section.outcome.tables {
                let _ = write!(text, "\n{}", table.markdown());
            }
        }
        let _ = write!(text, "\n## Where and what\n\n{}", self.about());
        text
    }

    fn about(&self) -> String {
        let mut rows: Vec<Vec<String>> = self.facts.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]).collect();
        for (kind, version) in &self.versions {
            let version = version.clone().unwrap_or_else(|| "not at hand, not measured".to_owned());
            rows.push(vec![kind.title().replace('*', ""), version]);
        }
        Table { title: String::new(), head: vec!["what".to_owned(), "is".to_owned()], rows }.markdown()
    }
}

/// Prints to standard output.
fn print(text: &str) {
    // A reader that has gone away is no reason to lose an hour of figures.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The verdicts as a table, by the numbers of their goals.
fn verdicts<'a>(criteria: impl Iterator<Item = &'a Criterion>) -> String {
    let mut criteria: Vec<&Criterion> = criteria.collect();
    if criteria.is_empty() {
        return String::new();
    }
    criteria.sort_by_key(|criterion| criterion.goal[1..].parse::<u32>().unwrap_or(u32::MAX));
    let rows = criteria.into_iter().map(row).collect();
    let head = ["goal", "what", "goal is", "stretch", "measured (IQR)", "verdict"].map(str::to_owned).to_vec();
    Table { title: String::new(), head, rows }.markdown()
}

fn row(criterion: &Criterion) -> Vec<String> {
    let unit = if criterion.unit.is_empty() { String::new() } else { format!(" {}", criterion.unit) };
    let bound = |bound: Bound| match bound {
        Bound::AtMost(most) => format!("≤ {most}{unit}"),
        Bound::AtLeast(least) => format!("≥ {least}{unit}"),
    };
    let measured = criterion.spread().map_or_else(
        || "–".to_owned(),
        |found| format!("{}{unit} ({}–{})", shown(found.median), shown(found.low), shown(found.high)),
    );
    let weight = if criterion.weight == Weight::Held { ", by the clock" } else { "" };
    vec![
        criterion.goal.to_owned(),
        format!("{}{weight}", criterion.what),
        if criterion.weight == Weight::Wish { String::new() } else { bound(criterion.bound) },
        criterion.stretch.map(bound).unwrap_or_default(),
        measured,
        match criterion.verdict() {
            Verdict::Stretch => "**stretch**",
            Verdict::Met => "met",
            Verdict::Slack => "missed, within twice the slack",
            Verdict::Missed => "**MISSED**",
            Verdict::Short => "not reached",
            Verdict::Open => "not measured",
        }
        .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::Bound::AtMost;

    #[test]
    fn verdicts_are_in_the_order_of_the_goals() {
        let of = |goal, value| Criterion::must(goal, "CPU", AtMost(1.0), vec![value]);
        let criteria = [of("G10", 2.0), of("G3", 0.5)];
        let text = verdicts(criteria.iter());
        assert!(text.find("| G3 | CPU | ≤ 1 |  | 0.500 (0.500–0.500) | met |") < text.find("| G10 | CPU | ≤ 1 |"), "{text}");
        assert!(text.contains("**MISSED**"), "{text}");
    }

    #[test]
    fn a_program_that_is_missing_is_told_of() {
        let page = Page::new(vec![("kernel", "Linux".to_owned())], vec![(Kind::Zot, None)]);
        let text = page.text();
        assert!(text.starts_with("# Performance\n") && text.contains("| zot | not at hand, not measured |"), "{text}");
    }
}
