//! Repository names, validated once.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// The longest repository name that is accepted, in bytes. Many clients limit host and name together to 255.
pub const MAX_NAME_LENGTH: usize = 255;

/// A repository name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`, at most
/// [`MAX_NAME_LENGTH`] bytes. [distribution-spec, Pulling manifests]
///
/// No component begins with `_`, `.` or `-`, so a name can be laid beside reserved words and never climbs out of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct RepositoryName(Arc<str>);

/// Why a text is not a repository name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("the name is empty")]
    Empty,
    /// Longer than [`MAX_NAME_LENGTH`].
    #[error("the name has {0} bytes, the limit is {MAX_NAME_LENGTH}")]
    TooLong(usize),
    /// A component that the grammar does not allow.
    #[error(
        "the component {0:?} is not lower-case letters and digits, separated inside by one '.', one or two '_', or any number of '-'"
    )]
    Component(String),
}

impl RepositoryName {
    /// Parses and validates a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components between the slashes; at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// `prefix/self`, validated again because the length may now exceed the limit.
    pub fn under(&self, prefix: &str) -> Result<Self, NameError> {
        Self::parse(&format!("{prefix}/{}", self.0))
    }

    /// What follows `prefix/`, or `None` if the name does not begin so or nothing follows.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &str) -> Option<Self> {
        let rest = self.0.strip_prefix(prefix)?.strip_prefix('/')?;
        Some(Self(rest.into()))
    }
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME_LENGTH {
        return Err(NameError::TooLong(text.len()));
    }
    for component in text.split('/') {
        if !is_component(component.as_bytes()) {
            let shown: String = component.chars().take(64).collect();
            return Err(NameError::Component(shown));
        }
    }
    Ok(())
}

/// One path component: runs of alphanumerics with one separator between two of them.
fn is_component(component: &[u8]) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = component;
    loop {
        let run = rest.iter().take_while(|byte| alphanumeric(byte)).count();
        if run == 0 {
            return false;
        }
        rest = &rest[run..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|byte| !alphanumeric(byte)).count();
        let allowed = match &rest[..separator] {
            b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|byte| *byte == b'-'),
        };
        if !allowed {
            return false;
        }
        rest = &rest[separator..];
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for RepositoryName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        check(&text)?;
        Ok(Self(text.into()))
    }
}

impl From<RepositoryName> for String {
    fn from(name: RepositoryName) -> Self {
        name.as_str().to_owned()
    }
}

impl Serialize for RepositoryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Borrow<str> for RepositoryName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_the_grammar_are_accepted() {
        for name in ["a", "library/nginx", "a__b", "a--b", "a---b.c_d/e", "10.0.0.1_5000/x", "docker.io/library/alpine", "0"] {
            assert_eq!(RepositoryName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "a_", "_a", "a___b", "a..b", "a.-b", "..", "a/../b", "a b", "a\0b", "é", ".", "-a",
            "a-", "a._b", "a:b",
        ] {
            assert!(RepositoryName::parse(name).is_err(), "{name:?}");
        }
        assert_eq!(RepositoryName::parse(&"a".repeat(256)), Err(NameError::TooLong(256)));
        assert!(RepositoryName::parse(&"a".repeat(255)).is_ok());
    }

    proptest! {
        #[test]
        fn what_the_grammar_generates_is_a_name(name in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}){0,3}") {
            prop_assert!(RepositoryName::parse(&name).is_ok());
        }

        #[test]
        fn no_text_panics_and_what_is_accepted_is_kept(text in "\\PC{0,40}") {
            if let Ok(name) = RepositoryName::parse(&text) {
                prop_assert_eq!(name.as_str(), text);
            }
        }
    }
}
