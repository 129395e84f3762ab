//! The tokens that this server makes: who somebody is, and what of it he asked for. [distribution, spec/auth/jwt]

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::Verb;
use crate::principal::Principal;

/// Who signs them.
pub(crate) const ISSUER: &str = "roadstead";
/// How long an access token is taken where nothing else is said.
pub const TOKEN_LIFETIME: Duration = Duration::from_mins(5);
/// No answer says less. [distribution, spec/auth/token: `expires_in`]
pub(crate) const SHORTEST_LIFETIME: Duration = Duration::from_mins(1);
/// How long a refresh token is.
pub(crate) const REFRESH_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// What a token lets somebody do, as clients read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// `repository`, `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The repository.
    pub name: String,
    /// The actions.
    pub actions: Vec<String>,
}

impl Granted {
    /// Is this action on this repository in it?
    pub(crate) fn has(&self, verb: Verb, repository: &str) -> bool {
        self.kind == "repository" && self.name == repository && self.actions.iter().any(|action| action == verb.as_str())
    }
}

/// What is signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    /// The name of the principal.
    pub(crate) sub: String,
    pub(crate) iat: u64,
    pub(crate) nbf: u64,
    pub(crate) exp: u64,
    /// `access` or `refresh`: neither is taken for the other.
    pub(crate) kind: String,
    /// All that is known of the principal, so that rules are asked again each time.
    pub(crate) who: Principal,
    /// What tells the account as it was from the account as it is: a new password ends what was made by the old one.
    pub(crate) stamp: Option<String>,
    /// When the token of another issuer is over that this one was had for: it is exchanged for nothing after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) access: Vec<Granted>,
}
