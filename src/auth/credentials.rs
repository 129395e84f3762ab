//! What a request brings in `Authorization`. [RFC 9110, 11.6.2; RFC 7617; RFC 6750]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

/// Bytes of the header that are looked at: the largest token in the place of a password, in base64.
const LONGEST: usize = 24 * 1024;

/// What somebody shows.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A name and a password.
    Basic {
        /// The name.
        name: String,
        /// The password, or a token in its place.
        password: SecretString,
    },
    /// A token.
    Bearer(SecretString),
    /// Something that cannot be read.
    Strange,
}

impl Credentials {
    /// Reads the value of the header.
    #[must_use]
    pub fn parse(header: Option<&[u8]>) -> Self {
        let Some(header) = header else { return Self::None };
        if header.len() > LONGEST {
            return Self::Strange;
        }
        let Some((scheme, value)) = std::str::from_utf8(header).ok().and_then(|text| text.trim().split_once(' ')) else {
            return Self::Strange;
        };
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() {
            return Self::Bearer(SecretString::from(value));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return basic(value).unwrap_or(Self::Strange);
        }
        Self::Strange
    }
}

fn basic(value: &str) -> Option<Credentials> {
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

    fn basic_of(text: &str) -> Credentials {
        Credentials::parse(Some(format!("Basic {}", STANDARD.encode(text)).as_bytes()))
    }

    #[test]
    fn what_is_shown_is_read() {
        assert!(matches!(Credentials::parse(None), Credentials::None));
        assert!(
            matches!(Credentials::parse(Some(b"bearer  abc ")), Credentials::Bearer(token) if token.expose_secret() == "abc")
        );
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
