//! Promotions: a tag that arrives becomes a commit in the `GitOps` repository.
//!
//! A [`Rule`] says which tags go where. What arrives is offered to the rules ([`Promotions::offer`]) and stands in their [`Ledger`]s
//! before the change of the tag is forgotten; a job for each branch then writes what is due: the gate is asked, the file is edited
//! ([`Edit`]: bytes in, bytes out, or the reason why that is not safe), and the commit is brought to the branch whatever happens to it
//! meanwhile ([`Branch`]). What a person changed in Git is never overwritten.

mod backing;
mod choose;
mod content;
mod edit;
mod follow;
pub mod forge;
mod gate;
mod git;
mod land;
mod ledger;
mod message;
mod operate;
mod place;
mod promotions;
mod pulls;
pub mod rollout;
mod rule;
mod turn;
mod validate;
mod validation;
mod watch;
mod window;
mod work;
mod yaml;

pub use backing::Backing;
pub use content::{Content, Found, Verdicts};
pub use edit::{Application, Container, Edit, Edited, Helm, Image, Kustomization, Values, Write};
pub use follow::{Deployer, ROLLOUT_KIND, Rollouts};
pub use git::{Cache, Commit, Entry, EntryKind, File, GitError, Login, Program, Pushed, Remote, RemoteError, Signature, Tip};
pub use land::{Branch, Changed, Intent, LandError, Outcome, Over, Preview};
pub use ledger::{Arrival, Ledger, LedgerError, Ledgers, Note, Phase, Promotion, Pull, Written};
pub use message::{TRAILER, Template, TemplateError, Told, is_ours};
pub use operate::{OperateError, Plan};
pub use place::{Place, PlaceSettings};
pub use promotions::{Event, KIND, Parts, Promotions};
pub use rule::{Gate, Mode, Order, Rule};
pub use validate::{Check, Finding, Matched, Names, Report, Scope, Tree, Wanted, missing, of_commit, of_tip, validate};
pub use validation::{VALIDATION_KIND, Validations};
pub use window::Window;
pub use yaml::Refusal;
