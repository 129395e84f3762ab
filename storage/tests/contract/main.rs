//! One contract for every backend: memory, a local folder, and buckets on real servers.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests, which say which promise was broken")]

use std::sync::Arc;

use object_store::client::HttpService;
use roadstead_storage::{Bucket, Location, OpenError, Provider, Store, Surroundings, Transport};
use secrecy::SecretString;
use telemetry::{Metrics, SystemClock};

#[path = "../../../tests/support/azurite.rs"]
mod azurite;
#[path = "../../../tests/support/buckets.rs"]
mod buckets;
mod folder;
#[path = "../../../tests/support/gcs.rs"]
mod gcs;
mod google;
mod journal;
mod lost;
mod records;
mod shared;
mod suite;

use crate::suite::SUITE;

pub(crate) async fn open(location: &Location) -> Store {
    open_in(location).await.unwrap_or_else(|error| panic!("{location}: {error}"))
}

pub(crate) async fn open_in(location: &Location) -> Result<Store, OpenError> {
    let transport = match location {
        Location::Bucket(bucket) => Some(Transport::new(client(bucket.endpoint.as_deref().unwrap()))),
        _ => None,
    };
    open_over(location, transport).await
}

pub(crate) async fn open_over(location: &Location, transport: Option<Transport>) -> Result<Store, OpenError> {
    let around = Surroundings { transport, ..Surroundings::new(Arc::new(SystemClock::default()), Metrics::new()) };
    Store::open_in(location, around).await
}

pub(crate) fn client(endpoint: &str) -> impl HttpService + use<> {
    outbound::Client::new(&outbound::Config::new(&endpoint.parse().unwrap())).unwrap().into_inner()
}

/// An object store that runs for a test.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) provider: Provider,
    pub(crate) endpoint: &'a str,
}

impl Place<'_> {
    /// Its bucket, each store in a folder of its own.
    pub(crate) fn bucket(self, prefix: &str) -> Bucket {
        let mut bucket = Bucket::new(self.provider, buckets::BUCKET, prefix);
        bucket.endpoint = Some(self.endpoint.to_owned());
        let key = match self.provider {
            Provider::S3 => Some(buckets::KEY),
            Provider::Azure => Some(azurite::AZURE),
            Provider::Gcs => None,
        };
        if let Some((id, secret)) = key {
            bucket.access_key = Some(id.to_owned());
            bucket.secret_key = Some(SecretString::from(secret));
        }
        bucket
    }

    /// Puts every promise to stores in a bucket; as the only server, and as one of several. Then to two that share one.
    async fn hold(self) {
        for single_server in [false, true] {
            for (name, promise) in SUITE {
                println!("{name}, single_server = {single_server}");
                let mut bucket = self.bucket(&format!("{name}-{single_server}"));
                bucket.single_server = single_server;
                promise(open(&Location::Bucket(Box::new(bucket))).await).await;
            }
        }
        shared::two_servers_share_a_bucket(self).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_holds_the_contract() {
    for (name, promise) in SUITE {
        println!("{name}");
        promise(open(&Location::Memory).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_holds_the_contract() {
    for (name, promise) in SUITE {
        println!("{name}");
        let folder = tempfile::tempdir().unwrap();
        promise(open(&Location::Folder(folder.path().to_owned())).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_holds_the_contract() {
    let server = buckets::seaweedfs();
    Place { provider: Provider::S3, endpoint: &server.endpoint }.hold().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google_cloud_storage_holds_the_contract() {
    let server = gcs::Gcs::start();
    Place { provider: Provider::Gcs, endpoint: &server.endpoint }.hold().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_holds_the_contract() {
    let server = azurite::azurite();
    Place { provider: Provider::Azure, endpoint: &server.endpoint }.hold().await;
}
