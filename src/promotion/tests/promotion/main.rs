//! Promotions, from outside.
#![expect(clippy::unwrap_used, reason = "tests")]

mod kustomizations;
mod places;
mod properties;
mod styles;
