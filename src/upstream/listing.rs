//! Tags and referrers.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, StatusCode};
use oci::{Descriptor, Digest, Error, Listing, Page, Reference, ReferrersList, RepositoryName, Tag, media_type};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::ask::{Access, Call, Remote};
use crate::budget::Cost;
use crate::outcome::{Wanted, What};
use crate::wire::{Method, Reply};

/// The most that is read of one page.
const PAGE_LIMIT: usize = 4 << 20;

/// The most referrers of one answer; more are paged.
const MAX_PAGE: usize = 1000;

/// The most pages of referrers that are read for one answer.
const MAX_PAGES: usize = 10;

#[derive(Deserialize)]
struct Tags {
    /// Some registries say `null` for none.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Value>>,
}

impl Remote {
    pub(crate) async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<Tag>, Error> {
        let wanted = Wanted::pull(name, What::Repository);
        let reply = self.ask_json(&self.tags_url(name, page), name, "application/json", &wanted).await?;
        if reply.response.status != StatusCode::OK {
            return Err(self.unexpected(reply, &wanted).await);
        }
        let next = self.next_page(&reply.response);
        let tags: Tags = self.json(reply).await?;
        let tags = tags.tags.unwrap_or_default();
        let end = tags.last().cloned();
        let mut entries: Vec<Tag> = tags.iter().filter_map(|tag| Tag::parse(tag).ok()).collect();
        entries.sort_unstable();
        entries.dedup();

        // A registry that knows no pages gives everything; the page is cut here then.
        let is_too_much = page.limit.is_some_and(|limit| entries.len() > limit);
        let is_repeated = page.last.as_ref().is_some_and(|last| next.is_none() && entries.iter().any(|tag| tag.as_str() == last));
        if is_too_much || is_repeated {
            return Ok(Listing::cut(entries, page, usize::MAX, Tag::to_string));
        }
        // A link without `last` goes on after the last tag, wherever the order of the registry has put it.
        let next = next.and_then(|url| last_of(&url).or(end)).filter(|next| Some(next) != page.last.as_ref());
        Ok(Listing { entries, next, warning: None })
    }

    fn tags_url(&self, name: &RepositoryName, page: &Page) -> Url {
        let mut url = self.url(name, "tags/list");
        if let Some(limit) = page.limit {
            // Zero is an error to some; one is cut to zero here.
            url.query_pairs_mut().append_pair("n", &limit.max(1).to_string());
        }
        if let Some(last) = &page.last {
            url.query_pairs_mut().append_pair("last", last);
        }
        url
    }

    pub(crate) async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, Error> {
        let found = match self.referrers_by_api(name, subject, query).await? {
            Some(found) => found,
            None => self.referrers_by_tag(name, subject).await?,
        };
        let wanted = |descriptor: &Descriptor| {
            query.artifact_type.is_none() || descriptor.artifact_type.as_ref() == query.artifact_type.as_ref()
        };
        // A map: in the order of digests, and each of them once.
        let sorted: BTreeMap<String, Descriptor> =
            found.into_iter().filter(wanted).map(|descriptor| (descriptor.digest.to_string(), descriptor)).collect();
        Ok(Listing::cut(sorted.into_values(), &query.page, MAX_PAGE, |descriptor| descriptor.digest.to_string()))
    }

    /// `None` if the registry does not have this API.
    async fn referrers_by_api(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let wanted = Wanted::pull(name, What::Repository);
        let mut url = self.url(name, &format!("referrers/{subject}"));
        if let Some(artifact_type) = &query.artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let reply = self.ask_json(&url, name, media_type::OCI_INDEX, &wanted).await?;
            match reply.response.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND
                | StatusCode::BAD_REQUEST
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_IMPLEMENTED => {
                    return Ok(None);
                }
                _ => return unless_unknown(self.unexpected(reply, &wanted).await),
            }
            let next = self.next_page(&reply.response);
            let index: Result<Index, Error> = self.json(reply).await;
            match index {
                Ok(index) => found.extend(descriptors(index)),
                // A page of a forge, served with 200 for every address.
                Err(_) if page == 0 => return Ok(None),
                Err(error) => return Err(error),
            }
            let Some(next) = next else {
                return Ok(Some(found));
            };
            url = next;
        }
        tracing::warn!(upstream = self.host(), repository = name.as_str(), %subject, "too many pages of referrers, the rest is left out");
        Ok(Some(found))
    }

    /// The index under the tag that stands for the API. [distribution-spec, Unavailable referrers API]
    async fn referrers_by_tag(&self, name: &RepositoryName, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let reference = Reference::Tag(Tag::referrers_fallback(subject));
        match self.manifest(name, &reference, Access::Pull).await {
            Ok(manifest) => Ok(serde_json::from_slice(&manifest.bytes).map(descriptors).unwrap_or_default()),
            Err(error) if error.is_unknown() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn ask_json(
        &self,
        url: &Url,
        name: &RepositoryName,
        accept: &'static str,
        wanted: &Wanted<'_>,
    ) -> Result<Reply, Error> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        let call = Call::new(Method::Get, url, name, Access::Pull, Cost::Look).with_headers(headers);
        self.ask(call).await.map_err(|refusal| self.refused(refusal, wanted))
    }

    async fn json<T: DeserializeOwned>(&self, reply: Reply) -> Result<T, Error> {
        let from = outbound::redacted(&reply.response.url);
        let bytes: Bytes = reply.response.bytes(PAGE_LIMIT).await.map_err(|cause| self.failed(cause.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|cause| self.failed(format!("the answer of {from} cannot be read: {cause}")))
    }
}

/// An unknown subject or repository has no referrers; that is no error.
fn unless_unknown(error: Error) -> Result<Option<Vec<Descriptor>>, Error> {
    if error.is_unknown() { Ok(Some(Vec::new())) } else { Err(error) }
}

/// Entries that are no descriptors, or have digests that cannot be verified, are of no use to anyone.
fn descriptors(index: Index) -> Vec<Descriptor> {
    let entries = index.manifests.unwrap_or_default();
    entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect()
}

fn last_of(url: &Url) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == "last").map(|(_, value)| value.into_owned())
}
