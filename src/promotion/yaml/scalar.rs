//! Single values: where they end, and how they are written.

use std::fmt::Write as _;

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Single,
    Double,
    /// `|` or `>`.
    Block,
}

/// Behind the last byte of the scalar that begins at `start` and means `text`. `None` for one of several lines.
pub(crate) fn end(source: &str, start: usize, text: &str, style: Style) -> Option<usize> {
    let rest = source.get(start..)?;
    match style {
        // On one line it stands as it is.
        Style::Plain => rest.starts_with(text).then_some(start + text.len()),
        Style::Single => {
            let mut characters = rest.strip_prefix('\'')?.char_indices().peekable();
            while let Some((at, character)) = characters.next() {
                match character {
                    '\n' | '\r' => return None,
                    '\'' if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                        characters.next();
                    }
                    '\'' => return Some(start + at + 2),
                    _ => {}
                }
            }
            None
        }
        Style::Double => {
            let mut characters = rest.strip_prefix('"')?.char_indices();
            while let Some((at, character)) = characters.next() {
                match character {
                    '\n' | '\r' => return None,
                    '\\' => {
                        characters.next().filter(|(_, next)| !matches!(next, '\n' | '\r'))?;
                    }
                    '"' => return Some(start + at + 2),
                    _ => {}
                }
            }
            None
        }
        Style::Block => None,
    }
}

/// Writes a text so that every reader takes it for a text: in the style that is wanted where that is safe, else in double quotes.
pub(crate) fn write(text: &str, like: Style) -> String {
    match like {
        Style::Plain if is_plain(text) => text.to_owned(),
        Style::Single if text.chars().all(|character| !character.is_control()) => format!("'{}'", text.replace('\'', "''")),
        Style::Plain | Style::Single | Style::Double | Style::Block => double(text),
    }
}

fn double(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => written.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(written, "\\u{:04x}", u32::from(control));
            }
            other => written.push(other),
        }
    }
    written.push('"');
    written
}

/// Would YAML 1.1 and 1.2 both take it for a text, wherever it stands? Those that begin with a letter and are no word of theirs.
/// Of dates, numbers and the like none does: a build of kustomize fails on `newTag: 20260216`.
pub(crate) fn is_plain(text: &str) -> bool {
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@+=".contains(&byte))
        && !text.ends_with(':')
        && !words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_take_for_a_number_a_date_or_a_word_is_quoted() {
        for text in
            ["20260216", "1.10", "0012345", "1234e56", "12_34", "0x1f", "0o17", "2026-02-16", "true", "No", "null", "~", ""]
        {
            assert_eq!(write(text, Style::Plain), format!("\"{text}\""));
        }
        for text in ["v1.10", "main-abc1234", "sha256:00ff", "e5", "host.example:5000/a/b", "latest@sha256:00"] {
            assert_eq!(write(text, Style::Plain), text);
        }
        assert_eq!(write("20260216", Style::Single), "'20260216'");
        assert_eq!(write("it's", Style::Single), "'it''s'");
        assert_eq!(write("a\"b\\c\n", Style::Single), r#""a\"b\\c\u000a""#);
    }

    #[test]
    fn the_end_of_a_scalar_is_its_own_and_not_that_of_its_comment() {
        assert_eq!(end("\"a\\\"b\" # c", 0, "a\"b", Style::Double), Some(6));
        assert_eq!(end("'a''b' # c", 0, "a'b", Style::Single), Some(6));
        assert_eq!(end("x: plain # c", 3, "plain", Style::Plain), Some(8));
        assert_eq!(end("two\n  lines", 0, "two lines", Style::Plain), None);
        assert_eq!(end("\"two\n  lines\"", 0, "two lines", Style::Double), None);
        assert_eq!(end("'two\n  lines'", 0, "two lines", Style::Single), None);
    }
}
