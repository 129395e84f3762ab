//! A repository elsewhere, and how this server is let in.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

/// One branch of a repository elsewhere.
#[derive(Clone, Debug)]
pub struct Remote {
    url: String,
    branch: String,
    login: Login,
    /// Trusted beside the system's roots, for `https`.
    pub ca: Option<PathBuf>,
}

/// How this server is let in.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// As anybody.
    #[default]
    Nobody,
    /// By name and password, or token, over `https` or `http`.
    Basic {
        /// Most forges take any name beside a token.
        username: String,
        /// The password or the token.
        password: SecretString,
    },
    /// By a key, over SSH.
    Key {
        /// The file of the private key.
        key: PathBuf,
        /// The file with the keys of the hosts that are trusted. No other host is spoken to.
        known_hosts: PathBuf,
    },
}

/// Why something cannot be a remote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Not one of the ways to reach a repository.
    #[error("{0:?} begins with none of https://, http://, ssh:// and file://, nor is it user@host:path")]
    Scheme(String),
    /// A name, token or password in a URL ends up in logs and in lists of processes.
    #[error("the URL has a name or a password in it; give them as `username` and `token_file`")]
    Password,
    /// A branch that git would not take, or take for something else.
    #[error("{0:?} cannot be the name of a branch")]
    Branch(String),
    /// A login that the way to the repository does not have.
    #[error("{0}")]
    Login(&'static str),
}

impl Remote {
    /// A branch of the repository at `url`: `https://`, `http://`, `ssh://`, `file://` or `user@host:path`.
    pub fn new(url: &str, branch: &str, login: Login) -> Result<Self, RemoteError> {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        let is_short = !url.contains("://") && url.split_once(':').is_some_and(|(host, path)| is_host(host) && !path.is_empty());
        let is_ssh = url.starts_with("ssh://") || is_short;
        let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || !(is_web || is_ssh || url.starts_with("file:///")) {
            return Err(RemoteError::Scheme(without_password(url)));
        }
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let user = rest.rsplit_once('@').map(|(user, _)| user).unwrap_or_default();
        if (is_web && rest.contains('@')) || user.contains(':') {
            return Err(RemoteError::Password);
        }
        match &login {
            Login::Basic { .. } if !is_web => return Err(RemoteError::Login("a token is for https://; SSH takes `key_file`")),
            Login::Key { .. } if !is_ssh => return Err(RemoteError::Login("a key is for SSH; https:// takes `token_file`")),
            Login::Nobody if is_ssh => {
                return Err(RemoteError::Login("SSH lets nobody in without `key_file` and `known_hosts_file`"));
            }
            _ => {}
        }
        if !is_branch(branch) {
            return Err(RemoteError::Branch(branch.to_owned()));
        }
        Ok(Self { url: url.to_owned(), branch: branch.to_owned(), login, ca: None })
    }

    /// Where it is. No secret is in it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Which branch.
    #[must_use]
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// The token that lets this server in, if one does.
    #[must_use]
    pub fn token(&self) -> Option<&SecretString> {
        match &self.login {
            Login::Basic { password, .. } => Some(password),
            Login::Nobody | Login::Key { .. } => None,
        }
    }

    /// A short name that no other branch has, for keys and folders.
    #[must_use]
    pub fn key(&self) -> String {
        let hash = hex::encode(&Sha256::digest(format!("{}\n{}", self.url, self.branch))[..6]);
        let last = self.url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default().trim_end_matches(".git");
        let plain =
            |text: &str| text.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').take(40).collect();
        let (last, branch): (String, String) = (plain(last), plain(&self.branch));
        format!("{last}.{branch}.{hash}")
    }

    /// Is this server let in the same way as to the other one?
    #[must_use]
    pub fn has_login_of(&self, other: &Self) -> bool {
        let same = match (&self.login, &other.login) {
            (Login::Nobody, Login::Nobody) => true,
            (Login::Basic { username, password }, Login::Basic { username: name, password: word }) => {
                username == name && password.expose_secret() == word.expose_secret()
            }
            (Login::Key { key, known_hosts }, Login::Key { key: other, known_hosts: hosts }) => {
                key == other && known_hosts == hosts
            }
            _ => false,
        };
        same && self.ca == other.ca
    }

    pub(super) fn reference(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    /// What git is told through its environment: other users of the machine cannot read that, and it is in no list of processes.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let mut settings = vec![("protocol.version".to_owned(), "2".to_owned())];
        let mut environment = Vec::new();
        if self.url.starts_with("http") {
            // A server elsewhere that an answer names would be given the header too.
            settings.push(("http.followRedirects".to_owned(), "false".to_owned()));
        }
        if let Some(ca) = &self.ca {
            settings.push(("http.sslCAInfo".to_owned(), ca.display().to_string()));
        }
        match &self.login {
            Login::Nobody => {}
            Login::Basic { .. } => settings.extend(self.header().map(|header| ("http.extraHeader".to_owned(), header))),
            Login::Key { key, known_hosts } => environment.push((
                "GIT_SSH_COMMAND".to_owned(),
                format!(
                    "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o StrictHostKeyChecking=yes \
                     -o GlobalKnownHostsFile=none -o UserKnownHostsFile={} -o IdentityFile={}",
                    quoted(&option(&known_hosts.display().to_string())),
                    quoted(&option(&key.display().to_string()))
                ),
            )),
        }
        let scheme = if self.url.contains("://") { self.url.split("://").next().unwrap_or_default() } else { "ssh" };
        environment.push(("GIT_ALLOW_PROTOCOL".to_owned(), scheme.to_owned()));
        environment.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()));
        for (number, (key, value)) in settings.into_iter().enumerate() {
            environment.push((format!("GIT_CONFIG_KEY_{number}"), key));
            environment.push((format!("GIT_CONFIG_VALUE_{number}"), value));
        }
        environment
    }

    fn header(&self) -> Option<String> {
        let Login::Basic { username, password } = &self.login else { return None };
        let pair = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
        Some(format!("Authorization: Basic {pair}"))
    }

    /// Takes every form of our secret out of what git said.
    pub(super) fn redacted(&self, text: &str) -> String {
        let Login::Basic { username, password } = &self.login else { return text.to_owned() };
        let pair = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
        let secrets = [password.expose_secret(), pair.as_str()];
        let known = secrets.iter().filter(|secret| !secret.is_empty());
        known.fold(text.to_owned(), |text, secret| text.replace(*secret, "***"))
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.url, self.branch)
    }
}

fn is_host(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    !text.starts_with('-') && !host.is_empty() && !host.starts_with('-') && !text.contains('/')
}

/// The rules of `git check-ref-format`, and no leading dash.
fn is_branch(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.strip_suffix(".lock").is_none();
    text.len() <= 200
        && text.split('/').all(is_part)
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains("..")
        && !text.contains("@{")
        && text != "@"
        && !text.chars().any(|character| character.is_control() || " ~^:?*[\\".contains(character))
}

fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let text = match rest.rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}://***@{rest}"),
        None => url.to_owned(),
    };
    text.chars().take(200).collect()
}

/// For ssh, which takes a blank for the end of a file's name and `%` for the beginning of a word of its own.
fn option(path: &str) -> String {
    format!("\"{}\"", path.replace('%', "%%"))
}

/// For the shell that runs the SSH command.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_remote_is_refused_and_no_password_repeated() {
        let remote = |url: &str| Remote::new(url, "main", Login::Nobody).map(|remote| remote.url().to_owned());
        for url in ["https://h/a.git", "http://h:3000/a", "file:///srv/a.git"] {
            assert_eq!(remote(url).as_deref(), Ok(url));
        }
        let key = || Login::Key { key: "k".into(), known_hosts: "h".into() };
        for url in ["ssh://git@h:22/a", "git@h:a/b.git"] {
            assert!(Remote::new(url, "main", key()).is_ok() && remote(url).is_err(), "{url}");
        }
        for url in
            ["", "a", "/srv/a", "ext::sh -c id", "-oProxyCommand=id:x", "git@-oProxyCommand=id:x", "ftp://h/a", "https://h/a b"]
        {
            assert!(matches!(remote(url), Err(RemoteError::Scheme(_))), "{url}");
        }
        for url in
            ["https://me:hunter2@h/a", "https://hunter2@h/a", "https://me:hunt/er2@h/a", "ssh://me:hunter2@h/a", "me:hunter2@h:a"]
        {
            let refusal = Remote::new(url, "main", Login::Nobody).unwrap_err().to_string();
            assert!(!refusal.contains("er2"), "{refusal}");
        }
        assert!(!remote("ftp://me:hunt@er2@h/a").unwrap_err().to_string().contains("er2"));
        for branch in ["", "-x", "a..b", "a b", "a/", ".a", "a.lock", "@", "a@{1}", "a:b"] {
            assert!(Remote::new("https://h/a", branch, Login::Nobody).is_err(), "{branch}");
        }
        let basic = Login::Basic { username: "x".to_owned(), password: "t".to_owned().into() };
        assert!(Remote::new("ssh://h/a", "main", basic).is_err());
    }

    #[test]
    fn a_secret_is_in_no_text_that_git_gives_back() {
        let login = Login::Basic { username: "bot".to_owned(), password: "s3cret".to_owned().into() };
        let remote = Remote::new("https://h/a", "main", login).unwrap();
        let text = format!("fatal: s3cret, Basic {}", STANDARD.encode("bot:s3cret"));
        assert_eq!(remote.redacted(&text), "fatal: ***, Basic ***");
        assert!(!format!("{remote:?} {remote}").contains("s3cret"));
    }
}
