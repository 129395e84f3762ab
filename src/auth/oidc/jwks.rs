//! The keys of an issuer, as it publishes them. [RFC 7517]

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::oidc::base64url;
use crate::oidc::provider::Algorithm;

/// Keys that are kept of one issuer; none has so many.
const MOST: usize = 200;
/// Keys that one token is tried with.
const MOST_TRIED: usize = 16;
/// Bits of an RSA key: fewer can be broken, more take long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of a public exponent.
const EXPONENT: usize = 8;

const OF_RSA: [Algorithm; 6] =
    [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];

/// One key, and what it may have signed. What kind of key it is decides the algorithms, never the token.
struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    verifies: DecodingKey,
}

/// The keys of an issuer that can be used.
pub(crate) struct KeySet {
    keys: Vec<Key>,
    /// What tells it from another one.
    mark: [u8; 32],
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads what an issuer publishes. A key that is not for signatures, or of a kind that is not known, is left out.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let published: Published = serde_json::from_slice(bytes).ok()?;
        let read = |value: Value| serde_json::from_value::<Jwk>(value).ok().and_then(Jwk::into_key);
        let keys = published.keys.into_iter().filter_map(read).take(MOST).collect();
        Some(Self { keys, mark: Sha256::digest(bytes).into() })
    }

    /// What tells this from the keys before and after.
    pub(crate) fn mark(&self) -> [u8; 32] {
        self.mark
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that may have signed a token with this name of a key and this algorithm. Without a name it is all of the kind, as many
    /// as are worth a try.
    pub(crate) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let may = move |key: &&Key| key.algorithms.contains(&algorithm) && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
        self.keys.iter().filter(may).take(MOST_TRIED).map(|key| &key.verifies)
    }
}

impl Jwk {
    fn into_key(self) -> Option<Key> {
        let is_for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|all| all.iter().any(|operation| operation == "verify"));
        if !is_for_signatures {
            return None;
        }
        let (verifies, mut algorithms) = self.public_key()?;
        if let Some(alg) = self.alg {
            algorithms.retain(|algorithm| algorithm.as_str() == alg);
        }
        (!algorithms.is_empty()).then_some(Key { kid: self.kid, algorithms, verifies })
    }

    fn public_key(&self) -> Option<(DecodingKey, Vec<Algorithm>)> {
        let curve = |size: usize, algorithm| {
            let (x, y) = (self.x.as_deref()?, self.y.as_deref()?);
            let is_point = base64url(x)?.len() == size && base64url(y)?.len() == size;
            is_point.then(|| DecodingKey::from_ec_components(x, y).ok()).flatten().map(|key| (key, vec![algorithm]))
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => {
                let (n, e) = (base64url(self.n.as_deref()?)?, base64url(self.e.as_deref()?)?);
                let is_usable = RSA_BITS.contains(&bits(&n)) && (1..=EXPONENT).contains(&e.len());
                is_usable.then(|| (DecodingKey::from_rsa_raw_components(significant(&n), &e), OF_RSA.to_vec()))
            }
            ("EC", Some("P-256")) => curve(32, Algorithm::Es256),
            ("EC", Some("P-384")) => curve(48, Algorithm::Es384),
            ("OKP", Some("Ed25519")) => {
                let x = self.x.as_deref()?;
                (base64url(x)?.len() == 32).then(|| DecodingKey::from_ed_components(x).ok()).flatten().map(|key| {
                    let algorithms = vec![Algorithm::EdDsa];
                    (key, algorithms)
                })
            }
            // A secret in public (`oct`), and what is not known.
            _ => None,
        }
    }
}

/// Without zeros before it, which some put there.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn bits(number: &[u8]) -> usize {
    let number = significant(number);
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn encoded(size: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xff; size])
    }

    fn set(keys: &Value) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn algorithms(key: &Value) -> Vec<Algorithm> {
        set(&json!([key])).keys.into_iter().flat_map(|key| key.algorithms).collect()
    }

    #[test]
    fn the_kind_of_a_key_decides_what_it_may_have_signed() {
        let rsa = json!({ "kty": "RSA", "n": encoded(256), "e": "AQAB" });
        assert_eq!(algorithms(&rsa), OF_RSA);
        let rsa = json!({ "kty": "RSA", "n": encoded(256), "e": "AQAB", "alg": "PS384", "use": "sig", "key_ops": ["verify"] });
        assert_eq!(algorithms(&rsa), [Algorithm::Ps384]);
        let p256 = json!({ "kty": "EC", "crv": "P-256", "x": encoded(32), "y": encoded(32) });
        assert_eq!(algorithms(&p256), [Algorithm::Es256]);
        let p384 = json!({ "kty": "EC", "crv": "P-384", "x": encoded(48), "y": encoded(48), "alg": "ES384" });
        assert_eq!(algorithms(&p384), [Algorithm::Es384]);
        assert_eq!(algorithms(&json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(32) })), [Algorithm::EdDsa]);
    }

    #[test]
    fn keys_that_must_not_verify_anything_are_left_out() {
        let keys = json!([
            { "kty": "oct", "k": encoded(32) },
            { "kty": "oct", "k": encoded(32), "n": encoded(256), "e": "AQAB", "alg": "HS256" },
            { "kty": "RSA", "n": encoded(256), "e": "AQAB", "alg": "HS256" },
            { "kty": "RSA", "n": encoded(256), "e": "AQAB", "alg": "none" },
            { "kty": "RSA", "n": encoded(256), "e": "AQAB", "alg": "ES256" },
            { "kty": "RSA", "n": encoded(256), "e": "AQAB", "use": "enc" },
            { "kty": "RSA", "n": encoded(256), "e": "AQAB", "key_ops": ["encrypt"] },
            { "kty": "RSA", "n": encoded(128), "e": "AQAB" },
            { "kty": "RSA", "n": format!("AAAA{}", encoded(255)), "e": "AQAB" },
            { "kty": "RSA", "n": encoded(4096), "e": "AQAB" },
            { "kty": "RSA", "n": encoded(256), "e": encoded(9) },
            { "kty": "RSA", "n": encoded(256), "e": "" },
            { "kty": "RSA", "n": "!", "e": "AQAB" },
            { "kty": "RSA", "e": "AQAB" },
            { "kty": "EC", "crv": "P-256", "x": encoded(48), "y": encoded(48) },
            { "kty": "EC", "crv": "P-256", "x": encoded(48), "y": encoded(16) },
            { "kty": "EC", "crv": "P-521", "x": encoded(66), "y": encoded(66) },
            { "kty": "EC", "crv": "secp256k1", "x": encoded(32), "y": encoded(32) },
            { "kty": "OKP", "crv": "X25519", "x": encoded(32) },
            { "kty": "OKP", "crv": "Ed25519", "x": encoded(31) },
            { "kty": 1 }, 7, null, {},
        ]);
        assert_eq!(set(&keys).len(), 0);
    }

    #[test]
    fn only_so_many_keys_are_kept_and_tried() {
        let keys: Vec<Value> =
            (0..500).map(|kid| json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(32), "kid": kid.to_string() })).collect();
        let set = set(&Value::from(keys));
        assert_eq!(set.len(), MOST);
        assert_eq!(set.candidates(None, Algorithm::EdDsa).count(), MOST_TRIED);
        assert_eq!(set.candidates(Some("7"), Algorithm::EdDsa).count(), 1);
        assert_eq!(set.candidates(Some("7"), Algorithm::Rs256).count(), 0);
        assert_eq!(set.candidates(Some("300"), Algorithm::EdDsa).count(), 0);
    }

    #[test]
    fn what_is_no_set_of_keys_is_told_from_an_empty_one() {
        assert!(KeySet::parse(b"{\"keys\":[]}").is_some());
        for text in ["", "[]", "{}", "{\"keys\":{}}", "<html>"] {
            assert!(KeySet::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = KeySet::parse(&bytes);
        }

        #[test]
        fn no_key_makes_it_panic(n in "[A-Za-z0-9_-]{0,400}", e in "[A-Za-z0-9_-]{0,20}", kty in "RSA|EC|OKP|oct") {
            let key = json!({ "kty": kty, "n": n.clone(), "e": e.clone(), "x": n, "y": e, "crv": "P-256" });
            let _ = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes());
        }
    }
}
