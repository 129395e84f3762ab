//! Putting responses together.

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LINK, LOCATION, WARNING};
use http::{HeaderMap, Response, StatusCode};
use oci::{Digest, Error, media_type};
use serde::Serialize;
use server::Body;

/// `Docker-Content-Digest`.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// `OCI-Subject`.
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// `OCI-Tag`.
pub(crate) const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// `OCI-Filters-Applied`.
pub(crate) const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// `OCI-Namespace`.
pub(crate) const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
/// `Docker-Upload-UUID`.
pub(crate) const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// An empty response.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A response with all of its body.
pub(crate) fn full(content_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    set(&mut response, CONTENT_TYPE, content_type);
    response
}

/// A response with a value as JSON.
pub(crate) fn json(content_type: &str, value: &impl Serialize) -> Result<Response<Body>, Error> {
    let body = serde_json::to_vec(value).map_err(|cause| Error::internal("writing an answer", cause))?;
    Ok(full(content_type, body))
}

/// Sets a header. A value that is no header text (a media type with a line end in it) is left out.
pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        response.headers_mut().insert(name, value);
    }
}

/// Adds one more line of a header.
pub(crate) fn add(response: &mut Response<Body>, name: HeaderName, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        response.headers_mut().append(name, value);
    }
}

/// The headers of content: digest, entity tag, type, length, ranges.
pub(crate) fn describe(response: &mut Response<Body>, digest: &Digest, content_type: &str, size: Option<u64>) {
    // Once in quotes; without them it is the digest.
    let tag = Bytes::from(entity_tag(digest));
    let headers = response.headers_mut();
    headers.reserve(8);
    if let Ok(value) = HeaderValue::from_maybe_shared(tag.slice(1..tag.len() - 1)) {
        headers.insert(CONTENT_DIGEST, value);
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(tag) {
        headers.insert(ETAG, value);
    }
    if let Some(size) = size {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    match known_type(content_type) {
        Some(known) => drop(response.headers_mut().insert(CONTENT_TYPE, known)),
        None => set(response, CONTENT_TYPE, content_type),
    }
}

/// The header of a type that most content has.
fn known_type(content_type: &str) -> Option<HeaderValue> {
    let known = media_type::MANIFESTS.iter().chain([&media_type::OCTET_STREAM]).find(|known| **known == content_type);
    known.map(|known| HeaderValue::from_static(known))
}

/// Tells that ranges of this content can be asked for.
pub(crate) fn accept_ranges(response: &mut Response<Body>) {
    response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
}

/// The strong entity tag of content: its digest.
pub(crate) fn entity_tag(digest: &Digest) -> String {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    ["\"", algorithm, ":", hex, "\""].concat()
}

/// Does `If-None-Match` hold this content? [RFC 9110 section 13.1.2: weak comparison]
pub(crate) fn none_match(headers: &HeaderMap, digest: &Digest) -> bool {
    if !headers.contains_key(http::header::IF_NONE_MATCH) {
        return false;
    }
    let tag = entity_tag(digest);
    let lines = headers.get_all(http::header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).any(|candidate| {
        let candidate = candidate.strip_prefix("W/").unwrap_or(candidate);
        candidate == "*" || candidate == tag
    })
}

/// 304 for content that the client has.
pub(crate) fn not_modified(digest: &Digest) -> Response<Body> {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    set(&mut response, CONTENT_DIGEST, digest.to_string());
    set(&mut response, ETAG, entity_tag(digest));
    response
}

/// `Location`.
pub(crate) fn locate(response: &mut Response<Body>, location: &str) {
    set(response, LOCATION, location);
}

/// `Link` to the next page. [RFC 5988]
pub(crate) fn link_next(response: &mut Response<Body>, target: &str) {
    set(response, LINK, format!("<{target}>; rel=\"next\""));
}

/// `Warning: 299 - "text"`. [distribution-spec, Warnings]
pub(crate) fn warn(response: &mut Response<Body>, text: Option<&String>) {
    if let Some(text) = text {
        let text: String =
            text.chars().filter(|letter| !letter.is_control() && !matches!(letter, '"' | '\\')).take(1000).collect();
        set(response, WARNING, format!("299 - \"{text}\""));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_match_weakly_and_in_lists() {
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        let matches = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::IF_NONE_MATCH, value.parse().unwrap());
            none_match(&headers, &digest)
        };
        assert!(matches(&format!("\"{digest}\"")));
        assert!(matches(&format!("\"x\", W/\"{digest}\"")));
        assert!(matches("*"));
        assert!(!matches("\"x\""));
        assert!(!matches(&digest.to_string()));
    }
}
