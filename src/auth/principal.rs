//! Who asks.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Somebody who asks, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// `anonymous`, `user:alice`, `robot:ci`, `oidc:PROVIDER:SUBJECT`, `cert:NAME`.
    name: String,
    /// What it belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    /// What an issuer says of it, by the names of the claims: a claim may be a list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<String, Vec<String>>,
}

/// The kinds of those who are known.
pub(crate) const KINDS: [&str; 4] = ["user", "robot", "cert", "oidc"];
/// The name of those of whom nothing is known.
const ANONYMOUS: &str = "anonymous";

impl Principal {
    /// Somebody of whom nothing is known.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: Vec::new(), claims: BTreeMap::new() }
    }

    /// Somebody known by a name of a kind: `user`, `robot`, `cert`, `oidc:PROVIDER`.
    #[must_use]
    pub fn known(kind: &str, name: &str) -> Self {
        Self { name: format!("{kind}:{name}"), ..Self::anonymous() }
    }

    /// Somebody by the name that rules and logs have for him: `anonymous`, `user:alice`, `oidc:PROVIDER:SUBJECT`. `None` for a text that is
    /// nobody's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == ANONYMOUS => Some(Self::anonymous()),
            Some((kind, name)) if KINDS.contains(&kind) && !name.is_empty() => Some(Self::known(kind, name)),
            _ => None,
        }
    }

    /// The same in these groups.
    #[must_use]
    pub fn in_groups(mut self, groups: Vec<String>) -> Self {
        self.groups = groups;
        self
    }

    /// The same with what an issuer says of it.
    #[must_use]
    pub fn with_claims(mut self, claims: BTreeMap<String, Vec<String>>) -> Self {
        self.claims = claims;
        self
    }

    /// Its name, with its kind before it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it belongs to.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// What an issuer says of it under this name: nothing, one text, or a list.
    #[must_use]
    pub fn claim(&self, name: &str) -> &[String] {
        self.claims.get(name).map_or(&[], Vec::as_slice)
    }

    /// Is nothing known of it?
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}
