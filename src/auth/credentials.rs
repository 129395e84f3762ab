//! What a request brings in `Authorization`. [RFC 9110, 11.6.2; RFC 7617; RFC 6750]

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

/// Bytes of the header that are looked at: the largest token in the place of a password, in base64.
const LONGEST: usize = 24 * 1024;

/// What somebody shows.
#[derive(Clone)]
pub enum Credentials<'h> {
    /// Nothing.
    None,
    /// A name and a password.
    Basic {
        /// The name.
        name: String,
        /// The password, or a token in its place.
        password: SecretString,
    },
    /// A token, as it stands in the header: most requests have one that is known, and a copy of it would have to be wiped out again.
    Bearer(&'h str),
    /// Something that cannot be read.
    Strange,
}

impl<'h> Credentials<'h> {
    /// Reads the value of the header.
    #[must_use]
    pub fn parse(header: Option<&'h [u8]>) -> Self {
        let Some(header) = header else { return Self::None };
        if header.len() > LONGEST {
            return Self::Strange;
        }
        let Some((scheme, value)) = std::str::from_utf8(header).ok().and_then(|text| text.trim().split_once(' ')) else {
            return Self::Strange;
        };
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() {
            return Self::Bearer(value);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return basic(value).unwrap_or(Self::Strange);
        }
        Self::Strange
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("None"),
            Self::Basic { name, .. } => formatter.debug_struct("Basic").field("name", name).finish_non_exhaustive(),
            Self::Bearer(_) => formatter.write_str("Bearer"),
            Self::Strange => formatter.write_str("Strange"),
        }
    }
}

fn basic(value: &str) -> Option<Credentials<'static>> {
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    if name.chars().any(char::is_control) || name.len() > 255 {
        return None;
    }
    if name.is_empty() && password.is_empty() {
        // As some clients say that they have none.
        return Some(Credentials::None);
    }
    Some(Credentials::Basic { name: name.to_owned(), password: SecretString::from(password) })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn basic_of(text: &str) -> Credentials<'static> {
        basic(&STANDARD.encode(text)).unwrap_or(Credentials::Strange)
    }

    #[test]
    fn what_is_shown_is_read() {
        assert!(matches!(Credentials::parse(None), Credentials::None));
        let token = Credentials::parse(Some(b"bearer  abc "));
        assert!(matches!(token, Credentials::Bearer("abc")));
        assert!(!format!("{token:?}").contains("abc"));
        let header = format!("Basic {}", STANDARD.encode("alice:a:b"));
        assert!(matches!(Credentials::parse(Some(header.as_bytes())), Credentials::Basic { name, .. } if name == "alice"));
        let read = basic_of("alice:a:b");
        assert!(matches!(&read, Credentials::Basic { name, password } if name == "alice" && password.expose_secret() == "a:b"));
        assert!(matches!(basic_of(":"), Credentials::None));
        assert!(!format!("{read:?}").contains("a:b"));
    }

    #[test]
    fn what_cannot_be_read_is_strange() {
        for header in ["", "Basic", "Basic !!!", "Bearer", "Bearer ", "Digest x", "\u{ff}"] {
            assert!(matches!(Credentials::parse(Some(header.as_bytes())), Credentials::Strange), "{header}");
        }
        for text in ["no colon", "new\nline:x", &format!("{}:x", "a".repeat(300))] {
            assert!(matches!(basic_of(text), Credentials::Strange), "{text}");
        }
        assert!(matches!(Credentials::parse(Some(&vec![b'a'; 65_536])), Credentials::Strange));
        assert!(matches!(Credentials::parse(Some(b"Basic \xff\xfe")), Credentials::Strange));
    }
}
