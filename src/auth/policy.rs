//! The rules: who may do what, where. One function decides.

use std::collections::BTreeMap;
use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use oci::RepositoryName;

use crate::principal::Principal;

/// What somebody may do. None of them brings another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read content and listings.
    Pull,
    /// Add content.
    Push,
    /// Remove content.
    Delete,
    /// Ask for builds.
    Build,
    /// Ask for promotions, hold and release them.
    Promote,
    /// Everything under `/api/v1/`.
    Admin,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Pull, Self::Push, Self::Delete, Self::Build, Self::Promote, Self::Admin];

    /// As it is called in rules and in the scopes of tokens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Build => "build",
            Self::Promote => "promote",
            Self::Admin => "admin",
        }
    }

    /// The verb of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// For whom a rule is.
#[derive(Clone, Debug)]
pub enum Who {
    /// Everybody, known or not.
    Anonymous,
    /// Everybody who is known.
    Authenticated,
    /// Those whose name matches: `user:alice`, `robot:*`, `cert:spiffe://cluster.local/**`.
    Named(Pattern),
    /// Those in such a group.
    Group(Pattern),
    /// Those of whom an issuer says all of this.
    Claims {
        /// The issuer, as the configuration calls it.
        provider: String,
        /// Patterns by the names of the claims. Of a list one entry must match.
        claims: BTreeMap<String, Pattern>,
    },
}

/// A text with `*`, which does not go over a `/`, and `**`, which does.
#[derive(Clone, Debug)]
pub struct Pattern(GlobMatcher);

/// Why a text does not say for whom a rule is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhoError {
    /// It begins like nothing that is known.
    #[error(
        "{0:?} is nobody: write anonymous, authenticated, user:NAME, robot:NAME, group:NAME, cert:NAME or oidc:PROVIDER:SUBJECT"
    )]
    Kind(String),
    /// The name is no pattern.
    #[error("{text:?} is no pattern: {reason}")]
    Pattern {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, WhoError> {
        let failed = |reason: String| WhoError::Pattern { text: text.to_owned(), reason };
        if text.is_empty() {
            return Err(failed("it is empty".to_owned()));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build().map_err(|error| failed(error.kind().to_string()))?;
        Ok(Self(glob.compile_matcher()))
    }

    fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl Who {
    /// Reads `anonymous`, `authenticated`, `user:NAME`, `robot:NAME`, `group:NAME`, `cert:NAME`, `oidc:PROVIDER:SUBJECT`; names are
    /// patterns.
    pub fn parse(text: &str) -> Result<Self, WhoError> {
        match text.split_once(':') {
            None if text == "anonymous" => Ok(Self::Anonymous),
            None if text == "authenticated" => Ok(Self::Authenticated),
            Some(("group", name)) => Ok(Self::Group(Pattern::parse(name)?)),
            Some(("user" | "robot" | "cert" | "oidc", name)) if !name.is_empty() => Ok(Self::Named(Pattern::parse(text)?)),
            _ => Err(WhoError::Kind(text.to_owned())),
        }
    }

    fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Anonymous => true,
            Self::Authenticated => !principal.is_anonymous(),
            Self::Named(pattern) => pattern.matches(principal.name()),
            Self::Group(pattern) => principal.groups().iter().any(|group| pattern.matches(group)),
            Self::Claims { provider, claims } => {
                let of_provider = principal.name().strip_prefix("oidc:").and_then(|rest| rest.strip_prefix(provider.as_str()));
                of_provider.is_some_and(|rest| rest.starts_with(':'))
                    && claims.iter().all(|(name, pattern)| principal.claim(name).iter().any(|value| pattern.matches(value)))
            }
        }
    }
}

/// One rule: whoever matches any of `who` may do all of `may` in all of `repositories`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where it stands, for people: `line 12`.
    pub place: String,
    /// For whom it is.
    pub who: Vec<Who>,
    /// What they may.
    pub may: Vec<Verb>,
    /// Where: patterns of repositories.
    pub repositories: Vec<Pattern>,
}

/// All rules. What none of them allows is denied.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// What was decided, and by what.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'p> {
    /// This rule allows it.
    Allowed(&'p Rule),
    /// None does.
    Denied,
}

impl Decision<'_> {
    /// May they?
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl Policy {
    /// The policy of these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// The one decision: may this principal do this there? Without a repository it is asked of any: is there one where it may?
    #[must_use]
    pub fn decide(&self, principal: &Principal, verb: Verb, repository: Option<&RepositoryName>) -> Decision<'_> {
        let allows = |rule: &&Rule| {
            let there = |name: &RepositoryName| rule.repositories.iter().any(|pattern| pattern.matches(name.as_str()));
            rule.may.contains(&verb) && repository.is_none_or(there) && rule.who.iter().any(|who| who.is(principal))
        };
        self.rules.iter().find(allows).map_or(Decision::Denied, Decision::Allowed)
    }
}
