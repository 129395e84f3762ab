//! Answers of the fake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_RANGE, LINK, LOCATION, RANGE, RETRY_AFTER,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use oci::{Digest, RangeOutcome, media_type};
use serde_json::json;
use tokio::time::sleep;

use super::auth::{self, Action};
use super::body::{Body, Plan};
use super::fault::{Fault, Stage};
use super::listener::{Mode, Role};
use super::push;
use super::receive::Arrived;
use super::state::{Logged, Shared, State};

/// An answer before its body meets the faults.
pub(crate) type Answer = Response<Bytes>;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Answers one request. An error closes the connection.
pub(crate) async fn serve(role: Role, shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return serve_change(role, shared, &parts, body).await;
    }
    let head = parts.method == Method::HEAD;
    let (answer, delay, body_faults) = {
        let mut state = shared.lock();
        let struck = state.faults.strike(&path, Stage::Request { head });
        let down = *shared.mode.borrow() != Mode::Up || struck.contains(&Fault::Drop);
        let answer = (!down).then(|| answer(role, &shared, &mut state, &parts, &struck, &Arrived::default()));
        let has_body = !head && answer.as_ref().is_some_and(|answer| answer.status().is_success() && !answer.body().is_empty());
        let body_faults = if has_body { state.faults.strike(&path, Stage::Body) } else { Vec::new() };
        let answer = answer.filter(|_| !struck.contains(&Fault::LoseAnswer));
        record(role, &mut state, &parts, answer.as_ref());
        (answer, delay(&struck), body_faults)
    };
    sleep(delay).await;
    let answer = answer.ok_or_else(|| io::Error::other("closed by the test"))?;
    Ok(send(answer, head, &body_faults))
}

/// Answers a request with a body, after it has come.
async fn serve_change(role: Role, shared: Arc<Shared>, parts: &Parts, body: Incoming) -> io::Result<Response<Body>> {
    let path = parts.uri.path();
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let (struck, body_faults, is_read) = {
        let mut state = shared.lock();
        let struck = state.faults.strike(path, Stage::Request { head: false });
        let is_too_large = state.settings.body_limit.is_some_and(|limit| length.is_some_and(|length| length > limit));
        // Who is refused in any case is not listened to.
        let is_read = !is_too_large && !struck.contains(&Fault::Drop) && instead(&struck).is_none();
        let has_body = is_read && length != Some(0);
        let body_faults = if has_body { state.faults.strike(path, Stage::Body) } else { Vec::new() };
        (struck, body_faults, is_read)
    };
    let arrived = if is_read { Arrived::receive(body, &body_faults).await } else { Arrived::refused(length) };
    let answer = {
        let mut state = shared.lock();
        let down = *shared.mode.borrow() != Mode::Up || struck.contains(&Fault::Drop);
        let answer = (!down).then(|| answer(role, &shared, &mut state, parts, &struck, &arrived));
        let answer = answer.filter(|_| !arrived.broken && !struck.contains(&Fault::LoseAnswer));
        record(role, &mut state, parts, answer.as_ref());
        answer
    };
    sleep(delay(&struck)).await;
    let answer = answer.ok_or_else(|| io::Error::other("closed by the test"))?;
    Ok(send(answer, false, &[]))
}

fn record(role: Role, state: &mut State, parts: &Parts, answer: Option<&Answer>) {
    let entry = Logged {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.clone(),
        status: answer.map_or(0, |answer| answer.status().as_u16()),
    };
    match role {
        Role::Registry => state.log.push(entry),
        Role::Cdn => state.cdn_log.push(entry),
    }
}

fn delay(struck: &[Fault]) -> Duration {
    struck.iter().filter_map(|fault| if let Fault::Delay(time) = fault { Some(*time) } else { None }).sum()
}

fn send(answer: Answer, head: bool, faults: &[Fault]) -> Response<Body> {
    let (mut parts, bytes) = answer.into_parts();
    let offset = parts.headers.remove("x-offset").and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    let plan = Plan::new(if head { Bytes::new() } else { bytes }, offset, faults);
    if plan.chunked {
        parts.headers.remove(CONTENT_LENGTH);
    }
    Response::from_parts(parts, plan.into_body())
}

fn answer(role: Role, shared: &Shared, state: &mut State, parts: &Parts, struck: &[Fault], arrived: &Arrived) -> Answer {
    let mut answer = instead(struck).unwrap_or_else(|| route(role, shared, state, parts, arrived));
    // Set here and not by hyper, so that a fault can take it away.
    if !answer.headers().contains_key(CONTENT_LENGTH) {
        let length = answer.body().len();
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    if answer.status().is_success() {
        for fault in state.faults.strike(parts.uri.path(), Stage::Headers) {
            change(answer.headers_mut(), fault);
        }
    }
    answer
}

/// The answer that a fault puts in place of the real one.
fn instead(struck: &[Fault]) -> Option<Answer> {
    struck.iter().find_map(|fault| match fault {
        Fault::RefuseHead => Some(failure(405, "UNSUPPORTED")),
        Fault::Status(status) => Some(failure(*status, "UNKNOWN")),
        Fault::Body(text) => Some(Response::new(Bytes::from(text.clone()))),
        Fault::Redirect { location } => Some(redirect(location)),
        Fault::TooManyRequests { retry_after } => {
            let mut answer = failure(429, "TOOMANYREQUESTS");
            if let Some(text) = retry_after {
                answer.headers_mut().insert(RETRY_AFTER, text.parse().unwrap());
            }
            Some(answer)
        }
        Fault::Unavailable { retry_after } => {
            let mut answer = failure(503, "UNKNOWN");
            answer.headers_mut().insert(RETRY_AFTER, retry_after.parse().unwrap());
            Some(answer)
        }
        _ => None,
    })
}

fn change(headers: &mut HeaderMap, fault: Fault) {
    match fault {
        Fault::WrongDigest => {
            headers.insert(DIGEST, format!("sha256:{}", "0".repeat(64)).parse().unwrap());
        }
        Fault::NoDigest => {
            headers.remove(DIGEST);
        }
        Fault::Header { name, value } => {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        Fault::WithoutHeader(name) => {
            headers.remove(name);
        }
        _ => {}
    }
}

fn route(role: Role, shared: &Shared, state: &mut State, parts: &Parts, arrived: &Arrived) -> Answer {
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let changes = !matches!(parts.method, Method::GET | Method::HEAD);
    if changes && (role == Role::Cdn || !state.settings.pushes) {
        return failure(405, "UNSUPPORTED");
    }
    if role == Role::Cdn {
        return match path.strip_prefix("/cdn/").and_then(|rest| rest.rsplit_once("/blobs/")) {
            Some((name, digest)) => blob_bytes(state, name, digest, &parts.headers),
            None => failure(404, "UNKNOWN"),
        };
    }
    if path == "/token" && !changes {
        return auth::token(state, &parts.headers, query);
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return failure(404, "UNKNOWN");
    };
    let (name, endpoint) = split(rest);
    let action = if changes || matches!(endpoint, Endpoint::Upload(_)) { Action::Push } else { Action::Pull };
    if let Some(refusal) = auth::refuse(shared, state, &parts.headers, name, action) {
        return refusal;
    }
    if action == Action::Push {
        return push::route(state, parts, name, &endpoint, arrived);
    }
    match endpoint {
        Endpoint::Upload(_) => failure(404, "BLOB_UPLOAD_UNKNOWN"),
        Endpoint::Base => json_answer("application/json", "{}"),
        Endpoint::Manifest(reference) => {
            let counts = parts.method == Method::GET;
            let Some(mut quota) = state.quota.take() else { return manifest(state, name, reference) };
            let answer = quota.apply(counts, || manifest(state, name, reference));
            state.quota = Some(quota);
            answer
        }
        Endpoint::Blob(digest) => blob(shared, state, name, digest, &parts.headers),
        Endpoint::Tags => tags(state, name, query),
        Endpoint::Referrers(subject) => referrers(state, name, subject, query),
        Endpoint::Other => failure(404, "UNKNOWN"),
    }
}

pub(crate) enum Endpoint<'a> {
    Base,
    /// An open upload, by its id; empty for a new one.
    Upload(&'a str),
    Manifest(&'a str),
    Blob(&'a str),
    Tags,
    Referrers(&'a str),
    Other,
}

/// Splits from the right: names hold slashes.
fn split(rest: &str) -> (&str, Endpoint<'_>) {
    if rest.is_empty() {
        return ("", Endpoint::Base);
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return (name, Endpoint::Tags);
    }
    if let Some((name, reference)) = rest.rsplit_once("/manifests/") {
        return (name, Endpoint::Manifest(reference));
    }
    if let Some((name, id)) = rest.rsplit_once("/blobs/uploads/") {
        return (name, Endpoint::Upload(id));
    }
    if let Some((name, digest)) = rest.rsplit_once("/blobs/") {
        return (name, Endpoint::Blob(digest));
    }
    match rest.rsplit_once("/referrers/") {
        Some((name, subject)) => (name, Endpoint::Referrers(subject)),
        None => (rest, Endpoint::Other),
    }
}

fn manifest(state: &State, name: &str, reference: &str) -> Answer {
    let Some(repository) = state.repositories.get(name) else {
        return failure(404, "NAME_UNKNOWN");
    };
    let digest = Digest::parse(reference).ok().or_else(|| repository.tags.get(reference).cloned());
    let Some((digest, stored)) = digest.and_then(|digest| repository.manifests.get_key_value(&digest)) else {
        return failure(404, "MANIFEST_UNKNOWN");
    };
    let mut answer = Response::new(stored.bytes.clone());
    answer.headers_mut().insert(CONTENT_TYPE, stored.media_type.parse().unwrap());
    answer.headers_mut().insert(DIGEST, digest.to_string().parse().unwrap());
    answer
}

fn blob(shared: &Shared, state: &State, name: &str, digest: &str, headers: &HeaderMap) -> Answer {
    if !state.settings.redirect {
        return blob_bytes(state, name, digest, headers);
    }
    redirect(&format!("{}/cdn/{name}/blobs/{digest}?signature=signed-secret", shared.cdn_url()))
}

fn redirect(location: &str) -> Answer {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    answer.headers_mut().insert(LOCATION, location.parse().unwrap());
    answer
}

fn blob_bytes(state: &State, name: &str, digest: &str, headers: &HeaderMap) -> Answer {
    let Some(repository) = state.repositories.get(name) else {
        return failure(404, "NAME_UNKNOWN");
    };
    let Ok(digest) = Digest::parse(digest) else {
        return failure(400, "DIGEST_INVALID");
    };
    let Some(bytes) = repository.blobs.get(&digest) else {
        return failure(404, "BLOB_UNKNOWN");
    };
    let etag = format!("\"{digest}\"");
    let fits = headers.get(IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok()).filter(|_| fits && state.settings.ranges);
    let size = bytes.len() as u64;
    let mut answer = match range.map_or(RangeOutcome::Whole, |range| RangeOutcome::parse(range, size)) {
        RangeOutcome::Whole => Response::new(bytes.clone()),
        RangeOutcome::Part(range) => part(bytes, range.start, range.end),
        RangeOutcome::Unsatisfiable => {
            let mut answer = failure(416, "BLOB_UNKNOWN");
            answer.headers_mut().insert(CONTENT_RANGE, format!("bytes */{size}").parse().unwrap());
            return answer;
        }
    };
    let headers = answer.headers_mut();
    headers.insert(ETAG, etag.parse().unwrap());
    headers.insert(DIGEST, digest.to_string().parse().unwrap());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type::OCTET_STREAM));
    if state.settings.ranges {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    answer
}

fn part(bytes: &Bytes, start: u64, end: u64) -> Answer {
    let (from, to) = (usize::try_from(start).unwrap(), usize::try_from(end).unwrap());
    let mut answer = Response::new(bytes.slice(from..=to));
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    let range = format!("bytes {start}-{end}/{}", bytes.len());
    answer.headers_mut().insert(CONTENT_RANGE, range.parse().unwrap());
    // Where in the content the body begins, for the faults; taken out before it is sent.
    answer.headers_mut().insert("x-offset", start.into());
    answer
}

fn tags(state: &State, name: &str, query: &str) -> Answer {
    let Some(repository) = state.repositories.get(name) else {
        return failure(404, "NAME_UNKNOWN");
    };
    let last = parameter(query, "last").unwrap_or_default();
    let asked = parameter(query, "n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let limit = asked.min(state.settings.tag_page.unwrap_or(usize::MAX));
    let after: Vec<&String> = repository.tags.keys().filter(|tag| last.is_empty() || **tag > last).collect();
    let page: Vec<&String> = after.iter().take(limit).copied().collect();
    let mut answer = json_answer("application/json", &json!({ "name": name, "tags": page }).to_string());
    if let Some(end) = page.last().filter(|_| page.len() < after.len()) {
        let link = format!("</v2/{name}/tags/list?n={limit}&last={end}>; rel=\"next\"");
        answer.headers_mut().insert(LINK, link.parse().unwrap());
    }
    answer
}

fn referrers(state: &State, name: &str, subject: &str, query: &str) -> Answer {
    if !state.settings.referrers {
        return failure(404, "UNKNOWN");
    }
    let subject = Digest::parse(subject).ok();
    let wanted = parameter(query, "artifactType");
    let manifests = state.repositories.get(name).into_iter().flat_map(|repository| repository.manifests.values());
    let found: Vec<_> = manifests
        .filter(|stored| stored.subject.is_some() && stored.subject == subject)
        .filter(|stored| wanted.is_none() || stored.descriptor.artifact_type == wanted)
        .map(|stored| &stored.descriptor)
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": found });
    json_answer(media_type::OCI_INDEX, &index.to_string())
}

pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn json_answer(content_type: &'static str, text: &str) -> Answer {
    let mut answer = Response::new(Bytes::from(text.to_owned()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// An error with the body of the specification.
pub(crate) fn failure(status: u16, code: &str) -> Answer {
    let body = json!({ "errors": [{ "code": code, "message": "the fake says so" }] });
    let mut answer = json_answer("application/json", &body.to_string());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}
