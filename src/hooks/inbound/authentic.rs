//! Whether whoever sent a delivery knows the secret. Every comparison takes the same time, whatever it finds.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;

use super::{Inbound, InboundKind};
use crate::refusal::Refusal;
use crate::signature::{hmac, is_hex_of, is_same};

/// How far the time of a delivery may be from ours. [Standard Webhooks]
const TOLERANCE: Duration = Duration::from_mins(5);
/// What a secret of Standard Webhooks begins with; its bytes follow in base64.
const STANDARD_SECRET: &str = "whsec_";
/// Signatures that are looked at: one for each secret of a rotation.
const SIGNATURES: usize = 8;

fn refuse(reason: &'static str) -> Refusal {
    Refusal::Unauthentic { reason }
}

impl Inbound {
    pub(super) fn authenticate(&self, headers: &HeaderMap, signed: &[u8]) -> Result<(), Refusal> {
        match self.kind {
            InboundKind::Gitea => {
                let bare = ["x-gitea-signature", "x-forgejo-signature", "x-gogs-signature"];
                match one_of(headers, &bare)? {
                    Some(signature) => self.hex(signature, signed),
                    None => self.prefixed(headers, &["x-hub-signature-256"], signed),
                }
            }
            InboundKind::GitHub => self.prefixed(headers, &["x-hub-signature-256"], signed),
            InboundKind::Generic => self.prefixed(headers, &["x-signature-256", "x-hub-signature-256"], signed),
            InboundKind::GitLab => match one_of(headers, &["webhook-signature"])? {
                Some(signatures) => self.standard(headers, signatures, signed),
                None => self.token(headers),
            },
        }
    }

    /// `sha256=<hex>`.
    fn prefixed(&self, headers: &HeaderMap, names: &[&str], signed: &[u8]) -> Result<(), Refusal> {
        let text = one_of(headers, names)?.ok_or(refuse("there is no signature"))?;
        let signature = text.strip_prefix("sha256=").ok_or(refuse("the signature does not begin with sha256="))?;
        self.hex(signature, signed)
    }

    fn hex(&self, signature: &str, signed: &[u8]) -> Result<(), Refusal> {
        if signature.is_empty() {
            return Err(refuse("the signature is empty: the sender has no secret"));
        }
        if is_hex_of(signature, self.secret.expose_secret().as_bytes(), signed) {
            return Ok(());
        }
        Err(refuse("the signature is not that of the secret and these bytes"))
    }

    fn token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = one_of(headers, &["x-gitlab-token"])?.filter(|token| !token.is_empty());
        let token = token.ok_or(refuse("there is neither a signature nor a token"))?;
        if is_same(token.as_bytes(), self.secret.expose_secret().as_bytes()) {
            return Ok(());
        }
        Err(refuse("the token is another one"))
    }

    /// `v1,<base64>`, several with spaces between them, over `<id>.<timestamp>.<body>`. [Standard Webhooks]
    fn standard(&self, headers: &HeaderMap, signatures: &str, signed: &[u8]) -> Result<(), Refusal> {
        let id = one_of(headers, &["webhook-id"])?.filter(|id| !id.is_empty()).ok_or(refuse("there is no webhook-id"))?;
        let stamp = one_of(headers, &["webhook-timestamp"])?.ok_or(refuse("there is no webhook-timestamp"))?;
        let key = self.standard_key()?;
        let expected = hmac(&key, &[id.as_bytes(), b".", stamp.as_bytes(), b".", signed]);
        let versions = signatures.split(' ').take(SIGNATURES).filter_map(|text| text.strip_prefix("v1,"));
        let decoded = versions.filter_map(|text| STANDARD.decode(text).ok());
        let is_right = decoded.fold(false, |found, signature| found | bool::from(signature.ct_eq(&expected)));
        if !is_right {
            return Err(refuse("the signature is not that of the secret and these bytes"));
        }
        let seconds: u64 = stamp.parse().map_err(|_| refuse("the webhook-timestamp is no time"))?;
        let now = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if now.abs_diff(Duration::from_secs(seconds)) > TOLERANCE {
            return Err(refuse("it was signed more than five minutes from now: is it sent again, or is a clock wrong?"));
        }
        Ok(())
    }

    fn standard_key(&self) -> Result<Vec<u8>, Refusal> {
        let secret = self.secret.expose_secret();
        let Some(encoded) = secret.strip_prefix(STANDARD_SECRET) else { return Ok(secret.as_bytes().to_vec()) };
        let key = STANDARD.decode(encoded).ok().filter(|key| !key.is_empty());
        key.ok_or(refuse("our secret begins with whsec_ and is not base64 after that"))
    }
}

/// The first of these headers that is there. One that is there twice could be read in two ways.
fn one_of<'h>(headers: &'h HeaderMap, names: &[&str]) -> Result<Option<&'h str>, Refusal> {
    for name in names {
        let mut values = headers.get_all(*name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(refuse("a header of the signature is there twice"));
        }
        return value.to_str().map(Some).map_err(|_| refuse("a header of the signature is no text"));
    }
    Ok(None)
}
