//! One application of Argo CD, by its API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use telemetry::Clock;
use url::Url;

use crate::rollout::error::{RolloutError, SettingsError};
use crate::rollout::exchange::{Way, secret_header};
use crate::rollout::observed::Observed;
use crate::rollout::settings::ArgoCdApi;

/// An application with thousands of resources has some megabytes.
const LONGEST_APPLICATION: usize = 16 << 20;
/// What Argo CD knows already.
const LOOK: Duration = Duration::from_secs(30);
/// A refresh is answered when the controller has taken it up, behind all others; and it stays asked for when nobody waits.
const REFRESH: Duration = Duration::from_mins(1);

/// An application that is looked at. It is made once: its connections are used again.
pub struct ArgoCd {
    way: Way,
    url: Url,
    application: String,
    authorization: HeaderValue,
}

impl ArgoCd {
    /// A way to the application that these settings name.
    pub fn new(settings: ArgoCdApi, clock: &Arc<dyn Clock>) -> Result<Self, SettingsError> {
        let ArgoCdApi { url, token, application, app_namespace, project, ca } = settings;
        let way = Way::new("the API of Argo CD", &url, ca.as_ref(), advice, clock)?.hiding(Some(&token));
        if application.is_empty() || !application.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
            return Err(SettingsError::Application(application));
        }
        let mut url = way.url().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1", "applications", &application]);
        }
        let chosen = [("appNamespace", app_namespace), ("project", project)];
        let chosen: Vec<(&str, String)> = chosen.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        url.set_query(None);
        if !chosen.is_empty() {
            url.query_pairs_mut().extend_pairs(chosen);
        }
        let authorization = bearer(&token)?;
        Ok(Self { way, url, application, authorization })
    }

    /// Whom it asks: what he is, and his host.
    #[must_use]
    pub fn to(&self) -> &str {
        self.way.to()
    }

    /// The application, as Argo CD knows it now.
    pub async fn look(&self) -> Result<Observed, RolloutError> {
        self.read(&self.url, LOOK).await
    }

    /// Has Argo CD look at the repository, and at the cluster, and gives what it knew when it took that up. With `hard` it renders
    /// the manifests again, too, which is needed only where what they are made of has changed without a commit.
    ///
    /// It looks also when we give up waiting for the answer.
    pub async fn refresh(&self, hard: bool) -> Result<Observed, RolloutError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("refresh", if hard { "hard" } else { "normal" });
        self.read(&url, REFRESH).await
    }

    async fn read(&self, url: &Url, limit: Duration) -> Result<Observed, RolloutError> {
        let json = (ACCEPT, HeaderValue::from_static("application/json"));
        let headers = HeaderMap::from_iter([json, (AUTHORIZATION, self.authorization.clone())]);
        let body = self.way.fetch(url, headers, LONGEST_APPLICATION, limit).await?;
        let observed = Observed::parse(&body).map_err(|error| {
            // serde_json quotes what it does not expect, and that may be anything.
            let kind = if error.is_syntax() || error.is_eof() { "is no JSON" } else { "is no application of Argo CD" };
            self.way.strange(format!("it {kind}; look whether the URL is that of Argo CD, and whether a login stands before it"))
        })?;
        if observed.application != self.application {
            return Err(self.way.strange("it is another application than the one that was asked for"));
        }
        Ok(observed)
    }
}

impl fmt::Debug for ArgoCd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ArgoCd").field("to", &self.to()).field("application", &self.application).finish_non_exhaustive()
    }
}

fn bearer(token: &SecretString) -> Result<HeaderValue, SettingsError> {
    if token.expose_secret().is_empty() {
        return Err(SettingsError::Secret { what: "token of Argo CD" });
    }
    secret_header("token of Argo CD", &format!("Bearer {}", token.expose_secret()))
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "it does not know the token, or not any more: make a new one, of an account with the right apiKey"
        }
        StatusCode::FORBIDDEN => {
            "the token may not get this application, or there is none: compare its name, app_namespace and project, and the account's role"
        }
        StatusCode::NOT_FOUND => {
            "there is no such application, or no API at this URL: compare the name, app_namespace and project"
        }
        StatusCode::BAD_REQUEST => "it does not take the request: compare the application's name, app_namespace and project",
        _ => "look at the URL, and at the log of argocd-server",
    }
}
