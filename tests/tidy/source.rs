//! Rust source as far as the rules need it: code without comments and texts, comments without code, and where functions end.

/// One file in two views. Both have the lines of the original; what does not belong to a view is blank in it.
pub(crate) struct Views {
    /// Everything but comments and the contents of texts.
    pub(crate) code: String,
    /// Only the comments.
    pub(crate) comments: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Text,
}

/// Separates code, comments and texts.
pub(crate) fn views(text: &str) -> Views {
    let bytes = text.as_bytes();
    let mut parts = vec![Part::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let (part, end) = piece(bytes, at);
        parts[at..end].fill(part);
        at = end;
    }
    let view = |wanted: Part| {
        let kept = |(byte, part): (&u8, &Part)| if *part == wanted || *byte == b'\n' { *byte } else { b' ' };
        String::from_utf8_lossy(&bytes.iter().zip(&parts).map(kept).collect::<Vec<u8>>()).into_owned()
    };
    Views { code: view(Part::Code), comments: view(Part::Comment) }
}

/// What begins at `at`, and where it ends.
fn piece(bytes: &[u8], at: usize) -> (Part, usize) {
    let rest = &bytes[at..];
    let after_word =
        at > 0 && is_word(bytes[at - 1]) && !(matches!(bytes[at - 1], b'b' | b'c') && (at < 2 || !is_word(bytes[at - 2])));
    if rest.starts_with(b"//") {
        return (Part::Comment, at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return (Part::Comment, at + block_comment(rest));
    }
    if rest[0] == b'r' && !after_word {
        let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let inside = &rest[2 + hashes..];
            let length = inside.windows(close.len()).position(|window| window == close).unwrap_or(inside.len());
            return (Part::Text, (at + 2 + hashes + length + close.len()).min(bytes.len()));
        }
    }
    match rest {
        [b'"', ..] => (Part::Text, at + quoted(rest, b'"')),
        [b'\'', b'\\', ..] => (Part::Text, at + quoted(rest, b'\'')),
        // A letter and a quote: a character. Anything else after a quote is a lifetime.
        [b'\'', first, ..] => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if rest.get(1 + width) == Some(&b'\'') { (Part::Text, at + 2 + width) } else { (Part::Code, at + 1) }
        }
        _ => (Part::Code, at + 1),
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// A function in a view of code.
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`, counted from one.
    pub(crate) line: usize,
    /// How many lines it has, from its `fn` to its last brace.
    pub(crate) lines: usize,
}

/// All functions that have a body.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && is_word(bytes[at - 1]) {
            continue;
        }
        let name: String =
            code[at + 3..].trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        let Some(end) = body_end(&bytes[at..]).filter(|_| !name.is_empty()) else { continue };
        let line = line_of(code, at);
        found.push(Function { name, line, lines: line_of(code, at + end) - line + 1 });
    }
    found
}

/// Where the body that follows ends; `None` if a semicolon comes first.
fn body_end(bytes: &[u8]) -> Option<usize> {
    let (mut brackets, mut braces) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b';' if brackets == 0 && braces == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The line of a byte, counted from one.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The words of a line of code.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_comments_are_not_code() {
        let text = "a /* b /* c */ d */ \"e \\\" // f\" 'g' '\\'' r#\"h \" i\"# br\"j\" <'k> // l\nm";
        let views = views(text);
        assert_eq!(words(&views.code), ["a", "b", "k", "m"]);
        assert_eq!(words(&views.comments), ["b", "c", "d", "l"]);
        assert_eq!(views.code.len(), text.len());
    }

    #[test]
    fn a_function_ends_at_its_last_brace() {
        let code = "fn a(x: [u8; 2]) {\n  if x {\n  }\n}\ntrait T { fn b(&self); }\nlet c: fn(u8) = d;\nconst fn e() {}\n";
        let found: Vec<(String, usize, usize)> = functions(code).into_iter().map(|it| (it.name, it.line, it.lines)).collect();
        assert_eq!(found, [("a".to_owned(), 1, 4), ("e".to_owned(), 7, 1)]);
    }
}
