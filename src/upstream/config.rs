//! What an operator says of an upstream.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

/// Settings of an [`crate::Upstream`].
#[derive(Clone, Debug)]
pub struct Config {
    /// What clients call it: `docker.io`. Stands in errors, logs and metrics.
    pub host: String,
    /// Where it really is: `https://registry-1.docker.io`. A path is kept as a prefix of `/v2/`.
    pub url: Url,
    /// Certificates (PEM) to trust beside the system's roots.
    pub ca: Option<PathBuf>,
    /// Who we are there. Absent: anonymous.
    pub credentials: Option<Credentials>,
    /// Hosts (`auth.example.org` or `auth.example.org:8443`) of token realms that may get the credentials, beside the
    /// upstream itself and Docker Hub's realm for Docker Hub.
    pub realms: Vec<String>,
    /// The longest silence of the upstream.
    pub idle_timeout: Duration,
    /// The part of its quota, in percent, that is left to people's pulls: background work stops there. See
    /// [`crate::Upstream::in_background`].
    pub reserve: u8,
    /// Requests per second of background work; so many at once after a pause. At least 1.
    pub requests_per_second: u32,
}

impl Config {
    /// An upstream with the defaults: anonymous, the system's roots, 30 s of silence, half of the quota for people, 20 requests
    /// per second in the background.
    #[must_use]
    pub fn new(host: impl Into<String>, url: Url) -> Self {
        Self {
            host: host.into(),
            url,
            ca: None,
            credentials: None,
            realms: Vec::new(),
            idle_timeout: Duration::from_secs(30),
            reserve: 50,
            requests_per_second: 20,
        }
    }
}

/// A name and a password, or a token that is used like one.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password. Never printed.
    pub password: SecretString,
}

/// Why the settings make no upstream.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither http nor https, or without a host.
    #[error("the url of the upstream {host} must be http://HOST or https://HOST")]
    Url {
        /// The upstream.
        host: String,
    },
    /// A name or password in the URL.
    #[error("the url of the upstream {host} must not hold a name or password: use username and password_file")]
    UserInfo {
        /// The upstream.
        host: String,
    },
    /// A query or fragment.
    #[error("the url of the upstream {host} must end with its path: no '?' and no '#'")]
    Query {
        /// The upstream.
        host: String,
    },
    /// The HTTP client cannot be made; the text names a certificate file if that is the cause.
    #[error("the upstream {host}: {source}")]
    Client {
        /// The upstream.
        host: String,
        /// The cause.
        source: outbound::SetupError,
    },
}

/// The URL without what stands for nothing at its end: slashes, and `/v2`, which is added to every request.
pub(crate) fn base(config: &Config) -> Result<Url, ConfigError> {
    let host = config.host.clone();
    let mut url = config.url.clone();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(ConfigError::Url { host });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ConfigError::UserInfo { host });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ConfigError::Query { host });
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v2").unwrap_or(path).to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn base_of(url: &str) -> Result<String, ConfigError> {
        base(&Config::new("docker.io", Url::parse(url).unwrap())).map(|url| url.to_string())
    }

    #[test]
    fn a_path_is_kept_and_the_end_of_the_api_is_not() {
        assert_eq!(base_of("https://registry.example").unwrap(), "https://registry.example/");
        assert_eq!(base_of("https://registry.example/v2/").unwrap(), "https://registry.example/");
        assert_eq!(base_of("https://registry.example/docker/hub/").unwrap(), "https://registry.example/docker/hub");
    }

    #[test]
    fn urls_that_are_no_base_are_refused_without_showing_a_password() {
        assert!(matches!(base_of("ftp://registry.example"), Err(ConfigError::Url { .. })));
        assert!(matches!(base_of("https://registry.example/?a=b"), Err(ConfigError::Query { .. })));
        let error = base_of("https://team:secret@registry.example").unwrap_err();
        assert!(error.to_string().contains("password_file") && !error.to_string().contains("secret"));
    }

    #[test]
    fn a_password_is_never_printed() {
        let credentials = Credentials { username: "team".to_owned(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
