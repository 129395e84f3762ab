//! Who somebody turned out to be, and what that lets him do.

use std::sync::Arc;

use oci::RepositoryName;

use crate::policy::{Policy, Verb};
use crate::principal::Principal;
use crate::token::Granted;

/// Somebody who asks, and how it is known.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) principal: Principal,
    /// What the token says that it is for; `None` without one of ours.
    pub(crate) access: Option<Vec<Granted>>,
    /// When what it is known by is over, in seconds since 1970; `None` where nothing ends it.
    pub(crate) until: Option<u64>,
    pub(crate) policy: Arc<Policy>,
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
        &self.principal
    }

    /// May it, by the rules alone?
    #[must_use]
    pub fn may(&self, verb: Verb, repository: Option<&RepositoryName>) -> bool {
        self.policy.decide(&self.principal, verb, repository).is_allowed()
    }

    /// The decision about a verb on a repository, as clients are told.
    #[must_use]
    pub fn verdict(&self, verb: Verb, repository: &RepositoryName) -> Verdict {
        if self.may(verb, Some(repository)) {
            let is_enough = |access: &Vec<Granted>| access.iter().any(|granted| granted.has(verb, repository.as_str()));
            return if self.access.as_ref().is_none_or(is_enough) { Verdict::Allowed } else { Verdict::Insufficient };
        }
        if self.principal.is_anonymous() {
            Verdict::Unknown
        } else if self.may(Verb::Pull, Some(repository)) {
            Verdict::Denied
        } else {
            Verdict::Hidden
        }
    }
}
