//! Input: a configuration file.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use roadstead::config::{Config, ConfigErrors, Upstream};

const FILE: &str = "roadstead.toml";
const SECRET: &str = "fZ7-qPx3-secret";

pub(crate) fn target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match read(text) {
        Ok(config) => holds(&config),
        Err(errors) => {
            told(text, &errors.to_string());
            assert_eq!(read(text).unwrap_err().to_string(), errors.to_string(), "the same file has the same errors");
        }
    }
}

fn read(text: &str) -> Result<Config, ConfigErrors> {
    let environment = BTreeMap::from([("PASSWORD".to_owned(), SECRET.to_owned())]);
    let files = |path: &Path| match path.to_str() {
        Some("password") => Ok(format!("{SECRET}\n").into_bytes()),
        Some("empty") => Ok(Vec::new()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    Config::read(FILE, text, &environment, &[], &files)
}

/// Each error is one line that says where it is and what is wrong, in the order of the file.
fn told(text: &str, errors: &str) {
    assert!(!errors.is_empty());
    assert!(!errors.contains(SECRET), "a password is told");
    let mut earlier = 0;
    for error in errors.split('\n') {
        let rest = error.strip_prefix(FILE).and_then(|rest| rest.strip_prefix(':'));
        let rest = rest.unwrap_or_else(|| panic!("{error:?} does not say where it is, in {errors:?}"));
        assert!(!error.contains(char::is_control), "{error:?} would be taken for more than a text by a terminal");
        // Without a number it is about the whole file.
        let Some((line, what)) = rest.split_once(": ").filter(|(line, _)| !line.is_empty() && !line.starts_with(' ')) else {
            assert!(rest.len() > 1, "{error:?} says nothing");
            continue;
        };
        let line: usize = line.parse().unwrap_or_else(|_| panic!("{error:?} has no line"));
        assert!((1..=text.lines().count().max(1)).contains(&line), "{error:?} is not in the file");
        assert!(line >= earlier, "{errors}");
        assert!(!what.is_empty());
        earlier = line;
    }
}

/// What is accepted can be served.
fn holds(config: &Config) {
    let server = &config.server;
    assert!(server.insecure_open || server.listen.ip().is_loopback(), "open to strangers: {}", server.listen);
    assert!(server.header_timeout > Duration::ZERO && server.idle_timeout > Duration::ZERO);
    assert!(server.max_connections > 0 && server.max_manifest_size >= 4 << 20 && server.max_blob_size != Some(0));
    let url = server.external_url.as_ref();
    assert!(url.is_none_or(|url| url.username().is_empty() && url.password().is_none()));
    assert!(config.upstreams.iter().filter(|upstream| upstream.default).count() <= 1);
    let hosts: BTreeSet<&str> = config.upstreams.iter().map(|upstream| upstream.host.as_str()).collect();
    assert_eq!(hosts.len(), config.upstreams.len(), "two upstreams have one host");
    for (at, upstream) in config.upstreams.iter().enumerate() {
        one(upstream);
        for other in &config.upstreams[at + 1..] {
            let below = |name: &Upstream, over: &Upstream| name.name.strip_prefix(over.name.as_str()).is_some();
            let meet = upstream.name == other.name || below(upstream, other) || below(other, upstream);
            assert!(!meet, "an image could belong to {} and {}", upstream.name, other.name);
        }
    }
    assert!(!format!("{config:?}").contains(SECRET), "a password is told");
}

fn one(upstream: &Upstream) {
    assert!(!upstream.host.is_empty() && upstream.host == upstream.host.to_ascii_lowercase());
    assert!(upstream.default || upstream.root.is_empty());
    assert!(upstream.idle_timeout > Duration::ZERO);
    assert!(matches!(upstream.url.scheme(), "http" | "https") && upstream.url.path() == "/");
    assert!(upstream.url.username().is_empty() && upstream.url.password().is_none());
    assert!(upstream.credentials.as_ref().is_none_or(|credentials| !credentials.username.contains(':')));
}
