//! The names of target tags: text with `{tag}`, `{date}`, `{date:%Y-%m-%d}` and `{digest:12}` in it.

use std::fmt;
use std::str::FromStr;

use jiff::Zoned;
use oci::{Digest, Tag};

/// How `{date}` is written.
const DATE: &str = "%Y%m%d";

/// What a target tag is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Text(String),
    Tag,
    /// In the form of `strftime`.
    Date(String),
    /// So many of the first letters of the hexadecimal digest.
    Digest(usize),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its other.
    #[error("has a brace that is not closed, or closed and not opened")]
    Brace,
    /// A word in braces that means nothing.
    #[error("has {{{0}}}, which is not known: there are {{tag}}, {{date}}, {{date:%Y-%m-%d}} and {{digest:12}}")]
    Word(String),
    /// A form of a date that cannot be written, or not as a tag.
    #[error("has a date of the form {0:?}, which does not make a date of letters, digits, points, dashes and underscores")]
    Date(String),
    /// A number of letters that a digest does not have.
    #[error("has {{digest:{0}}}: write a number from 7 to 64")]
    Digest(String),
    /// Text that cannot be in a tag.
    #[error("has {0:?}, which cannot be in a tag")]
    Text(String),
    /// Neither text nor anything else.
    #[error("is empty")]
    Empty,
}

impl Template {
    /// Does it give another tag each time, so that what stood there stays? Those with a date or a digest do.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Date(_) | Part::Digest(_)))
    }

    /// Does it name the source tag, or the digest, so that two source tags never meet?
    #[must_use]
    pub fn tells_apart(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Tag | Part::Digest(_)))
    }

    /// The tag of a run that began at `date`. The error is of a tag that is too long or begins with a point or a dash.
    pub fn render(&self, source: &Tag, date: &Zoned, digest: &Digest) -> Result<Tag, oci::TagError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Tag => text.push_str(source.as_str()),
                Part::Date(form) => text.push_str(&date.strftime(form).to_string()),
                Part::Digest(length) => text.push_str(&digest.hex()[..*length]),
            }
        }
        Tag::parse(&text)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some(open) = rest.find(['{', '}']) else {
                parts.push(fixed(rest)?);
                break;
            };
            if open > 0 {
                parts.push(fixed(&rest[..open])?);
            }
            let inner = rest[open..].strip_prefix('{').ok_or(TemplateError::Brace)?;
            let (word, after) = inner.split_once('}').ok_or(TemplateError::Brace)?;
            parts.push(word_of(word)?);
            rest = after;
        }
        if parts.is_empty() { Err(TemplateError::Empty) } else { Ok(Self { text: text.to_owned(), parts }) }
    }
}

fn fixed(text: &str) -> Result<Part, TemplateError> {
    if text.chars().all(is_of_tag) { Ok(Part::Text(text.to_owned())) } else { Err(TemplateError::Text(text.to_owned())) }
}

fn word_of(word: &str) -> Result<Part, TemplateError> {
    match word.split_once(':').unwrap_or((word, "")) {
        ("tag", "") if !word.contains(':') => Ok(Part::Tag),
        ("date", "") if !word.contains(':') => Ok(Part::Date(DATE.to_owned())),
        ("date", form) => date(form),
        ("digest", length) => match length.parse() {
            Ok(length @ 7..=64) => Ok(Part::Digest(length)),
            _ => Err(TemplateError::Digest(length.to_owned())),
        },
        _ => Err(TemplateError::Word(word.to_owned())),
    }
}

/// A form is tried out, since what is wrong with it shows only when a date is written.
fn date(form: &str) -> Result<Part, TemplateError> {
    use std::fmt::Write;
    let refused = || TemplateError::Date(form.to_owned());
    // Some forms write the zone, which is not a word everywhere.
    let zones = ["UTC", "Europe/Berlin", "Asia/Kathmandu"];
    let zones = zones.into_iter().filter_map(|zone| Zoned::default().in_tz(zone).ok());
    for moment in zones {
        let mut text = String::new();
        write!(text, "{}", moment.strftime(form)).map_err(|_| refused())?;
        if text.is_empty() || !text.chars().all(is_of_tag) {
            return Err(refused());
        }
    }
    let written = |day: i8, month: i8, year: i16| jiff::civil::date(year, month, day).strftime(form).to_string();
    // A date that is the same on days a year apart is none.
    if written(1, 1, 2026) == written(9, 3, 2027) { Err(refused()) } else { Ok(Part::Date(form.to_owned())) }
}

/// [distribution-spec, Pulling manifests: the grammar of tags]
fn is_of_tag(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-')
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn rendered(template: &str) -> String {
        let digest = Digest::parse(&format!("sha256:{}", "ab".repeat(32))).unwrap();
        let date: Zoned = "2026-02-16T02:00:00+00:00[UTC]".parse().unwrap();
        let tag = Tag::parse("beta").unwrap();
        template.parse::<Template>().unwrap().render(&tag, &date, &digest).unwrap().to_string()
    }

    #[test]
    fn every_word_has_its_value() {
        assert_eq!(rendered("{tag}"), "beta");
        assert_eq!(rendered("{tag}-{date}"), "beta-20260216");
        assert_eq!(rendered("{date}"), "20260216");
        assert_eq!(rendered("v_{date:%Y-%m-%d}.{digest:12}"), "v_2026-02-16.abababababab");
        assert_eq!(rendered("fixed"), "fixed");
    }

    #[test]
    fn what_cannot_be_a_tag_is_refused() {
        for (text, expected) in [
            ("", TemplateError::Empty),
            ("{tag", TemplateError::Brace),
            ("tag}", TemplateError::Brace),
            ("{}", TemplateError::Word(String::new())),
            ("{Tag}", TemplateError::Word("Tag".to_owned())),
            ("{tag:x}", TemplateError::Word("tag:x".to_owned())),
            ("a b", TemplateError::Text("a b".to_owned())),
            ("{digest}", TemplateError::Digest(String::new())),
            ("{digest:65}", TemplateError::Digest("65".to_owned())),
            ("{date:%H:%M}", TemplateError::Date("%H:%M".to_owned())),
            ("{date:}", TemplateError::Date(String::new())),
            ("{date:%}", TemplateError::Date("%".to_owned())),
            ("{date:year}", TemplateError::Date("year".to_owned())),
            ("{date:%Q}", TemplateError::Date("%Q".to_owned())),
            ("{date:%z}", TemplateError::Date("%z".to_owned())),
        ] {
            assert_eq!(text.parse::<Template>(), Err(expected), "{text:?}");
        }
        let template: Template = "-{tag}".parse().unwrap();
        let digest = Digest::parse(&format!("sha256:{}", "ab".repeat(32))).unwrap();
        assert!(template.render(&Tag::parse("x").unwrap(), &Zoned::default(), &digest).is_err());
    }

    #[test]
    fn dated_ones_and_those_that_tell_apart_are_known() {
        let template = |text: &str| text.parse::<Template>().unwrap();
        assert!(template("{date}").is_dated() && !template("{date}").tells_apart());
        assert!(!template("{tag}").is_dated() && template("{tag}").tells_apart());
        assert!(template("{digest:12}").is_dated() && template("{digest:12}").tells_apart());
    }
}
