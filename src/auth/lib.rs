//! Who is asking, and may they: credentials in, a principal out; and one function that decides.
//!
//! Nothing here knows HTTP routes or the store. Whoever asks hands in the `Authorization` of a request and gets an [`Identity`]; what
//! that may is decided by a [`Policy`], for every verb in the same place.

mod access;
mod auth;
mod credentials;
mod htpasswd;
mod memory;
mod oidc;
mod patience;
mod policy;
mod principal;
mod robots;
mod scope;
mod signer;
mod token;

pub use access::{Identity, Verdict};
pub use auth::{Auth, Failure, Made, Parts, TokenRequest};
pub use credentials::Credentials;
pub use htpasswd::{Htpasswd, HtpasswdError};
#[doc(hidden)]
pub use memory::Memory;
pub use oidc::{Algorithm, Fetch, FetchError, Oidc, Provider, ProviderError, Refusal, Verified};
pub use patience::network;
pub use policy::{Decision, Pattern, Policy, Rule, Verb, Who, WhoError};
pub use principal::Principal;
pub use robots::{NewToken, RobotError, RobotToken, Robots};
pub use scope::{Scope, ScopeError};
pub use signer::{Change, Records, RecordsError, Signer, SignerError};
pub use token::{Granted, TOKEN_LIFETIME};
