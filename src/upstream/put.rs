//! Pushing manifests: under their digest, under tags, and into the index of those that refer to the same subject.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use oci::{Algorithm, Descriptor, Digest, Error, Hasher, Manifest, ManifestView, Reference, RepositoryName, Tag, media_type};
use outbound::Response;
use serde_json::{Value, json};
use telemetry::chain;

use crate::ask::{Access, Call, Remote};
use crate::budget::Cost;
use crate::manifest::content_digest;
use crate::outcome::{Refusal, Wanted, What};
use crate::payload::Payload;
use crate::push::Attempts;
use crate::wire::Method;

/// Tags in one request; registries take at least ten. [distribution-spec, Pushing Manifests with tags]
const TAGS_AT_ONCE: usize = 10;

const TAG_SET: &str = "oci-tag";
const SUBJECT: &str = "oci-subject";

impl Remote {
    pub(crate) async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        Ok(self.look_for(name, &Reference::Digest(digest.clone())).await?.is_some())
    }

    pub(crate) async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Error> {
        self.look_for(name, &Reference::Tag(tag.clone())).await
    }

    async fn look_for(&self, name: &RepositoryName, reference: &Reference) -> Result<Option<Digest>, Error> {
        match self.resolve(name, reference, Access::Push).await {
            Ok(stat) => Ok(Some(stat.digest)),
            Err(unknown) if unknown.is_unknown() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub(crate) async fn push_manifest(&self, name: &RepositoryName, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        let found = Hasher::digest(manifest.digest.algorithm(), &manifest.bytes);
        if found != manifest.digest {
            return Err(Error::DigestInvalid { reason: format!("the bytes of {} have the digest {found}", manifest.digest) });
        }
        let lists_referrers = match tags {
            // A registry computes the digest of what comes under a tag, and that is a sha256.
            [tag] if manifest.digest.algorithm() == Algorithm::Sha256 => {
                self.put(name, &Reference::Tag(tag.clone()), &[], manifest).await?.lists_referrers
            }
            tags => self.put_with_tags(name, tags, manifest).await?,
        };
        let view = ManifestView::parse(&manifest.bytes, Some(&manifest.media_type));
        match view.ok().and_then(|view| Some((view.subject.clone()?, view))) {
            Some((subject, view)) if !lists_referrers => self.refer(name, manifest, &subject.digest, view).await,
            _ => Ok(()),
        }
    }

    /// Puts it under its digest and asks for the tags in the same request; those that a registry does not confirm get their own.
    async fn put_with_tags(&self, name: &RepositoryName, tags: &[Tag], manifest: &Manifest) -> Result<bool, Error> {
        let by_digest = Reference::Digest(manifest.digest.clone());
        let mut answer = self.put(name, &by_digest, tags.get(..TAGS_AT_ONCE).unwrap_or(tags), manifest).await?;
        let knows_tags = !answer.tags.is_empty();
        for later in tags.chunks(TAGS_AT_ONCE).skip(1).filter(|_| knows_tags) {
            answer.tags.extend(self.put(name, &by_digest, later, manifest).await?.tags);
        }
        for tag in tags.iter().filter(|tag| !answer.tags.iter().any(|set| set == tag.as_str())) {
            self.put(name, &Reference::Tag(tag.clone()), &[], manifest).await?;
        }
        Ok(answer.lists_referrers)
    }

    /// One request, again when it fails in passing: it may be repeated without harm.
    async fn put(&self, name: &RepositoryName, reference: &Reference, tags: &[Tag], manifest: &Manifest) -> Result<Put, Error> {
        let mut url = self.url(name, &format!("manifests/{reference}"));
        for tag in tags {
            url.query_pairs_mut().append_pair("tag", tag.as_str());
        }
        let content_type = HeaderValue::try_from(&manifest.media_type);
        let content_type = content_type.map_err(|_| Error::ManifestInvalid { reason: "its media type is none".to_owned() })?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        let wanted = Wanted::push(name, What::Manifest(reference));
        let mut attempts = Attempts::default();
        loop {
            let call = Call::new(Method::Put, &url, name, Access::Push, Cost::Other);
            let call = call.with_headers(headers.clone()).with_payload(Payload::Bytes(manifest.bytes.clone()));
            let (error, is_passing) = match self.ask(call).await {
                Ok(reply) if reply.response.status == StatusCode::CREATED => return self.taken(manifest, &reply.response),
                Ok(reply) => {
                    let status = reply.response.status;
                    let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                    (self.unexpected(reply, &wanted).await, passing)
                }
                Err(refusal) => {
                    let passing = matches!(refusal, Refusal::Failed(_) | Refusal::TooMany { .. });
                    (self.refused(refusal, &wanted), passing)
                }
            };
            let Some(wait) = attempts.next(&error).filter(|_| is_passing) else {
                return Err(error);
            };
            tracing::info!(upstream = self.host(), repository = %name, %reference, error = %chain(&error), "a manifest is pushed again");
            self.clock().sleep(wait).await;
        }
    }

    fn taken(&self, manifest: &Manifest, response: &Response) -> Result<Put, Error> {
        let wanted = &manifest.digest;
        if let Some(digest) = content_digest(response)
            && digest.algorithm() == wanted.algorithm()
            && digest != *wanted
        {
            return Err(self.failed(format!("it took the manifest {wanted} and calls it {digest}")));
        }
        let tags = response.headers.get_all(TAG_SET).iter().filter_map(|value| value.to_str().ok());
        let tags = tags.flat_map(|text| text.split(',')).map(|tag| tag.trim().to_owned()).collect();
        Ok(Put { tags, lists_referrers: response.headers.contains_key(SUBJECT) })
    }

    /// Writes a manifest into the index under the tag that stands for the referrers of its subject.
    async fn refer(&self, name: &RepositoryName, manifest: &Manifest, subject: &Digest, view: ManifestView) -> Result<(), Error> {
        let descriptor = Descriptor {
            media_type: manifest.media_type.clone(),
            digest: manifest.digest.clone(),
            size: manifest.bytes.len() as u64,
            artifact_type: view.artifact_type,
            platform: None,
            annotations: view.annotations,
        };
        let reference = Reference::Tag(Tag::referrers_fallback(subject));
        let _turn = self.referring().await;
        let mut index = match self.manifest(name, &reference, Access::Push).await {
            // What others have written there is kept as it is.
            Ok(index) => serde_json::from_slice(&index.bytes).unwrap_or_else(|_| empty_index()),
            Err(unknown) if unknown.is_unknown() => empty_index(),
            Err(failure) => return Err(failure),
        };
        if !index["manifests"].is_array() {
            index = empty_index();
        }
        let Some(entries) = index["manifests"].as_array_mut() else { return Ok(()) };
        let digest = manifest.digest.to_string();
        if entries.iter().any(|entry| entry["digest"].as_str() == Some(&digest)) {
            return Ok(());
        }
        entries.push(json!(descriptor));
        let bytes = bytes::Bytes::from(index.to_string());
        let digest = Hasher::digest(Algorithm::Sha256, &bytes);
        let index = Manifest { digest, media_type: media_type::OCI_INDEX.to_owned(), bytes, warning: None };
        self.put(name, &reference, &[], &index).await?;
        Ok(())
    }
}

/// What an answer to a push says.
struct Put {
    /// Tags that were set beside the reference.
    tags: Vec<String>,
    /// Did it note the subject?
    lists_referrers: bool,
}

fn empty_index() -> Value {
    json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] })
}
