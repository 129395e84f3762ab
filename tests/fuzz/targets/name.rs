//! Input: a repository name.

use std::sync::LazyLock;

use oci::{MAX_NAME_LENGTH, RepositoryName};
use regex::Regex;

/// As the specification writes it. [distribution-spec, Pulling manifests]
static GRAMMAR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z").unwrap());

pub(crate) fn target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let valid = text.len() <= MAX_NAME_LENGTH && GRAMMAR.is_match(text);
    match RepositoryName::parse(text) {
        Ok(name) => {
            assert!(valid, "{text:?} is a name");
            holds(&name, text);
        }
        Err(error) => {
            assert!(!valid, "{text:?} is no name");
            assert!(error.to_string().len() <= 2048);
            assert!(!error.to_string().contains(char::is_control));
        }
    }
}

fn holds(name: &RepositoryName, text: &str) {
    assert_eq!(name.as_str(), text);
    assert_eq!(name.to_string(), text);
    assert_eq!(name.components().collect::<Vec<&str>>().join("/"), text);
    assert!(name.components().all(|part| !part.is_empty() && !part.starts_with(['.', '_', '-'])), "{text:?} stays in its folder");
    let json = serde_json::to_string(name).unwrap();
    assert_eq!(serde_json::from_str::<RepositoryName>(&json).unwrap(), *name);
    for (at, _) in text.match_indices('/') {
        let rest = name.strip_prefix(&text[..at]).unwrap();
        assert_eq!(RepositoryName::parse(rest.as_str()), Ok(rest.clone()));
        assert_eq!(rest.under(&text[..at]).as_ref(), Ok(name));
    }
    assert_eq!(name.strip_prefix(text), None);
}
