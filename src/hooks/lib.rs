//! Webhooks: out, for those who listen to this registry, and in, from forges.
//!
//! Out: [`Hooks`] writes a durable record for each [`Endpoint`] that wants an [`Event`], and is the [`jobs::Work`] that delivers them, in
//! the [`Dialect`] that the receiver already understands. At least once, and for each repository in order. In: [`Inbound`] tells a
//! signed delivery of a forge from anything else, before a byte of it is believed, and [`Seen`] tells one that was done already.
//!
//! Where records lie, what the time is and which address may be reached comes from outside: [`jobs::State`], [`telemetry::Clock`],
//! [`outbound`].

mod deliver;
mod dialect;
mod endpoint;
mod event;
mod forge;
mod hooks;
mod inbound;
mod lane;
mod queue;
mod recent;
mod refusal;
mod seen;
mod signature;
mod work;

pub use dialect::{Dialect, Payload, Registry, RegistryError};
pub use endpoint::{Endpoint, EndpointError, Globs, GlobsError};
pub use event::{Action, Event};
pub use forge::{Change, Commit, Deleted, ForgeEvent, Head, PullRequest, Push, RefKind, Repository};
pub use hooks::{HookError, Hooks, Options};
pub use inbound::{BODY_LIMIT, Delivery, Inbound, InboundError, InboundKind};
pub use lane::{KIND, Lane};
pub use queue::{Dead, QueueError};
pub use recent::{Attempt, AttemptOutcome};
pub use refusal::Refusal;
pub use seen::{Seen, SeenError, SeenLimits};
