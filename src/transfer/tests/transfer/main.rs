//! The copier and bundles from outside: from a real small registry with faults, or from one in memory, to one in memory that can
//! misbehave.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bundle;
mod copy;
mod damage;
mod faults;
mod graphs;
mod layout;
mod referrers;
mod registry;
mod shelf;
mod skopeo;

use std::sync::Arc;
use std::time::Duration;

use oci::{Push, Reference, RepositoryName, Tag};
use roadstead_transfer::{Copied, Error, Options, Progress, Source, Transfer};
use telemetry::{Metrics, SystemClock};
use testing::FakeUpstream;
use upstream::{Config, Upstream};
use url::Url;

use crate::shelf::Shelf;

/// A registry to copy from and one to copy to.
struct Stage {
    fake: FakeUpstream,
    source: Arc<Upstream>,
    target: Arc<Shelf>,
    options: Options,
}

fn stage() -> Stage {
    let fake = FakeUpstream::start();
    let config = Config::new("r.example", Url::parse(&fake.url()).unwrap());
    let source = Upstream::new(config, Arc::new(SystemClock::default()), Metrics::new()).unwrap();
    Stage { fake, source: Arc::new(source), target: Arc::new(Shelf::default()), options: quick() }
}

/// Options whose waits are short.
fn quick() -> Options {
    Options { backoff: Duration::from_millis(1), ..Options::default() }
}

impl Stage {
    fn transfer(&self) -> Transfer {
        transfer(Arc::<Upstream>::clone(&self.source), &self.target, self.options.clone())
    }

    /// Copies `library/app:1` to `micro/app` under these tags.
    async fn copy(&self, tags: &[&str]) -> Result<Copied, Error> {
        copy(&self.transfer(), tags).await
    }
}

fn transfer(source: Arc<dyn Source>, target: &Arc<Shelf>, options: Options) -> Transfer {
    let push: Arc<dyn Push> = Arc::<Shelf>::clone(target);
    Transfer::new(source, push, Arc::new(SystemClock::default()), options)
}

async fn copy(transfer: &Transfer, tags: &[&str]) -> Result<Copied, Error> {
    let tags: Vec<Tag> = tags.iter().map(|text| tag(text)).collect();
    transfer.copy(&name("library/app"), &reference("1"), &name("micro/app"), &tags, &Progress::new()).await
}

fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}
