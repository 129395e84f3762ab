//! Message authentication: HMAC-SHA256, and comparisons whose time tells nothing.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The HMAC-SHA256 of the parts, one after the other.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "this algorithm takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `sha256=<hex>` of a body, as most receivers want it.
pub(crate) fn header(key: &[u8], body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac(key, &[body])))
}

/// Is this text the lower-case hex of the HMAC-SHA256 of the body? An empty text never is.
pub(crate) fn is_hex_of(text: &str, key: &[u8], body: &[u8]) -> bool {
    let expected = hex::encode(hmac(key, &[body]));
    text.as_bytes().ct_eq(expected.as_bytes()).into()
}

/// Is this the secret? Its length is not told either.
pub(crate) fn is_same(text: &[u8], secret: &[u8]) -> bool {
    let (text, secret) = (Sha256::digest(text), Sha256::digest(secret));
    text.as_slice().ct_eq(secret.as_slice()).into()
}

/// The SHA-256 of these bytes, in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4231_are_met() {
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(hex::encode(hmac(&[0x0b; 20], &[b"Hi ", b"There"])), expected);
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(hmac(b"Jefe", &[b"what do ya want for nothing?"])), expected);
        assert!(is_hex_of(expected, b"Jefe", b"what do ya want for nothing?"));
        for wrong in ["", "5b", &expected.to_uppercase(), &format!("{expected}0"), &format!("sha256={expected}")] {
            assert!(!is_hex_of(wrong, b"Jefe", b"what do ya want for nothing?"), "{wrong}");
        }
    }

    #[test]
    fn only_the_secret_is_the_secret() {
        assert!(is_same(b"secret", b"secret"));
        assert!(!is_same(b"secre", b"secret"));
        assert!(!is_same(b"", b"secret"));
    }
}
