//! The request's body as the core reads it.

use std::error::Error as _;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, BodyStream};
use oci::{ByteStream, Error};
use server::{BodyError, RequestBody};

/// The bytes of a body, as they come.
pub(crate) fn stream(body: RequestBody) -> ByteStream {
    let frames: Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>> =
        Box::pin(BodyStream::new(body).filter_map(|frame| async {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(failure) => Some(Err(broken(&failure))),
            }
        }));
    frames
}

/// All of a body that must not exceed `limit` bytes.
///
/// One that does is read on for as much again, so that a client that sends before it listens gets to see the answer.
pub(crate) async fn collect(mut body: RequestBody, limit: u64) -> Result<Bytes, Error> {
    let mut gathered = BytesMut::new();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|failure| broken(&failure))?;
        let Ok(bytes) = frame.into_data() else { continue };
        received += bytes.len() as u64;
        if received <= limit {
            gathered.extend_from_slice(&bytes);
        } else if received > limit.saturating_mul(2) {
            break;
        }
    }
    if received > limit { Err(Error::TooLarge { limit }) } else { Ok(gathered.freeze()) }
}

fn broken(failure: &BodyError) -> Error {
    match failure {
        BodyError::Idle(limit) => Error::TimedOut { reason: format!("no byte of the body for {} seconds", limit.as_secs()) },
        other => {
            let cause = other.source().map_or_else(|| other.to_string(), |cause| format!("{other}: {cause}"));
            Error::SizeInvalid { reason: format!("the body ended before its announced end ({cause})") }
        }
    }
}
