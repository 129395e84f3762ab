//! Pushing manifests, and deleting.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use oci::{Digest, Error, Reference, RepositoryName, Tag};
use registry::{ManifestPush, Registry};
use server::{Body, RequestBody};

use crate::caller::Caller;
use crate::service::Api;
use crate::{body, respond};

/// The most tags that one push may set. The specification asks for at least 10; the answer names each in a header.
const MAX_TAGS: usize = 64;

impl Api {
    /// The registry, whose changes are those of whoever sent the request.
    pub(crate) fn registry_for(&self, caller: &Caller) -> Registry {
        self.parts().registry.on_behalf(caller.origin())
    }

    /// [end-7] PUT of a manifest.
    pub(crate) async fn push_manifest(
        &self,
        name: &RepositoryName,
        reference: Reference,
        tags: Vec<Tag>,
        headers: &HeaderMap,
        request: RequestBody,
        caller: &Caller,
    ) -> Result<Response<Body>, Error> {
        self.parts().names.check_push(name)?;
        if tags.len() > MAX_TAGS {
            return Err(Error::TooManyTags { limit: MAX_TAGS });
        }
        let registry = self.registry_for(caller);
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body::Collected { bytes, room } = body::collect(request, self.room()).await?;
        let location = self.location(&format!("{name}/manifests/{reference}"));
        let push = ManifestPush { reference, tags, content_type, bytes };
        let pushed = registry.push_manifest(name, push).await?;
        drop(room);
        let mut response = respond::empty(StatusCode::CREATED);
        respond::locate(&mut response, &location);
        respond::set(&mut response, respond::CONTENT_DIGEST, pushed.digest.to_string());
        if let Some(subject) = pushed.subject {
            respond::set(&mut response, respond::SUBJECT, subject.to_string());
        }
        for tag in pushed.tags {
            respond::add(&mut response, respond::TAG, tag.as_str());
        }
        Ok(response)
    }

    /// [end-9] DELETE of a tag, or of a manifest with all its tags.
    pub(crate) async fn delete_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        caller: &Caller,
    ) -> Result<Response<Body>, Error> {
        let registry = self.registry_for(caller);
        match reference {
            Reference::Tag(tag) => registry.delete_tag(name, tag).await?,
            Reference::Digest(digest) => registry.delete_manifest(name, digest).await?,
        }
        Ok(respond::empty(StatusCode::ACCEPTED))
    }

    /// [end-10] DELETE of a blob.
    pub(crate) async fn delete_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        caller: &Caller,
    ) -> Result<Response<Body>, Error> {
        self.registry_for(caller).delete_blob(name, digest).await?;
        Ok(respond::empty(StatusCode::ACCEPTED))
    }
}
