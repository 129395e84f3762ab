//! The token that every request carries, and the file that holds it.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Letters of a token that is made here.
const LENGTH: usize = 43;
/// A shorter one could be guessed.
const SHORTEST: usize = 20;
/// A longer file holds something else.
const LONGEST: u64 = 4096;

/// What lets somebody act on the server. Never shown.
#[derive(Clone)]
pub struct Token(SecretString);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("the token file {path} cannot be {done}", path = .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// `read` or `written`.
        done: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It can be read by everybody.
    #[error("the token file {path} may be read by everybody (mode {mode:o}): chmod 600 {path}", path = .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds no token.
    #[error(
        "the token file {path} does not hold one line of at least 20 letters: remove it, and the server makes a new one at its start",
        path = .path.display()
    )]
    Content {
        /// Which file.
        path: PathBuf,
    },
}

impl Token {
    /// Reads the token of a file, or makes the file with a new one of these `random` bytes. Only its owner may read it.
    pub fn load_or_make(path: &Path, random: [u8; 32]) -> Result<Self, TokenError> {
        match Self::load(path) {
            Err(TokenError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        // Whole or not at all: a start that is cut leaves no empty file. Of two starts at once one is first.
        let mut named = path.as_os_str().to_owned();
        named.push(format!(".{}", encode(random).get(..8).unwrap_or_default()));
        let named = PathBuf::from(named);
        let made = Self::make(&named, &encode(random)).and_then(|()| match fs::hard_link(&named, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        });
        // If it was not made there is nothing to remove.
        let _ = fs::remove_file(&named);
        made.map_err(|source| TokenError::File { path: path.to_owned(), done: "written", source })?;
        Self::load(path)
    }

    fn make(path: &Path, token: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(format!("{token}\n").as_bytes())?;
        file.sync_all()
    }

    /// A token of these `random` bytes that nobody is told.
    #[must_use]
    pub fn unknown(random: [u8; 32]) -> Self {
        Self(SecretString::from(encode(random)))
    }

    /// Reads the token of a file.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let read = |source| TokenError::File { path: path.to_owned(), done: "read", source };
        let metadata = fs::metadata(path).map_err(read)?;
        let mode = metadata.permissions().mode() & 0o777;
        // A group may: that is how clusters hand secrets to a process.
        if mode & 0o007 != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode });
        }
        if metadata.len() > LONGEST {
            return Err(TokenError::Content { path: path.to_owned() });
        }
        let text = fs::read_to_string(path).map_err(read)?;
        Self::new(text.trim_end()).ok_or_else(|| TokenError::Content { path: path.to_owned() })
    }

    /// A token that is given. `None` for a text that cannot be one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fine = text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        fine.then(|| Self(SecretString::from(text)))
    }

    /// The value of `Authorization` for it.
    #[must_use]
    pub fn authorization(&self) -> SecretString {
        SecretString::from(format!("Bearer {}", self.0.expose_secret()))
    }

    /// Is this what a request carries? Takes as long whatever is wrong with it.
    pub(crate) fn is(&self, authorization: Option<&str>) -> bool {
        let given =
            authorization.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let given = given.map(|(_, token)| token.trim()).unwrap_or_default();
        given.as_bytes().ct_eq(self.0.expose_secret().as_bytes()).into()
    }
}

/// 43 letters of six bits each.
fn encode(random: [u8; 32]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(LENGTH);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in random {
        bits = bits << 8 | u32::from(byte);
        count += 8;
        while count >= 6 {
            count -= 6;
            text.push(char::from(LETTERS[usize::try_from(bits >> count & 63).unwrap_or(0)]));
        }
        bits &= 63;
    }
    text.push(char::from(LETTERS[usize::try_from(bits << (6 - count) & 63).unwrap_or(0)]));
    text
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let made = Token::load_or_make(&path, [7; 32]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Token::load_or_make(&path, [8; 32]).unwrap();
        assert_eq!(made.0.expose_secret(), again.0.expose_secret());
        assert_eq!(made.0.expose_secret().len(), LENGTH);
        assert!(again.is(Some(made.authorization().expose_secret())));
    }

    #[test]
    fn a_file_that_others_may_read_or_that_holds_no_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "0123456789012345678901234\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Token::load(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Token::load(&path).is_ok());
        for content in ["", "short\n", "two lines that are long enough\nof them", &"x".repeat(5000)] {
            fs::write(&path, content).unwrap();
            assert!(matches!(Token::load(&path), Err(TokenError::Content { .. })), "{content:.20}");
        }
        assert!(Token::load(&folder.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn only_the_token_itself_is_let_in() {
        let token = Token::new("0123456789012345678901234").unwrap();
        assert!(token.is(Some("Bearer 0123456789012345678901234")));
        assert!(token.is(Some("bearer  0123456789012345678901234")));
        for wrong in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer 012345678901234567890123"),
            Some("Basic 0123456789012345678901234"),
        ] {
            assert!(!token.is(wrong), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }
}
