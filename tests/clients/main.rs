//! Real programs against the real binary: each client pushes, pulls by tag and by digest, and pulls through, on loopback only.
//!
//! Every test has a network namespace of its own with the server, an upstream registry and the client in it, so that a client which
//! falls back to the public registry fails at once. `tests/tools/install` brings the programs.
#![expect(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

#[path = "../support/home.rs"]
mod home;
#[path = "../support/hub.rs"]
mod hub;
#[path = "../support/netns.rs"]
mod netns;
#[path = "../support/mod.rs"]
mod support;

mod buildah;
mod containerd;
mod crane;
mod dockerd;
mod oras;
mod podman;
mod regctl;
mod skopeo;
mod stage;
