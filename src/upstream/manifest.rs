//! Manifests: HEAD to resolve, GET to have, and no byte believed without its digest.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use oci::{Algorithm, Digest, Error, Hasher, Manifest, ManifestStat, Reference, RepositoryName, media_type};
use outbound::Response;
use serde::Deserialize;

use crate::ask::{Access, Call, Remote};
use crate::budget::Cost;
use crate::outcome::{Wanted, What};
use crate::wire::{Method, Reply};

/// The largest manifest that is taken.
const MANIFEST_LIMIT: usize = 16 << 20;

const CONTENT_DIGEST: &str = "docker-content-digest";

/// Types that servers send when they do not know.
const GENERIC: [&str; 4] = [media_type::OCTET_STREAM, "application/json", "text/plain", "binary/octet-stream"];

/// What a manifest says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

impl Remote {
    /// As [`oci::Pull::resolve`]. `access` is what the caller is about to do with it.
    pub(crate) async fn resolve(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        access: Access<'_>,
    ) -> Result<ManifestStat, Error> {
        let reply = self.ask_manifest(Method::Head, name, reference, access).await?;
        match reply.response.status {
            StatusCode::OK => {
                if let Some(stat) = self.stat(&reply.response, reference)? {
                    return Ok(stat);
                }
            }
            status if is_head_unknown(status) => {}
            _ => return Err(self.unexpected(reply, &wanted(name, reference, access)).await),
        }
        Ok(self.manifest(name, reference, access).await?.stat())
    }

    /// As [`oci::Pull::manifest`]. In the background a HEAD goes before it, which is free, when it is not known what is left of the
    /// quota.
    pub(crate) async fn manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        access: Access<'_>,
    ) -> Result<Manifest, Error> {
        if self.wants_look() {
            let reply = self.ask_manifest(Method::Head, name, reference, access).await?;
            if reply.response.status != StatusCode::OK && !is_head_unknown(reply.response.status) {
                return Err(self.unexpected(reply, &wanted(name, reference, access)).await);
            }
        }
        let reply = self.ask_manifest(Method::Get, name, reference, access).await?;
        if reply.response.status != StatusCode::OK {
            return Err(self.unexpected(reply, &wanted(name, reference, access)).await);
        }
        let announced = content_digest(&reply.response);
        let content_type = reply.response.header(CONTENT_TYPE).map(media_type::essence);
        let length = reply.response.content_length();
        let bytes = reply.response.bytes(MANIFEST_LIMIT).await.map_err(|cause| self.failed(cause.to_string()))?;
        if length.is_some_and(|length| length != bytes.len() as u64) {
            return Err(self.failed("the manifest is not as long as announced"));
        }
        let digest = self.verified(reference, announced, &bytes)?;
        let media_type = self.media_type(content_type, &bytes)?;
        Ok(Manifest { digest, media_type, bytes, warning: None })
    }

    async fn ask_manifest(
        &self,
        method: Method,
        name: &RepositoryName,
        reference: &Reference,
        access: Access<'_>,
    ) -> Result<Reply, Error> {
        let url = self.url(name, &format!("manifests/{reference}"));
        let mut headers = HeaderMap::new();
        for accepted in media_type::MANIFESTS {
            headers.append(ACCEPT, HeaderValue::from_static(accepted));
        }
        let cost = match (method, access) {
            (Method::Get, _) => Cost::Manifest,
            (_, Access::Pull) => Cost::Look,
            // Whether something is to be pushed there: no pull that a quota would count.
            _ => Cost::Other,
        };
        let reply = self.ask(Call::new(method, &url, name, access, cost).with_headers(headers)).await;
        reply.map_err(|refusal| self.refused(refusal, &wanted(name, reference, access)))
    }

    /// What a HEAD tells; `None` if it leaves something out that only the body can tell.
    fn stat(&self, response: &Response, reference: &Reference) -> Result<Option<ManifestStat>, Error> {
        let announced = content_digest(response);
        let digest = match (reference, announced) {
            (Reference::Tag(_), announced) => announced,
            (Reference::Digest(wanted), Some(announced)) if is_contradicted(wanted, &announced) => {
                return Err(self.failed(format!("it answers with {announced} where {wanted} was asked for")));
            }
            (Reference::Digest(wanted), _) => Some(wanted.clone()),
        };
        let media_type = response.header(CONTENT_TYPE).map(media_type::essence).filter(|text| is_telling(text));
        let (Some(digest), Some(media_type), Some(size)) = (digest, media_type, response.content_length()) else {
            return Ok(None);
        };
        Ok(Some(ManifestStat { digest, media_type, size, warning: None }))
    }

    /// The digest of `bytes`, which is the one asked for and the one announced.
    fn verified(&self, reference: &Reference, announced: Option<Digest>, bytes: &Bytes) -> Result<Digest, Error> {
        let expected = match (reference, announced) {
            (Reference::Digest(wanted), _) => Some(wanted.clone()),
            (Reference::Tag(_), announced) => announced,
        };
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = Hasher::digest(algorithm, bytes);
        match expected {
            Some(expected) if expected != digest => {
                Err(self.failed(format!("the manifest {reference} has the digest {digest}, not {expected}")))
            }
            _ => Ok(digest),
        }
    }

    /// The type it was sent with, else the one that the body names, else the one of its shape.
    fn media_type(&self, content_type: Option<String>, bytes: &[u8]) -> Result<String, Error> {
        if let Some(content_type) = content_type.filter(|text| is_telling(text)) {
            return Ok(content_type);
        }
        let shape: Option<Shape> = serde_json::from_slice(bytes).ok();
        let found = shape.and_then(|shape| {
            let by_shape = || match (shape.manifests, shape.layers) {
                (Some(_), None) => Some(media_type::OCI_INDEX.to_owned()),
                (None, Some(_)) => Some(media_type::OCI_MANIFEST.to_owned()),
                _ => None,
            };
            shape.media_type.filter(|text| !text.is_empty()).or_else(by_shape)
        });
        found.ok_or_else(|| self.failed("the manifest came without a media type"))
    }
}

fn wanted<'a>(name: &'a RepositoryName, reference: &'a Reference, access: Access<'_>) -> Wanted<'a> {
    match access {
        Access::Pull => Wanted::pull(name, What::Manifest(reference)),
        Access::Push | Access::Mount(_) => Wanted::push(name, What::Manifest(reference)),
    }
}

/// Some registries, and some proxies before them, know no HEAD.
fn is_head_unknown(status: StatusCode) -> bool {
    matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

fn is_telling(media_type: &str) -> bool {
    !media_type.is_empty() && !GENERIC.contains(&media_type)
}

/// One that cannot be verified is as good as none.
pub(crate) fn content_digest(response: &Response) -> Option<Digest> {
    Digest::parse(response.header(CONTENT_DIGEST)?.trim()).ok()
}

/// Digests of two algorithms can both be right.
fn is_contradicted(wanted: &Digest, announced: &Digest) -> bool {
    wanted.algorithm() == announced.algorithm() && wanted != announced
}
