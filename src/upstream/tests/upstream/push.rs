use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci::{Algorithm, ByteStream, Digest, Error, Hasher, Push, RangeSource};
use testing::{FakeUpstream, Fault, deterministic_bytes};

use crate::{Setup, finish, name, setup, setup_with, with_short_idle};

const MIB: usize = 1 << 20;
pub(crate) const LARGE: usize = 3 * MIB;
pub(crate) const UPLOADS: &str = "/blobs/uploads/";
/// Requests to an open session, but not the one that opens it.
const SESSION: &str = "/blobs/uploads/upload-";

/// Bytes in memory, and where they were opened.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) bytes: Bytes,
    pub(crate) opened: Mutex<Vec<u64>>,
    /// Where it breaks off.
    pub(crate) breaks: Option<usize>,
    pub(crate) when_opened: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Source {
    pub(crate) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { bytes: deterministic_bytes(size, 7), ..Self::default() })
    }

    pub(crate) fn digest(&self) -> Digest {
        Hasher::digest(Algorithm::Sha256, &self.bytes)
    }

    fn opened(&self) -> Vec<u64> {
        self.opened.lock().unwrap().clone()
    }
}

#[async_trait]
impl RangeSource for Source {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error> {
        self.opened.lock().unwrap().push(start);
        if let Some(act) = &self.when_opened {
            act();
        }
        let start = usize::try_from(start).unwrap();
        let end = end.map_or(self.bytes.len(), |end| usize::try_from(end).unwrap());
        let broken = self.breaks.filter(|at| (start..end).contains(at));
        let bytes = self.bytes.slice(start..broken.unwrap_or(end));
        let pieces: Vec<Result<Bytes, Error>> = bytes.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let failure = broken.map(|at| Err(Error::Internal { context: "reading", source: format!("broken at {at}").into() }));
        Ok(stream::iter(pieces.into_iter().chain(failure)).boxed())
    }
}

pub(crate) async fn push(setup: &Setup, source: &Arc<Source>, size: Option<usize>) -> Result<(), Error> {
    let size = size.map(|size| size as u64);
    let source = Arc::<Source>::clone(source);
    let digest = source.digest();
    finish(&setup.clock, setup.upstream.push_blob(&name(), &digest, size, source)).await
}

pub(crate) fn held(setup: &Setup, source: &Source) -> bool {
    setup.fake.blob("library/nginx", &source.digest()) == Some(source.bytes.clone())
}

/// Methods of all requests, with their status.
fn asked(setup: &Setup) -> Vec<(String, u16)> {
    setup.fake.requests().into_iter().map(|entry| (entry.method, entry.status)).collect()
}

pub(crate) fn methods(setup: &Setup) -> Vec<String> {
    asked(setup).into_iter().map(|(method, _)| method).collect()
}

#[tokio::test]
async fn a_small_blob_goes_with_the_request_that_closes_its_session() {
    let setup = setup();
    for size in [0, 1, MIB] {
        setup.fake.clear_requests();
        let source = Source::new(size);
        push(&setup, &source, Some(size)).await.unwrap();
        assert!(held(&setup, &source), "{size}");
        assert_eq!(methods(&setup), ["POST", "PUT"]);
        let put = setup.fake.requests().pop().unwrap();
        assert_eq!(put.header("content-length"), Some(size.to_string().as_str()));
        assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    }
    assert_eq!(setup.fake.sessions(), 0);
}

#[tokio::test]
async fn a_large_blob_goes_as_one_stream() {
    let setup = setup();
    let source = Source::new(LARGE);
    push(&setup, &source, Some(LARGE)).await.unwrap();
    assert!(held(&setup, &source));
    assert_eq!(methods(&setup), ["POST", "PATCH", "PUT"]);
    let patch = &setup.fake.requests()[1];
    assert_eq!(patch.header("content-range"), Some(format!("0-{}", LARGE - 1).as_str()));
    assert_eq!(patch.header("content-length"), Some(LARGE.to_string().as_str()));
    assert_eq!(source.opened(), [0]);
}

#[tokio::test]
async fn a_blob_of_unknown_size_goes_until_its_source_ends() {
    let setup = setup();
    for size in [0, 1, LARGE] {
        setup.fake.clear_requests();
        let source = Source::new(size);
        push(&setup, &source, None).await.unwrap();
        assert!(held(&setup, &source), "{size}");
        assert_eq!(methods(&setup).len(), if size == 0 { 2 } else { 3 });
        let patch = setup.fake.requests().into_iter().find(|entry| entry.method == "PATCH");
        assert!(patch.is_none_or(|patch| patch.header("content-range").is_none() && patch.header("content-length").is_none()));
    }
}

#[tokio::test]
async fn a_blob_under_sha512_is_pushed_and_found_under_it() {
    let setup = setup();
    for size in [10, LARGE] {
        let source = Source::new(size);
        let digest = Hasher::digest(Algorithm::Sha512, &source.bytes);
        assert!(!setup.upstream.has_blob(&name(), &digest).await.unwrap());
        setup.upstream.push_blob(&name(), &digest, Some(size as u64), Arc::<Source>::clone(&source)).await.unwrap();
        assert!(setup.upstream.has_blob(&name(), &digest).await.unwrap());
        assert_eq!(setup.fake.blob("library/nginx", &digest), Some(source.bytes.clone()));
    }
}

#[tokio::test]
async fn a_stream_that_breaks_in_the_middle_goes_on_where_the_registrys_copy_ends() {
    let setup = setup();
    for size in [Some(LARGE), None] {
        setup.fake.clear_requests();
        setup.fake.remove_repository("library/nginx");
        setup.fake.fault_times(SESSION, 1, Fault::Cut { after: 1_000_000 });
        let source = Source::new(LARGE);
        push(&setup, &source, size).await.unwrap();
        assert!(held(&setup, &source));
        assert_eq!(source.opened(), [0, 1_000_000]);
        assert_eq!(methods(&setup), ["POST", "PATCH", "GET", "PATCH", "PUT"]);
        let last = setup.fake.requests().into_iter().rev().find(|entry| entry.method == "PATCH").unwrap();
        assert_eq!(last.header("content-range"), size.map(|size| format!("1000000-{}", size - 1)).as_deref());
    }
}

#[tokio::test]
async fn a_push_goes_on_for_as_long_as_it_comes_nearer() {
    let setup = setup();
    setup.fake.fault_times(SESSION, 20, Fault::Cut { after: 100_000 });
    let source = Source::new(LARGE);
    push(&setup, &source, Some(LARGE)).await.unwrap();
    assert!(held(&setup, &source));
    assert_eq!(source.opened().len(), 21);
}

#[tokio::test]
async fn a_session_that_is_lost_is_begun_anew() {
    let setup = setup();
    setup.fake.sessions_survive(false);
    for size in [Some(LARGE), None] {
        setup.fake.remove_repository("library/nginx");
        setup.fake.fault_times(SESSION, 1, Fault::Cut { after: 1_000_000 });
        let source = Source::new(LARGE);
        push(&setup, &source, size).await.unwrap();
        assert!(held(&setup, &source));
        assert_eq!(source.opened(), [0, 0]);
    }
    // Between two requests, too.
    let fake = Arc::new(FakeUpstream::start_on_thread());
    let theirs = Arc::clone(&fake);
    let once = Mutex::new(Some(()));
    let when_opened = move || {
        if once.lock().unwrap().take().is_some() {
            theirs.forget_sessions();
        }
    };
    let bytes = deterministic_bytes(LARGE, 7);
    let source = Arc::new(Source { bytes, when_opened: Some(Box::new(when_opened)), ..Source::default() });
    let config = roadstead_upstream::Config::new("r.example", url::Url::parse(&fake.url()).unwrap());
    let clock = Arc::new(testing::ManualClock::new());
    let upstream =
        roadstead_upstream::Upstream::new(config, Arc::<testing::ManualClock>::clone(&clock), telemetry::Metrics::new()).unwrap();
    let digest = source.digest();
    finish(&clock, upstream.push_blob(&name(), &digest, Some(LARGE as u64), Arc::<Source>::clone(&source))).await.unwrap();
    assert_eq!(fake.blob("library/nginx", &digest), Some(source.bytes.clone()));
}

#[tokio::test]
async fn errors_of_the_server_are_passed_over_at_every_step() {
    for (path, size) in [(UPLOADS, 10), (SESSION, 10), (UPLOADS, LARGE), (SESSION, LARGE)] {
        for fault in [Fault::Status(500), Fault::Status(503), Fault::Status(408), Fault::Drop] {
            let setup = setup();
            setup.fake.fault_times(path, 2, fault.clone());
            let source = Source::new(size);
            push(&setup, &source, Some(size)).await.unwrap();
            assert!(held(&setup, &source), "{path} {size} {fault:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_not_a_push_that_is_lost() {
    let setup = setup();
    setup.fake.fault_times(SESSION, 1, Fault::LoseAnswer);
    let source = Source::new(10);
    push(&setup, &source, Some(10)).await.unwrap();
    assert_eq!(methods(&setup), ["POST", "PUT", "HEAD"]);
    setup.fake.clear_requests();
    setup.fake.fault_times(SESSION, 1, Fault::LoseAnswer);
    let source = Source::new(LARGE);
    push(&setup, &source, Some(LARGE)).await.unwrap();
    assert_eq!(methods(&setup), ["POST", "PATCH", "GET", "PUT"]);
    assert_eq!(source.opened(), [0]);
}

#[tokio::test]
async fn what_an_answer_says_of_the_bytes_is_believed_if_it_can_be() {
    for (range, expected) in [("0-0", 3), ("nonsense", 3), ("0-99999999", 3), ("0-999999", 4)] {
        let setup = setup();
        setup.fake.fault_times(SESSION, 1, Fault::Header { name: "range", value: range.to_owned() });
        let source = Source::new(LARGE);
        push(&setup, &source, Some(LARGE)).await.unwrap();
        assert!(held(&setup, &source));
        assert_eq!((methods(&setup).len(), source.opened()), (expected, vec![0]), "{range}");
    }
    // Never further than that: it is given up.
    let setup = setup();
    setup.fake.fault(SESSION, Fault::Header { name: "range", value: "0-999999".to_owned() });
    let error = push(&setup, &Source::new(LARGE), Some(LARGE)).await.unwrap_err();
    assert!(matches!(error, Error::Upstream { .. }), "{error}");
}

#[tokio::test]
async fn what_takes_no_long_bodies_and_does_not_say_so_gets_chunks_in_the_end() {
    let setup = setup();
    setup.fake.sessions_survive(false);
    // Every stream breaks off before a chunk's end, until it is shorter.
    let size = 20 * MIB;
    setup.fake.fault(SESSION, Fault::Cut { after: 17 << 20 });
    let source = Source::new(size);
    push(&setup, &source, Some(size)).await.unwrap();
    assert!(held(&setup, &source));
}

#[tokio::test]
async fn a_push_that_brings_nothing_is_given_up_after_five_attempts() {
    for size in [10, LARGE] {
        let setup = setup();
        setup.fake.respond_with(500);
        let source = Source::new(size);
        let error = push(&setup, &source, Some(size)).await.unwrap_err();
        assert!(matches!(&error, Error::Upstream { reason, .. } if reason.contains("500")), "{error}");
        assert_eq!(setup.fake.count("POST", UPLOADS), 5);
    }
}

#[tokio::test]
async fn a_registry_that_stops_listening_is_silent_and_one_that_is_slow_is_not() {
    let setup = setup_with(FakeUpstream::start(), with_short_idle);
    setup.fake.fault_times(SESSION, 1, Fault::Stall { after: 1_000_000 });
    // More than the buffers between us and a fake that does not read.
    let size = 12 * MIB;
    let source = Source::new(size);
    push(&setup, &source, Some(size)).await.unwrap();
    assert!(held(&setup, &source));
    setup.fake.clear_requests();
    setup.fake.fault_times(SESSION, 1, Fault::Rate { bytes_per_second: 4_000_000 });
    let source = Source::new(LARGE);
    push(&setup, &source, Some(LARGE)).await.unwrap();
    assert_eq!(methods(&setup), ["POST", "PATCH", "PUT"]);
}

#[tokio::test]
async fn a_registry_that_asks_for_a_moment_gets_it_and_one_that_asks_for_more_is_left() {
    use telemetry::Clock;
    for (path, size) in [(UPLOADS, 10), (SESSION, 10), (SESSION, LARGE)] {
        let setup = setup();
        setup.fake.fault_times(path, 1, Fault::TooManyRequests { retry_after: Some("7".to_owned()) });
        let source = Source::new(size);
        push(&setup, &source, Some(size)).await.unwrap();
        assert!(held(&setup, &source) && setup.clock.monotonic() >= Duration::from_secs(7), "{path} {size}");
    }
    let setup = setup();
    setup.fake.fault_times(SESSION, 1, Fault::TooManyRequests { retry_after: Some("3600".to_owned()) });
    let source = Source::new(LARGE);
    let error = push(&setup, &source, Some(LARGE)).await.unwrap_err();
    assert!(matches!(error, Error::TooManyRequests { retry_after: Some(3600), .. }), "{error}");
    assert_eq!(methods(&setup), ["POST", "PATCH"]);
}

#[tokio::test]
async fn other_bytes_than_the_digests_are_refused_and_not_kept() {
    for size in [10, LARGE] {
        let setup = setup();
        let source = Source::new(size);
        let digest = Hasher::digest(Algorithm::Sha256, b"other");
        let pushed = setup.upstream.push_blob(&name(), &digest, Some(size as u64), Arc::<Source>::clone(&source)).await;
        assert!(matches!(pushed, Err(Error::DigestInvalid { .. })), "{pushed:?}");
        assert!(!held(&setup, &source) && setup.fake.blob("library/nginx", &digest).is_none());
        assert_eq!((setup.fake.sessions(), setup.fake.count("PATCH", "")), (0, usize::from(size == LARGE)));
    }
    // Changed on the way.
    let setup = setup();
    setup.fake.fault_times(SESSION, 1, Fault::Corrupt { at: 5 });
    let source = Source::new(LARGE);
    assert!(matches!(push(&setup, &source, Some(LARGE)).await, Err(Error::DigestInvalid { .. })));
    assert!(!held(&setup, &source));
}

#[tokio::test]
async fn a_source_that_breaks_is_not_the_registrys_fault() {
    for size in [None, Some(LARGE)] {
        let setup = setup();
        let bytes = deterministic_bytes(LARGE, 7);
        for breaks in [0, 2_000_000] {
            let source = Arc::new(Source { bytes: bytes.clone(), breaks: Some(breaks), ..Source::default() });
            let error = push(&setup, &source, size).await.unwrap_err();
            assert!(matches!(error, Error::Internal { context: "reading", .. }), "{error}");
            assert_eq!((source.opened().len(), setup.fake.sessions()), (1, 0));
        }
    }
    let setup = setup();
    let source = Source::new(MIB);
    let short = push(&setup, &source, Some(LARGE)).await.unwrap_err();
    assert!(matches!(short, Error::SizeInvalid { .. }), "{short}");
    for told in [9, 11] {
        let wrong = push(&setup, &Source::new(10), Some(told)).await.unwrap_err();
        assert!(matches!(wrong, Error::SizeInvalid { .. }), "{wrong}");
    }
}

#[tokio::test]
async fn a_registry_that_takes_no_long_bodies_gets_chunks() {
    for size in [Some(LARGE), None] {
        let setup = setup();
        setup.fake.body_limit(1_500_000);
        setup.fake.smallest_chunk(500_000);
        let source = Source::new(LARGE);
        push(&setup, &source, size).await.unwrap();
        assert!(held(&setup, &source));
        let taken = asked(&setup).into_iter().filter(|(method, status)| method == "PATCH" && *status == 202).count();
        assert_eq!(taken, LARGE.div_ceil(MIB));
    }
    let setup = setup();
    setup.fake.body_limit(100_000);
    let error = push(&setup, &Source::new(LARGE), Some(LARGE)).await.unwrap_err();
    assert!(matches!(&error, Error::Upstream { reason, .. } if reason.contains("413")), "{error}");
    assert_eq!(setup.fake.sessions(), 0);
}

#[tokio::test]
async fn whatever_breaks_a_blob_arrives_whole() {
    for seed in 0..60 {
        // A few random numbers that are the same in every run.
        let numbers: Vec<usize> = deterministic_bytes(64, 1000 + seed)
            .chunks(4)
            .map(|chunk| chunk.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
            .collect();
        let size = if seed % 3 == 0 { numbers[0] % 1000 } else { MIB + numbers[0] % MIB };
        let told = (seed % 2 == 0).then_some(size);
        let setup = setup();
        setup.fake.sessions_survive(numbers[1].is_multiple_of(2));
        for pair in numbers[2..2 + numbers[1] % 6].chunks(2) {
            let [kind, at] = [pair[0], pair.last().copied().unwrap_or_default()];
            let path = if at.is_multiple_of(3) { UPLOADS } else { SESSION };
            let fault = match kind % 6 {
                0 | 1 => Fault::Cut { after: (at % (size + 1)) as u64 },
                2 => Fault::LoseAnswer,
                3 => Fault::Drop,
                4 => Fault::Status(502),
                _ => Fault::TooManyRequests { retry_after: Some("2".to_owned()) },
            };
            setup.fake.fault_times(path, 1, fault);
        }
        let source = Source::new(size);
        push(&setup, &source, told).await.unwrap();
        assert!(held(&setup, &source), "seed {seed}: {size} bytes, told {told:?}");
    }
}
