//! Content identity: `algorithm:hex`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The digest algorithms that the server computes and verifies. [image-spec, Registered algorithms]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, the algorithm of nearly all content.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Its registered name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Hex characters of an encoded digest.
    #[must_use]
    pub fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            other => Err(DigestError::Algorithm(other.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A digest of a supported [`Algorithm`], lower-case hex of the right length. [image-spec, Digests]
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: Arc<str>,
}

/// Why a text is not a digest that this server can verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:encoded` form.
    #[error("a digest has the form algorithm:hex")]
    Form,
    /// An algorithm that is not supported.
    #[error("the digest algorithm {0:?} is not supported, only sha256 and sha512 are")]
    Algorithm(String),
    /// Not lower-case hex of the algorithm's length.
    #[error("a {0} digest has {len} lower-case hex characters after the colon", len = .0.hex_length())]
    Encoding(Algorithm),
}

impl Digest {
    /// Parses and validates a digest.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Form)?;
        let algorithm: Algorithm = algorithm.parse()?;
        Self::from_hex(algorithm, hex)
    }

    /// A digest from its two parts.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Result<Self, DigestError> {
        let valid = hex.len() == algorithm.hex_length() && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self { algorithm, hex: hex.into() }) } else { Err(DigestError::Encoding(algorithm)) }
    }

    /// A digest from the raw output of a hash function; the caller guarantees the length.
    pub(crate) fn from_output(algorithm: Algorithm, output: &[u8]) -> Self {
        Self { algorithm, hex: hex::encode(output).into() }
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The encoded part.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn digests_round_trip() {
        for text in [format!("sha256:{}", "0a".repeat(32)), format!("sha512:{}", "f0".repeat(64))] {
            assert_eq!(Digest::parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_verified_is_refused() {
        let upper = format!("sha256:{}", "A".repeat(64));
        let short = format!("sha256:{}", "a".repeat(63));
        let foreign = format!("blake3:{}", "a".repeat(64));
        for text in ["", ":", "sha256", "sha256:", "sha256:baddigeststring", &upper, &short, &foreign, "sha256:../../x"] {
            assert!(Digest::parse(text).is_err(), "{text:?}");
        }
    }
}
