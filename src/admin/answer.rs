//! What requests are answered.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use server::{Body, RequestId};

/// Why a request is not answered as it was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Without the token, or with another.
    Unauthorized,
    /// After too many wrong ones: not before that.
    Wait(Duration),
    /// Known, and without the right to do this.
    Denied(String),
    /// Nothing is there.
    Unknown(String),
    /// Something is, for other methods.
    Method(&'static str),
    /// It cannot be understood.
    Invalid(String),
    /// It cannot be done as things are.
    Conflict(String),
    /// The server failed. The cause is for its log alone.
    Failed(String),
}

impl Refusal {
    /// The server failed, for this reason.
    pub(crate) fn failed(error: &dyn Error) -> Self {
        Self::Failed(telemetry::chain(error))
    }

    fn parts(&self, request_id: RequestId) -> (StatusCode, &'static str, String) {
        match self {
            Self::Unauthorized => {
                let message = "the token is missing or wrong: send Authorization: Bearer TOKEN, with the token of the server's token file, or \
                     log in as somebody to whom the rules give admin";
                (StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message.to_owned())
            }
            Self::Wait(_) => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many wrong passwords".to_owned()),
            Self::Denied(why) => (StatusCode::FORBIDDEN, "DENIED", why.clone()),
            Self::Unknown(what) => (StatusCode::NOT_FOUND, "UNKNOWN", what.clone()),
            Self::Method(allow) => (StatusCode::METHOD_NOT_ALLOWED, "METHOD", format!("this can be asked by {allow}")),
            Self::Invalid(why) => (StatusCode::BAD_REQUEST, "INVALID", why.clone()),
            Self::Conflict(why) => (StatusCode::CONFLICT, "CONFLICT", why.clone()),
            Self::Failed(_) => {
                let message = format!("the server failed; its log has the cause under request {}", request_id.as_str());
                (StatusCode::INTERNAL_SERVER_ERROR, "FAILED", message)
            }
        }
    }

    /// What the client is told. The cause of a failure is logged, under the request id that the client gets.
    pub(crate) fn response(&self, request_id: RequestId) -> Response<Body> {
        if let Self::Failed(cause) = self {
            tracing::error!(request_id = request_id.as_str(), error = cause, "a request of an operator failed");
        }
        let (status, code, message) = self.parts(request_id);
        let text = json!({ "error": { "code": code, "message": message } }).to_string();
        let mut response = json_text(status, text.into_bytes());
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"roadstead\""));
            }
            Self::Wait(wait) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().saturating_add(1)));
            }
            Self::Method(allow) => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            _ => {}
        }
        response
    }
}

impl From<jobs::Error> for Refusal {
    fn from(error: jobs::Error) -> Self {
        match error {
            jobs::Error::Unknown { .. } => Self::Unknown(error.to_string()),
            jobs::Error::NotEnded { .. } | jobs::Error::Ended { .. } | jobs::Error::Done { .. } => {
                Self::Conflict(error.to_string())
            }
            jobs::Error::Invalid { .. } => Self::Invalid(error.to_string()),
            other => Self::failed(&other),
        }
    }
}

/// A value as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Result<Response<Body>, Refusal> {
    let text = serde_json::to_vec(value).map_err(|error| Refusal::failed(&error))?;
    Ok(json_text(status, text))
}

fn json_text(status: StatusCode, text: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
