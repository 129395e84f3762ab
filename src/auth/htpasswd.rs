//! Accounts in a file as `htpasswd -B` makes it: `name:hash`, bcrypt or argon2.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

/// bcrypt reads no more bytes of a password, so that a longer one would be let in by its beginning.
const LONGEST_FOR_BCRYPT: usize = 72;
/// Passwords are not longer for any of them.
const LONGEST: usize = 1024;
/// As many hashes of the file stand for those who are not in it.
const STAND_INS: usize = 64;
/// A cost beyond that takes seconds for each look.
const HIGHEST_COST: u32 = 16;

/// The accounts of a file.
#[derive(Clone, Default)]
pub struct Htpasswd {
    accounts: HashMap<String, Account>,
    /// Hashes of the file, for those who are not in it.
    stand_ins: Vec<SecretString>,
}

#[derive(Clone)]
struct Account {
    hash: SecretString,
    /// Asked for with each token that is shown, so that it is made once.
    stamp: Arc<str>,
}

/// What is wrong with a file of accounts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct HtpasswdError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what to do. Never what stands there.
    pub what: &'static str,
}

impl Htpasswd {
    /// Reads a file. Empty lines and those that begin with `#` say nothing.
    pub fn parse(text: &str) -> Result<Self, HtpasswdError> {
        let mut accounts = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = |what| HtpasswdError { line: index + 1, what };
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = line.split_once(':').ok_or(wrong("is not name:hash"))?;
            if name.is_empty() || name.len() > 255 || name.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
                return Err(wrong("the name is empty, too long, or has spaces or control characters"));
            }
            check(hash).map_err(wrong)?;
            let account = Account { hash: SecretString::from(hash), stamp: stamp_of(hash) };
            if accounts.insert(name.to_owned(), account).is_some() {
                return Err(wrong("the name stands in the file twice"));
            }
        }
        let stand_ins = accounts.values().map(|account: &Account| account.hash.clone()).take(STAND_INS).collect();
        Ok(Self { accounts, stand_ins })
    }

    /// Is that the password of the account? Takes as long for an account that is not there: it is compared with somebody else's, always the
    /// same one for a name.
    #[must_use]
    pub fn verify(&self, name: &str, password: &str) -> bool {
        let known = self.accounts.get(name).map(|account| account.hash.expose_secret());
        let hash = known.unwrap_or_else(|| self.stand_in(name));
        let most = if hash.starts_with("$argon2") { LONGEST } else { LONGEST_FOR_BCRYPT };
        let looked_at = password.as_bytes().get(..most).unwrap_or(password.as_bytes());
        let is_right = if hash.starts_with("$argon2") {
            PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(looked_at, &hash).is_ok())
        } else {
            bcrypt::verify(looked_at, hash).unwrap_or(false)
        };
        is_right && known.is_some() && password.len() <= most
    }

    /// The hash that somebody is compared with who is not there.
    fn stand_in(&self, name: &str) -> &str {
        let hash = self.stand_ins.get(
            name.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)))
                % self.stand_ins.len().max(1),
        );
        hash.map_or("$2b$10$abcdefghijklmnopqrstuuJ2f5qg7VhVhYJcWb1kB6yQO9qX8G4yq", ExposeSecret::expose_secret)
    }

    /// What tells this password from the next one of the account: what is made from the one is of no use after the other is set.
    #[must_use]
    pub fn stamp(&self, name: &str) -> Option<&Arc<str>> {
        self.accounts.get(name).map(|account| &account.stamp)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}

/// Tells nothing of the password, and stands in tokens.
fn stamp_of(hash: &str) -> Arc<str> {
    let digest = Sha256::new().chain_update(b"stamp").chain_update(hash).finalize();
    URL_SAFE_NO_PAD.encode(&digest[..12]).into()
}

fn check(hash: &str) -> Result<(), &'static str> {
    if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
        let cost: Option<u32> = hash.get(4..6).and_then(|cost| cost.parse().ok());
        return match cost {
            Some(4..=HIGHEST_COST) if hash.len() == 60 && hash.is_ascii() => Ok(()),
            Some(cost) if cost > HIGHEST_COST => {
                Err("the cost of the bcrypt hash is above 16, which takes seconds for each look")
            }
            _ => Err("the bcrypt hash is damaged; make it anew with htpasswd -B"),
        };
    }
    if hash.starts_with("$argon2") {
        return PasswordHash::new(hash).map(|_| ()).map_err(|_| "the argon2 hash is damaged");
    }
    Err("the hash is neither bcrypt nor argon2; make it with htpasswd -B (MD5, SHA-1, crypt and plain text are not taken)")
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Htpasswd").field("accounts", &self.accounts.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use argon2::PasswordHasher;

    use super::*;

    fn file() -> String {
        let bcrypt = bcrypt::hash("s3cret", 4).unwrap();
        let argon = Argon2::default().hash_password_with_salt(b"other", b"0123456789abcdef").unwrap();
        format!("# accounts\nalice:{bcrypt}\n\nbob:{argon}\n")
    }

    #[test]
    fn passwords_are_known_and_others_are_not() {
        let accounts = Htpasswd::parse(&file()).unwrap();
        assert!(accounts.verify("alice", "s3cret") && accounts.verify("bob", "other"));
        for (name, password) in [("alice", "other"), ("alice", ""), ("bob", "s3cret"), ("carol", "s3cret"), ("", "")] {
            assert!(!accounts.verify(name, password), "{name}");
        }
    }

    #[test]
    fn whoever_is_not_there_is_compared_with_somebody_who_is() {
        let accounts = Htpasswd::parse(&file()).unwrap();
        let hashes: Vec<String> = file().lines().filter_map(|line| Some(line.split_once(':')?.1[..4].to_owned())).collect();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..50 {
            let name = format!("nobody{number}");
            let hash = accounts.stand_in(&name);
            assert!(hashes.iter().any(|known| hash.starts_with(known)) && hash == accounts.stand_in(&name));
            seen.insert(hash[..4].to_owned());
        }
        assert_eq!(seen.len(), 2, "all kinds of the file stand for somebody");
        assert!(!accounts.verify("nobody1", "s3cret") && !accounts.verify("nobody1", &"x".repeat(2_000)));
    }

    #[test]
    fn a_password_that_bcrypt_would_cut_is_refused() {
        let long = "x".repeat(73);
        let hash = bcrypt::hash(&long[..72], 4).unwrap();
        let accounts = Htpasswd::parse(&format!("a:{hash}")).unwrap();
        assert!(accounts.verify("a", &long[..72]) && !accounts.verify("a", &long));
    }

    #[test]
    fn what_is_wrong_is_told_without_what_stands_there() {
        for (text, line, what) in [
            ("alice", 1, "name:hash"),
            ("a:b\n", 1, "neither"),
            ("#\n:$2b$", 2, "name is empty"),
            ("a:$2b$10$short", 1, "damaged"),
            ("a:$apr1$x$y", 1, "neither"),
            ("a:{SHA}abc", 1, "neither"),
            ("a:$argon2id$zzz", 1, "argon2"),
        ] {
            let error = Htpasswd::parse(text).unwrap_err();
            assert!(error.line == line && error.what.contains(what), "{error}");
        }
        let twice = file() + &file();
        assert!(Htpasswd::parse(&twice).unwrap_err().to_string().contains("twice"));
    }
}
