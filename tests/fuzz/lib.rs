//! Every parser that is given bytes by strangers, and what must hold for any of them. A target panics where something does not.
//!
//! `tests/fuzz/run` lets libFuzzer look for such bytes; `cargo test` tries the inputs in `seeds`, among them all that were ever
//! found.
#![expect(clippy::unwrap_used, reason = "a target ends at the first thing that is not as it should be")]

mod targets {
    pub(crate) mod challenge;
    pub(crate) mod config;
    pub(crate) mod digest;
    pub(crate) mod manifest;
    pub(crate) mod name;
    pub(crate) mod range;
    pub(crate) mod reference;
    pub(crate) mod route;
    pub(crate) mod session;
    pub(crate) mod tag_record;
}

/// What is tried with an input; panics if something does not hold.
pub type Target = fn(&[u8]);

/// All targets by the names of their folders in `seeds`.
pub const TARGETS: [(&str, Target); 10] = [
    ("challenge", targets::challenge::target),
    ("config", targets::config::target),
    ("digest", targets::digest::target),
    ("manifest", targets::manifest::target),
    ("name", targets::name::target),
    ("range", targets::range::target),
    ("reference", targets::reference::target),
    ("route", targets::route::target),
    ("session", targets::session::target),
    ("tag_record", targets::tag_record::target),
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_target_holds_on_its_seeds() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
        for (name, target) in TARGETS {
            let files: Vec<_> = fs::read_dir(seeds.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(files.len() >= 4, "{name} has seeds");
            for file in files {
                // Printed only where the target fails.
                eprintln!("tests/fuzz/run --reproduce {name} {}", file.display());
                target(&fs::read(file).unwrap());
            }
        }
    }

    #[test]
    fn every_folder_of_seeds_has_its_target() {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(target(name.to_str().unwrap()).is_some(), "{name:?}");
        }
    }
}
