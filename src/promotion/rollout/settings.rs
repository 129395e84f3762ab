//! Who is to be told, and how.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use crate::rollout::error::SettingsError;

/// One of those who are told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotifySettings {
    /// Argo CD, as a forge would tell it. Needs no account there.
    ArgoCdWebhook(ArgoCdWebhook),
    /// Argo CD, by asking it to refresh an application.
    ArgoCdRefresh(ArgoCdApi),
    /// Flux.
    Flux(FluxReceiver),
    /// Anybody else.
    Webhook(Webhook),
}

/// The webhook of Argo CD.
#[derive(Clone, Debug)]
pub struct ArgoCdWebhook {
    /// `https://argocd.example.org/api/webhook`.
    pub url: Url,
    /// What stands under `webhook.gogs.secret` in `argocd-secret`. Without one there, Argo CD believes everybody.
    pub secret: Option<SecretString>,
    /// The repository as the applications know it, which may be another URL than the one that is pushed to.
    pub repo_url: RepoUrl,
    /// The branch that applications with `targetRevision: HEAD` follow; absent: the one that moved.
    pub default_branch: Option<String>,
    /// Trusted beside the system's roots.
    pub ca: Option<PathBuf>,
}

/// One application, by the API of Argo CD.
#[derive(Clone, Debug)]
pub struct ArgoCdApi {
    /// `https://argocd.example.org`, with the root path if it has one.
    pub url: Url,
    /// A token with the right to get the application.
    pub token: SecretString,
    /// The application.
    pub application: String,
    /// Where it is, if not in the namespace of Argo CD.
    pub app_namespace: Option<String>,
    /// Its project. With it, an application that is not there is told from one that may not be seen.
    pub project: Option<String>,
    /// Trusted beside the system's roots.
    pub ca: Option<PathBuf>,
}

/// A Receiver of Flux, of the type `generic-hmac`.
#[derive(Clone, Debug)]
pub struct FluxReceiver {
    /// With the path that stands in the Receiver's status.
    pub url: Url,
    /// The `token` of the Receiver's secret.
    pub secret: SecretString,
    /// Trusted beside the system's roots.
    pub ca: Option<PathBuf>,
}

/// An address that takes our JSON.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where.
    pub url: Url,
    /// The key of `X-Roadstead-Signature-256`; absent: there is no such header.
    pub secret: Option<SecretString>,
    /// What stands in `Authorization`, to the letter.
    pub authorization: Option<SecretString>,
    /// Trusted beside the system's roots.
    pub ca: Option<PathBuf>,
}

/// A repository as Argo CD knows it.
///
/// It compares host and path; the scheme, the user and the port may be others, and `.git` may be there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoUrl(Url);

impl RepoUrl {
    /// A `repoURL`: `https://`, `http://`, `ssh://` or `user@host:path`. User, password and `.git` are left out of it.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let refuse = || SettingsError::Repository(without_user(text));
        let short = text.split_once(':').filter(|(host, path)| !text.contains("://") && !host.contains('/') && !path.is_empty());
        let whole = match short {
            Some((host, path)) => format!("ssh://{host}/{path}"),
            None => text.to_owned(),
        };
        let mut url = Url::parse(&whole).map_err(|_| refuse())?;
        let is_known = matches!(url.scheme(), "https" | "http" | "ssh");
        if !is_known || url.host_str().is_none_or(str::is_empty) || url.path().trim_matches('/').is_empty() {
            return Err(refuse());
        }
        // Both fail only for URLs that cannot have them.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        // "repo" is found in "repo.git", but not the other way round.
        if let Some(path) = url.path().strip_suffix(".git").map(str::to_owned) {
            url.set_path(&path);
        }
        Ok(Self(url))
    }

    /// As it is told.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The parts of its path.
    pub(super) fn parts(&self) -> Vec<&str> {
        self.0.path().split('/').filter(|part| !part.is_empty()).collect()
    }
}

/// A text for an error, without what may be a password.
fn without_user(text: &str) -> String {
    text.rsplit_once('@').map_or(text, |(_, rest)| rest).chars().filter(|letter| !letter.is_control()).take(200).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_repository_is_told_without_user_password_query_and_git() {
        for (text, told) in [
            ("https://git.example.org/micro/tinybird", "https://git.example.org/micro/tinybird"),
            ("https://git.example.org/micro/tinybird.git", "https://git.example.org/micro/tinybird"),
            ("https://bot:secret@Git.example.org:3000/micro/x.git?a=b#c", "https://git.example.org:3000/micro/x"),
            ("ssh://git@git.example.org:2222/micro/x.git", "ssh://git.example.org:2222/micro/x"),
            ("git@git.example.org:micro/x.git", "ssh://git.example.org/micro/x"),
            ("http://gitea.gitea.svc.cluster.local:3000/a/b", "http://gitea.gitea.svc.cluster.local:3000/a/b"),
        ] {
            assert_eq!(RepoUrl::parse(text).unwrap().as_str(), told, "{text}");
        }
    }

    #[test]
    fn what_is_no_repository_is_refused_without_its_password() {
        for text in
            ["", "micro/x", "https://git.example.org", "https://git.example.org/", "file:///srv/x", "oci://a/b", "https:///x"]
        {
            assert!(RepoUrl::parse(text).is_err(), "{text}");
        }
        let error = RepoUrl::parse("ftp://bot:secret@git.example.org/x").unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("git.example.org/x"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_told_has_no_user(text in "(https?|ssh)?(://)?[a-z:@./%?#]{0,30}") {
            if let Ok(url) = RepoUrl::parse(&text) {
                prop_assert!(!url.as_str().contains('@') || url.parts().iter().any(|part| part.contains('@')));
                prop_assert_eq!(RepoUrl::parse(url.as_str()).map(|again| again.as_str().len() <= url.as_str().len()).ok(), Some(true));
            }
        }
    }
}
