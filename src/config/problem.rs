//! What is wrong with a configuration, all of it.

use std::{fmt, io};

/// Everything that is wrong with a configuration, in the order of the file's lines.
///
/// It displays as one line per error, `FILE:LINE: key: what is wrong; what to do`. No value that could be a secret is in it.
#[derive(Debug)]
pub struct ConfigErrors {
    file: String,
    problems: Vec<Problem>,
}

/// Where something is wrong. The order is the order of the report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In the file as a whole, or in the defaults when there is no file.
    Whole,
    /// On a line of the file, counted from one.
    Line(usize),
    /// In an environment variable or an option of the command line, which this names.
    Named(String),
}

/// One thing that is wrong.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// Which problems are still certain when a file is not TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The file is not TOML here.
    Syntax,
    /// Something is there and is wrong.
    Present,
    /// Something is not there; after a syntax error it may only have been lost.
    Absent,
}

impl ConfigErrors {
    pub(super) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|left, right| left.place.cmp(&right.place));
        Self { file: file.to_owned(), problems }
    }

    /// The file itself cannot be read.
    pub(super) fn unreadable(file: &str, error: &io::Error) -> Self {
        let text = match error.kind() {
            io::ErrorKind::InvalidData => "is not UTF-8 text; a configuration is a TOML file".to_owned(),
            io::ErrorKind::NotFound => "there is no such file; name another with --config, or none for the defaults".to_owned(),
            _ => format!("cannot be read: {error}; check the path and its permissions"),
        };
        let problem = Problem { place: Place::Whole, key: String::new(), text, kind: Kind::Present };
        Self { file: file.to_owned(), problems: vec![problem] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            match &problem.place {
                // The variable says which key it sets; another key that it calls for has to be named.
                Place::Named(name) if problem.kind == Kind::Absent => write!(formatter, "{name}: {}", Keyed(problem))?,
                Place::Named(name) => write!(formatter, "{name}: {}", problem.text)?,
                Place::Line(line) => write!(formatter, "{}:{line}: {}", self.file, Keyed(problem))?,
                Place::Whole if self.file.is_empty() => write!(formatter, "{}", Keyed(problem))?,
                Place::Whole => write!(formatter, "{}: {}", self.file, Keyed(problem))?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// `key: text`, or only the text when no key is meant.
struct Keyed<'a>(&'a Problem);

impl fmt::Display for Keyed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.key.is_empty() {
            write!(formatter, "{}: ", self.0.key)?;
        }
        formatter.write_str(&self.0.text)
    }
}
