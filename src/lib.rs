//! Roadstead: a native OCI registry mirror. This is the root, the one place that knows every room.
//!
//! [`build`] turns a [`config::Config`] into an [`App`], which is everything but running; [`App::run`] runs it until it is told to
//! stop.

mod app;
pub mod cli;
pub mod config;
mod durable;
mod front;
mod wiring;

pub use app::{App, build};
