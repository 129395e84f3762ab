//! Who somebody turned out to be, and what that lets him do.

use std::sync::Arc;

use oci::RepositoryName;

use crate::policy::{Policy, Verb};
use crate::principal::Principal;
use crate::scope::Scope;
use crate::token::{Claims, Granted};

/// Somebody who asks, and how it is known.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) known: Known,
    /// What tells the token of a robot from its others.
    pub(crate) stamp: Option<String>,
    /// When what it is known by is over, in seconds since 1970; `None` where nothing ends it.
    pub(crate) until: Option<u64>,
    pub(crate) policy: Arc<Policy>,
}

/// By what it is known who somebody is. It is shared with what is remembered: requests copy none of it.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// By a token of ours, which says what it is for.
    Token(Arc<Claims>),
    /// By something else.
    Principal(Arc<Principal>),
}

/// What was decided of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// Nothing is known of who asks, and that is not enough: 401.
    Unknown,
    /// It may, but the token that was shown is for something else: 401 with `insufficient_scope`.
    Insufficient,
    /// It may see what is there, and not do this: 403.
    Denied,
    /// It may not know what is there: 404.
    Hidden,
}

impl Identity {
    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        match &self.known {
            Known::Token(claims) => &claims.who,
            Known::Principal(principal) => principal,
        }
    }

    /// What the token says that it is for; `None` without one of ours.
    fn access(&self) -> Option<&[Granted]> {
        match &self.known {
            Known::Token(claims) => Some(&claims.access),
            Known::Principal(_) => None,
        }
    }

    /// May it, by the rules alone?
    #[must_use]
    pub fn may(&self, verb: Verb, repository: Option<&RepositoryName>) -> bool {
        self.policy.decide(self.principal(), verb, repository).is_allowed()
    }

    /// What of these scopes it may; asking for more is no error. [distribution, spec/auth/token]
    pub(crate) fn granted(&self, scopes: &[Scope]) -> Vec<Granted> {
        scopes.iter().filter_map(|scope| self.granted_of(scope)).collect()
    }

    fn granted_of(&self, scope: &Scope) -> Option<Granted> {
        let named = |actions: Vec<String>| Granted { kind: scope.kind.clone(), name: scope.name.clone(), actions };
        match scope.kind.as_str() {
            "repository" => {
                let name = RepositoryName::parse(&scope.name).ok();
                let may = |verb: &&Verb| name.as_ref().is_some_and(|name| self.may(**verb, Some(name)));
                let actions: Vec<String> = scope.verbs.iter().filter(may).map(|verb| verb.as_str().to_owned()).collect();
                (!actions.is_empty()).then(|| named(actions))
            }
            // The catalog lists what somebody may pull, so that whoever may pull anything may ask for it.
            "registry" if scope.name == "catalog" && self.may(Verb::Pull, None) => Some(named(vec!["*".to_owned()])),
            _ => None,
        }
    }

    /// Was it made out by a token of ours?
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.access().is_some()
    }

    /// The decision about listing repositories, of which it sees those that it may pull: hidden where there is none.
    #[must_use]
    pub fn lists(&self) -> Verdict {
        let has_it = |access: &[Granted]| access.iter().any(|granted| granted.kind == "registry" && granted.name == "catalog");
        match (self.may(Verb::Pull, None), self.access().is_none_or(has_it)) {
            (true, true) => Verdict::Allowed,
            (true, false) => Verdict::Insufficient,
            (false, _) if self.principal().is_anonymous() => Verdict::Unknown,
            (false, _) => Verdict::Hidden,
        }
    }

    /// The decision about a verb on a repository, as clients are told.
    #[must_use]
    pub fn verdict(&self, verb: Verb, repository: &RepositoryName) -> Verdict {
        if self.may(verb, Some(repository)) {
            let is_enough = |access: &[Granted]| access.iter().any(|granted| granted.has(verb, repository.as_str()));
            return if self.access().is_none_or(is_enough) { Verdict::Allowed } else { Verdict::Insufficient };
        }
        if self.principal().is_anonymous() {
            Verdict::Unknown
        } else if self.may(Verb::Pull, Some(repository)) {
            Verdict::Denied
        } else {
            Verdict::Hidden
        }
    }
}
