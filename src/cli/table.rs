//! Answers of a server, as people and programs read them.

use std::fmt::Write as _;

use serde_json::Value;

use super::Output;

/// The answer, as it was asked for.
pub(super) fn shown(output: Output, answer: &Value, text: impl Fn(&Value) -> String) -> String {
    match output {
        Output::Text => text(answer),
        Output::Json => format!("{answer}\n"),
    }
}

/// Text of a record; nothing where there is none.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// What a user typed, as a segment of a path.
pub(super) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let mut segment = String::new();
    for byte in text.bytes() {
        if plain(byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

/// Rows under their headings, each column as wide as its widest entry.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&headings.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A time to the second.
pub(super) fn moment(time: &str) -> &str {
    time.split('.').next().unwrap_or(time).trim_end_matches('Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_end_without_spaces() {
        let rows = [["a".to_owned(), "x".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(table(["ONE", "TWO"], &rows), "ONE     TWO\na       x\nlonger\n");
    }

    #[test]
    fn what_is_typed_stays_within_its_segment() {
        assert_eq!(segment("../jobs?x"), "..%2Fjobs%3Fx");
    }
}
