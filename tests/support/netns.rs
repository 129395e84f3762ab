//! A network namespace in which only loopback is up: what runs inside can reach nothing else, whatever it falls back to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::process::{Place, run, tool};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A namespace, removed when dropped.
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    /// Makes one. This needs root.
    pub(crate) fn new() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("roadstead-{}-{count}", std::process::id());
        run(Command::new(tool("ip")).args(["netns", "add", &name]));
        let netns = Self { name };
        run(Command::new(tool("ip")).args(["-n", &netns.name, "link", "set", "lo", "up"]));
        netns
    }

    /// The place where programs run inside it.
    pub(crate) fn place(&self) -> Place {
        Place { netns: Some(self.file()), address: None }
    }

    fn file(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}
