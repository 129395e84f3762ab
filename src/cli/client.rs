//! The way to a running server's `/api/v1/`.

use std::path::PathBuf;
use std::time::Duration;

use admin::Token;
use anyhow::{Context, bail};
use bytes::BytesMut;
use futures_util::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use outbound::{Body, Client, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::ConfigFile;
use crate::config::Config;

/// How long the server may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// The largest answer, in bytes.
const LARGEST: usize = 32 << 20;

/// Which server a command acts on.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    /// The server to act on, such as `https://registry.example.org`; without it, the one that the configuration describes
    #[arg(long, value_name = "URL", env = "ROADSTEAD_SERVER", global = true, value_parser = server_url)]
    server: Option<Url>,
    #[command(flatten)]
    file: ConfigFile,
    /// The file with the server's token; without it, the one that the configuration names. `ROADSTEAD_TOKEN` holds the token itself
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// A file of certificates (PEM) to trust beside the system's
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
}

/// A running server, for operators.
pub(super) struct Remote {
    client: Client,
    base: Url,
    token: Token,
}

impl Where {
    /// The configuration that the options name, or the default one.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.file.config.as_deref(), super::environment())?)
    }

    /// Where the server is.
    pub(super) fn url(&self, config: &Config) -> anyhow::Result<Url> {
        if let Some(url) = &self.server {
            let is_plain = url.username().is_empty() && url.password().is_none();
            anyhow::ensure!(is_plain, "--server holds a user name or password; leave it out of the URL");
            return Ok(url.clone());
        }
        if let Some(url) = config.server.external_url.as_ref().filter(|_| self.file.config.is_some()) {
            return Ok(url.clone());
        }
        let scheme = if config.server.tls.is_some() { "https" } else { "http" };
        let mut address = config.server.listen;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Url::parse(&format!("{scheme}://{address}")).context("the address of the configuration makes no URL")
    }

    /// Whether a running server is named outright.
    pub(super) fn is_named(&self) -> bool {
        self.server.is_some()
    }

    /// Certificates to trust beside the system's.
    pub(super) fn ca(&self) -> Vec<PathBuf> {
        self.ca.iter().cloned().collect()
    }

    /// The token that is named outright.
    fn given(&self) -> anyhow::Result<Option<Token>> {
        match (std::env::var("ROADSTEAD_TOKEN"), &self.token_file) {
            (_, Some(path)) => Ok(Some(Token::load(path)?)),
            (Ok(token), None) => Ok(Some(Token::new(token.trim()).context("ROADSTEAD_TOKEN is not a token")?)),
            (Err(_), None) => Ok(None),
        }
    }

    /// The same as a password for images, where it is one: of a robot or of an issuer. An operator's own is for `/api/v1/` alone.
    pub(super) fn password(&self) -> anyhow::Result<Option<SecretString>> {
        let token = self.given()?.map(|token| token.authorization());
        let token = token.as_ref().and_then(|token| token.expose_secret().strip_prefix("Bearer "));
        let is_password = |token: &&str| token.starts_with("rst_") || token.split('.').count() == 3;
        Ok(token.filter(is_password).map(SecretString::from))
    }

    /// A way to the server. Nothing is asked yet.
    pub(super) fn connect(&self) -> anyhow::Result<Remote> {
        let config = self.config()?;
        let base = self.url(&config)?;
        let mut settings = outbound::Config::new(&base);
        settings.ca = self.ca();
        settings.system_roots = base.scheme() == "https" || !is_here(&base);
        let client = Client::new(&settings)?;
        let token = match self.given()? {
            Some(token) => token,
            // The token of this machine's server is for no other.
            None if self.is_named() && !is_here(&base) => {
                bail!("name the token file of {base} with --token-file, or put its token into ROADSTEAD_TOKEN")
            }
            None => {
                const ADVICE: &str = "name the server's token file with --token-file, or put the token into ROADSTEAD_TOKEN";
                let path = config.token_file().context(ADVICE)?;
                Token::load(&path).context(ADVICE)?
            }
        };
        Ok(Remote { client, base, token })
    }
}

/// A server's address as a user types it.
fn server_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err(format!("write http://{text} or https://{text}", text = text.split("://").last().unwrap_or(text))),
    }
}

/// Is this a server on this machine?
fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Remote {
    /// What is at a path below `/api/v1/`.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = self.url(path)?;
        let response = self.client.get(&url, self.headers()?).await.map_err(|error| self.unreachable(&error))?;
        self.answer(response).await
    }

    /// Asks for something to be done.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let mut headers = self.headers()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Body::Bytes(body.to_string().into());
        let url = self.url(path)?;
        let response = self
            .client
            .send(Method::POST, &url, headers, body, SILENCE, SILENCE)
            .await
            .map_err(|error| self.unreachable(&error))?;
        self.answer(response).await
    }

    /// Asks for something to be removed.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        let url = self.url(path)?;
        let response = self
            .client
            .send(Method::DELETE, &url, self.headers()?, Body::Empty, SILENCE, SILENCE)
            .await
            .map_err(|error| self.unreachable(&error))?;
        self.answer(response).await
    }

    /// Hands each line of JSON to `seen`, as it comes, until there are no more, or the server goes away.
    pub(super) async fn lines(&self, path: &str, mut seen: impl FnMut(Value)) -> anyhow::Result<()> {
        let url = self.url(path)?;
        let response = self.client.get(&url, self.headers()?).await.map_err(|error| self.unreachable(&error))?;
        if !response.status.is_success() {
            return self.answer(response).await.map(|_| ());
        }
        let mut rest = BytesMut::new();
        let mut chunks = Box::pin(response.stream());
        let mut is_begun = false;
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(bytes) => rest.extend_from_slice(&bytes),
                // The server went away in the middle.
                Err(_) if is_begun => break,
                Err(error) => return Err(self.unreachable(&error)),
            }
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest.split_to(end + 1);
                if !line.trim_ascii().is_empty() {
                    is_begun = true;
                    seen(serde_json::from_slice(&line).context("the server sent a line that is not JSON")?);
                }
            }
            anyhow::ensure!(rest.len() <= LARGEST, "the server sent a line of more than {LARGEST} bytes");
        }
        Ok(())
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        let base = self.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/api/v1/{path}")).with_context(|| format!("{path:?} makes no URL"))
    }

    fn headers(&self) -> anyhow::Result<HeaderMap> {
        let mut value = HeaderValue::from_str(self.token.authorization().expose_secret()).context("the token is no header")?;
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
    }

    fn unreachable(&self, error: &outbound::Error) -> anyhow::Error {
        anyhow::anyhow!("no answer from {}: {}; is the server running there?", self.base, telemetry::chain(error))
    }

    async fn answer(&self, response: Response) -> anyhow::Result<Value> {
        let status = response.status;
        let bytes = response.bytes(LARGEST).await.map_err(|error| self.unreachable(&error))?;
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        if status.is_success() {
            return value.with_context(|| format!("{} did not answer with JSON", self.base));
        }
        match value.as_ref().and_then(|value| value.pointer("/error/message")).and_then(Value::as_str) {
            Some(message) => bail!("{message}"),
            None => bail!("{} answered {status}: is it a Roadstead server?", self.base),
        }
    }
}
