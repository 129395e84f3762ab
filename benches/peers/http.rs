//! The head of an HTTP/1.1 answer: as much of it as a load generator has to know.

use anyhow::{Context, Result, bail};

/// The largest head that is read.
pub(crate) const LONGEST_HEAD: usize = 16 * 1024;

/// How an answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// After so many bytes.
    Exactly(u64),
    /// With an empty chunk.
    Chunked,
    /// With the connection.
    UntilClosed,
}

/// What an answer's head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status.
    pub(crate) status: u16,
    /// How the body ends.
    pub(crate) length: Length,
    /// Whether the connection ends after it.
    pub(crate) closes: bool,
    /// How many bytes the head itself has.
    pub(crate) size: usize,
}

impl Head {
    /// The head at the start of `bytes`; nothing while it is not whole.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(size) = end(bytes) else {
            if bytes.len() >= LONGEST_HEAD {
                bail!("an answer's head has more than {LONGEST_HEAD} bytes");
            }
            return Ok(None);
        };
        let mut lines = bytes[..size].split(|byte| *byte == b'\n');
        let status = status(lines.next().unwrap_or_default())?;
        let mut head = Self { status, length: Length::UntilClosed, closes: false, size };
        for (name, value) in lines.filter_map(field) {
            // The first letter rules out almost all of them.
            match name.first().map(u8::to_ascii_lowercase) {
                Some(b'c') if name.eq_ignore_ascii_case(b"content-length") && head.length != Length::Chunked => {
                    let text = std::str::from_utf8(value)?;
                    head.length = Length::Exactly(text.parse().with_context(|| format!("content-length: {text}"))?);
                }
                Some(b'c') if name.eq_ignore_ascii_case(b"connection") => head.closes = value.eq_ignore_ascii_case(b"close"),
                Some(b't') if name.eq_ignore_ascii_case(b"transfer-encoding") => head.length = Length::Chunked,
                _ => {}
            }
        }
        Ok(Some(head))
    }
}

/// A header of a head, wherever it stands in it.
pub(crate) fn header<'head>(head: &'head [u8], wanted: &str) -> Option<&'head str> {
    let mut fields = head.split(|byte| *byte == b'\n').filter_map(field);
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()))?;
    std::str::from_utf8(value).ok()
}

/// Where the head ends.
fn end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|start| start + 4)
}

fn status(line: &[u8]) -> Result<u16> {
    let text = std::str::from_utf8(line)?.trim_end();
    let code = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "));
    let code = code.and_then(|rest| rest.get(..3)).with_context(|| format!("no answer of HTTP/1: {text}"))?;
    code.parse().with_context(|| format!("no status: {text}"))
}

/// The name and the value of a header's line.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nContent-Length: 12\r\n\r\nhello";

    #[test]
    fn a_head_is_told_from_the_body_behind_it() {
        let head = Head::parse(PLAIN).unwrap().unwrap();
        assert_eq!(head, Head { status: 200, length: Length::Exactly(12), closes: false, size: PLAIN.len() - 5 });
    }

    #[test]
    fn a_head_that_is_not_whole_is_waited_for() {
        for size in 0..PLAIN.len() - 5 {
            assert_eq!(Head::parse(&PLAIN[..size]).unwrap(), None, "{size}");
        }
    }

    #[test]
    fn chunks_are_stronger_than_a_length() {
        for order in ["Transfer-Encoding: chunked\r\nContent-Length: 3", "Content-Length: 3\r\nTransfer-Encoding: chunked"] {
            let text = format!("HTTP/1.1 200 OK\r\n{order}\r\n\r\n");
            assert_eq!(Head::parse(text.as_bytes()).unwrap().unwrap().length, Length::Chunked);
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_its_connection() {
        let head = Head::parse(b"HTTP/1.0 404 Not Found\r\nConnection: Close\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status, head.length, head.closes), (404, Length::UntilClosed, true));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'a'; LONGEST_HEAD]].concat();
        for text in
            [b"SSH-2.0-x\r\n\r\n".as_slice(), b"HTTP/1.1 2x0 OK\r\n\r\n", b"HTTP/1.1 200\r\nContent-Length: -1\r\n\r\n", &long]
        {
            assert!(Head::parse(text).is_err(), "{}", String::from_utf8_lossy(&text[..20.min(text.len())]));
        }
    }

    #[test]
    fn a_header_is_found_whatever_its_case() {
        assert_eq!(header(PLAIN, "CONTENT-TYPE"), Some("text/plain"));
        assert_eq!(header(PLAIN, "location"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = [b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat();
            let _ = Head::parse(&text);
        }
    }
}
