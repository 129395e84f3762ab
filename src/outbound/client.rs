//! The client and its settings.

use std::path::PathBuf;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method};
use tokio::sync::watch;
use tokio::time;
use url::Url;

use crate::body::Body;
use crate::error::{Error, ErrorKind};
use crate::reach::Reach;
use crate::resolver::Resolver;
use crate::response::Response;

/// How we introduce ourselves.
const USER_AGENT: &str = concat!("roadstead/", env!("CARGO_PKG_VERSION"));

/// What one HTTP/2 stream may have in flight; a reader that stops holds no more than this.
const STREAM_WINDOW: u32 = 2 << 20;

/// What all HTTP/2 streams of a connection may have in flight: enough that a few idle readers do not starve the others.
const CONNECTION_WINDOW: u32 = 32 << 20;

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Certificates (PEM) to trust beside the system's.
    pub ca: Vec<PathBuf>,
    /// Whether the system's certificates are trusted. Without them, and without `ca`, only plain HTTP can be spoken.
    pub system_roots: bool,
    /// The longest time until a connection stands, TLS included.
    pub connect_timeout: Duration,
    /// The longest silence while waiting for a response's head or for more of its body.
    pub idle_timeout: Duration,
    /// Which addresses may be reached.
    pub reach: Reach,
}

impl Config {
    /// The defaults for a client of `origin`: the system's roots, 10 s to connect, 30 s of silence.
    #[must_use]
    pub fn new(origin: &Url) -> Self {
        Self {
            ca: Vec::new(),
            system_roots: true,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            reach: Reach::from_origin(origin),
        }
    }
}

/// Why a [`Client`] cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A certificate file cannot be used; the text names it.
    #[error(transparent)]
    Certificates(#[from] certs::Error),
    /// The HTTP stack refuses its settings, such as a proxy variable that is no URL.
    #[error("the HTTP client cannot be set up: {0}")]
    Http(String),
}

/// A way to one origin: its connections, its trust, its proxy. Cheap to clone; the clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    /// Without a limit of its own on silence, which would count while a body is on its way.
    sender: reqwest::Client,
    reach: Reach,
}

impl Client {
    /// A client with these settings. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`, …).
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let is_plain = !config.system_roots && config.ca.is_empty();
        let tls = if is_plain { certs::client_config_without_roots()? } else { certs::client_config(&config.ca)? };
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(USER_AGENT)
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(config.connect_timeout)
                .dns_resolver(Resolver::new(config.reach.clone()))
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .referer(false)
                // Another crate of the build may switch these features on; a decoded body has another digest.
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate()
        };
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|cause| SetupError::Http(Error::from_reqwest(cause, None).to_string()))
        };
        let inner = build(builder().read_timeout(config.idle_timeout))?;
        let sender = build(builder())?;
        Ok(Self { inner, sender, reach: config.reach.clone() })
    }

    /// The client underneath, for a library that puts its own requests together and follows no redirects.
    #[must_use]
    pub fn into_inner(self) -> reqwest::Client {
        self.inner
    }

    /// Which addresses this client may reach.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Sends a GET and waits for the head of the response, whatever its status.
    pub async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Response, Error> {
        self.ask(Method::GET, url, headers).await
    }

    /// Sends a HEAD. Otherwise as [`Client::get`].
    pub async fn head(&self, url: &Url, headers: HeaderMap) -> Result<Response, Error> {
        self.ask(Method::HEAD, url, headers).await
    }

    /// Sends a request that changes something and waits for the head of the response, whatever its status.
    ///
    /// Silence is counted from the last piece of the body that the connection took, and may last for `silence`; once it has taken
    /// all of them, for `patience`: the last ones are still on their way, and whoever has them may need time to keep them. The time
    /// of the whole has no limit.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        mut headers: HeaderMap,
        body: Body,
        silence: Duration,
        patience: Duration,
    ) -> Result<Response, Error> {
        let url = without_userinfo(url);
        if let Some(length) = body.length() {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let (taken, mut progress) = watch::channel(());
        let request = self.sender.request(method, url.clone()).headers(headers).body(body.watched(taken));
        let mut exchange = std::pin::pin!(request.send());
        let mut complete = false;
        loop {
            tokio::select! {
                biased;
                answer = &mut exchange => {
                    return match answer {
                        Ok(response) => Ok(Response::new(response, url).with_silence(silence)),
                        Err(cause) => Err(Error::from_reqwest(cause, Some(&url))),
                    };
                }
                changed = progress.changed(), if !complete => complete = changed.is_err(),
                () = time::sleep(if complete { patience } else { silence }) => return Err(Error::new(ErrorKind::Idle, &url, "")),
            }
        }
    }

    async fn ask(&self, method: Method, url: &Url, headers: HeaderMap) -> Result<Response, Error> {
        let url = without_userinfo(url);
        match self.inner.request(method, url.clone()).headers(headers).send().await {
            Ok(response) => Ok(Response::new(response, url)),
            Err(cause) => Err(Error::from_reqwest(cause, Some(&url))),
        }
    }
}

/// The HTTP stack would turn a name and password in a URL into an `Authorization` header; only a caller's header counts.
fn without_userinfo(url: &Url) -> Url {
    let mut url = url.clone();
    // Fails only for URLs that cannot have either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}
