//! Fakes that are real small implementations: a clock that is moved by hand, and an upstream registry with faults.
//!
//! They fail loudly: what cannot be set up, or is misused, panics and so fails its test.
#![expect(clippy::unwrap_used, reason = "a fake that cannot work fails its test")]

mod clock;
mod content;
mod upstream;

pub use clock::ManualClock;
pub use content::deterministic_bytes;
pub use upstream::{Auth, FakeUpstream, Fault, Image, Index, Logged, TokenAuth};
