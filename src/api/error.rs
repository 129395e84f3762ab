//! Errors meet HTTP here and nowhere else: statuses, the JSON body, and the one log entry of a failure.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use oci::Error;
use serde_json::json;
use server::Body;

use crate::respond::set;
use crate::route::Refusal;

/// The status of each error. Exhaustive.
fn status(error: &Error) -> StatusCode {
    match error {
        Error::BlobUnknown { .. }
        | Error::BlobUploadUnknown { .. }
        | Error::ManifestUnknown { .. }
        | Error::NameUnknown { .. } => StatusCode::NOT_FOUND,
        Error::BlobUploadInvalid { .. }
        | Error::DigestInvalid { .. }
        | Error::ManifestBlobUnknown { .. }
        | Error::ManifestInvalid { .. }
        | Error::NameInvalid { .. }
        | Error::SizeInvalid { .. }
        | Error::TagInvalid { .. } => StatusCode::BAD_REQUEST,
        Error::Unauthorized => StatusCode::UNAUTHORIZED,
        Error::Denied { .. } => StatusCode::FORBIDDEN,
        Error::Unsupported { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Error::TimedOut { .. } => StatusCode::REQUEST_TIMEOUT,
        Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::TooManyTags { .. } => StatusCode::URI_TOO_LONG,
        Error::RangeNotSatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        Error::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        Error::Upstream { .. } => StatusCode::BAD_GATEWAY,
        Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What a client is told. The cause of a server's own failure is only logged, under the request id that the client gets.
pub(crate) fn response(error: &Error, request_id: &str) -> Response<Body> {
    let status = status(error);
    if status.is_server_error() {
        tracing::error!(request_id, status = status.as_u16(), error = %telemetry::chain(error), "a request failed");
    }
    let message = match error {
        Error::Internal { .. } => format!("internal error; the log has the cause under request {request_id}"),
        other => other.to_string(),
    };
    let mut response = json_error(status, error.code().as_str(), &message);
    if let Error::TooManyRequests { retry_after: Some(seconds), .. } = error {
        set(&mut response, RETRY_AFTER, seconds.to_string());
    }
    response
}

/// What a client is told whose request is no route.
pub(crate) fn refusal(refusal: &Refusal, request_id: &str) -> Response<Body> {
    match refusal {
        Refusal::Malformed(error) => response(error, request_id),
        Refusal::NoSuchEndpoint => {
            json_error(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is no such endpoint; the API is under /v2/")
        }
        Refusal::Method { allow } => {
            let message = format!("the method is not allowed here; allowed are {allow}");
            let mut response = json_error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", &message);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            response
        }
    }
}

/// The body of the specification. [distribution-spec, Error Codes]
fn json_error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let body = json!({ "errors": [{ "code": code, "message": message, "detail": null }] }).to_string();
    let mut response = Response::new(Body::full(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
