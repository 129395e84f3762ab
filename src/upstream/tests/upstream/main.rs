//! The client against a real small registry with faults.
#![expect(clippy::unwrap_used, reason = "tests")]

mod blob;
mod budget;
mod failure;
mod listing;
mod manifest;
mod push;
mod put;
mod target;
mod token;

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use oci::{Blob, ByteStream, Content, Error, RangeSource, Reference, RepositoryName, Tag};
use roadstead_upstream::{Config, Credentials, Upstream};
use telemetry::Metrics;
use testing::{FakeUpstream, ManualClock};
use url::Url;

/// An upstream, the client that asks it, and the client's clock and metrics.
struct Setup {
    fake: FakeUpstream,
    clock: Arc<ManualClock>,
    metrics: Metrics,
    upstream: Upstream,
}

fn setup() -> Setup {
    setup_with(FakeUpstream::start(), |_config| {})
}

fn setup_with(fake: FakeUpstream, change: impl FnOnce(&mut Config)) -> Setup {
    let mut config = Config::new("r.example", Url::parse(&fake.url()).unwrap());
    change(&mut config);
    let (clock, metrics) = (Arc::new(ManualClock::new()), Metrics::new());
    let upstream = Upstream::new(config, Arc::<ManualClock>::clone(&clock), metrics.clone()).unwrap();
    Setup { fake, clock, metrics, upstream }
}

fn with_credentials(config: &mut Config) {
    config.credentials = Some(Credentials { username: "team".to_owned(), password: "secret-password".into() });
}

fn credentials() -> (String, String) {
    ("team".to_owned(), "secret-password".to_owned())
}

fn with_short_idle(config: &mut Config) {
    config.idle_timeout = Duration::from_millis(300);
}

fn name() -> RepositoryName {
    RepositoryName::parse("library/nginx").unwrap()
}

fn tag(text: &str) -> Reference {
    Reference::Tag(Tag::parse(text).unwrap())
}

fn source(blob: &Blob) -> Arc<dyn RangeSource> {
    match &blob.content {
        Content::Source(source) => Arc::clone(source),
        _ => unreachable!("an upstream's blob is a source"),
    }
}

/// The end of `work`, with a clock that moves on whenever somebody sleeps on it.
async fn finish<T>(clock: &ManualClock, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                if clock.sleepers() > 0 {
                    clock.advance(Duration::from_secs(1));
                }
            }
        }
    }
}

/// The bytes of a stream, and the error at its end if there is one.
async fn drain(mut stream: ByteStream) -> (Vec<u8>, Option<Error>) {
    let mut whole = Vec::new();
    loop {
        match stream.try_next().await {
            Ok(Some(chunk)) => whole.extend_from_slice(&chunk),
            Ok(None) => return (whole, None),
            Err(error) => return (whole, Some(error)),
        }
    }
}

async fn read(source: &dyn RangeSource, start: u64, end: Option<u64>) -> Result<Vec<u8>, Error> {
    let (bytes, error) = drain(source.open(start, end).await?).await;
    error.map_or(Ok(bytes), Err)
}

/// Nothing that a client or a log sees may hold one of these.
fn assert_no_secret(error: &Error) {
    let text = format!("{error} {error:?}");
    for secret in ["secret-password", "signed-secret", "token-", "Basic ", "Bearer "] {
        assert!(!text.contains(secret), "{text}");
    }
}
