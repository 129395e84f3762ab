//! Real programs log in to the real binary, over TLS, with a certificate that each of them trusts in its own way: by a password alone,
//! by the token flow, with a token of an `OpenID` provider and with a robot's token in the place of the password.
//!
//! Every test has a network namespace of its own. The server has an address there that is not a loopback one, since to those most
//! clients speak without encryption, or without looking at the certificate. `tests/tools/install` brings the programs.
#![expect(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]
#![expect(clippy::disallowed_methods, reason = "certificates are made by the clock of the clients")]
#![expect(clippy::print_stdout, reason = "what clients say to their users is worth reading")]

#[path = "../support/home.rs"]
mod home;
#[path = "../support/hub.rs"]
mod hub;
#[path = "../support/netns.rs"]
mod netns;
#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod containerd;
mod containers;
mod dockerd;
mod helm;
mod mirrors;
mod modules;
mod stage;
mod story;
