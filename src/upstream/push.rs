//! Pushing blobs: mounted, in one request, or as a stream that goes on where it broke off.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use oci::{Digest, Error, Hasher, RangeSource, RepositoryName};
use telemetry::chain;

use crate::ask::{Access, Call, Remote};
use crate::budget::Cost;
use crate::outcome::{Wanted, What};
use crate::payload::{Passage, Payload};
use crate::session::{Failure, Mounted, Session};
use crate::wire::Method;

/// Blobs up to this size are held in memory and sent with the request that closes the session.
const SMALL: u64 = 1 << 20;
/// Attempts that bring nothing before a push is given up.
const ATTEMPTS: u32 = 5;
/// The wait before the first new attempt; doubled for each that brings nothing.
const BACKOFF: Duration = Duration::from_millis(250);
/// A registry that asks for more than this is not waited for: whoever pushes comes back later.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a registry that asks to be left alone is, if it does not say for how long.
const UNSAID: Duration = Duration::from_secs(30);
/// Chunks for a registry that takes no longer bodies; halved down to the smallest where that is still too much.
const CHUNK: u64 = 16 << 20;
const SMALLEST_CHUNK: u64 = 1 << 20;

impl Remote {
    pub(crate) async fn has_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let wanted = Wanted::push(name, What::Blob(digest));
        let url = self.url(name, &format!("blobs/{digest}"));
        let asked = self.ask(Call::new(Method::Head, &url, name, Access::Push, Cost::Other)).await;
        let reply = asked.map_err(|refusal| self.refused(refusal, &wanted))?;
        if reply.response.status.is_success() {
            return Ok(true);
        }
        match self.unexpected(reply, &wanted).await {
            unknown if unknown.is_unknown() => Ok(false),
            failure => Err(failure),
        }
    }

    pub(crate) async fn mount_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool, Error> {
        match self.ask_for_mount(name, digest, from).await {
            Ok(Mounted::Yes) => Ok(true),
            Ok(Mounted::No(session)) => {
                self.sessions().insert((name.clone(), digest.clone()), session.url);
                Ok(false)
            }
            // Not there, or not in the manner of the specification: it is to be pushed, and that says what is wrong.
            Err(Failure::Lost(_) | Failure::Final(Error::Unsupported { .. } | Error::Denied { .. })) => Ok(false),
            Err(failure) => Err(failure.into_error()),
        }
    }

    pub(crate) async fn push_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
        source: Arc<dyn RangeSource>,
    ) -> Result<(), Error> {
        let kept = self.sessions().remove(&(name.clone(), digest.clone()));
        let session = kept.map(|url| Session { url, offset: 0, smallest: None });
        let mut upload = Upload {
            remote: self,
            name,
            digest,
            size,
            session,
            is_synced: true,
            chunk: None,
            reached: 0,
            attempts: Attempts::default(),
        };
        match size {
            Some(size) if size <= SMALL => upload.send_whole(whole(source.as_ref(), size, digest).await?).await,
            _ => upload.send_stream(source.as_ref()).await,
        }
    }
}

/// All bytes of a small blob, which are the right ones.
async fn whole(source: &dyn RangeSource, size: u64, digest: &Digest) -> Result<Bytes, Error> {
    let mut stream = source.open(0, None).await?;
    let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
    while let Some(chunk) = stream.try_next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > size {
            return Err(Error::SizeInvalid { reason: format!("{digest} is longer than the {size} bytes that were announced") });
        }
    }
    if (bytes.len() as u64) < size {
        return Err(short(digest, bytes.len() as u64, size));
    }
    let found = Hasher::digest(digest.algorithm(), &bytes);
    if found != *digest {
        return Err(Error::DigestInvalid { reason: format!("the bytes of {digest} have the digest {found}") });
    }
    Ok(bytes.freeze())
}

fn short(digest: &Digest, found: u64, size: u64) -> Error {
    Error::SizeInvalid { reason: format!("{digest} ended after {found} of the {size} bytes that were announced") }
}

/// One blob on its way.
struct Upload<'a> {
    remote: &'a Remote,
    name: &'a RepositoryName,
    digest: &'a Digest,
    size: Option<u64>,
    session: Option<Session>,
    /// Is the session's offset what the registry has? Not after a request that broke off.
    is_synced: bool,
    /// The most that is sent in one request; `None` for all that is left.
    chunk: Option<u64>,
    /// The most that the registry ever had.
    reached: u64,
    attempts: Attempts,
}

/// How a step of a stream ended.
enum Step {
    /// There is more to send.
    More,
    /// All bytes are there.
    Complete,
}

impl Upload<'_> {
    /// Sends a blob that is in memory: a session, and the request that closes it.
    async fn send_whole(&mut self, bytes: Bytes) -> Result<(), Error> {
        loop {
            let failure = match self.close(Payload::Bytes(bytes.clone())).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // The session has ended or cannot be trusted any more.
            self.session = None;
            self.again(failure).await?;
            if self.arrived().await {
                return Ok(());
            }
        }
    }

    /// Sends a blob as it comes out of its source.
    async fn send_stream(&mut self, source: &dyn RangeSource) -> Result<(), Error> {
        let mut complete = false;
        loop {
            let step = if complete {
                self.close(Payload::Empty).await.map(|()| None).map_err(Stop::Registry)
            } else {
                self.step(source).await.map(Some)
            };
            let failure = match step {
                Ok(None) => return Ok(()),
                Ok(Some(Step::Complete)) => {
                    complete = true;
                    continue;
                }
                Ok(Some(Step::More)) => continue,
                Err(Stop::Source(error)) => return Err(self.give_up(error).await),
                Err(Stop::Registry(failure)) => failure,
            };
            let was_closing = std::mem::take(&mut complete);
            self.again(failure).await?;
            // Perhaps only the answer was lost.
            if was_closing && self.arrived().await {
                return Ok(());
            }
        }
    }

    /// Sends what is left, or a chunk of it.
    async fn step(&mut self, source: &dyn RangeSource) -> Result<Step, Stop> {
        let mut session = self.session().await?;
        let start = session.offset;
        let left = self.size.map(|size| size.saturating_sub(start));
        if left == Some(0) {
            return Ok(Step::Complete);
        }
        let length = [left, self.chunk].into_iter().flatten().min();
        // Where all that is left goes, the source need not be told its end: it may have it open already.
        let end = length.filter(|_| length != left).map(|length| start + length);
        let opened = source.open(start, end.filter(|_| self.size.is_some())).await.map_err(Stop::Source)?;
        let begun = Passage::begin(opened, length.unwrap_or(u64::MAX)).await.map_err(Stop::Source)?;
        let Some(passage) = begun else {
            return match self.size {
                None => Ok(Step::Complete),
                Some(size) => Err(Stop::Source(short(self.digest, start, size))),
            };
        };
        let account = passage.account();
        self.is_synced = false;
        // Of a blob of unknown size no chunk has a length that could be told before.
        let told = length.filter(|_| self.size.is_some());
        let appended = self.remote.append(self.name, &mut session, told, Payload::Stream(passage)).await;
        if let Some(error) = account.failure() {
            return Err(Stop::Source(error));
        }
        let sent = start + account.passed();
        if let (Err(_), Some(size), true) = (&appended, self.size, account.ended())
            && told.is_some_and(|told| sent < start + told)
        {
            return Err(Stop::Source(short(self.digest, sent, size)));
        }
        // Taken is what an answer of success means. Not all say in it how far they are, and some say `0-0` whatever they have; but
        // one that says it has a part is asked once more.
        if let Some(received) = appended?.filter(|received| (start.max(1) + 1..sent).contains(received)) {
            let text = format!("it took only {} of {} bytes", received - start, sent - start);
            return Err(Stop::Registry(Failure::Passing(self.remote.failed(text))));
        }
        session.offset = sent;
        let is_end = self.size.map_or(account.ended(), |size| sent == size);
        self.keep(session);
        Ok(if is_end { Step::Complete } else { Step::More })
    }

    /// The session, where the registry's copy ends; a new one if there is none.
    async fn session(&mut self) -> Result<Session, Failure> {
        if let Some(session) = self.session.as_mut().filter(|_| !self.is_synced) {
            match self.remote.find_offset(self.name, session).await {
                // Some lose a session by whatever broke off: no other attempt, only a longer way.
                Err(Failure::Lost(_)) => self.session = None,
                found => found?,
            }
        }
        let session = match self.session.clone() {
            Some(session) => session,
            None => self.remote.open_session(self.name).await?,
        };
        self.keep(session.clone());
        Ok(session)
    }

    fn keep(&mut self, session: Session) {
        if session.offset > self.reached {
            self.reached = session.offset;
            self.attempts = Attempts::default();
        }
        self.is_synced = true;
        self.session = Some(session);
    }

    async fn close(&mut self, payload: Payload) -> Result<(), Failure> {
        let session = self.session().await?;
        self.is_synced = false;
        self.remote.close_session(self.name, &session, self.digest, payload).await
    }

    /// Prepares another attempt, or gives up.
    async fn again(&mut self, failure: Failure) -> Result<(), Error> {
        let error = match failure {
            Failure::Final(error) => return Err(self.give_up(error).await),
            Failure::TooLarge(error) => {
                let smallest = self.session.as_ref().and_then(|session| session.smallest).unwrap_or_default().max(SMALLEST_CHUNK);
                let smaller = self.chunk.map_or(CHUNK, |chunk| chunk / 2);
                if smaller < smallest || self.size.is_some_and(|size| size <= smallest) {
                    return Err(self.give_up(error).await);
                }
                self.chunk = Some(smaller);
                return Ok(());
            }
            Failure::Lost(error) => {
                self.session = None;
                error
            }
            Failure::Passing(error) => error,
        };
        match self.attempts.next(&error) {
            Some(wait) => {
                // Perhaps something on the way takes no long bodies and does not say so.
                self.chunk = self.chunk.or(self.attempts.are_many().then_some(CHUNK));
                let (upstream, at) = (self.remote.host(), self.reached);
                tracing::info!(upstream, repository = %self.name, digest = %self.digest, at, error = %chain(&error), "a push broke off and is taken up again");
                self.remote.clock().sleep(wait).await;
                Ok(())
            }
            None => Err(error),
        }
    }

    /// Is the blob there, although its push did not end well?
    async fn arrived(&self) -> bool {
        self.remote.has_blob(self.name, self.digest).await.unwrap_or(false)
    }

    async fn give_up(&mut self, error: Error) -> Error {
        if let Some(session) = self.session.take() {
            self.remote.drop_session(self.name, &session).await;
        }
        error
    }
}

/// Who is to blame for a step that did not succeed.
enum Stop {
    Source(Error),
    Registry(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Registry(failure)
    }
}

/// Attempts that have brought nothing.
#[derive(Default)]
pub(crate) struct Attempts(u32);

impl Attempts {
    /// Is it time to try another way?
    fn are_many(&self) -> bool {
        self.0 > ATTEMPTS / 2
    }

    /// How long to wait before the next one; `None` if there have been enough, or the registry wants too long a wait.
    pub(crate) fn next(&mut self, error: &Error) -> Option<Duration> {
        let backoff = BACKOFF * 2_u32.pow(self.0);
        self.0 += 1;
        let asked = match error {
            Error::TooManyRequests { retry_after, .. } => retry_after.map_or(UNSAID, Duration::from_secs),
            _ => Duration::ZERO,
        };
        (self.0 < ATTEMPTS && asked <= PATIENCE).then(|| backoff.max(asked))
    }
}
