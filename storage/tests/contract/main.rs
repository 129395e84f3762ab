//! One contract for every backend: memory, a local folder, and buckets on real servers.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use roadstead_storage::{Bucket, Location, OpenError, Provider, Store, Surroundings, Transport};
use secrecy::SecretString;
use telemetry::{Metrics, SystemClock};

#[path = "../../../tests/support/buckets.rs"]
mod buckets;
mod folder;
mod shared;
mod suite;

use crate::suite::SUITE;

pub(crate) async fn open(location: &Location) -> Store {
    open_in(location).await.unwrap_or_else(|error| panic!("{location}: {error}"))
}

pub(crate) async fn open_in(location: &Location) -> Result<Store, OpenError> {
    let mut around = Surroundings::new(Arc::new(SystemClock::default()), Metrics::new());
    if let Location::Bucket(bucket) = location {
        let endpoint = bucket.endpoint.as_deref().unwrap().parse().unwrap();
        let client = outbound::Client::new(&outbound::Config::new(&endpoint)).unwrap();
        around.transport = Some(Transport::new(client.into_inner()));
    }
    Store::open_in(location, around).await
}

/// A bucket on a server of a test, each store in a folder of its own.
pub(crate) fn bucket(provider: Provider, server: &buckets::Server, prefix: &str) -> Bucket {
    let mut bucket = Bucket::new(provider, buckets::BUCKET, prefix);
    bucket.endpoint = Some(server.endpoint.clone());
    let key = match provider {
        Provider::S3 => Some(buckets::KEY),
        Provider::Azure => Some(buckets::AZURE),
        Provider::Gcs => None,
    };
    if let Some((id, secret)) = key {
        bucket.access_key = Some(id.to_owned());
        bucket.secret_key = Some(SecretString::from(secret));
    }
    bucket
}

/// Puts every promise to stores in a bucket; as the only server, and as one of several.
async fn hold_in_buckets(provider: Provider, server: &buckets::Server) {
    for single_server in [false, true] {
        for (name, promise) in SUITE {
            println!("{name}, single_server = {single_server}");
            let mut bucket = bucket(provider, server, &format!("{name}-{single_server}"));
            bucket.single_server = single_server;
            promise(open(&Location::Bucket(Box::new(bucket))).await).await;
        }
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
    hold_in_buckets(Provider::S3, &server).await;
    shared::two_servers_share_a_bucket(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google_cloud_storage_holds_the_contract() {
    let server = buckets::gcs();
    hold_in_buckets(Provider::Gcs, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_holds_the_contract() {
    let server = buckets::azurite();
    hold_in_buckets(Provider::Azure, &server).await;
}
