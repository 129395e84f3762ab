//! Input: a digest.

use std::sync::LazyLock;

use oci::{Digest, DigestError};
use regex::Regex;

static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\z").unwrap());

pub(crate) fn target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Digest::parse(text) {
        Ok(digest) => {
            assert!(GRAMMAR.is_match(text), "{text:?} is a digest");
            assert_eq!(digest.to_string(), text);
            assert_eq!(digest.hex().len(), digest.algorithm().hex_length());
            assert_eq!(Digest::from_hex(digest.algorithm(), digest.hex()), Ok(digest.clone()));
            let json = serde_json::to_string(&digest).unwrap();
            assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }
        Err(error) => {
            assert!(!GRAMMAR.is_match(text), "{text:?} is no digest");
            assert_eq!(matches!(error, DigestError::Form), !text.contains(':'));
            // What a client sent is repeated in part only.
            assert!(error.to_string().len() <= 1024);
            assert!(!error.to_string().contains(char::is_control));
        }
    }
}
