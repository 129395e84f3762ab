//! Byte ranges: what a client asks of a blob, and where a chunk of an upload belongs.

/// A satisfiable range of a representation: `start..=end`, both inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive.
    pub end: u64,
}

/// What a `Range` header means for a representation of a known size. [RFC 9110 section 14]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOutcome {
    /// No range, an unknown unit, several ranges, or one that is not well formed: send everything with 200.
    Whole,
    /// Send this part with 206.
    Part(ByteRange),
    /// Nothing of the range exists: 416.
    Unsatisfiable,
}

impl ByteRange {
    /// Number of bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.end - self.start + 1
    }
}

impl RangeOutcome {
    /// Reads a `Range` header's value against `size` bytes.
    ///
    /// Several ranges in one header are answered whole: no client of a registry asks so, and an answer in parts costs more
    /// than it gives. A range whose end lies before its start is unsatisfiable here, as the conformance suite wants it.
    #[must_use]
    pub fn parse(header: &str, size: u64) -> Self {
        let Some((unit, set)) = header.split_once('=') else {
            return Self::Whole;
        };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        let Some((first, last)) = set.trim().split_once('-') else {
            return Self::Whole;
        };
        match (number(first), number(last)) {
            (Some(Number::Absent), Some(Number::Value(suffix))) => Self::suffix(suffix, size),
            (Some(Number::Value(start)), Some(Number::Absent)) => Self::bounded(start, u64::MAX, size),
            (Some(Number::Value(start)), Some(Number::Value(end))) => Self::bounded(start, end, size),
            _ => Self::Whole,
        }
    }

    fn suffix(length: u64, size: u64) -> Self {
        if length == 0 || size == 0 {
            return Self::Unsatisfiable;
        }
        Self::Part(ByteRange { start: size.saturating_sub(length), end: size - 1 })
    }

    fn bounded(start: u64, end: u64, size: u64) -> Self {
        if start >= size || end < start {
            return Self::Unsatisfiable;
        }
        Self::Part(ByteRange { start, end: end.min(size - 1) })
    }
}

enum Number {
    Absent,
    Value(u64),
}

/// Digits only; a number too large for 64 bits is as good as the largest.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Number::Absent);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Number::Value(text.parse().unwrap_or(u64::MAX)))
}

/// The place of a chunk in an upload: `<start>-<end>`, inclusive, without unit and total. [distribution-spec, Pushing a blob in
/// chunks]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive.
    pub end: u64,
}

impl ContentRange {
    /// Parses the specification's form; also `bytes <start>-<end>/<total>`, which clients that learned it from HTTP send.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let text = header.trim();
        let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
        let text = text.split_once('/').map_or(text, |(range, _total)| range);
        let (start, end) = text.split_once('-')?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(start) || !digits(end) {
            return None;
        }
        let (start, end) = (start.parse().ok()?, end.parse().ok()?);
        (start <= end).then_some(Self { start, end })
    }

    /// Number of bytes in the chunk; `None` where it would not fit 64 bits.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        (self.end - self.start).checked_add(1)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(start: u64, end: u64) -> RangeOutcome {
        RangeOutcome::Part(ByteRange { start, end })
    }

    #[test]
    fn the_ranges_of_the_conformance_suite() {
        assert_eq!(RangeOutcome::parse("bytes=500-1499", 2048), part(500, 1499));
        assert_eq!(RangeOutcome::parse("bytes=500-", 2048), part(500, 2047));
        assert_eq!(RangeOutcome::parse("bytes=-500", 2048), part(1548, 2047));
        assert_eq!(RangeOutcome::parse("bytes=2000-5000", 2048), part(2000, 2047));
        assert_eq!(RangeOutcome::parse("bytes=500-0", 2048), RangeOutcome::Unsatisfiable);
        assert_eq!(RangeOutcome::parse("bytes=5000-10000", 2048), RangeOutcome::Unsatisfiable);
    }

    #[test]
    fn what_is_not_a_single_byte_range_is_answered_whole() {
        for header in ["", "bytes", "lines=1-2", "bytes=a-b", "bytes=1-2,3-4", "bytes=-", "bytes=--1", "bytes=1"] {
            assert_eq!(RangeOutcome::parse(header, 10), RangeOutcome::Whole, "{header:?}");
        }
    }

    #[test]
    fn edges() {
        assert_eq!(RangeOutcome::parse("bytes=-0", 10), RangeOutcome::Unsatisfiable);
        assert_eq!(RangeOutcome::parse("bytes=0-", 0), RangeOutcome::Unsatisfiable);
        assert_eq!(RangeOutcome::parse("bytes=-99", 10), part(0, 9));
        assert_eq!(RangeOutcome::parse("bytes=9-99999999999999999999999", 10), part(9, 9));
        assert_eq!(RangeOutcome::parse("bytes=99999999999999999999999-", 10), RangeOutcome::Unsatisfiable);
    }

    #[test]
    fn content_ranges() {
        assert_eq!(ContentRange::parse("0-1023").unwrap(), ContentRange { start: 0, end: 1023 });
        assert_eq!(ContentRange::parse("bytes 5-9/10").unwrap(), ContentRange { start: 5, end: 9 });
        for header in ["", "-", "5", "9-5", "a-b", "0-", "-5", "0 - 5", "0-5-6", "99999999999999999999-1"] {
            assert!(ContentRange::parse(header).is_none(), "{header:?}");
        }
        assert_eq!(ContentRange::parse(&format!("0-{}", u64::MAX)).unwrap().length(), None);
    }

    proptest! {
        #[test]
        fn a_part_always_lies_inside(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", size in 0_u64..5000) {
            if let RangeOutcome::Part(range) = RangeOutcome::parse(&header, size) {
                prop_assert!(range.start <= range.end && range.end < size);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", size in any::<u64>()) {
            let _ = RangeOutcome::parse(&text, size);
            let _ = ContentRange::parse(&text).map(|range| range.length());
        }
    }
}
