//! The rules: who may do what, where. One function decides.

use std::collections::BTreeMap;
use std::fmt;

use oci::RepositoryName;
use regex::{Regex, RegexBuilder};

use crate::principal::{KINDS, Principal};

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
}

/// A text with `*`, which does not go over a `/`, and `**`, which does: `docker.io/**`, `robot:*`, `repo:org/**`.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// What stands before the first star: it rules most texts out, and is often all there is to look at.
    prefix: String,
    rest: Rest,
}

/// What has to come after the prefix.
#[derive(Clone, Debug)]
enum Rest {
    /// Nothing.
    Nothing,
    /// Anything.
    Anything,
    /// The whole text matches this.
    Matching(Regex),
}

/// Compiled, a pattern takes no more bytes.
const LARGEST: usize = 64 * 1024;

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
        let failed = |reason: &str| WhoError::Pattern { text: text.to_owned(), reason: reason.to_owned() };
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(failed("it is empty, or has control characters"));
        }
        let mut expression = String::from(r"\A");
        let mut rest = text;
        while !rest.is_empty() {
            let (taken, becomes) = match rest {
                // What is below something, and that itself is not: `**/app` is `app` too.
                _ if rest.starts_with("**/") && (rest.len() == text.len() || text[..text.len() - rest.len()].ends_with('/')) => {
                    (3, "(?:.*/)?".to_owned())
                }
                _ if rest.starts_with("***") => return Err(failed("it has three stars after each other")),
                _ if rest.starts_with("**") => (2, ".*".to_owned()),
                _ if rest.starts_with('*') => (1, "[^/]*".to_owned()),
                _ => {
                    let plain = rest.find('*').unwrap_or(rest.len());
                    (plain, regex::escape(&rest[..plain]))
                }
            };
            expression.push_str(&becomes);
            rest = &rest[taken..];
        }
        expression.push_str(r"\z");
        let built = RegexBuilder::new(&expression).size_limit(LARGEST).dot_matches_new_line(true).build();
        let built = built.map_err(|_| failed("it is too long"))?;
        let (prefix, stars) = text.split_at(text.find('*').unwrap_or(text.len()));
        let rest = match stars {
            "" => Rest::Nothing,
            "**" => Rest::Anything,
            _ => Rest::Matching(built),
        };
        Ok(Self { prefix: prefix.to_owned(), rest })
    }

    /// Does it match the whole text?
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(self.prefix.as_str()) else { return false };
        match &self.rest {
            Rest::Nothing => rest.is_empty(),
            Rest::Anything => true,
            Rest::Matching(regex) => regex.is_match(text),
        }
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
            Some((kind, name)) if KINDS.contains(&kind) && !name.is_empty() => Ok(Self::Named(Pattern::parse(text)?)),
            _ => Err(WhoError::Kind(text.to_owned())),
        }
    }

    /// Is it for this one?
    #[must_use]
    pub fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Anonymous => true,
            Self::Authenticated => !principal.is_anonymous(),
            Self::Named(pattern) => pattern.matches(principal.name()),
            Self::Group(pattern) => principal.groups().iter().any(|group| pattern.matches(group)),
        }
    }
}

/// One rule: whoever matches any of `who`, and of whom his issuer says all of `claims`, may do all of `may` in all of `repositories`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where it stands, for people: `line 12`.
    pub place: String,
    /// For whom it is.
    pub who: Vec<Who>,
    /// Patterns of what an issuer says, by the names of the claims; of a list one entry must match. Of somebody without an issuer
    /// nothing is said.
    pub claims: BTreeMap<String, Pattern>,
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
        let allows = |rule: &&Rule| rule.may.contains(&verb) && rule.is_in(repository) && rule.is_for(principal);
        self.rules.iter().find(allows).map_or(Decision::Denied, Decision::Allowed)
    }

    /// The rules in their order, and whether each names this principal, asks for no claims that are not said of it, and is about this
    /// verb and this repository: why it was decided so.
    pub fn explain<'p>(
        &'p self,
        principal: &'p Principal,
        verb: Verb,
        repository: Option<&'p RepositoryName>,
    ) -> impl Iterator<Item = (&'p Rule, [bool; 4])> + 'p {
        let told = move |rule: &'p Rule| {
            let is_about = [rule.may.contains(&verb), rule.is_in(repository)];
            (rule, [rule.names(principal), rule.has_claims_of(principal), is_about[0], is_about[1]])
        };
        self.rules.iter().map(told)
    }
}

impl Rule {
    fn is_in(&self, repository: Option<&RepositoryName>) -> bool {
        repository.is_none_or(|name| self.repositories.iter().any(|pattern| pattern.matches(name.as_str())))
    }

    fn is_for(&self, principal: &Principal) -> bool {
        self.names(principal) && self.has_claims_of(principal)
    }

    fn names(&self, principal: &Principal) -> bool {
        self.who.iter().any(|who| who.is(principal))
    }

    fn has_claims_of(&self, principal: &Principal) -> bool {
        let says = |(name, pattern): (&String, &Pattern)| principal.claim(name).iter().any(|value| pattern.matches(value));
        self.claims.iter().all(says)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stays_between_slashes_and_two_do_not() {
        for (pattern, yes, no) in [
            (
                "docker.io/**",
                &["docker.io/library/nginx", "docker.io/x"][..],
                &["docker.io", "docker.iox/y", "quay.io/docker.io/x"][..],
            ),
            ("micro/*", &["micro/app"], &["micro", "micro/a/b", "macro/app"]),
            ("**", &["a", "a/b/c"], &[]),
            ("**/app", &["app", "a/app", "a/b/app"], &["a/xapp", "app/x"]),
            ("oidc:github:**", &["oidc:github:repo:org/app:ref:refs/heads/main"], &["oidc:gitlab:x"]),
            ("team-*/app", &["team-a/app"], &["team-a/b/app", "team-/x/app"]),
            ("a.b+c", &["a.b+c"], &["aab+c", "a.bbc"]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert!(yes.iter().all(|text| pattern.matches(text)), "{pattern:?}");
            assert!(!no.iter().any(|text| pattern.matches(text)), "{pattern:?}");
        }
        for text in ["", "a***", "a\nb", &"a*".repeat(40_000)] {
            assert!(Pattern::parse(text).is_err());
        }
    }

    #[test]
    fn a_rule_is_for_those_of_whom_all_of_it_is_said() {
        let claims = [("ref".to_owned(), Pattern::parse("refs/heads/main").unwrap())].into();
        let rule = Rule {
            place: "line 1".to_owned(),
            who: vec![Who::parse("oidc:ci:*").unwrap()],
            claims,
            may: vec![Verb::Push],
            repositories: vec![Pattern::parse("a/*").unwrap()],
        };
        let policy = Policy::new(vec![rule]);
        let name = RepositoryName::parse("a/b").unwrap();
        let of =
            |branch: &str| Principal::known("oidc:ci", "job").with_claims([("ref".to_owned(), vec![branch.to_owned()])].into());
        assert!(policy.decide(&of("refs/heads/main"), Verb::Push, Some(&name)).is_allowed());
        assert!(!policy.decide(&of("refs/heads/other"), Verb::Push, Some(&name)).is_allowed());
        assert!(!policy.decide(&Principal::known("oidc:ci", "job"), Verb::Push, Some(&name)).is_allowed());
        let other = of("refs/heads/other");
        let told: Vec<_> = policy.explain(&other, Verb::Push, Some(&name)).map(|(_, told)| told).collect();
        assert_eq!(told, [[true, false, true, true]]);
        assert!(!policy.decide(&of("refs/heads/main"), Verb::Delete, Some(&name)).is_allowed());
    }

    proptest! {
        #[test]
        fn a_text_without_stars_matches_itself_alone(text in "[^*\\p{Cc}]{1,20}", other in "\\PC{0,20}") {
            let pattern = Pattern::parse(&text).unwrap();
            prop_assert!(pattern.matches(&text));
            prop_assert_eq!(pattern.matches(&other), text == other);
        }

        #[test]
        fn two_stars_at_the_end_match_whatever_begins_so(text in "[^*\\p{Cc}]{1,20}", more in "\\PC{0,20}", other in "\\PC{0,20}") {
            let pattern = Pattern::parse(&format!("{text}**")).unwrap();
            let longer = format!("{text}{more}");
            prop_assert!(pattern.matches(&longer));
            prop_assert_eq!(pattern.matches(&other), other.starts_with(&text));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", other in "\\PC{0,40}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _ = pattern.matches(&other);
            }
        }
    }
}
