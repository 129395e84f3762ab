//! Input: a tag or a digest.

use std::sync::LazyLock;

use oci::{Error, Reference, Tag};
use regex::Regex;

/// As the specification writes it. [distribution-spec, Pulling manifests]
static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\z").unwrap());

pub(crate) fn target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    assert_eq!(Tag::parse(text).is_ok(), TAG.is_match(text), "{text:?}");
    match Reference::parse(text) {
        Ok(reference) => {
            assert_eq!(reference.to_string(), text);
            match &reference {
                Reference::Tag(tag) => {
                    assert!(TAG.is_match(tag.as_str()));
                    let json = serde_json::to_string(tag).unwrap();
                    assert_eq!(serde_json::from_str::<Tag>(&json).unwrap(), *tag);
                }
                Reference::Digest(digest) => {
                    assert!(text.contains(':'), "a tag is never taken for a digest");
                    assert!(TAG.is_match(Tag::referrers_fallback(digest).as_str()));
                }
            }
        }
        Err(error @ Error::DigestInvalid { .. }) => told(&error, text.contains(':')),
        Err(error @ Error::TagInvalid { .. }) => told(&error, !text.contains(':')),
        Err(other) => panic!("{text:?}: {other}"),
    }
}

/// The error is the right one, and repeats what was sent in part only.
fn told(error: &Error, is_its_kind: bool) {
    assert!(is_its_kind, "{error}");
    assert!(error.to_string().len() <= 2048);
    assert!(!error.to_string().contains(char::is_control));
}
