//! The validation of repositories, from outside.
#![expect(clippy::unwrap_used, reason = "tests")]

mod files;
mod images;
mod kustomize;
mod pipeline;
mod properties;
mod repository;
mod rules;
mod targets;
