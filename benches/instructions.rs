//! How many instructions single steps take, which a busy machine does not change. `benches/count` runs each under valgrind and
//! compares it with `benches/baseline.txt`.
//!
//! Valgrind shows programs a processor without SHA and AVX-512 instructions, so hashing is not counted here.
#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first thing that is not as it should be")]
#![expect(clippy::print_stdout, reason = "what `benches/count` reads")]

mod stage;

use std::hint::black_box;

use api::route::Route;
use http::Method;
use oci::{Digest, ManifestView, RangeOutcome, Reference, RepositoryName, media_type};

use crate::stage::{DIGEST, NAME, Place, ServerStage, StoreStage, TAG};

/// How often a step is taken: what a cache does now and then counts in its proportion.
const TIMES: u32 = 64;

/// A step, made ready to be taken again and again.
type Step = Box<dyn FnMut()>;

/// A step's name, and how it is made ready.
type Named = (&'static str, fn() -> Step);

const STEPS: [Named; 21] = [
    ("parse route of a manifest", || {
        let path = format!("/v2/{NAME}/manifests/{TAG}");
        step(move || Route::parse(&Method::GET, black_box(&path), black_box(Some("ns=docker.io"))).unwrap())
    }),
    ("parse route of a blob", || {
        let path = format!("/v2/{NAME}/blobs/{DIGEST}");
        step(move || Route::parse(&Method::GET, black_box(&path), None).unwrap())
    }),
    ("parse name", || step(|| RepositoryName::parse(black_box(NAME)).unwrap())),
    ("parse digest", || step(|| Digest::parse(black_box(DIGEST)).unwrap())),
    ("parse reference", || step(|| Reference::parse(black_box(TAG)).unwrap())),
    ("parse range", || step(|| RangeOutcome::parse(black_box("bytes=1048576-2097151"), black_box(1 << 30)))),
    ("parse manifest", || {
        let digest = Digest::parse(DIGEST).unwrap();
        let bytes = stage::image(&digest, &digest);
        step(move || ManifestView::parse(black_box(&bytes), Some(media_type::OCI_MANIFEST)).unwrap())
    }),
    ("store tag, memory", || store(Place::Memory, StoreStage::tag_hit)),
    ("store tag, folder", || store(Place::Folder, StoreStage::tag_hit)),
    ("store manifest, memory", || store(Place::Memory, StoreStage::manifest_hit)),
    ("store manifest, folder", || store(Place::Folder, StoreStage::manifest_hit)),
    ("store member, memory", || store(Place::Memory, StoreStage::member_hit)),
    ("store member, folder", || store(Place::Folder, StoreStage::member_hit)),
    ("store blob, memory", || store(Place::Memory, StoreStage::open_blob)),
    ("store blob, folder", || store(Place::Folder, StoreStage::open_blob)),
    ("request version", || request(Method::GET, |_| "/v2/")),
    ("request manifest by tag", || request(Method::GET, |stage| &stage.by_tag)),
    ("request manifest by digest", || request(Method::GET, |stage| &stage.by_digest)),
    ("request head of a manifest", || request(Method::HEAD, |stage| &stage.by_tag)),
    ("request small blob", || request(Method::GET, |stage| &stage.blob)),
    ("request page of tags", || request(Method::GET, |stage| &stage.tags)),
];

fn step<T>(mut work: impl FnMut() -> T + 'static) -> Step {
    Box::new(move || drop(black_box(work())))
}

fn store<T: 'static>(place: Place, work: fn(&StoreStage) -> T) -> Step {
    let stage = StoreStage::new(place);
    step(move || work(&stage))
}

/// A whole request: route, names, guard, handler, store, response, log entry and metrics.
fn request(method: Method, path: fn(&ServerStage) -> &str) -> Step {
    let stage = ServerStage::new(Place::Folder);
    step(move || stage.pull(method.clone(), path(&stage)))
}

/// Valgrind counts from here to its end, and knows it by its name.
#[inline(never)]
fn counted(step: &mut dyn FnMut()) {
    for _ in 0..TIMES {
        step();
    }
}

/// Takes the step that is named; without a name, prints the names.
fn main() {
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with("--"));
    let Some(wanted) = wanted else {
        for (name, _) in STEPS {
            println!("{TIMES} {name}");
        }
        return;
    };
    let (_, ready) = STEPS.iter().find(|(name, _)| *name == wanted).unwrap();
    let mut step = ready();
    step();
    counted(&mut step);
}
