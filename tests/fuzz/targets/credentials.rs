//! Input: a byte for what the rest is: the header `Authorization`, scopes, a file of accounts, or a pattern of a rule and a name.

use auth::{Credentials, Htpasswd, Pattern, Scope, Who};
use oci::RepositoryName;
use secrecy::ExposeSecret;

pub(crate) fn target(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 4 {
        0 => header(rest),
        1 => scopes(&String::from_utf8_lossy(rest)),
        2 => accounts(&String::from_utf8_lossy(rest)),
        _ => pattern(&String::from_utf8_lossy(rest)),
    }
}

fn header(bytes: &[u8]) {
    match Credentials::parse(Some(bytes)) {
        Credentials::Basic { name, password } => {
            assert!(!name.chars().any(char::is_control) && name.len() <= 255 && !name.contains(':'));
            assert!(!(name.is_empty() && password.expose_secret().is_empty()));
            assert!(!format!("{:?}", Credentials::parse(Some(bytes))).contains(&format!("\"{}\"", password.expose_secret())));
        }
        Credentials::Bearer(token) => assert!(!token.is_empty()),
        Credentials::None | Credentials::Strange => {}
    }
}

fn scopes(text: &str) {
    let Ok(scopes) = Scope::parse_all([text]) else { return };
    assert!(scopes.len() <= 64);
    for scope in &scopes {
        assert!(!scope.kind.is_empty() && !scope.name.is_empty() && !scope.kind.contains(':'));
        assert!(scope.verbs.is_sorted() && scope.verbs.windows(2).all(|pair| pair[0] != pair[1]));
        // What is read is what a client would write for it again.
        let verbs: Vec<&str> = scope.verbs.iter().map(|verb| verb.as_str()).collect();
        let again = Scope::parse_all([format!("{}:{}:{}", scope.kind, scope.name, verbs.join(",")).as_str()]).unwrap();
        assert_eq!(again, std::slice::from_ref(scope));
    }
}

fn accounts(text: &str) {
    match Htpasswd::parse(text) {
        Ok(accounts) => assert!(accounts.len() <= text.lines().count()),
        Err(error) => assert!(error.line >= 1 && error.line <= text.lines().count() && error.to_string().len() < 200),
    }
}

fn pattern(text: &str) {
    let _ = Who::parse(text);
    let (pattern, name) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(made) = Pattern::parse(pattern) else { return };
    if !pattern.contains('*') {
        assert_eq!(made.matches(name), pattern == name);
    }
    if let Some(prefix) = pattern.strip_suffix('*').filter(|prefix| !prefix.contains('*')) {
        assert!(!made.matches(name) || name.starts_with(prefix), "{pattern} matches {name}");
        if let Ok(name) = RepositoryName::parse(name) {
            let rest = name.as_str().strip_prefix(prefix);
            assert_eq!(made.matches(name.as_str()), rest.is_some_and(|rest| !rest.contains('/')), "{pattern} {name}");
        }
    }
}
