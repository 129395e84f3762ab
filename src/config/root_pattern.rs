//! Which names the default upstream answers at the root.

use std::fmt;
use std::str::FromStr;

/// A pattern for repository names: `*` stands for any part of one component, `**` as a component stands for one or more
/// whole ones. `library/**` matches `library/nginx` and not `library`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPattern(String);

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing at all, or nothing between two slashes.
    #[error("has an empty component; write names such as `library/**`, without a slash at either end")]
    Empty,
    /// A letter that no repository name has.
    #[error("has {0:?}, which is in no repository name; use lower-case letters, digits, '.', '_', '-', '/' and '*'")]
    Letter(char),
    /// `**` as a part of a component.
    #[error("has `**` beside other letters; `**` stands alone between slashes, `*` stands for a part of a component")]
    Crossing,
}

impl RootPattern {
    /// Parses and validates a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let known = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "._-*/".contains(letter);
        if let Some(letter) = text.chars().find(|letter| !known(*letter)) {
            return Err(PatternError::Letter(letter));
        }
        for component in text.split('/') {
            if component.is_empty() {
                return Err(PatternError::Empty);
            }
            if component != "**" && component.contains("**") {
                return Err(PatternError::Crossing);
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Docker's official images, which have no owner in their names.
    pub(super) fn library() -> Self {
        Self("library/**".to_owned())
    }

    /// Whether `name`, without an upstream's prefix, is one of those that are meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        // `reached[n]`: the first n components are matched by the pattern up to here. Clients choose the names, so the time
        // must not explode for any of them.
        let components: Vec<&str> = name.split('/').collect();
        let mut reached = vec![false; components.len() + 1];
        reached[0] = true;
        for wanted in self.0.split('/') {
            let mut next = vec![false; components.len() + 1];
            for (index, component) in components.iter().enumerate() {
                next[index + 1] = if wanted == "**" {
                    reached[index] || next[index]
                } else {
                    reached[index] && component_matches(wanted.as_bytes(), component.as_bytes())
                };
            }
            reached = next;
        }
        reached[components.len()]
    }
}

impl FromStr for RootPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl fmt::Display for RootPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Matches one component; on a mismatch the last `*` takes one letter more.
fn component_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while position < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, position));
            at += 1;
        } else if pattern.get(at) == Some(&text[position]) {
            at += 1;
            position += 1;
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            at = after + 1;
            position = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        RootPattern::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn two_stars_stand_for_one_or_more_components() {
        assert!(matches("library/**", "library/nginx"));
        assert!(matches("library/**", "library/a/b/c"));
        assert!(!matches("library/**", "library"));
        assert!(!matches("library/**", "library2/nginx"));
        assert!(!matches("library/**", "x/library/nginx"));
        assert!(matches("**", "nginx"));
        assert!(matches("**", "a/b/c"));
        assert!(matches("**/app", "a/b/app"));
        assert!(!matches("**/app", "app"));
        assert!(matches("a/**/z", "a/b/c/z"));
        assert!(!matches("a/**/z", "a/z"));
    }

    #[test]
    fn one_star_stays_in_its_component() {
        assert!(matches("library/*", "library/nginx"));
        assert!(!matches("library/*", "library/a/b"));
        assert!(matches("library/ng*", "library/nginx"));
        assert!(matches("*/nginx", "bitnami/nginx"));
        assert!(matches("team-*/*-app", "team-blue/shop-app"));
        assert!(!matches("team-*/*-app", "team-blue/shop"));
        assert!(matches("a*b*c", "axbxbxc"));
        assert!(!matches("*", "a/b"));
    }

    #[test]
    fn a_pattern_without_stars_is_a_name() {
        assert!(matches("library/nginx", "library/nginx"));
        assert!(!matches("library/nginx", "library/nginx2"));
        assert!(!matches("library/nginx", "library/nginx/x"));
    }

    #[test]
    fn many_stars_take_no_long_time() {
        let name = vec!["a"; 120].join("/");
        assert!(!matches(&format!("{}/b", vec!["**"; 60].join("/")), &name));
        assert!(!matches(&format!("{}b", "*a".repeat(60)), &"a".repeat(250)));
    }

    #[test]
    fn what_no_name_can_be_is_refused() {
        assert_eq!(RootPattern::parse(""), Err(PatternError::Empty));
        assert_eq!(RootPattern::parse("library/"), Err(PatternError::Empty));
        assert_eq!(RootPattern::parse("/library"), Err(PatternError::Empty));
        assert_eq!(RootPattern::parse("Library/*"), Err(PatternError::Letter('L')));
        assert_eq!(RootPattern::parse("library/?"), Err(PatternError::Letter('?')));
        assert_eq!(RootPattern::parse("library/a**"), Err(PatternError::Crossing));
        assert_eq!(RootPattern::parse("***"), Err(PatternError::Crossing));
    }
}
