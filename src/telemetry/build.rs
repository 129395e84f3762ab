//! What this binary is.

/// The version in `Cargo.toml`, which all rooms share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is known about this binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// [`VERSION`].
    pub version: &'static str,
    /// The Git revision, if the build had `ROADSTEAD_REVISION` in its environment.
    pub revision: Option<&'static str>,
    /// `debug` or `release`: nobody should measure the wrong one.
    pub profile: &'static str,
}

/// What is known about this binary, without asking anything at run time.
#[must_use]
pub const fn info() -> Info {
    Info {
        version: VERSION,
        revision: option_env!("ROADSTEAD_REVISION"),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
    }
}
