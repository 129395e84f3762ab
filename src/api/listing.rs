//! Listings: tags, referrers, the catalog.

use http::Response;
use oci::{Descriptor, Digest, Error, Listing, Page, ReferrersList, RepositoryName, Tag, media_type};
use serde::Serialize;
use server::Body;

use crate::caller::Caller;
use crate::route::Source;
use crate::service::Api;
use crate::{query, respond};

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: &'a [Tag],
}

#[derive(Serialize)]
struct Catalog<'a> {
    repositories: &'a [RepositoryName],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'a [Descriptor],
}

impl Api {
    /// [end-8] The tags of a repository.
    pub(crate) async fn tags(&self, source: &Source, page: &Page) -> Result<Response<Body>, Error> {
        let listing = self.parts().discover.tags(&source.name, page).await?;
        let name = listed_name(source);
        let body = TagList { name: &name, tags: &listing.entries };
        let mut response = respond::json("application/json", &body)?;
        self.finish_listing(&mut response, &listing, &format!("{name}/tags/list"), page, &[("ns", source.namespace.as_deref())]);
        Ok(response)
    }

    /// [end-12] What refers to a manifest.
    pub(crate) async fn referrers(
        &self,
        source: &Source,
        subject: &Digest,
        artifact_type: Option<String>,
        page: &Page,
    ) -> Result<Response<Body>, Error> {
        let wanted = ReferrersList { artifact_type, page: page.clone() };
        let listing = self.parts().discover.referrers(&source.name, subject, &wanted).await?;
        let index = Index { schema_version: 2, media_type: media_type::OCI_INDEX, manifests: &listing.entries };
        let mut response = respond::json(media_type::OCI_INDEX, &index)?;
        if wanted.artifact_type.is_some() {
            respond::set(&mut response, respond::FILTERS_APPLIED, "artifactType");
        }
        let kept = [("artifactType", wanted.artifact_type.as_deref()), ("ns", source.namespace.as_deref())];
        let path = format!("{}/referrers/{subject}", listed_name(source));
        self.finish_listing(&mut response, &listing, &path, page, &kept);
        Ok(response)
    }

    /// Docker's listing of all repositories: of those that the caller may pull.
    pub(crate) async fn catalog(&self, page: &Page, caller: &Caller) -> Result<Response<Body>, Error> {
        if caller.identity().is_some_and(|identity| !identity.may(auth::Verb::Pull, None)) {
            return respond::json("application/json", &Catalog { repositories: &[] });
        }
        let registry = &self.parts().registry;
        let mut listing = registry.repositories(page).await?;
        if caller.identity().is_some() {
            let wanted = page.limit.unwrap_or(usize::MAX).min(registry.limits().page);
            listing = self.visible(listing, wanted, caller).await?;
        }
        let body = Catalog { repositories: &listing.entries };
        let mut response = respond::json("application/json", &body)?;
        self.finish_listing(&mut response, &listing, "_catalog", page, &[]);
        Ok(response)
    }

    /// A page of what the caller may see: what he may not see has no place on it, and leaves none empty.
    async fn visible(
        &self,
        mut listing: Listing<RepositoryName>,
        wanted: usize,
        caller: &Caller,
    ) -> Result<Listing<RepositoryName>, Error> {
        let mut seen: Vec<RepositoryName> = Vec::new();
        loop {
            seen.extend(listing.entries.into_iter().filter(|name| caller.may_see(name)));
            if seen.len() > wanted || listing.next.is_none() {
                break;
            }
            let next = Page { limit: None, last: listing.next };
            listing = self.parts().registry.repositories(&next).await?;
        }
        let has_more = seen.len() > wanted;
        seen.truncate(wanted);
        let next = if has_more { seen.last().map(RepositoryName::to_string) } else { None };
        Ok(Listing { entries: seen, next, warning: None })
    }

    /// `Link` with everything that the next request must repeat, and `Warning`.
    fn finish_listing<T>(
        &self,
        response: &mut Response<Body>,
        listing: &Listing<T>,
        path: &str,
        page: &Page,
        kept: &[(&str, Option<&str>)],
    ) {
        respond::warn(response, listing.warning.as_ref());
        let Some(next) = &listing.next else { return };
        let limit = page.limit.unwrap_or(listing.entries.len()).min(listing.entries.len().max(1)).to_string();
        let mut pairs = vec![("n", Some(limit.as_str())), ("last", Some(next.as_str()))];
        pairs.extend_from_slice(kept);
        respond::link_next(response, &self.location(&format!("{path}{}", query::encode(&pairs))));
    }
}

/// The name that a client of this repository uses: the one in its path.
fn listed_name(source: &Source) -> String {
    source.asked.as_ref().unwrap_or(&source.name).to_string()
}
