//! Where `tests/tools/install` puts programs.

use std::path::PathBuf;

pub(crate) fn tool(name: &str) -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let tools = std::env::var_os("ROADSTEAD_TOOLS").map_or_else(|| cache.join("roadstead/tools"), PathBuf::from);
    let path = tools.join("bin").join(name);
    assert!(path.exists(), "{name} is missing: run tests/tools/install");
    path
}
