//! Promotions against the real programs: kustomize must build what we write, and mean by it what we mean.
#![expect(clippy::unwrap_used, reason = "tests")]

mod argo;
mod at_gitea;
mod bucket;
#[path = "../support/buckets.rs"]
mod buckets;
mod check;
mod crash;
mod crowd;
mod deploy;
#[path = "../support/door.rs"]
mod door;
mod failures;
mod flow;
mod forge;
mod forge_api;
mod forge_contents;
mod git;
mod gitea;
mod kustomize;
mod over_api;
mod pipelines;
mod pulls;
mod secrets;
mod server;
#[path = "../../src/promotion/tests/promotion/styles.rs"]
mod styles;
mod validation;
mod ways;
