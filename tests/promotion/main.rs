//! Promotions against the real programs: kustomize must build what we write, and mean by it what we mean.
#![expect(clippy::unwrap_used, reason = "tests")]

mod forge;
mod git;
mod kustomize;
#[path = "../../src/promotion/tests/promotion/styles.rs"]
mod styles;
mod ways;
