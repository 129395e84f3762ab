//! Input: a method, a space, and the target of a request: `GET /v2/library/nginx/tags/list?n=5`.

use api::route::{Refusal, Route, Source};
use http::Method;
use oci::{Algorithm, Error, MAX_NAME_LENGTH, Page, RepositoryName, Tag};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub(crate) fn target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some((method, target)) = text.split_once(' ') else { return };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    match parse(&method, target) {
        Ok(route) => holds(&route, &method),
        Err(Refusal::NoSuchEndpoint) => {}
        Err(Refusal::Method { allow }) => refused(&method, target, allow),
        Err(Refusal::Malformed(error)) => malformed(&error),
    }
}

fn parse(method: &Method, target: &str) -> Result<Route, Refusal> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    Route::parse(method, path, query)
}

fn holds(route: &Route, method: &Method) {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    // A token is asked for by a form, and nothing that is stored changes.
    assert_eq!(route.is_change(), !reads && !matches!(route, Route::Token { .. }), "{method} {}", route.label());
    for name in names(route) {
        assert!(name.as_str().len() <= MAX_NAME_LENGTH);
        assert_eq!(RepositoryName::parse(name.as_str()).as_ref(), Ok(name));
    }
    if let Route::PullManifest { head, .. } | Route::PullBlob { head, .. } = route {
        assert_eq!(*head, method == Method::HEAD);
    }
    if let Route::PushManifest { tags, .. } = route {
        assert!(tags.iter().all(|tag| Tag::parse(tag.as_str()).is_ok()));
    }
    let written = written(route);
    assert_eq!(parse(method, &written).as_ref().unwrap(), route, "{written}");
}

/// The methods that are named as allowed are, and the one that was refused is not among them.
fn refused(method: &Method, target: &str, allow: &str) {
    assert!(allow.split(", ").all(|allowed| allowed != method.as_str()), "{method} is allowed");
    for allowed in allow.split(", ") {
        let allowed = Method::from_bytes(allowed.as_bytes()).unwrap();
        assert!(!matches!(parse(&allowed, target), Err(Refusal::Method { .. })), "{allowed} is not allowed");
    }
}

/// What is malformed is the client's fault, and is repeated in part only.
fn malformed(error: &Error) {
    let known = matches!(
        error,
        Error::NameInvalid { .. }
            | Error::DigestInvalid { .. }
            | Error::TagInvalid { .. }
            | Error::SizeInvalid { .. }
            | Error::BlobUploadUnknown { .. }
    );
    assert!(known, "{error}");
    assert!(error.to_string().len() <= 2048, "{error}");
}

fn names(route: &Route) -> Vec<&RepositoryName> {
    match route {
        Route::Live | Route::Ready | Route::Metrics | Route::Token { .. } | Route::Version | Route::Catalog { .. } => Vec::new(),
        Route::Tags { source, .. }
        | Route::Referrers { source, .. }
        | Route::PullManifest { source, .. }
        | Route::PullBlob { source, .. } => vec![&source.name],
        Route::MountBlob { name, from, .. } => [name].into_iter().chain(from).collect(),
        Route::PushManifest { name, .. }
        | Route::DeleteManifest { name, .. }
        | Route::DeleteBlob { name, .. }
        | Route::StartUpload { name, .. }
        | Route::PushBlob { name, .. }
        | Route::UploadStatus { name, .. }
        | Route::AppendUpload { name, .. }
        | Route::FinishUpload { name, .. }
        | Route::CancelUpload { name, .. } => vec![name],
    }
}

/// The target by which a client would ask for this route.
fn written(route: &Route) -> String {
    match route {
        Route::Live => "/livez".to_owned(),
        Route::Ready => "/readyz".to_owned(),
        Route::Metrics => "/metrics".to_owned(),
        Route::Token { query, .. } => query.as_ref().map_or_else(|| "/token".to_owned(), |query| format!("/token?{query}")),
        Route::Version => "/v2/".to_owned(),
        Route::Catalog { page } => with("/v2/_catalog", of_page(page)),
        Route::Tags { source, page } => of_source(source, "tags/list", of_page(page)),
        Route::Referrers { source, subject, artifact_type, page } => {
            let mut query = of_page(page);
            query.extend(artifact_type.clone().map(|text| ("artifactType", text)));
            of_source(source, &format!("referrers/{subject}"), query)
        }
        Route::PullManifest { source, reference, .. } => of_source(source, &format!("manifests/{reference}"), Vec::new()),
        Route::PushManifest { name, reference, tags } => {
            with(&format!("/v2/{name}/manifests/{reference}"), tags.iter().map(|tag| ("tag", tag.to_string())).collect())
        }
        Route::DeleteManifest { name, reference } => format!("/v2/{name}/manifests/{reference}"),
        Route::PullBlob { source, digest, .. } => of_source(source, &format!("blobs/{digest}"), Vec::new()),
        Route::DeleteBlob { name, digest } => format!("/v2/{name}/blobs/{digest}"),
        Route::StartUpload { name, algorithm: Algorithm::Sha256 } => format!("/v2/{name}/blobs/uploads/"),
        Route::StartUpload { name, algorithm } => format!("/v2/{name}/blobs/uploads/?digest-algorithm={algorithm}"),
        Route::PushBlob { name, digest } => format!("/v2/{name}/blobs/uploads/?digest={digest}"),
        Route::MountBlob { name, digest, from } => {
            let from = from.as_ref().map(|from| ("from", from.to_string()));
            with(&format!("/v2/{name}/blobs/uploads/"), [("mount", digest.to_string())].into_iter().chain(from).collect())
        }
        Route::UploadStatus { name, id } | Route::AppendUpload { name, id } | Route::CancelUpload { name, id } => {
            format!("/v2/{name}/blobs/uploads/{id}")
        }
        Route::FinishUpload { name, id, digest } => format!("/v2/{name}/blobs/uploads/{id}?digest={digest}"),
    }
}

type Pairs = Vec<(&'static str, String)>;

fn of_page(page: &Page) -> Pairs {
    let limit = page.limit.map(|limit| ("n", limit.to_string()));
    limit.into_iter().chain(page.last.clone().map(|last| ("last", last))).collect()
}

fn of_source(source: &Source, what: &str, mut query: Pairs) -> String {
    query.extend(source.namespace.clone().map(|namespace| ("ns", namespace)));
    with(&format!("/v2/{}/{what}", source.name), query)
}

fn with(path: &str, query: Pairs) -> String {
    let pairs: Vec<String> =
        query.into_iter().map(|(key, value)| format!("{key}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}
