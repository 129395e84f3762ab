//! A token as it comes, of which nothing is proved yet. [RFC 7515, 7.1; RFC 7519]

use serde::Deserialize;
use serde_json::Value;

use crate::oidc::base64url;
use crate::oidc::provider::Algorithm;
use crate::oidc::refusal::Refusal;

/// Bytes of a token; those of forges and clusters have a tenth.
pub(crate) const LARGEST: usize = 16 * 1024;

/// What a token says of itself.
pub(crate) struct Unproved {
    /// Whose it says it is.
    pub(crate) issuer: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
}

#[derive(Deserialize)]
struct Issued {
    iss: String,
}

impl Unproved {
    /// Reads the head, and of the rest only the issuer. Addresses and keys in the head are not looked at: whoever made the token
    /// could write his own there.
    pub(crate) fn read(token: &str) -> Result<Self, Refusal> {
        if token.len() > LARGEST {
            return Err(Refusal::TooLarge);
        }
        let parts: Vec<&str> = token.split('.').take(6).collect();
        let (head, payload) = match parts[..] {
            [head, payload, _] => (head, payload),
            [_, _, _, _, _] => return Err(Refusal::Unsupported),
            _ => return Err(Refusal::Malformed),
        };
        let raw: Value = json(head).filter(Value::is_object).ok_or(Refusal::Malformed)?;
        if ["crit", "enc", "zip"].iter().any(|name| !raw[*name].is_null()) {
            return Err(Refusal::Unsupported);
        }
        // Without words for `none` and what else is not known.
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::Algorithm)?;
        let algorithm = Algorithm::from_header(header.alg).ok_or(Refusal::Algorithm)?;
        let Issued { iss: issuer } = json(payload).ok_or(Refusal::Malformed)?;
        Ok(Self { issuer, algorithm, kid: header.kid })
    }
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&base64url(part)?).ok()
}

/// Is that from this issuer, as far as it says?
pub(crate) fn says_issuer(token: &str, issuer: &str) -> bool {
    let payload = (token.len() <= LARGEST).then(|| token.split('.').nth(1)).flatten();
    payload.and_then(json::<Issued>).is_some_and(|issued| issued.iss == issuer)
}

/// Does that have the form of a token, in the place of a password?
pub(crate) fn has_form(text: &str) -> bool {
    let mut parts = text.split('.');
    let head = parts.next().filter(|head| head.len() <= LARGEST).and_then(json::<Value>);
    parts.count() == 2 && head.is_some_and(|head| head["alg"].is_string())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    fn token(head: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(payload))
    }

    fn refusal(token: &str) -> Option<Refusal> {
        Unproved::read(token).err()
    }

    #[test]
    fn the_head_and_the_issuer_are_read() {
        let read = Unproved::read(&token("{\"alg\":\"ES256\",\"kid\":\"a\",\"typ\":\"at+jwt\"}", "{\"iss\":\"https://x\"}"));
        let read = read.map(|read| (read.issuer, read.algorithm, read.kid));
        assert_eq!(read, Ok(("https://x".to_owned(), Algorithm::Es256, Some("a".to_owned()))));
    }

    #[test]
    fn what_is_no_token_for_us_is_refused() {
        let good = "{\"iss\":\"x\"}";
        for algorithm in ["none", "None", "HS256", "HS384", "HS512", "RSA-OAEP", "ES512", "ES256K", ""] {
            let head = format!("{{\"alg\":\"{algorithm}\"}}");
            assert_eq!(refusal(&token(&head, good)), Some(Refusal::Algorithm), "{algorithm}");
        }
        for head in ["{\"alg\":\"RS256\",\"crit\":[\"b64\"],\"b64\":false}", "{\"alg\":\"RS256\",\"crit\":\"x\"}"] {
            assert_eq!(refusal(&token(head, good)), Some(Refusal::Unsupported), "{head}");
        }
        assert_eq!(refusal("a.b.c.d.e"), Some(Refusal::Unsupported));
        for text in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e.f", "\u{e9}.\u{e9}.\u{e9}", &token("[]", good)] {
            assert_eq!(refusal(text), Some(Refusal::Malformed), "{text}");
        }
        for payload in ["", "{}", "[]", "{\"iss\":1}", "{\"iss\":[\"x\"]}", "{\"iss\":\"a\",\"iss\":\"b\"}"] {
            assert_eq!(refusal(&token("{\"alg\":\"RS256\"}", payload)), Some(Refusal::Malformed), "{payload}");
        }
        assert_eq!(refusal(&"a".repeat(64 * 1024)), Some(Refusal::TooLarge));
    }

    #[test]
    fn a_password_is_told_from_a_token() {
        assert!(has_form(&token("{\"alg\":\"RS256\"}", "{}")));
        for text in ["", "correct.horse.battery", "a.b", "..", &token("{}", "{}"), &token("[\"alg\"]", "{}")] {
            assert!(!has_form(text), "{text}");
        }
        assert!(says_issuer(&token("{}", "{\"iss\":\"roadstead\"}"), "roadstead"));
        assert!(!says_issuer(&token("{}", "{\"iss\":\"https://x\"}"), "roadstead") && !says_issuer("a", "roadstead"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", head in "\\PC{0,60}", payload in "\\PC{0,60}") {
            for text in [text, token(&head, &payload)] {
                let _ = (Unproved::read(&text).is_ok(), has_form(&text), says_issuer(&text, "x"));
            }
        }
    }
}
