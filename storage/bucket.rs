//! Buckets: the object stores of clouds, and what speaks like them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpClient, HttpConnector, HttpService};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use secrecy::{ExposeSecret, SecretString};

/// Whose interface a bucket has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3, or what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// A bucket and the way to it. What is not set here is taken from where the provider's own tools look: `AWS_*`, `GOOGLE_*` and
/// `AZURE_*` in the environment, the identity of the machine or pod.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Whose interface it has.
    pub provider: Provider,
    /// Its name (a container's, on Azure).
    pub name: String,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// Where it is, if not where the provider has it.
    pub endpoint: Option<String>,
    /// Its region, where there are regions.
    pub region: Option<String>,
    /// The id of the key to it (the account, on Azure).
    pub access_key: Option<String>,
    /// The secret of that key; on Google Cloud the key file's content.
    pub secret_key: Option<SecretString>,
    /// No other server uses it: what was read may be remembered, and a store without conditional writes will do.
    pub single_server: bool,
}

impl PartialEq for Bucket {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place() && self.endpoint == other.endpoint
    }
}

impl Eq for Bucket {}

impl Bucket {
    /// A bucket with the provider's own endpoint and credentials.
    #[must_use]
    pub fn new(provider: Provider, name: &str, prefix: &str) -> Self {
        Self {
            provider,
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            single_server: false,
        }
    }

    fn place(&self) -> (Provider, &str, &str) {
        (self.provider, &self.name, &self.prefix)
    }

    fn is_plain(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.provider {
            Provider::S3 => "s3",
            Provider::Gcs => "gs",
            Provider::Azure => "az",
        };
        write!(formatter, "{scheme}://{}", self.name)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(formatter, "/{}", self.prefix) }
    }
}

/// How requests to a bucket leave the process: over a client that the root has made, with our roots, proxies and limits.
#[derive(Clone, Debug)]
pub struct Transport(HttpClient);

impl Transport {
    /// A way out over this client. It must limit silence, never the length of a transfer.
    pub fn new(client: impl HttpService) -> Self {
        Self(HttpClient::new(client))
    }
}

impl HttpConnector for Transport {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

/// An opened bucket.
pub(crate) struct Opened {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) parts: Parts,
}

/// Objects that are sent in parts, each part by whoever knows the upload's id.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn MultipartStore>,
    prefix: Path,
}

impl Parts {
    pub(crate) fn new(store: Arc<dyn MultipartStore>, prefix: &str) -> Self {
        Self { store, prefix: Path::from(prefix) }
    }

    /// The full key of an object.
    pub(crate) fn key(&self, key: &Path) -> Path {
        self.prefix.parts().chain(key.parts()).collect()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Parts").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Attempts after the first, each a little later. The time limit counts from the first attempt on and includes the body, so it must
/// not be shorter than the slowest client takes for a blob.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: 5, retry_timeout: Duration::from_hours(24) }
}

pub(crate) fn open(bucket: &Bucket, transport: Transport) -> object_store::Result<Opened> {
    let options = ClientOptions::new().with_allow_http(bucket.is_plain());
    let (objects, parts): (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>) = match bucket.provider {
        Provider::S3 => both(Arc::new(s3(bucket, transport, options).build()?)),
        Provider::Gcs => both(Arc::new(gcs(bucket, transport, options).build()?)),
        Provider::Azure => both(Arc::new(azure(bucket, transport, options).build()?)),
    };
    let parts = Parts::new(parts, &bucket.prefix);
    if bucket.prefix.is_empty() {
        return Ok(Opened { objects, parts });
    }
    Ok(Opened { objects: Arc::new(PrefixStore::new(objects, bucket.prefix.as_str())), parts })
}

fn both<T: ObjectStore + MultipartStore>(store: Arc<T>) -> (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>) {
    (Arc::clone(&store) as _, store)
}

fn s3(bucket: &Bucket, transport: Transport, options: ClientOptions) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&bucket.name)
        .with_client_options(options)
        .with_allow_http(bucket.is_plain())
        // A signature over the payload is one more hash of every byte; TLS protects it as well.
        .with_unsigned_payload(!bucket.is_plain())
        .with_retry(retry())
        .with_http_connector(transport);
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let Some(key) = &bucket.access_key {
        builder = builder.with_access_key_id(key);
    }
    if let Some(secret) = &bucket.secret_key {
        builder = builder.with_secret_access_key(secret.expose_secret());
    }
    builder
}

fn gcs(bucket: &Bucket, transport: Transport, options: ClientOptions) -> GoogleCloudStorageBuilder {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(&bucket.name)
        .with_client_options(options)
        .with_retry(retry())
        .with_http_connector(transport);
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    match &bucket.secret_key {
        Some(key) => builder.with_service_account_key(key.expose_secret()),
        // An emulator, which knows nobody: nobody is asked who we are.
        None if bucket.is_plain() => builder
            .with_service_account_key(r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}"#),
        None => builder,
    }
}

fn azure(bucket: &Bucket, transport: Transport, options: ClientOptions) -> MicrosoftAzureBuilder {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(&bucket.name)
        .with_client_options(options)
        .with_allow_http(bucket.is_plain())
        .with_retry(retry())
        .with_http_connector(transport);
    if let Some(account) = &bucket.access_key {
        builder = builder.with_account(account);
    }
    if let Some(secret) = &bucket.secret_key {
        builder = builder.with_access_key(secret.expose_secret());
    }
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    builder
}
