//! Tags, and references: a tag or a digest.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::digest::{Digest, DigestError};
use crate::error::Error;

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. [distribution-spec, Pulling manifests]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Tag(Arc<str>);

/// The text is not a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a tag: one letter, digit or '_', then at most 127 letters, digits, '_', '.' or '-'")]
pub struct TagError(String);

impl Tag {
    /// Parses and validates a tag.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let bytes = text.as_bytes();
        let valid = (1..=128).contains(&bytes.len())
            && (bytes[0].is_ascii_alphanumeric() || bytes[0] == b'_')
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if valid { Ok(Self(text.into())) } else { Err(TagError(text.chars().take(140).collect())) }
    }

    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag under which clients without a referrers API list what refers to `subject`: `<algorithm>-<hex>`, the algorithm
    /// cut to 32 and the hex to 64 characters. [distribution-spec, Unavailable referrers API]
    #[must_use]
    pub fn referrers_fallback(subject: &Digest) -> Self {
        let hex = &subject.hex()[..subject.hex().len().min(64)];
        Self(format!("{}-{hex}", subject.algorithm()).into())
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Tag {
    type Error = TagError;

    fn try_from(text: String) -> Result<Self, TagError> {
        Self::parse(&text)
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.as_str().to_owned()
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By a name that can move.
    Tag(Tag),
    /// By its content.
    Digest(Digest),
}

impl Reference {
    /// A text with a `:` is a digest, any other a tag.
    ///
    /// A malformed digest is `DIGEST_INVALID`; a malformed tag `MANIFEST_INVALID`, the nearest code that the specification has.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.contains(':') {
            let digest = Digest::parse(text).map_err(|cause: DigestError| Error::DigestInvalid { reason: cause.to_string() })?;
            Ok(Self::Digest(digest))
        } else {
            let tag = Tag::parse(text).map_err(|cause| Error::TagInvalid { reason: cause.to_string() })?;
            Ok(Self::Tag(tag))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(formatter),
            Self::Digest(digest) => digest.fmt(formatter),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn tags_of_the_grammar_are_accepted_and_others_refused() {
        for tag in ["latest", "_", "1.2.3", "A-b_c.D", &"x".repeat(128)] {
            assert_eq!(Tag::parse(tag).unwrap().as_str(), tag);
        }
        for tag in ["", ".a", "-a", "a b", "a/b", "a:b", "é", "a\0", &"x".repeat(129)] {
            assert!(Tag::parse(tag).is_err(), "{tag:?}");
        }
    }

    #[test]
    fn a_colon_makes_a_digest() {
        assert!(matches!(Reference::parse("v1"), Ok(Reference::Tag(_))));
        assert!(matches!(Reference::parse("sha256:bad"), Err(Error::DigestInvalid { .. })));
        assert!(matches!(Reference::parse(".."), Err(Error::TagInvalid { .. })));
    }

    #[test]
    fn the_fallback_tag_cuts_long_digests() {
        let digest = Digest::parse(&format!("sha512:{}", "a".repeat(128))).unwrap();
        assert_eq!(Tag::referrers_fallback(&digest).as_str(), format!("sha512-{}", "a".repeat(64)));
    }
}
