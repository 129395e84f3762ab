//! What a token is asked for. [distribution, spec/auth/scope]

use std::collections::BTreeMap;

use crate::policy::Verb;

/// Scopes that are read from one request, and bytes of one.
const MOST: usize = 64;
const LONGEST: usize = 1024;

/// What is asked for: actions on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `repository`, `registry`.
    pub kind: String,
    /// The repository; it may have a port in its first part.
    pub name: String,
    /// The actions, those that are known.
    pub verbs: Vec<Verb>,
}

/// Why scopes are not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// More than anybody needs.
    #[error("more than {MOST} scopes are asked for")]
    TooMany,
    /// One that is too long.
    #[error("a scope has more than {LONGEST} bytes")]
    TooLong,
    /// Not `type:name:actions`.
    #[error("a scope is not type:name:actions")]
    Malformed,
}

impl Scope {
    /// Reads the values of `scope` parameters, each of which may have several with spaces between them. Those of one resource become
    /// one. Actions that are not known are left out; `*` is all of them.
    pub fn parse_all<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Vec<Self>, ScopeError> {
        let mut scopes: BTreeMap<(String, String), Vec<Verb>> = BTreeMap::new();
        let parts = texts.into_iter().flat_map(|text| text.split(' ')).filter(|text| !text.is_empty());
        for (count, text) in parts.enumerate() {
            if count == MOST {
                return Err(ScopeError::TooMany);
            }
            let (kind, name, actions) = split(text)?;
            let verbs = scopes.entry((kind.to_owned(), name.to_owned())).or_default();
            for action in actions.split(',') {
                match action {
                    "*" => verbs.extend([Verb::Pull, Verb::Push, Verb::Delete]),
                    known => verbs.extend(Verb::parse(known)),
                }
            }
            verbs.sort_unstable();
            verbs.dedup();
        }
        Ok(scopes.into_iter().map(|((kind, name), verbs)| Self { kind, name, verbs }).collect())
    }
}

/// The name may have colons, the type and the actions have none.
fn split(text: &str) -> Result<(&str, &str, &str), ScopeError> {
    if text.len() > LONGEST {
        return Err(ScopeError::TooLong);
    }
    let (kind, rest) = text.split_once(':').ok_or(ScopeError::Malformed)?;
    let (name, actions) = rest.rsplit_once(':').ok_or(ScopeError::Malformed)?;
    // `repository(plugin):…` has a class, which nobody uses any more.
    let kind = kind.split('(').next().unwrap_or(kind);
    if kind.is_empty() || name.is_empty() { Err(ScopeError::Malformed) } else { Ok((kind, name, actions)) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scopes_are_read_in_every_form() {
        let scopes = Scope::parse_all([
            "repository:a/b:pull,push registry:catalog:*",
            "repository:host:5000/x:pull",
            "repository:a/b:delete,fly",
        ])
        .unwrap();
        let told: Vec<_> = scopes.iter().map(|scope| (scope.kind.as_str(), scope.name.as_str(), scope.verbs.len())).collect();
        assert_eq!(told, [("registry", "catalog", 3), ("repository", "a/b", 3), ("repository", "host:5000/x", 1)]);
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in ["repository", "repository:a", ":a:pull", "repository::pull"] {
            assert_eq!(Scope::parse_all([text]), Err(ScopeError::Malformed), "{text}");
        }
        let many = "repository:a:pull ".repeat(10_000);
        assert_eq!(Scope::parse_all([many.as_str()]), Err(ScopeError::TooMany));
        assert_eq!(Scope::parse_all([format!("repository:{}:pull", "a".repeat(2000)).as_str()]), Err(ScopeError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Scope::parse_all([text.as_str()]);
        }
    }
}
