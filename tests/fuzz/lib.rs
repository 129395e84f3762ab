//! Every parser that is given bytes by strangers, and what must hold for any of them. A target panics where something does not.
//!
//! `tests/fuzz/run` lets libFuzzer look for such bytes; `cargo test` tries the inputs in `seeds`, among them all that were ever
//! found.
#![expect(clippy::unwrap_used, reason = "a target ends at the first thing that is not as it should be")]

mod targets {
    pub(crate) mod challenge;
    pub(crate) mod config;
    pub(crate) mod credentials;
    pub(crate) mod delivery;
    pub(crate) mod digest;
    pub(crate) mod edit;
    pub(crate) mod layout;
    pub(crate) mod manifest;
    pub(crate) mod name;
    pub(crate) mod range;
    pub(crate) mod reference;
    pub(crate) mod repository;
    pub(crate) mod route;
    pub(crate) mod session;
    pub(crate) mod tag_record;
    pub(crate) mod tar_layout;
}

/// What is tried with an input; panics if something does not hold.
pub type Target = fn(&[u8]);

/// All targets by the names of their folders in `seeds`.
pub const TARGETS: [(&str, Target); 16] = [
    ("challenge", targets::challenge::target),
    ("config", targets::config::target),
    ("credentials", targets::credentials::target),
    ("delivery", targets::delivery::target),
    ("digest", targets::digest::target),
    ("edit", targets::edit::target),
    ("layout", targets::layout::target),
    ("manifest", targets::manifest::target),
    ("name", targets::name::target),
    ("range", targets::range::target),
    ("reference", targets::reference::target),
    ("repository", targets::repository::target),
    ("route", targets::route::target),
    ("session", targets::session::target),
    ("tag_record", targets::tag_record::target),
    ("tar_layout", targets::tar_layout::target),
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn seeds(name: &str) -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn every_target_holds_on_its_seeds() {
        for (name, target) in TARGETS {
            assert!(seeds(name).len() >= 4, "{name} has seeds");
            for file in seeds(name) {
                // Printed only where the target fails.
                eprintln!("tests/fuzz/run --reproduce {name} {}", file.display());
                target(&fs::read(file).unwrap());
            }
        }
    }

    proptest! {
        /// What a fuzzer does first, for those who have none: the beginning of one seed, some bytes, and the end of another.
        #[test]
        fn every_target_holds_on_pieces_of_its_seeds(
            which: Index, files: [Index; 2], cuts: [Index; 2], between in prop::collection::vec(any::<u8>(), 0..4)
        ) {
            let (name, target) = which.get(&TARGETS);
            let read = |file: &Index| fs::read(file.get(&seeds(name))).unwrap();
            let (first, second) = (read(&files[0]), read(&files[1]));
            let (begin, end) = (cuts[0].index(first.len() + 1), cuts[1].index(second.len() + 1));
            target(&[&first[..begin], &between, &second[end..]].concat());
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
