//! Pushes to the fake. [distribution-spec, Push]

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use oci::{Algorithm, Digest, Hasher, ManifestView};
use serde_json::json;

use super::auth::{self, Action};
use super::receive::Arrived;
use super::serve::{Answer, Endpoint, failure, parameter};
use super::state::{Session, State};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Answers a push.
pub(crate) fn route(state: &mut State, parts: &Parts, name: &str, endpoint: &Endpoint<'_>, arrived: &Arrived) -> Answer {
    let length = arrived.unread.unwrap_or(arrived.bytes.len() as u64);
    if state.settings.body_limit.is_some_and(|limit| length > limit) {
        return failure(413, "SIZE_INVALID");
    }
    match (&parts.method, endpoint) {
        (&Method::POST, Endpoint::Upload("")) => begin(state, parts, name, arrived),
        (_, Endpoint::Upload(id)) => match state.sessions.remove(*id) {
            Some(session) if session.repository == name => upload(state, parts, id, session, arrived),
            _ => failure(404, "BLOB_UPLOAD_UNKNOWN"),
        },
        (&Method::PUT, Endpoint::Manifest(reference)) if !arrived.broken => put(state, parts, name, reference, &arrived.bytes),
        _ => failure(405, "UNSUPPORTED"),
    }
}

fn begin(state: &mut State, parts: &Parts, name: &str, arrived: &Arrived) -> Answer {
    let query = parts.uri.query().unwrap_or_default();
    let mount = parameter(query, "mount").and_then(|text| Digest::parse(&text).ok());
    let from = parameter(query, "from");
    if let Some(digest) = mount.filter(|_| state.settings.mounts) {
        let may = from.as_deref().is_none_or(|from| auth::may(state, &parts.headers, from, Action::Pull));
        let mut sources = state.repositories.iter().filter(|(source, _)| from.as_ref().is_none_or(|from| from == *source));
        let bytes = sources.find_map(|(_, repository)| repository.blobs.get(&digest).cloned());
        if let Some(bytes) = bytes.filter(|_| may) {
            return hold(state, name, digest, bytes);
        }
    }
    if let Some(digest) = parameter(query, "digest") {
        return if arrived.broken {
            failure(400, "BLOB_UPLOAD_INVALID")
        } else {
            finish(state, name, &digest, arrived.bytes.to_vec())
        };
    }
    state.opened += 1;
    let id = format!("upload-{}", state.opened);
    let session = Session { repository: name.to_owned(), bytes: Vec::new(), has_last: false };
    let mut answer = open(202, &id, &session);
    if let Some(bytes) = state.settings.smallest_chunk {
        answer.headers_mut().insert("oci-chunk-min-length", bytes.into());
    }
    state.sessions.insert(id, session);
    answer
}

/// Answers a request to an open upload, which is taken out of the state and put back if it goes on.
fn upload(state: &mut State, parts: &Parts, id: &str, mut session: Session, arrived: &Arrived) -> Answer {
    let query = parts.uri.query().unwrap_or_default();
    // What was said last, by which a client shows that it follows the registry's own addresses.
    let known = parameter(query, "state") == Some(session.bytes.len().to_string());
    let at = session.bytes.len();
    let answer = match parts.method {
        Method::DELETE => return empty(204),
        Method::GET => open(204, id, &session),
        Method::PATCH | Method::PUT if !known => failure(400, "BLOB_UPLOAD_INVALID"),
        Method::PATCH if session.has_last => failure(400, "BLOB_UPLOAD_INVALID"),
        Method::PATCH | Method::PUT if !fits(parts, at, arrived) => {
            let mut answer = open(416, id, &session);
            answer.headers_mut().remove(LOCATION);
            answer
        }
        Method::PATCH => {
            session.bytes.extend_from_slice(&arrived.bytes);
            session.has_last = state.settings.smallest_chunk.is_some_and(|least| (arrived.bytes.len() as u64) < least);
            open(202, id, &session)
        }
        Method::PUT if arrived.broken => failure(400, "BLOB_UPLOAD_INVALID"),
        Method::PUT => {
            session.bytes.extend_from_slice(&arrived.bytes);
            return finish(state, &session.repository, &parameter(query, "digest").unwrap_or_default(), session.bytes);
        }
        _ => failure(405, "UNSUPPORTED"),
    };
    if !arrived.broken || state.settings.sessions_survive {
        session.has_last &= !arrived.broken;
        state.sessions.insert(id.to_owned(), session);
    }
    answer
}

/// Does the chunk's range, if it has one, begin where the upload ends, and is it that of its body?
fn fits(parts: &Parts, at: usize, arrived: &Arrived) -> bool {
    let Some(range) = parts.headers.get(CONTENT_RANGE) else { return true };
    let bounds = range.to_str().ok().and_then(|text| text.split_once('-'));
    let bounds = bounds.and_then(|(start, end)| Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?)));
    bounds.is_some_and(|(start, end)| start == at && (arrived.broken || end + 1 - start == arrived.bytes.len()))
}

fn open(status: u16, id: &str, session: &Session) -> Answer {
    let mut answer = empty(status);
    let length = session.bytes.len();
    let location = format!("/v2/{}/blobs/uploads/{id}?state={length}", session.repository);
    answer.headers_mut().insert(LOCATION, location.parse().unwrap());
    answer.headers_mut().insert(RANGE, format!("0-{}", length.saturating_sub(1)).parse().unwrap());
    answer
}

fn finish(state: &mut State, name: &str, digest: &str, bytes: Vec<u8>) -> Answer {
    match Digest::parse(digest) {
        Ok(digest) if Hasher::digest(digest.algorithm(), &bytes) == digest => hold(state, name, digest, Bytes::from(bytes)),
        _ => failure(400, "DIGEST_INVALID"),
    }
}

fn hold(state: &mut State, name: &str, digest: Digest, bytes: Bytes) -> Answer {
    let mut answer = empty(201);
    answer.headers_mut().insert(LOCATION, format!("/v2/{name}/blobs/{digest}").parse().unwrap());
    answer.headers_mut().insert(DIGEST, digest.to_string().parse().unwrap());
    state.hold_blob(name, digest, bytes);
    answer
}

fn put(state: &mut State, parts: &Parts, name: &str, reference: &str, bytes: &Bytes) -> Answer {
    let media_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(view) = ManifestView::parse(bytes, Some(media_type)) else {
        return failure(400, "MANIFEST_INVALID");
    };
    let named = Digest::parse(reference).ok();
    let digest = Hasher::digest(named.as_ref().map_or(Algorithm::Sha256, Digest::algorithm), bytes);
    if named.as_ref().is_some_and(|named| *named != digest) {
        return failure(400, "DIGEST_INVALID");
    }
    let held = state.repositories.get(name);
    let is_there = |digest: &Digest| held.is_some_and(|repository| repository.blobs.contains_key(digest));
    if let Some(missing) = view.blobs.iter().find(|blob| !is_there(&blob.digest)) {
        let errors =
            json!({ "errors": [{ "code": "MANIFEST_BLOB_UNKNOWN", "message": "", "detail": missing.digest.to_string() }] });
        let mut answer = failure(404, "MANIFEST_BLOB_UNKNOWN");
        *answer.body_mut() = Bytes::from(errors.to_string());
        return answer;
    }
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned();
    let asked: Vec<String> = query.filter(|(key, _)| key == "tag").map(|(_, tag)| tag).collect();
    let set = if state.settings.tags_in_queries { asked } else { Vec::new() };
    let mut tags = set.clone();
    tags.extend(named.is_none().then(|| reference.to_owned()));
    let mut answer = empty(201);
    let headers = answer.headers_mut();
    headers.insert(LOCATION, format!("/v2/{name}/manifests/{digest}").parse().unwrap());
    headers.insert(DIGEST, digest.to_string().parse().unwrap());
    for tag in &set {
        headers.append("oci-tag", tag.parse().unwrap());
    }
    if let Some(subject) = view.subject.filter(|_| state.settings.referrers) {
        headers.insert("oci-subject", subject.digest.to_string().parse().unwrap());
    }
    state.hold_manifest(name, &tags, media_type, &digest, bytes.clone());
    answer
}

fn empty(status: u16) -> Answer {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}
