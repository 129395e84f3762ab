//! Input: a size, and after a line's end the value of `Range` and of `Content-Range`.

use oci::{ContentRange, RangeOutcome};

pub(crate) fn target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some((size, header)) = text.split_once('\n') else { return };
    let Ok(size) = size.parse::<u64>() else { return };
    range(header, size);
    content_range(header);
}

fn range(header: &str, size: u64) {
    let outcome = RangeOutcome::parse(header, size);
    match outcome {
        RangeOutcome::Whole => {}
        RangeOutcome::Unsatisfiable => assert!(header.contains('='), "{header:?} names a range"),
        RangeOutcome::Part(part) => {
            assert!(part.start <= part.end && part.end < size, "{header:?} of {size}: {part:?}");
            assert!((1..=size).contains(&part.length()));
            assert_eq!(RangeOutcome::parse(&format!("bytes={}-{}", part.start, part.end), size), outcome);
            assert_eq!(RangeOutcome::parse(&format!("BYTES = {}-{} ", part.start, part.end), size), outcome);
        }
    }
    // Whatever is asked of nothing, no part of it can be sent.
    assert!(!matches!(RangeOutcome::parse(header, 0), RangeOutcome::Part(_)));
    // Several ranges are answered whole.
    assert_eq!(RangeOutcome::parse(&format!("{header},0-0"), size), RangeOutcome::Whole);
}

fn content_range(header: &str) {
    let Some(range) = ContentRange::parse(header) else { return };
    assert!(range.start <= range.end);
    assert_eq!(range.length(), (range.end - range.start).checked_add(1));
    for form in ["{}-{}", "bytes {}-{}/*", " bytes {}-{}/9 "] {
        let written = form.replacen("{}", &range.start.to_string(), 1).replacen("{}", &range.end.to_string(), 1);
        assert_eq!(ContentRange::parse(&written), Some(range), "{written:?}");
    }
}
