//! One JSON object per event, written straight into its line: a busy server logs each of its requests, and a map of values that is
//! built only to be written costs more than answering some of them.

use std::cell::RefCell;
use std::fmt::{self, Debug, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The event's fields at the top level, between `timestamp`, `level` and `target`. Spans are not told: nothing here has any.
pub(super) struct Json;

/// What each thread writes its lines in.
#[derive(Default)]
struct Scratch {
    line: String,
    /// The second whose date stands in `date`, since 1970.
    second: u64,
    /// `2026-11-22T05:38:17`.
    date: String,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        #[expect(
            clippy::disallowed_methods,
            reason = "when a line was logged is no business of the server's clock, which tests stop"
        )]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.line.clear();
            scratch.write(now, event)?;
            writer.write_str(&scratch.line)
        })
    }
}

impl Scratch {
    fn write(&mut self, now: Duration, event: &Event<'_>) -> fmt::Result {
        if self.date.is_empty() || self.second != now.as_secs() {
            self.second = now.as_secs();
            self.date.clear();
            write_date(&mut self.date, self.second)?;
        }
        let metadata = event.metadata();
        self.line.push_str("{\"timestamp\":\"");
        self.line.push_str(&self.date);
        self.line.push('.');
        write_number(&mut self.line, u64::from(now.subsec_micros()), 6);
        self.line.push_str("Z\",\"level\":\"");
        self.line.push_str(metadata.level().as_str());
        self.line.push('"');
        let mut fields = Fields { line: &mut self.line, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        self.line.push_str(",\"target\":\"");
        escape(&mut self.line, metadata.target());
        self.line.push_str("\"}\n");
        Ok(())
    }
}

/// `2026-11-22T05:38:17.123Z`.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_date(&mut text, since.as_secs());
    let _ = write!(text, ".{:03}Z", since.subsec_millis());
    text
}

/// Date and time of day in UTC. [RFC 3339; the days are counted from the first of March, so that a leap day is the last of its year]
fn write_date(out: &mut String, second: u64) -> fmt::Result {
    const DAY: u64 = 86_400;
    const FOUR_CENTURIES: u64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = second / DAY + 719_468;
    let (era, day) = (days / FOUR_CENTURIES, days % FOUR_CENTURIES);
    let year = (day - day / 1460 + day / 36_524 - day / (FOUR_CENTURIES - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let (hour, minute, second) = (second % DAY / 3600, second % 3600 / 60, second % 60);
    write!(out, "{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", year + era * 400)
}

/// A number in at least so many digits. Most values are numbers, and the formatting of the standard library has more to think of.
fn write_number(out: &mut String, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number > 0 || start > digits.len() - width {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    out.extend(digits[start..].iter().copied().map(char::from));
}

/// Appends each field as `,"name":value`.
struct Fields<'l> {
    line: &'l mut String,
    result: fmt::Result,
}

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        self.line.push_str(",\"");
        let name = field.name();
        self.line.push_str(name.strip_prefix("r#").unwrap_or(name));
        self.line.push_str("\":");
    }

    fn text(&mut self, field: &Field, write: impl FnOnce(&mut Escaped<'_>) -> fmt::Result) {
        self.name(field);
        self.line.push('"');
        let written = write(&mut Escaped(self.line));
        self.line.push('"');
        self.result = self.result.and(written);
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        self.result = self.result.and(write!(self.line, "{value}"));
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |out| out.write_str(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        write_number(self.line, value, 1);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.plain(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field);
        self.line.push_str(if value { "true" } else { "false" });
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        if value.is_finite() { self.plain(field, value) } else { self.plain(field, "null") }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, |out| write!(out, "{value:?}"));
    }
}

/// Text within a JSON string.
struct Escaped<'l>(&'l mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// Appends `text` as it stands within quotes. [RFC 8259 section 7] What else some readers take for the end of a line, or terminals for
/// a command, is escaped as well: nobody can make one line look like two.
fn escape(out: &mut String, text: &str) {
    let special = |byte: &u8| matches!(*byte, 0..0x20 | b'"' | b'\\' | 0x7f | 0xc2 | 0xe2);
    let mut rest = text;
    while let Some(at) = rest.as_bytes().iter().position(&special) {
        out.push_str(&rest[..at]);
        let Some(letter) = rest[at..].chars().next() else { return };
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let number = u32::from(letter);
                out.push_str("\\u");
                for shift in [12, 8, 4, 0] {
                    out.push(HEX.get(usize::try_from(number >> shift & 15).unwrap_or(0)).map_or('0', |digit| char::from(*digit)));
                }
            }
            other => out.push(other),
        }
        rest = &rest[at + letter.len_utf8()..];
    }
    out.push_str(rest);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tracing_subscriber::fmt::time::FormatTime;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |second| {
            let mut out = String::new();
            write_date(&mut out, second).unwrap();
            out
        };
        assert_eq!(date(0), "1970-01-01T00:00:00");
        assert_eq!(date(951_782_399), "2000-02-28T23:59:59");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00");
        assert_eq!(date(1_798_761_599), "2026-12-31T23:59:59");
        // The same as of another hand.
        let mut other = String::new();
        tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut other)).unwrap();
        #[expect(clippy::disallowed_methods, reason = "compared with the machine's own date")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(other.starts_with(&date(now)) || other.starts_with(&date(now - 1)), "{other}");
    }

    #[test]
    fn numbers_have_all_their_digits() {
        let number = |number, width| {
            let mut out = String::new();
            write_number(&mut out, number, width);
            out
        };
        assert_eq!([number(0, 1), number(7, 1), number(u64::MAX, 1)], ["0", "7", "18446744073709551615"]);
        assert_eq!([number(0, 6), number(1020, 6), number(999_999, 6)], ["000000", "001020", "999999"]);
    }

    #[test]
    fn any_text_is_read_back_as_it_was() {
        let every: String = (0..0x100_u32).filter_map(char::from_u32).collect();
        for text in ["", "plain", "\"", "a\\b\n", "é\u{2028}\u{2029}\u{201c}\u{1f6a2}\u{a3}\u{85}", "\u{0}\u{1f}\u{7f}", &every]
        {
            let mut out = "\"".to_owned();
            escape(&mut out, text);
            out.push('"');
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
            let ends = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
            assert!(!out.contains(ends), "{out:?}");
        }
    }
}
