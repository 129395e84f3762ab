//! What a request to an upstream carries.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci::{ByteStream, Error};
use outbound::Body;

/// What a request carries.
pub(crate) enum Payload {
    /// Nothing.
    Empty,
    /// Something that can be sent again.
    Bytes(Bytes),
    /// Something that is there once.
    Stream(Passage),
}

impl Payload {
    /// The same once more, if it can be had.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Stream(_) => None,
        }
    }

    pub(crate) fn into_body(self) -> Body {
        match self {
            Self::Empty => Body::Empty,
            Self::Bytes(bytes) => Body::Bytes(bytes),
            Self::Stream(passage) => passage.into_body(),
        }
    }
}

/// Bytes on their way from a source into a request, and what became of them.
pub(crate) struct Passage {
    first: Option<Bytes>,
    rest: ByteStream,
    limit: u64,
    account: Account,
}

/// What a passage has seen. It outlives the request.
#[derive(Clone, Default)]
pub(crate) struct Account(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    passed: u64,
    ended: bool,
    failure: Option<Error>,
}

impl Account {
    /// Bytes that were given to the connection.
    pub(crate) fn passed(&self) -> u64 {
        self.with(|seen| seen.passed)
    }

    /// Has the source come to its end?
    pub(crate) fn ended(&self) -> bool {
        self.with(|seen| seen.ended)
    }

    /// Why the source broke off, if it did: then the registry is not to blame.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.with(|seen| seen.failure.take())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Passage {
    /// At most `limit` bytes of `source`, which has begun already if nothing else tells that it is not empty; `None` if it is.
    pub(crate) async fn begin(mut source: ByteStream, limit: u64) -> Result<Option<Self>, Error> {
        loop {
            match source.next().await.transpose()? {
                None => return Ok(None),
                Some(first) if first.is_empty() => {}
                Some(first) => return Ok(Some(Self { first: Some(first), rest: source, limit, account: Account::default() })),
            }
        }
    }

    pub(crate) fn account(&self) -> Account {
        self.account.clone()
    }

    fn into_body(self) -> Body {
        Body::Stream(Box::pin(stream::unfold(self, |mut passage| async move {
            let chunk = passage.next().await?;
            Some((chunk, passage))
        })))
    }

    async fn next(&mut self) -> Option<Result<Bytes, outbound::BodyError>> {
        let left = self.limit - self.account.passed();
        if left == 0 {
            return None;
        }
        let chunk = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => self.rest.next().await,
        };
        match chunk {
            None => {
                self.account.with(|seen| seen.ended = true);
                None
            }
            Some(Ok(mut bytes)) => {
                bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                self.account.with(|seen| seen.passed += bytes.len() as u64);
                Some(Ok(bytes))
            }
            Some(Err(error)) => {
                let text = error.to_string();
                self.account.with(|seen| seen.failure = Some(error));
                Some(Err(text.into()))
            }
        }
    }
}
