//! What is asked of a request of HTTP/1 beyond what hyper asks: that all who read it on its way find the same request in it.
//!
//! A proxy before us that finds another end of a body, or another host, can be made to send one client's request within that of
//! another.

use http::header::{CONNECTION, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};

use crate::body::Body;

/// Why a request that can be read is refused all the same, as its answer. The connection ends with it.
pub(crate) fn refusal<B>(request: &Request<B>) -> Option<Response<Body>> {
    let (status, reason) = doubt(request)?;
    let mut response = Response::new(Body::full(reason));
    *response.status_mut() = status;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Some(response)
}

fn doubt<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    let (uri, headers) = (request.uri(), request.headers());
    // Only CONNECT names a host and no path. [RFC 9112, 3.2.3]
    if uri.scheme().is_none() && uri.authority().is_some() && request.method() != Method::CONNECT {
        return Some((StatusCode::BAD_REQUEST, "the target does not begin with a slash\n"));
    }
    // hyper sees to it that `chunked` comes last. We know no other coding, and some readers look at the first. [RFC 9112, 6.1]
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Some((StatusCode::NOT_IMPLEMENTED, "the only transfer coding that is understood is chunked\n"));
    }
    if codings.next().is_some() {
        return Some((StatusCode::BAD_REQUEST, "there is more than one Transfer-Encoding\n"));
    }
    // [RFC 9112, 3.2]
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => None,
        (None, _) => Some((StatusCode::BAD_REQUEST, "there is no Host\n")),
        (Some(_), Some(_)) => Some((StatusCode::BAD_REQUEST, "there is more than one Host\n")),
        (Some(host), None) if is_host(host.as_bytes()) => None,
        (Some(_), None) => Some((StatusCode::BAD_REQUEST, "the Host is not a host, with its port if it has one\n")),
    }
}

/// Empty, or a host with or without a port. [RFC 9112, 3.2; RFC 3986, 3.2]
fn is_host(text: &[u8]) -> bool {
    if text.is_empty() {
        return true;
    }
    let Ok(authority) = Authority::try_from(text) else { return false };
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if authority.host().is_empty() {
        return false;
    }
    // The rest of what stands there must be a port; what is not (a user's name) comes before the host.
    match port.strip_prefix(':') {
        Some(digits) => digits.is_empty() || authority.port_u16().is_some(),
        None => port.is_empty() && authority.as_str() == authority.host(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn asked(target: &str, version: Version, lines: &[(&str, &str)]) -> Option<u16> {
        let request = Request::get(target).version(version);
        let request = lines.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        refusal(&request.body(()).unwrap()).map(|response| response.status().as_u16())
    }

    fn status(version: Version, lines: &[(&str, &str)]) -> Option<u16> {
        asked("/", version, lines)
    }

    #[test]
    fn a_target_has_a_path() {
        let asked = |target| asked(target, Version::HTTP_11, &[("host", "x")]);
        assert_eq!([asked("/"), asked("http://y/"), asked("*")], [None; 3]);
        assert_eq!(asked("livez"), Some(400));
    }

    #[test]
    fn only_one_chunked_is_a_coding() {
        let coded = |lines: &[&str]| {
            let coding = lines.iter().map(|line| ("transfer-encoding", *line));
            status(Version::HTTP_11, &std::iter::once(("host", "x")).chain(coding).collect::<Vec<_>>())
        };
        assert_eq!(coded(&[]), None);
        assert_eq!(coded(&["chunked"]), None);
        assert_eq!(coded(&["ChunkeD"]), None);
        assert_eq!(coded(&["chunked", "chunked"]), Some(400));
        for other in ["identity", "gzip, chunked", ", chunked", "chunked, chunked", ""] {
            assert_eq!(coded(&[other]), Some(501), "{other}");
        }
        assert_eq!(coded(&["identity", "chunked"]), Some(501));
    }

    #[test]
    fn there_is_one_host() {
        let hosts = |hosts: &[&str]| status(Version::HTTP_11, &hosts.iter().map(|host| ("host", *host)).collect::<Vec<_>>());
        for host in ["", "a", "a.example:5000", "127.0.0.1", "[::1]", "[::1]:5000", "a_b", "a:", "A-b.c"] {
            assert_eq!(hosts(&[host]), None, "{host}");
        }
        for other in ["a b", "a/b", "u@a", "u:p@a:1", "a:b", "a:1:2", "a?b", "a#b", "a\\b", "[::1", "::1", "a:99999", "@", ":"] {
            assert_eq!(hosts(&[other]), Some(400), "{other}");
        }
        assert_eq!(hosts(&[]), Some(400));
        assert_eq!(hosts(&["a", "a"]), Some(400));
        assert_eq!(status(Version::HTTP_10, &[]), None);
        assert_eq!(status(Version::HTTP_10, &[("host", "a b")]), Some(400));
    }
}
