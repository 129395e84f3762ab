//! Routes: method and path parsed into one typed value.
//!
//! Repository names hold slashes, so a path is read from the right: its last segments say what is asked, and all before them is
//! the name. What is parsed is valid: no handler sees a malformed name, tag or digest.

use http::Method;
use oci::{Algorithm, Digest, Error, Page, Reference, RepositoryName, Tag};
use percent_encoding::percent_decode_str;
use registry::UploadId;

use crate::query::Query;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /livez`: is the process alive?
    Live,
    /// `GET /readyz`: should it be sent requests?
    Ready,
    /// `GET /metrics`.
    Metrics,
    /// `GET` and `POST /token`. [distribution, spec/auth]
    Token { query: Option<String>, by_form: bool },
    /// `GET /v2/` [end-1].
    Version,
    /// `GET /v2/_catalog`, Docker's extension.
    Catalog { page: Page },
    /// `GET /v2/<name>/tags/list` [end-8].
    Tags { source: Source, page: Page },
    /// `GET /v2/<name>/referrers/<digest>` [end-12].
    Referrers { source: Source, subject: Digest, artifact_type: Option<String>, page: Page },
    /// `GET` and `HEAD /v2/<name>/manifests/<reference>` [end-3].
    PullManifest { source: Source, reference: Reference, head: bool },
    /// `PUT /v2/<name>/manifests/<reference>` [end-7].
    PushManifest { name: RepositoryName, reference: Reference, tags: Vec<Tag> },
    /// `DELETE /v2/<name>/manifests/<reference>` [end-9].
    DeleteManifest { name: RepositoryName, reference: Reference },
    /// `GET` and `HEAD /v2/<name>/blobs/<digest>` [end-2].
    PullBlob { source: Source, digest: Digest, head: bool },
    /// `DELETE /v2/<name>/blobs/<digest>` [end-10].
    DeleteBlob { name: RepositoryName, digest: Digest },
    /// `POST /v2/<name>/blobs/uploads/` [end-4a, end-4c].
    StartUpload { name: RepositoryName, algorithm: Algorithm },
    /// `POST /v2/<name>/blobs/uploads/?digest=` [end-4b].
    PushBlob { name: RepositoryName, digest: Digest },
    /// `POST /v2/<name>/blobs/uploads/?mount=` [end-11].
    MountBlob { name: RepositoryName, digest: Digest, from: Option<RepositoryName> },
    /// `GET /v2/<name>/blobs/uploads/<id>` [end-13].
    UploadStatus { name: RepositoryName, id: UploadId },
    /// `PATCH /v2/<name>/blobs/uploads/<id>` [end-5].
    AppendUpload { name: RepositoryName, id: UploadId },
    /// `PUT /v2/<name>/blobs/uploads/<id>?digest=` [end-6].
    FinishUpload { name: RepositoryName, id: UploadId, digest: Digest },
    /// `DELETE /v2/<name>/blobs/uploads/<id>` [end-14].
    CancelUpload { name: RepositoryName, id: UploadId },
}

/// The repository of a pull: its name and the namespace that the client named with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name in the path; after it is resolved, the name under which the repository is stored.
    pub name: RepositoryName,
    /// `?ns=`. [Registry Proxying]
    pub namespace: Option<String>,
    /// The name in the path, where the stored one is another.
    pub asked: Option<RepositoryName>,
    /// Whether it is known to be no upstream's, so that none need be asked.
    pub hosted: bool,
}

/// Why a request is no route.
#[derive(Debug)]
pub enum Refusal {
    /// There is nothing at this path.
    NoSuchEndpoint,
    /// There is, but not for this method.
    Method {
        /// The methods that there are, for `Allow`.
        allow: &'static str,
    },
    /// A part of it is malformed.
    Malformed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

impl Route {
    /// Parses method, path and query.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let path = percent_decode_str(path).decode_utf8();
        let path = path.map_err(|_| Error::NameInvalid { reason: "the path is not UTF-8".to_owned() })?;
        if path == "/token" {
            return token(method, query);
        }
        let query = Query::parse(query);
        match path.as_ref() {
            "/livez" => return reading(method).map(|()| Self::Live),
            "/readyz" => return reading(method).map(|()| Self::Ready),
            "/metrics" => return reading(method).map(|()| Self::Metrics),
            "/v2" | "/v2/" => return reading(method).map(|()| Self::Version),
            "/v2/_catalog" => {
                reading(method)?;
                return Ok(Self::Catalog { page: page(&query)? });
            }
            _ => {}
        }
        let rest = path.strip_prefix("/v2").filter(|rest| rest.starts_with('/')).ok_or(Refusal::NoSuchEndpoint)?;
        match ending(rest) {
            ("blobs", "uploads", name) => Self::uploads(method, name, &query),
            ("uploads", id, rest) if rest == "/blobs" || rest.ends_with("/blobs") => {
                let name = &rest[..rest.len() - "/blobs".len()];
                if id.is_empty() { Self::uploads(method, name, &query) } else { Self::upload(method, name, id, &query) }
            }
            ("blobs", digest, name) => Self::blob(method, name, digest, &query),
            ("manifests", reference, name) => Self::manifest(method, name, reference, &query),
            ("tags", "list", name) => {
                let source = source(name, &query)?;
                reading(method)?;
                Ok(Self::Tags { source, page: page(&query)? })
            }
            ("referrers", subject, name) => {
                let (source, subject) = (source(name, &query)?, digest(subject)?);
                reading(method)?;
                let artifact_type = query.first("artifactType").map(str::to_owned);
                Ok(Self::Referrers { source, subject, artifact_type, page: page(&query)? })
            }
            _ => Err(Refusal::NoSuchEndpoint),
        }
    }

    fn uploads(method: &Method, name: &str, query: &Query) -> Result<Self, Refusal> {
        let name = repository(name)?;
        if method != Method::POST {
            return Err(Refusal::Method { allow: "POST" });
        }
        if let Some(mount) = query.first("mount") {
            let from = query.first("from").map(named).transpose()?;
            return Ok(Self::MountBlob { name, digest: digest(mount)?, from });
        }
        if let Some(pushed) = query.first("digest") {
            return Ok(Self::PushBlob { name, digest: digest(pushed)? });
        }
        let algorithm = match query.first("digest-algorithm") {
            None => Algorithm::Sha256,
            Some(text) => text.parse().map_err(|cause: oci::DigestError| Error::DigestInvalid { reason: cause.to_string() })?,
        };
        Ok(Self::StartUpload { name, algorithm })
    }

    fn upload(method: &Method, name: &str, id: &str, query: &Query) -> Result<Self, Refusal> {
        let name = repository(name)?;
        let id: UploadId = id.parse().map_err(|_| Error::BlobUploadUnknown { id: id.chars().take(64).collect() })?;
        match *method {
            Method::GET | Method::HEAD => Ok(Self::UploadStatus { name, id }),
            Method::PATCH => Ok(Self::AppendUpload { name, id }),
            Method::DELETE => Ok(Self::CancelUpload { name, id }),
            Method::PUT => {
                let digest = match query.first("digest") {
                    Some(text) => digest(text)?,
                    None => return Err(Error::DigestInvalid { reason: "the query has no digest".to_owned() }.into()),
                };
                Ok(Self::FinishUpload { name, id, digest })
            }
            _ => Err(Refusal::Method { allow: "GET, HEAD, PATCH, PUT, DELETE" }),
        }
    }

    fn blob(method: &Method, name: &str, text: &str, query: &Query) -> Result<Self, Refusal> {
        let (source, digest) = (source(name, query)?, digest(text)?);
        match *method {
            Method::GET => Ok(Self::PullBlob { source, digest, head: false }),
            Method::HEAD => Ok(Self::PullBlob { source, digest, head: true }),
            Method::DELETE => Ok(Self::DeleteBlob { name: source.name, digest }),
            _ => Err(Refusal::Method { allow: "GET, HEAD, DELETE" }),
        }
    }

    fn manifest(method: &Method, name: &str, reference: &str, query: &Query) -> Result<Self, Refusal> {
        let (source, reference) = (source(name, query)?, Reference::parse(reference)?);
        match *method {
            Method::GET => Ok(Self::PullManifest { source, reference, head: false }),
            Method::HEAD => Ok(Self::PullManifest { source, reference, head: true }),
            Method::PUT => {
                let parse = |tag: &str| Tag::parse(tag).map_err(|cause| Error::TagInvalid { reason: cause.to_string() });
                let tags = query.all("tag").map(parse).collect::<Result<_, _>>()?;
                Ok(Self::PushManifest { name: source.name, reference, tags })
            }
            Method::DELETE => Ok(Self::DeleteManifest { name: source.name, reference }),
            _ => Err(Refusal::Method { allow: "GET, HEAD, PUT, DELETE" }),
        }
    }

    /// Does it change what is stored?
    #[must_use]
    pub fn is_change(&self) -> bool {
        match self {
            Self::PushManifest { .. }
            | Self::DeleteManifest { .. }
            | Self::DeleteBlob { .. }
            | Self::StartUpload { .. }
            | Self::PushBlob { .. }
            | Self::MountBlob { .. }
            | Self::AppendUpload { .. }
            | Self::FinishUpload { .. }
            | Self::CancelUpload { .. } => true,
            Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Token { .. }
            | Self::Version
            | Self::Catalog { .. }
            | Self::Tags { .. }
            | Self::Referrers { .. }
            | Self::PullManifest { .. }
            | Self::PullBlob { .. }
            | Self::UploadStatus { .. } => false,
        }
    }

    /// The source of a route that reads a repository and so may mean a cached one.
    pub(crate) fn source_mut(&mut self) -> Option<&mut Source> {
        match self {
            Self::Tags { source, .. }
            | Self::Referrers { source, .. }
            | Self::PullManifest { source, .. }
            | Self::PullBlob { source, .. } => Some(source),
            Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Token { .. }
            | Self::Version
            | Self::Catalog { .. }
            | Self::PushManifest { .. }
            | Self::DeleteManifest { .. }
            | Self::DeleteBlob { .. }
            | Self::StartUpload { .. }
            | Self::PushBlob { .. }
            | Self::MountBlob { .. }
            | Self::UploadStatus { .. }
            | Self::AppendUpload { .. }
            | Self::FinishUpload { .. }
            | Self::CancelUpload { .. } => None,
        }
    }

    /// Its name in logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ready => "ready",
            Self::Metrics => "metrics",
            Self::Token { .. } => "token",
            Self::Version => "version",
            Self::Catalog { .. } => "catalog",
            Self::Tags { .. } => "tags",
            Self::Referrers { .. } => "referrers",
            Self::PullManifest { .. } => "pull_manifest",
            Self::PushManifest { .. } => "push_manifest",
            Self::DeleteManifest { .. } => "delete_manifest",
            Self::PullBlob { .. } => "pull_blob",
            Self::DeleteBlob { .. } => "delete_blob",
            Self::StartUpload { .. } => "start_upload",
            Self::PushBlob { .. } => "push_blob",
            Self::MountBlob { .. } => "mount_blob",
            Self::UploadStatus { .. } => "upload_status",
            Self::AppendUpload { .. } => "append_upload",
            Self::FinishUpload { .. } => "finish_upload",
            Self::CancelUpload { .. } => "cancel_upload",
        }
    }
}

fn reading(method: &Method) -> Result<(), Refusal> {
    if matches!(*method, Method::GET | Method::HEAD) { Ok(()) } else { Err(Refusal::Method { allow: "GET, HEAD" }) }
}

fn token(method: &Method, query: Option<&str>) -> Result<Route, Refusal> {
    match *method {
        Method::GET => Ok(Route::Token { query: query.map(str::to_owned), by_form: false }),
        Method::POST => Ok(Route::Token { query: None, by_form: true }),
        _ => Err(Refusal::Method { allow: "GET, POST" }),
    }
}

/// The last two segments of a path, and what stands before them: nothing, or a slash and more.
fn ending(path: &str) -> (&str, &str, &str) {
    let (rest, last) = path.rsplit_once('/').unwrap_or(("", path));
    let (name, before) = rest.rsplit_once('/').unwrap_or(("", rest));
    (before, last, name)
}

fn named(name: &str) -> Result<RepositoryName, Error> {
    RepositoryName::parse(name).map_err(|cause| Error::NameInvalid { reason: cause.to_string() })
}

/// The name in a path: what stands before its ending, after the slash.
fn repository(path: &str) -> Result<RepositoryName, Error> {
    named(path.strip_prefix('/').unwrap_or(path))
}

fn source(path: &str, query: &Query) -> Result<Source, Error> {
    Ok(Source { name: repository(path)?, namespace: query.first("ns").map(str::to_owned), asked: None, hosted: false })
}

fn digest(text: &str) -> Result<Digest, Error> {
    Digest::parse(text).map_err(|cause| Error::DigestInvalid { reason: cause.to_string() })
}

/// `n` and `last`. A number too large is the largest page.
fn page(query: &Query) -> Result<Page, Error> {
    let limit = match query.first("n") {
        None => None,
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(text.parse().unwrap_or(usize::MAX)),
        Some(_) => return Err(Error::SizeInvalid { reason: "n is not a number".to_owned() }),
    };
    Ok(Page { limit, last: query.first("last").map(str::to_owned) })
}

#[cfg(test)]
mod tests;
