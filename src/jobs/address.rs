//! Where the objects of a kind and key lie. Every key of the state is made here.
//!
//! ```text
//! slots/<kind>/<key>                              what is open there
//! history/<kind>/<key>/<descending time>-<id>     a job that ended; the latest sorts first
//! ```
//!
//! In a segment, what is no letter, digit, `-`, `_` or `.` of a key is written as `=` and two hexadecimal digits.

use std::fmt;
use std::fmt::Write;

use crate::error::Error;
use crate::record::JobId;

/// Length of the longest segment that a key may make: a file system takes 255.
const LONGEST: usize = 200;

/// A kind and a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) kind: String,
    pub(crate) key: String,
}

impl Address {
    pub(crate) fn new(kind: &str, key: &str) -> Result<Self, Error> {
        let invalid = |what, text: &str| Error::Invalid { what, text: text.chars().take(100).collect() };
        if !is_kind(kind) {
            return Err(invalid("kind", kind));
        }
        if key.is_empty() || escape(key).len() > LONGEST {
            return Err(invalid("key", key));
        }
        Ok(Self { kind: kind.to_owned(), key: key.to_owned() })
    }

    /// The key of the slot.
    pub(crate) fn slot(&self) -> String {
        format!("{}/{}", slots(&self.kind), escape(&self.key))
    }

    /// What the keys of ended jobs begin with.
    pub(crate) fn history(&self) -> String {
        format!("history/{}/{}", self.kind, escape(&self.key))
    }
}

/// What the keys of a kind's slots begin with.
pub(crate) fn slots(kind: &str) -> String {
    format!("slots/{kind}")
}

/// The last segment of the key of a job that ended at this time.
pub(crate) fn entry(ended: u64, id: JobId) -> String {
    format!("{:016x}-{id}", u64::MAX - ended)
}

/// Is this the entry of that job?
pub(crate) fn is_entry_of(segment: &str, id: JobId) -> bool {
    segment.split_once('-').is_some_and(|(_, text)| text == id.to_string())
}

pub(crate) fn is_kind(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=40).contains(&text.len()) && text.bytes().all(letter)
}

fn escape(key: &str) -> String {
    let mut segment = String::with_capacity(key.len());
    for (index, byte) in key.bytes().enumerate() {
        // Some stores treat a segment that begins with a dot as something else.
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && index > 0) {
            segment.push(char::from(byte));
        } else {
            // A String takes everything that is written to it.
            let _ = write!(segment, "={byte:02x}");
        }
    }
    segment
}

/// The key that [`escape`] made this segment of; `None` for a foreign object.
pub(crate) fn unescape(segment: &str) -> Option<String> {
    let mut parts = segment.split('=');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    let key = String::from_utf8(bytes).ok()?;
    (escape(&key) == segment).then_some(key)
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, self.key)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_those_of_the_layout() {
        let address = Address::new("mirror", "a/b c.d").unwrap();
        assert_eq!(address.slot(), "slots/mirror/a=2fb=20c.d");
        assert_eq!(address.history(), "history/mirror/a=2fb=20c.d");
        assert_eq!(Address::new("mirror", "..").unwrap().slot(), "slots/mirror/=2e.");
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        for (kind, key) in [("", "a"), ("Mirror", "a"), ("a/b", "a"), ("mirror", ""), ("mirror", &"x".repeat(201))] {
            assert!(matches!(Address::new(kind, key), Err(Error::Invalid { .. })), "{kind} {key}");
        }
    }

    #[test]
    fn later_entries_sort_first() {
        let id: JobId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert!(entry(2, id) < entry(1, id));
        assert!(is_entry_of(&entry(2, id), id) && !is_entry_of("x", id));
    }

    proptest! {
        #[test]
        fn a_segment_is_the_key_again(key in "\\PC{1,60}") {
            let segment = escape(&key);
            prop_assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte)));
            prop_assert_eq!(unescape(&segment), Some(key));
        }

        #[test]
        fn a_segment_that_is_none_of_ours_has_no_key(segment in "[a-zA-Z=0-9./]{0,12}") {
            if let Some(key) = unescape(&segment) {
                prop_assert_eq!(escape(&key), segment);
            }
        }
    }
}
