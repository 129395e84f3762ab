//! Times of single steps, in the process and without a network: `cargo bench --bench micro`.
//!
//! For looking, not for gating: times of a shared machine move. `benches/instructions.rs` counts, and fails on a regression.
#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first thing that is not as it should be")]

mod stage;

use api::route::Route;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use http::Method;
use oci::{Algorithm, Digest, Hasher, ManifestView, RangeOutcome, Reference, RepositoryName, media_type};
use testing::deterministic_bytes;

use crate::stage::{DIGEST, NAME, Place, ServerStage, StoreStage, TAG};

fn main() {
    divan::main();
}

mod parse {
    use super::{
        Bencher, BytesCount, DIGEST, Digest, ManifestView, Method, NAME, RangeOutcome, Reference, RepositoryName, Route, TAG,
        black_box, media_type, stage,
    };

    #[divan::bench]
    fn route_of_a_manifest() -> Route {
        let path = format!("/v2/{NAME}/manifests/{TAG}");
        Route::parse(&Method::GET, black_box(&path), black_box(Some("ns=docker.io"))).unwrap()
    }

    #[divan::bench]
    fn route_of_a_blob() -> Route {
        let path = format!("/v2/{NAME}/blobs/{DIGEST}");
        Route::parse(&Method::GET, black_box(&path), None).unwrap()
    }

    #[divan::bench]
    fn name() -> RepositoryName {
        RepositoryName::parse(black_box(NAME)).unwrap()
    }

    #[divan::bench]
    fn digest() -> Digest {
        Digest::parse(black_box(DIGEST)).unwrap()
    }

    #[divan::bench]
    fn reference() -> Reference {
        Reference::parse(black_box(TAG)).unwrap()
    }

    #[divan::bench]
    fn range() -> RangeOutcome {
        RangeOutcome::parse(black_box("bytes=1048576-2097151"), black_box(1 << 30))
    }

    #[divan::bench]
    fn manifest(bencher: Bencher<'_, '_>) {
        let digest = Digest::parse(DIGEST).unwrap();
        let bytes = stage::image(&digest, &digest);
        let bencher = bencher.counter(BytesCount::new(bytes.len()));
        bencher.bench(|| ManifestView::parse(black_box(&bytes), Some(media_type::OCI_MANIFEST)).unwrap());
    }
}

#[divan::bench(args = [1024, 65_536, 1_048_576])]
fn sha256(bencher: Bencher<'_, '_>, size: usize) {
    let bytes = deterministic_bytes(size, 1);
    bencher.counter(BytesCount::new(size)).bench(|| Hasher::digest(Algorithm::Sha256, black_box(&bytes)));
}

#[divan::bench_group]
mod store {
    use super::{Bencher, Place, StoreStage};

    const PLACES: [Place; 2] = [Place::Memory, Place::Folder];

    #[divan::bench(args = PLACES)]
    fn tag_hit(bencher: Bencher<'_, '_>, place: Place) {
        let stage = StoreStage::new(place);
        bencher.bench_local(|| stage.tag_hit());
    }

    #[divan::bench(args = PLACES)]
    fn manifest_hit(bencher: Bencher<'_, '_>, place: Place) {
        let stage = StoreStage::new(place);
        bencher.bench_local(|| stage.manifest_hit());
    }

    #[divan::bench(args = PLACES)]
    fn member_hit(bencher: Bencher<'_, '_>, place: Place) {
        let stage = StoreStage::new(place);
        bencher.bench_local(|| stage.member_hit());
    }

    #[divan::bench(args = PLACES)]
    fn open_blob(bencher: Bencher<'_, '_>, place: Place) {
        let stage = StoreStage::new(place);
        bencher.bench_local(|| stage.open_blob());
    }
}

/// Whole requests: route, names, guard, handler, store, response, log entry and metrics.
#[divan::bench_group]
mod request {
    use super::{Bencher, Method, Place, ServerStage};

    const PLACES: [Place; 2] = [Place::Memory, Place::Folder];

    fn ask(bencher: Bencher<'_, '_>, place: Place, method: &Method, path: impl Fn(&ServerStage) -> &str) {
        let stage = ServerStage::new(place);
        bencher.bench_local(|| stage.pull(method.clone(), path(&stage)));
    }

    #[divan::bench(args = PLACES)]
    fn version(bencher: Bencher<'_, '_>, place: Place) {
        ask(bencher, place, &Method::GET, |_| "/v2/");
    }

    #[divan::bench(args = PLACES)]
    fn manifest_by_tag(bencher: Bencher<'_, '_>, place: Place) {
        ask(bencher, place, &Method::GET, |stage| &stage.by_tag);
    }

    #[divan::bench(args = PLACES)]
    fn manifest_by_digest(bencher: Bencher<'_, '_>, place: Place) {
        ask(bencher, place, &Method::GET, |stage| &stage.by_digest);
    }

    #[divan::bench(args = PLACES)]
    fn head_of_a_manifest(bencher: Bencher<'_, '_>, place: Place) {
        ask(bencher, place, &Method::HEAD, |stage| &stage.by_tag);
    }

    #[divan::bench(args = PLACES)]
    fn small_blob(bencher: Bencher<'_, '_>, place: Place) {
        ask(bencher, place, &Method::GET, |stage| &stage.blob);
    }

    #[divan::bench(args = PLACES)]
    fn page_of_tags(bencher: Bencher<'_, '_>, place: Place) {
        ask(bencher, place, &Method::GET, |stage| &stage.tags);
    }
}
