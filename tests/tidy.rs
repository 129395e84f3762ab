//! The lines of the house: who may use what, how long things may be, and which words are not used.
//!
//! Each rule is a test that fails with the places where it is broken. CONTRIBUTING.md says why there are such rules.
#![expect(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

#[path = "tidy/source.rs"]
mod source;

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::source::{functions, line_of, views, words};

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 60;

/// Every room, its folder and the rooms that it may use. `telemetry` is open to all, the root may use every room.
const ROOMS: &[(&str, &str, &[&str])] = &[
    ("oci", "src/oci", &[]),
    ("certs", "certs", &[]),
    ("telemetry", "src/telemetry", &[]),
    ("outbound", "src/outbound", &["certs"]),
    ("storage", "storage", &["oci"]),
    ("upstream", "src/upstream", &["oci", "outbound"]),
    ("proxy", "src/proxy", &["oci"]),
    ("transfer", "src/transfer", &["oci"]),
    ("builder", "src/builder", &["oci"]),
    ("jobs", "src/jobs", &[]),
    ("auth", "src/auth", &["oci", "outbound"]),
    ("server", "src/server", &[]),
    ("registry", "src/registry", &["oci", "storage"]),
    ("mirror", "src/mirror", &["oci", "transfer", "jobs"]),
    ("promotion", "src/promotion", &["oci", "jobs", "outbound"]),
    ("hooks", "src/hooks", &["oci", "jobs", "outbound"]),
    ("api", "src/api", &["oci", "registry", "auth", "server"]),
    ("admin", "src/admin", &["oci", "registry", "upstream", "proxy", "jobs", "mirror", "promotion", "hooks", "auth", "server"]),
    ("engine", "src/engine", &["oci", "builder", "auth"]),
    ("testing", "src/testing", &["oci"]),
    // Not a room of the server: a program that measures it from outside.
    ("peers", "benches/peers", &[]),
];

/// Crates that only some rooms may use, so that what they do is done in one place.
const CONFINED: &[(&[&str], &[&str])] = &[
    (&["hyper", "hyper-util"], &["server", "api", "testing", "admin", "engine", "hooks"]),
    (&["reqwest"], &["outbound"]),
    (
        &["rustls", "tokio-rustls", "rustls-native-certs", "rustls-pki-types", "webpki-roots"],
        &["certs", "server", "outbound", "testing", "peers"],
    ),
    (&["object_store"], &["storage"]),
];

/// One file of the repository.
struct File {
    /// Its path from the root, with slashes.
    path: String,
    text: String,
}

impl File {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    fn is_rust(&self) -> bool {
        self.is("rs")
    }

    fn is_script(&self) -> bool {
        self.is("sh") || self.text.starts_with("#!") && !self.is_rust()
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// `path:line` for each line of `text` that `broken` finds something in, and what it finds.
    fn lines(&self, text: &str, broken: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let found = text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, broken(line)?)));
        found.map(|(line, what)| format!("{}:{line}: {what}", self.path)).collect()
    }

    /// Like `lines`, on the code alone.
    fn code(&self, broken: impl Fn(&str) -> Option<String>) -> Vec<String> {
        if self.is_rust() { self.lines(&views(&self.text).code, broken) } else { Vec::new() }
    }
}

/// Every file that is text, but what is built or ignored.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.to_path_buf()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of the repository").path();
            let relative = path.strip_prefix(root).expect("a path below the root").to_string_lossy().replace('\\', "/");
            if matches!(relative.as_str(), ".git" | "target" | "data") || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                files.push(File { path: relative, text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

fn rust() -> impl Iterator<Item = File> {
    files().into_iter().filter(File::is_rust)
}

#[track_caller]
fn hold(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}\n  {}\n", broken.join("\n  "));
}

fn manifest(folder: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
    fs::read_to_string(&path).expect("a member's Cargo.toml").parse().expect("TOML")
}

/// The folders of the members, without the root's.
fn members() -> Vec<String> {
    let members = manifest("")["workspace"]["members"].as_array().expect("a list of members").clone();
    members.iter().map(|member| member.as_str().expect("a path").to_owned()).collect()
}

/// What a member is built from. What only its tests use is left out: a test may look at a room from above.
fn dependencies(folder: &str) -> Vec<String> {
    let manifest = manifest(folder);
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = targets.filter_map(Value::as_table).chain([&manifest]);
    let lists = tables.flat_map(|table| [table.get("dependencies"), table.get("build-dependencies")]);
    lists.flatten().filter_map(Value::as_table).flat_map(Table::keys).cloned().collect()
}

fn room(folder: &str) -> Option<&'static (&'static str, &'static str, &'static [&'static str])> {
    ROOMS.iter().find(|(_, path, _)| *path == folder)
}

#[test]
fn every_member_is_a_room() {
    // What only tries or measures the rooms is none of them.
    let tries = |folder: &str| folder.starts_with("tests/") || folder.starts_with("benches/");
    let strangers: Vec<String> = members().into_iter().filter(|folder| room(folder).is_none() && !tries(folder)).collect();
    hold("A member of the workspace is a room of the table in this file, in its folder.", &strangers);
}

#[test]
fn a_room_uses_only_the_rooms_that_it_may() {
    let mut broken = Vec::new();
    for folder in members() {
        let Some((name, _, allowed)) = room(&folder) else { continue };
        for dependency in dependencies(&folder) {
            let is_room = ROOMS.iter().any(|(room, _, _)| *room == dependency);
            let may = dependency == "telemetry" || allowed.contains(&dependency.as_str());
            if is_room && !may {
                broken.push(format!("{folder}/Cargo.toml: {name} may not use {dependency}"));
            }
        }
    }
    hold("Rooms meet only as the table says; the root wires them.", &broken);
}

#[test]
fn what_speaks_to_the_world_is_confined_to_its_rooms() {
    let mut broken = Vec::new();
    for folder in members().into_iter().chain([".".to_owned()]) {
        let name = room(&folder).map_or("the root", |(name, _, _)| name);
        for dependency in dependencies(&folder) {
            let confined = CONFINED.iter().find(|(crates, _)| crates.contains(&dependency.as_str()));
            if let Some((_, rooms)) = confined.filter(|(_, rooms)| !rooms.contains(&name)) {
                broken.push(format!("{folder}/Cargo.toml: {name} may not use {dependency}, only {}", rooms.join(", ")));
            }
        }
    }
    hold("Sockets, TLS, HTTP out and the object store each have their rooms.", &broken);
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    let folders = members().into_iter().chain([".".to_owned()]);
    let takes = |folder: &String| {
        let lints = manifest(folder);
        lints.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool) == Some(true)
    };
    let broken: Vec<String> = folders.filter(|folder| !takes(folder)).map(|folder| format!("{folder}/Cargo.toml")).collect();
    hold("Each Cargo.toml has [lints] workspace = true.", &broken);
}

#[test]
fn no_file_is_too_long() {
    let long = rust().filter(|file| file.text.lines().count() > LONGEST_FILE);
    let broken: Vec<String> = long.map(|file| format!("{}: {} lines", file.path, file.text.lines().count())).collect();
    hold("A file has at most 500 lines.", &broken);
}

#[test]
fn no_function_is_too_long() {
    let mut broken = Vec::new();
    for file in rust() {
        for function in functions(&views(&file.text).code).iter().filter(|function| function.lines > LONGEST_FUNCTION) {
            broken.push(format!("{}:{}: {} has {} lines", file.path, function.line, function.name, function.lines));
        }
    }
    hold("A function has at most 60 lines.", &broken);
}

#[test]
fn every_file_says_first_what_it_is() {
    // The modules of a test are told by the names of their tests; what joins them says what the test is about.
    let in_tests = |file: &File| file.name() == "tests.rs" || file.path.split('/').rev().skip(1).any(|part| part == "tests");
    let joins = |file: &File| file.name() == "main.rs" || file.path.matches('/').count() == 1;
    let silent = rust().filter(|file| (!in_tests(file) || joins(file)) && !file.text.starts_with("//!"));
    let broken: Vec<String> = silent.map(|file| file.path).collect();
    hold("A Rust file begins with a paragraph of //!, what it is for.", &broken);
}

#[test]
fn a_lint_is_expected_with_its_reason_and_never_allowed() {
    let broken: Vec<String> = rust()
        .flat_map(|file| {
            file.code(|line| {
                let tight = line.replace(' ', "");
                (tight.contains("#[allow(") || tight.contains("#![allow("))
                    .then(|| "use #[expect(LINT, reason = \"…\")]".to_owned())
            })
        })
        .collect();
    hold("An exception from a lint ends with its cause: #[expect], not #[allow].", &broken);
}

#[test]
fn nothing_is_left_to_do_without_an_issue() {
    let unfinished = |line: &str| {
        let (_, rest) = ["TODO", "FIXME"].iter().find_map(|word| line.split_once(word))?;
        let numbered =
            |start: &str| rest.split(start).skip(1).any(|after| after.starts_with(|letter: char| letter.is_ascii_digit()));
        (!numbered("#") && !numbered("issue ")).then(|| line.trim().to_owned())
    };
    let mut broken = Vec::new();
    for file in files() {
        broken.extend(file.code(|line| line.contains("todo!").then(|| "todo!".to_owned())));
        if file.is_rust() {
            broken.extend(file.lines(&views(&file.text).comments, unfinished));
        } else if file.is_script() || file.is("toml") {
            broken.extend(file.lines(&file.text, unfinished));
        }
    }
    hold("What is not finished names its issue, and no code stops at it.", &broken);
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["util", "utils", "common", "helper", "helpers", "misc"];
    let in_path = |path: &str| path.trim_end_matches(".rs").split('/').any(|part| drawers.contains(&part));
    let mut broken: Vec<String> = rust().map(|file| file.path).filter(|path| in_path(path)).collect();
    for file in rust() {
        let named = |line: &str| words(line).windows(2).any(|pair| pair[0] == "mod" && drawers.contains(&pair[1]));
        broken.extend(file.code(|line| named(line).then(|| line.trim().to_owned())));
    }
    hold("A module is named after what is in it.", &broken);
}

#[test]
fn no_type_is_named_after_nothing() {
    let empty = ["Manager", "Service", "Helper", "Util", "Helpers", "Utils"];
    let broken: Vec<String> = rust()
        .flat_map(|file| {
            file.code(|line| {
                let words = words(line);
                let named = words.windows(2).find(|pair| {
                    let defines = matches!(pair[0], "struct" | "enum" | "union" | "trait" | "type");
                    // An associated type of tower's Layer has this name.
                    defines && empty.iter().any(|end| pair[1].ends_with(end)) && pair != &["type", "Service"]
                });
                named.map(|pair| pair[1].to_owned())
            })
        })
        .collect();
    hold("A type is named after what it is: not Manager, Service, Helper or Util.", &broken);
}

#[test]
fn no_function_gets() {
    // The methods of object_store's trait, which its implementations cannot rename.
    let foreign = ["get_opts", "get_range", "get_ranges"];
    let broken: Vec<String> = rust()
        .flat_map(|file| {
            file.code(|line| {
                let words = words(line);
                let gets =
                    words.windows(2).find(|pair| pair[0] == "fn" && pair[1].starts_with("get_") && !foreign.contains(&pair[1]));
                gets.map(|pair| format!("fn {}", pair[1]))
            })
        })
        .collect();
    hold("What a function answers is its name, without get_ before it.", &broken);
}

#[test]
fn no_task_runs_unseen() {
    let mut broken = Vec::new();
    for file in rust() {
        // Fakes and tests end with their runtime; in the server a drain has to know every task.
        if file.path.starts_with("src/testing/")
            || file.path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches"))
        {
            continue;
        }
        let code = views(&file.text).code;
        let shipped = code.split("#[cfg(test)]\n").next().unwrap_or(&code);
        for (at, _) in shipped.match_indices("tokio::spawn(").chain(shipped.match_indices("tokio::task::spawn(")) {
            let line = line_of(shipped, at);
            // A task that a drain must not wait for says so in the comment above it.
            let above = file.text.lines().take(line - 1).collect::<Vec<&str>>();
            let comment = above.iter().rev().take_while(|line| line.trim_start().starts_with("//"));
            if !comment.into_iter().any(|line| line.contains("// Untracked: ")) {
                broken.push(format!("{}:{line}: use the tracker that the root gives", file.path));
            }
        }
    }
    hold("Work that outlives its request runs on a tracked task, which a drain waits for.", &broken);
}

#[test]
fn every_key_of_the_config_is_in_its_documentation() {
    let documentation = files().into_iter().find(|file| file.path == "docs/config.md").expect("docs/config.md").text;
    let missing = roadstead::config::KEYS.iter().filter(|key| !documentation.contains(&format!("`{key}`")));
    let broken: Vec<String> = missing.map(|key| format!("docs/config.md: {key}")).collect();
    hold("docs/config.md has every key.", &broken);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    // Taken apart here, so that this file does not break the rule.
    let homes = [concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    let broken: Vec<String> = files()
        .iter()
        .flat_map(|file| {
            file.lines(&file.text, |line| homes.iter().any(|home| line.contains(home)).then(|| line.trim().to_owned()))
        })
        .collect();
    hold("No file holds a path of somebody's machine.", &broken);
}

#[test]
fn no_script_hides_a_failure() {
    let hidden = |line: &str| {
        let tight = line.split_whitespace().collect::<Vec<&str>>().join(" ");
        [concat!("|| ", "true"), concat!("||", "true"), concat!("|| ", ":"), "set +e"]
            .iter()
            .any(|end| tight.contains(end))
            .then_some(tight)
    };
    let scripts = files().into_iter().filter(File::is_script);
    let broken: Vec<String> = scripts.flat_map(|file| file.lines(&file.text, hidden)).collect();
    hold("A script fails when one of its steps does.", &broken);
}
