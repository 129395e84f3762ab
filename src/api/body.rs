//! The request's body as the core reads it.

use std::error::Error as _;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, BodyStream};
use oci::{ByteStream, Error};
use server::{BodyError, RequestBody};
use tokio::sync::{Semaphore, SemaphorePermit};

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

/// The memory that manifests may take while they come and until they are kept. They are the only bodies that are held whole, and who
/// sends them slowly could make us hold one for each of his connections.
#[derive(Debug)]
pub(crate) struct Room {
    /// The largest manifest.
    limit: u64,
    /// In pieces of [`PIECE`] bytes.
    left: Semaphore,
}

/// What any manifest may have without asking for room: nearly all have less.
const FREE: usize = 64 * 1024;
/// In such pieces room is given.
const PIECE: usize = 256 * 1024;
/// There is room for this, and for a few of the largest.
const LEAST_ROOM: u64 = 64 << 20;
const LARGEST_AT_A_TIME: u64 = 4;
/// When a client that found none is to come again, in seconds.
const RETRY_AFTER: u64 = 2;

/// A body that has come.
#[derive(Debug)]
pub(crate) struct Collected<'r> {
    pub(crate) bytes: Bytes,
    /// To be held until the bytes are let go.
    pub(crate) room: Option<SemaphorePermit<'r>>,
}

impl Room {
    /// For bodies of at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        let all = LEAST_ROOM.max(limit.saturating_mul(LARGEST_AT_A_TIME)) / PIECE as u64;
        let pieces = usize::try_from(all).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { limit, left: Semaphore::new(pieces) }
    }

    /// Makes what is held enough for so many bytes; `false` where there is no room.
    fn extend<'r>(&'r self, held: &mut Option<SemaphorePermit<'r>>, length: usize) -> bool {
        let needed = length.saturating_sub(FREE).div_ceil(PIECE);
        let missing = needed.saturating_sub(held.as_ref().map_or(0, SemaphorePermit::num_permits));
        if missing == 0 {
            return true;
        }
        let Ok(more) = self.left.try_acquire_many(u32::try_from(missing).unwrap_or(u32::MAX)) else { return false };
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        true
    }
}

/// All of a body that must not exceed the limit of `room`, and that finds room in it.
///
/// One that does not is read on, so that a client that sends before it listens gets to see the answer; but not for more than twice
/// the limit.
pub(crate) async fn collect(mut body: RequestBody, room: &Room) -> Result<Collected<'_>, Error> {
    let (mut gathered, mut held) = (BytesMut::new(), None);
    let (mut received, mut crowded) = (0, false);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|failure| broken(&failure))?;
        let Ok(bytes) = frame.into_data() else { continue };
        received += bytes.len() as u64;
        if received > room.limit.saturating_mul(2) {
            break;
        }
        crowded = crowded || (received <= room.limit && !room.extend(&mut held, gathered.len() + bytes.len()));
        if received <= room.limit && !crowded {
            gathered.extend_from_slice(&bytes);
        } else {
            (gathered, held) = (BytesMut::new(), None);
        }
    }
    if received > room.limit {
        return Err(Error::TooLarge { limit: room.limit });
    }
    if crowded {
        let reason = "too many large manifests are being pushed at a time; push it again".to_owned();
        return Err(Error::TooManyRequests { reason, retry_after: Some(RETRY_AFTER) });
    }
    Ok(Collected { bytes: gathered.freeze(), room: held })
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    async fn collected(room: &Room, size: usize) -> Result<Collected<'_>, Error> {
        collect(Bytes::from(vec![7; size]).into(), room).await
    }

    #[tokio::test]
    async fn large_manifests_share_their_room_and_small_ones_need_none() {
        let room = Room { limit: 4 << 20, left: Semaphore::new(4) };
        let first = collected(&room, FREE + 3 * PIECE).await.unwrap();
        assert_eq!(first.bytes.len(), FREE + 3 * PIECE);
        let crowded = collected(&room, FREE + PIECE + 1).await.unwrap_err();
        assert!(matches!(crowded, Error::TooManyRequests { retry_after: Some(RETRY_AFTER), .. }), "{crowded}");
        let second = collected(&room, FREE + PIECE).await.unwrap();
        assert_eq!(room.left.available_permits(), 0);
        assert_eq!(collected(&room, FREE).await.unwrap().bytes.len(), FREE);
        drop((first, second));
        assert_eq!(room.left.available_permits(), 4);
        collected(&room, FREE + 4 * PIECE).await.unwrap();
        assert_eq!(room.left.available_permits(), 4);
    }

    #[tokio::test]
    async fn what_is_larger_than_the_largest_is_told_so_however_little_room_there_is() {
        for pieces in [0, 100] {
            let room = Room { limit: 1 << 20, left: Semaphore::new(pieces) };
            let refused = collected(&room, (1 << 20) + 1).await.unwrap_err();
            assert!(matches!(refused, Error::TooLarge { limit } if limit == 1 << 20), "{refused}");
            assert_eq!(room.left.available_permits(), pieces);
        }
    }

    #[test]
    fn there_is_room_for_the_largest() {
        for limit in [4 << 20, 8 << 20, 1 << 30] {
            let room = Room::new(limit);
            assert!(room.extend(&mut None, usize::try_from(limit).unwrap()), "{limit}");
        }
    }
}
