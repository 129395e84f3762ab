//! That a branch moved, in the words of those who are told.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::rollout::error::SettingsError;
use crate::rollout::settings::ArgoCdWebhook;

/// A branch that moved.
///
/// `before` is the commit on which ours stands, and `paths` are all that differs between the two: where no path concerns an
/// application, Argo CD takes what it knows of `before` for `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The URL of the repository that was pushed to.
    pub repository: String,
    /// The branch.
    pub branch: String,
    /// Where it was, in full hexadecimal.
    pub before: String,
    /// Where it is.
    pub after: String,
    /// The files that were changed, from the root of the repository.
    pub paths: Vec<String>,
    /// The promotion, by its name.
    pub promotion: String,
    /// What was promoted: name, tag and digest.
    pub image: String,
    /// The text of the commit.
    pub message: String,
    /// The name of who made the commit.
    pub author: String,
    /// His address.
    pub email: String,
}

impl Moved {
    /// Our own words.
    pub(super) fn plain(&self) -> Value {
        json!({
            "repository": self.repository,
            "branch": self.branch,
            "before": self.before,
            "after": self.after,
            "paths": self.paths,
            "promotion": self.promotion,
            "image": self.image,
        })
    }

    /// A push as Gogs tells it, with all that a reader of such pushes may want to find. Ids are of no meaning.
    pub(super) fn gogs(&self, settings: &ArgoCdWebhook, now: Timestamp) -> Value {
        let url = settings.repo_url.as_str();
        let parts = settings.repo_url.parts();
        let (name, owner) = (parts.last().copied().unwrap_or_default(), parts.iter().rev().nth(1).copied().unwrap_or_default());
        let person = json!({ "name": self.author, "email": self.email, "username": self.author });
        let user = |name: &str, email: &str| json!({ "id": 0, "username": name, "login": name, "full_name": name, "email": email, "avatar_url": "" });
        let sender = user(&self.author, &self.email);
        json!({
            "ref": format!("refs/heads/{}", self.branch),
            "before": self.before,
            "after": self.after,
            "compare_url": format!("{url}/compare/{}...{}", self.before, self.after),
            "commits": [{
                "id": self.after,
                "message": self.message,
                "url": format!("{url}/commit/{}", self.after),
                "author": person,
                "committer": person,
                "added": [],
                "removed": [],
                "modified": self.paths,
                "timestamp": now.to_string(),
            }],
            "repository": {
                "id": 0,
                "owner": user(owner, ""),
                "name": name,
                "full_name": parts.join("/"),
                "description": "",
                "private": true,
                "fork": false,
                "parent": null,
                "empty": false,
                "mirror": false,
                "size": 0,
                "html_url": url,
                "ssh_url": url,
                "clone_url": url,
                "website": "",
                "stars_count": 0,
                "forks_count": 0,
                "watchers_count": 0,
                "open_issues_count": 0,
                "default_branch": settings.default_branch.as_deref().unwrap_or(&self.branch),
                "created_at": now.to_string(),
                "updated_at": now.to_string(),
            },
            "pusher": sender,
            "sender": sender,
        })
    }
}

/// Signs bodies with one key.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl Signer {
    /// With the bytes of this secret.
    pub(super) fn new(secret: &SecretString) -> Result<Self, SettingsError> {
        let refused = || SettingsError::Secret { what: "secret of the signature" };
        let key = secret.expose_secret();
        if key.is_empty() {
            return Err(refused());
        }
        Hmac::new_from_slice(key.as_bytes()).map(Self).map_err(|_| refused())
    }

    /// HMAC-SHA256, in lower case hexadecimal.
    pub(super) fn sign(&self, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// RFC 4231, section 4.3.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let signer = Signer::new(&SecretString::from("Jefe")).unwrap();
        let signature = signer.sign(b"what do ya want for nothing?");
        assert_eq!(signature, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn nothing_is_no_secret() {
        assert!(Signer::new(&SecretString::from("")).is_err());
    }
}
