//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::server::Kind;

/// Measures Roadstead beside other registries and nginx, and holds it against its goals.
#[derive(Debug, Parser)]
#[command(name = "benches/peers/run")]
pub(crate) struct Options {
    /// Few and short rounds, to see whether everything runs. Its figures are worth little.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only what these goals need, such as G3,G5. `zb` is the load tool of zot.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Rounds of each case; 9 unless it is quick.
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Whom to compare with.
    #[arg(long, value_delimiter = ',', default_value = "v2deb,v3,zot,nginx", value_parser = peer)]
    pub(crate) peers: Vec<Kind>,
    /// A roadstead that is built already.
    #[arg(long)]
    pub(crate) server: PathBuf,
    /// Where the other programs are.
    #[arg(long)]
    pub(crate) tools: PathBuf,
    /// Where content, logs and raw figures go: a folder on a disk.
    #[arg(long)]
    pub(crate) work: PathBuf,
    /// Where the page is written that shows the figures.
    #[arg(long)]
    pub(crate) page: PathBuf,
}

impl Options {
    /// Whether any of these is wanted.
    pub(crate) fn wants(&self, goals: &[&str]) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| goals.iter().any(|goal| goal.eq_ignore_ascii_case(wanted)))
    }

    /// How many rounds a case has.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 9 })
    }
}

fn peer(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| *kind != Kind::Roadstead && kind.key() == text);
    found.ok_or_else(|| "is not one of v2deb, v3, zot, nginx".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        let fixed = ["run", "--server", "s", "--tools", "t", "--work", "w", "--page", "p"];
        Options::try_parse_from([&fixed, arguments].concat())
    }

    #[test]
    fn everything_is_wanted_unless_something_is_named() {
        assert!(parse(&[]).unwrap().wants(&["G1"]));
        let some = parse(&["--only", "g3,G5"]).unwrap();
        assert!(some.wants(&["G3"]) && some.wants(&["G4", "G5"]) && !some.wants(&["G1"]));
    }

    #[test]
    fn peers_are_named_in_a_list_and_an_unknown_one_is_refused() {
        assert_eq!(parse(&["--peers", "v3,nginx"]).unwrap().peers, [Kind::V3, Kind::Nginx]);
        assert!(parse(&["--peers", "harbor"]).is_err());
        assert!(parse(&["--peers", "roadstead"]).is_err(), "it is always there");
    }
}
