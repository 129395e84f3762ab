//! What a request carries, given out in small pieces so that silence can be told from slowness.

use std::error::Error as StdError;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future, stream};
use tokio::sync::watch;

/// Why a body could not be read to its end. The request fails with it.
pub type BodyError = Box<dyn StdError + Send + Sync>;

/// Bytes of a body as they come.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// A connection takes a piece when it has room for it, so that a slow peer takes one now and then and a silent one none.
const PIECE: usize = 64 * 1024;

/// What a request carries.
#[non_exhaustive]
pub enum Body {
    /// Nothing: `Content-Length: 0`.
    Empty,
    /// All of it, with its length.
    Bytes(Bytes),
    /// What is still to come. The length is what the caller says in `Content-Length`; without, it is sent in chunks.
    Stream(BodyStream),
}

impl Body {
    /// Its length, where it is known here.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Stream(_) => None,
        }
    }

    /// The pieces, each of which is told to `taken` when the connection takes it. The sender is dropped with the body.
    pub(crate) fn watched(self, taken: watch::Sender<()>) -> reqwest::Body {
        let whole: BodyStream = match self {
            Self::Empty => return reqwest::Body::from(Bytes::new()),
            Self::Bytes(bytes) => Box::pin(stream::once(future::ready(Ok(bytes)))),
            Self::Stream(stream) => stream,
        };
        let pieces = whole.flat_map(|chunk| {
            let (pieces, error) = match chunk {
                Ok(bytes) => (pieces(bytes), None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            stream::iter(pieces.into_iter().map(Ok).chain(error))
        });
        reqwest::Body::wrap_stream(pieces.inspect(move |_| {
            taken.send_replace(());
        }))
    }
}

/// Views of the same memory.
fn pieces(mut bytes: Bytes) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(bytes.len().div_ceil(PIECE));
    while bytes.len() > PIECE {
        pieces.push(bytes.split_to(PIECE));
    }
    if !bytes.is_empty() {
        pieces.push(bytes);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_and_none_is_empty() {
        for size in [0, 1, PIECE, PIECE + 1, 3 * PIECE] {
            let bytes = Bytes::from(vec![7; size]);
            let pieces = pieces(bytes.clone());
            assert_eq!(pieces.concat(), bytes);
            assert!(pieces.iter().all(|piece| (1..=PIECE).contains(&piece.len())), "{size}");
        }
    }
}
