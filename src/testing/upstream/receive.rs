//! The body of a push, as it comes on a good or a bad day.

use std::future;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::sleep;

use super::fault::Fault;

/// What came of a request's body.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) bytes: Bytes,
    /// It broke off; there is nobody to answer.
    pub(crate) broken: bool,
    /// It was not read, and would have been this long.
    pub(crate) unread: Option<u64>,
}

impl Arrived {
    /// Nothing, because it is refused anyway.
    pub(crate) fn refused(length: Option<u64>) -> Self {
        Self { unread: length, ..Self::default() }
    }

    /// Reads a body, with these faults.
    pub(crate) async fn receive(mut body: Incoming, faults: &[Fault]) -> Self {
        let mut bytes = Vec::new();
        let mut broken = false;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                broken = true;
                break;
            };
            let Ok(data) = frame.into_data() else { continue };
            let arrived = bytes.len() as u64 + data.len() as u64;
            bytes.extend_from_slice(&data);
            for fault in faults {
                match fault {
                    Fault::Rate { bytes_per_second } => {
                        sleep(Duration::from_micros(data.len() as u64 * 1_000_000 / (*bytes_per_second).max(1))).await;
                    }
                    Fault::Stall { after } if arrived >= *after => future::pending::<()>().await,
                    Fault::Cut { after } if arrived >= *after => broken = true,
                    _ => {}
                }
            }
            if broken {
                break;
            }
        }
        for fault in faults {
            match fault {
                Fault::Cut { after } => bytes.truncate(usize::try_from(*after).unwrap()),
                Fault::Corrupt { at } => {
                    if let Some(byte) = bytes.get_mut(usize::try_from(*at).unwrap()) {
                        *byte ^= 0xff;
                    }
                }
                _ => {}
            }
        }
        Self { bytes: Bytes::from(bytes), broken, unread: None }
    }
}
