//! `[git]`: how this server commits; and where a promotion does.

use std::path::PathBuf;
use std::time::Duration;

use promotion::{Login, Remote, RemoteError};

use super::reader::Section;
use super::value::{self, Value};
use super::{Git, secrets};

/// Most forges take any name beside a token.
const USERNAME: &str = "x-access-token";

impl Default for Git {
    fn default() -> Self {
        Self {
            program: PathBuf::from("git"),
            cache: None,
            time_limit: Duration::from_mins(1),
            retry_for: Duration::from_hours(1),
            batch: Duration::from_millis(200),
            name: "roadstead[bot]".to_owned(),
            email: "roadstead[bot]@localhost".to_owned(),
            signing_key: None,
        }
    }
}

pub(super) fn git(mut section: Section<'_, '_>) -> Git {
    let default = Git::default();
    let git = Git {
        program: section.value("program", default.program, value::path),
        cache: section.optional("cache", value::path),
        time_limit: section.value("time_limit", default.time_limit, value::limit),
        retry_for: section.value("retry_for", default.retry_for, value::duration),
        batch: section.value("batch", default.batch, batch),
        name: section.value("name", default.name, who),
        email: section.value("email", default.email, who),
        signing_key: readable(&mut section, "signing_key_file"),
    };
    section.finish();
    git
}

/// So long a push may wait for others, and no longer: somebody waits for it.
fn batch(value: &Value<'_>) -> Result<Duration, String> {
    let duration = value::duration(value)?;
    if duration > Duration::from_mins(5) {
        return Err("is longer than five minutes; write less".to_owned());
    }
    Ok(duration)
}

/// A name or an address, as git takes it.
fn who(value: &Value<'_>) -> Result<String, String> {
    let text = value.text()?;
    if text.contains(['<', '>']) || text.contains(char::is_control) || text.trim() != text {
        return Err("has < or > in it, a line end, or a blank at an end, which git takes in no name".to_owned());
    }
    Ok(text.to_owned())
}

/// The path of a file that is read elsewhere, and can be.
pub(super) fn readable(section: &mut Section<'_, '_>, key: &'static str) -> Option<PathBuf> {
    let path = section.optional(key, value::path)?;
    if let Err(error) = section.document().file(&path) {
        section.wrong(key, format!("{} cannot be read: {error}; check the path and its permissions", path.display()));
    }
    Some(path)
}

/// The branch that a promotion commits to.
pub(super) fn remote(mut section: Section<'_, '_>) -> Option<Remote> {
    if section.is_absent() {
        section.missing("url", None, "is missing; write git = { url = \"https://…\", branch = \"main\", token_file = \"…\" }");
    } else if section.given("url").is_none() {
        section.missing(
            "url",
            None,
            "is missing; write where the repository is, such as \"https://git.example.org/team/app.git\"",
        );
    }
    let url = section.optional("url", |value| value.text().map(str::to_owned));
    let branch = section.value("branch", "main".to_owned(), |value| value.text().map(str::to_owned));
    let username = section.optional("username", |value| value.text().map(str::to_owned));
    let token = secrets::either(&mut section, "token_file", "token_env");
    let key = readable(&mut section, "key_file");
    let known_hosts = readable(&mut section, "known_hosts_file");
    let ca = readable(&mut section, "ca");
    let has_token = section.given("token_file").is_some() || section.given("token_env").is_some();
    if username.is_some() && !has_token {
        section.wrong("username", "is of no use without a token; add token_file, or remove it".to_owned());
    }
    if has_token && key.is_some() {
        section.wrong("key_file", "stands beside a token; https:// takes a token, SSH a key".to_owned());
    }
    let login = match (key, known_hosts) {
        (Some(key), Some(known_hosts)) => Some(Login::Key { key, known_hosts }),
        (Some(_), None) => {
            section.missing(
                "known_hosts_file",
                None,
                "is missing; name the file with the keys of the hosts that are trusted, as ssh-keyscan prints them",
            );
            None
        }
        (None, Some(_)) => {
            section.wrong("known_hosts_file", "is of no use without key_file; add it, or remove this".to_owned());
            None
        }
        (None, None) if has_token => {
            token.map(|password| Login::Basic { username: username.unwrap_or_else(|| USERNAME.to_owned()), password })
        }
        (None, None) => Some(Login::Nobody),
    };
    let remote = match (url, login) {
        (Some(url), Some(login)) => match Remote::new(&url, &branch, login) {
            Ok(mut remote) => {
                remote.ca = ca;
                Some(remote)
            }
            Err(error) => {
                let key = if matches!(error, RemoteError::Branch(_)) { "branch" } else { "url" };
                section.wrong(key, error.to_string());
                None
            }
        },
        _ => None,
    };
    section.finish();
    remote
}
