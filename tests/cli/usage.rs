//! What is asked for on the command line.

use tempfile::TempDir;

use crate::program::run;

#[test]
fn a_command_that_is_not_one_is_a_usage_error() {
    let folder = TempDir::new().unwrap();
    for (arguments, told) in [
        ([].as_slice(), "Usage: roadstead <COMMAND>"),
        (&["sevre"], "a similar subcommand exists: 'serve'"),
        (&["serve", "--conifg", "r.toml"], "a similar argument exists: '--config'"),
        (&["check", "--listen", "127.0.0.1:0"], "unexpected argument '--listen'"),
        (&["serve", "--config"], "a value is required"),
    ] {
        let ended = run(folder.path(), arguments, &[]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(told), "{arguments:?}: {}", ended.err);
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing was started");
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let folder = TempDir::new().unwrap();
    let ended = run(folder.path(), &["--help"], &[]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    for part in ["serve", "check", "version", "0 done, 1 failed, 2 usage, 64 bad config"] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
}

#[test]
fn the_version_is_told_in_both_ways() {
    let folder = TempDir::new().unwrap();
    let expected = format!("roadstead {}", env!("CARGO_PKG_VERSION"));
    for arguments in [["version"], ["--version"]] {
        let ended = run(folder.path(), &arguments, &[]);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.out.starts_with(&expected), "{}", ended.out);
    }
}
