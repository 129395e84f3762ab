//! Bodies as an upstream sends them on a bad day.

use std::time::Duration;
use std::{future, io};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::time::sleep;

use super::fault::Fault;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The most that is handed over at once.
const CHUNK: u64 = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Plan {
    bytes: Bytes,
    sent: u64,
    cut: Option<u64>,
    corrupt: Option<u64>,
    rate: Option<u64>,
    stall: Option<u64>,
    /// Without a `Content-Length`.
    pub(crate) chunked: bool,
}

impl Plan {
    /// The bytes of an answer, which begin at `offset` of the content.
    pub(crate) fn new(bytes: Bytes, offset: u64, faults: &[Fault]) -> Self {
        let mut plan = Self { bytes, ..Self::default() };
        for fault in faults {
            match fault {
                Fault::Cut { after } => plan.cut = Some(*after),
                Fault::Corrupt { at } => plan.corrupt = at.checked_sub(offset),
                Fault::Rate { bytes_per_second } => plan.rate = Some((*bytes_per_second).max(1)),
                Fault::Stall { after } => plan.stall = Some(*after),
                Fault::Chunked => plan.chunked = true,
                _ => {}
            }
        }
        plan
    }

    pub(crate) fn into_body(self) -> Body {
        let chunks = stream::unfold(Some(self), |plan| async move {
            let mut plan = plan?;
            match plan.next().await? {
                Ok(chunk) => Some((Ok(Frame::data(chunk)), Some(plan))),
                Err(error) => Some((Err(error), None)),
            }
        });
        BodyExt::boxed_unsync(StreamBody::new(chunks))
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let left = self.bytes.len() as u64 - self.sent;
        if left == 0 {
            return None;
        }
        if self.cut.is_some_and(|after| self.sent >= after) {
            // What was handed over must reach the client before the connection dies.
            sleep(Duration::from_millis(30)).await;
            return Some(Err(io::Error::other("cut by the test")));
        }
        if self.stall.is_some_and(|after| self.sent >= after) {
            future::pending::<()>().await;
        }
        let length = self.length(left);
        if let Some(rate) = self.rate {
            sleep(Duration::from_micros(length * 1_000_000 / rate)).await;
        }
        let start = usize::try_from(self.sent).unwrap();
        let mut chunk = self.bytes.slice(start..start + usize::try_from(length).unwrap());
        if let Some(at) = self.corrupt.and_then(|at| at.checked_sub(self.sent)).filter(|at| *at < length) {
            let mut bytes = chunk.to_vec();
            bytes[usize::try_from(at).unwrap()] ^= 0xff;
            chunk = Bytes::from(bytes);
        }
        self.sent += length;
        Some(Ok(chunk))
    }

    /// Up to the next event, and in small steps where the rate is limited.
    fn length(&self, left: u64) -> u64 {
        let until = |event: Option<u64>| event.map_or(u64::MAX, |at| at - self.sent);
        let step = self.rate.map_or(CHUNK, |rate| (rate / 50).max(1));
        left.min(CHUNK).min(step).min(until(self.cut)).min(until(self.stall))
    }
}
