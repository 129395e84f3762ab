//! A configuration that is wrong, by file, environment and command line: exit code 64, every error, and nothing started.

use std::path::Path;

use tempfile::TempDir;

use crate::program::{Ended, run};

const WRONG: &str = r#"colour = "blue"

[server]
lisen = "127.0.0.1:5000"
idle_timeout = 30

[server.tls]
certificate = "absent.crt"

[storage]
url = "s3:images"

[[upstream]]
hots = "docker.io"
"#;

/// Writes a configuration into a folder of its own, and runs `serve` and `check` with it, which must say the same.
fn refused(text: &str) -> (TempDir, Ended) {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("r.toml"), text).unwrap();
    let check = run(folder.path(), &["check", "--config", "r.toml"], &[]);
    let serve = run(folder.path(), &["serve", "--config", "r.toml"], &[]);
    assert_eq!(check.err, serve.err);
    assert_eq!((check.code, serve.code), (Some(64), Some(64)), "{check:?}");
    assert!(!folder.path().join("data").exists(), "nothing was started");
    (folder, serve)
}

#[test]
fn every_error_of_a_file_is_told_with_its_line_and_what_to_do() {
    let (_folder, ended) = refused(WRONG);
    let errors: Vec<&str> = ended.err.lines().collect();
    let expected = [
        ("r.toml:1: colour: ", "remove it, or use one of"),
        ("r.toml:4: server.lisen: ", "did you mean `listen`?"),
        ("r.toml:5: server.idle_timeout: ", "\"30s\""),
        ("r.toml:8: server.tls.certificate: absent.crt ", "check the path and its permissions"),
        ("r.toml:8: server.tls.key: ", "name the file of the certificate's private key"),
        ("r.toml:11: storage.url: ", "write \"s3://BUCKET\""),
        ("r.toml:13: upstream.host: ", "write what clients call this registry"),
        ("r.toml:14: upstream.hots: ", "did you mean `host`?"),
    ];
    assert_eq!(errors.len(), expected.len(), "{}", ended.err);
    for (start, remedy) in expected {
        assert!(errors.iter().any(|error| error.starts_with(start) && error.contains(remedy)), "{start}{remedy}: {}", ended.err);
    }
}

#[test]
fn a_file_that_is_not_toml_is_told_with_its_line() {
    let (_folder, ended) = refused("[server\nlisten = 5\n");
    ended.expect_error(64, &["r.toml:1: is not TOML", "check the quotes, brackets and equals signs"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = TempDir::new().unwrap();
    let serve = |path| run(folder.path(), &["serve", "--config", path], &[]);
    serve("absent.toml").expect_error(64, &["absent.toml: there is no such file", "name another with --config"]);
    serve(".").expect_error(64, &[".: cannot be read", "check the path"]);
    std::fs::write(folder.path().join("binary.toml"), [0xff, 0xfe]).unwrap();
    serve("binary.toml").expect_error(64, &["binary.toml: is not UTF-8 text", "TOML"]);
    let named = run(folder.path(), &["serve"], &[("ROADSTEAD_CONFIG", "absent.toml")]);
    named.expect_error(64, &["absent.toml: there is no such file"]);
}

#[test]
fn the_environment_is_held_to_the_same_keys() {
    let folder = TempDir::new().unwrap();
    let serve = |environment| run(folder.path(), &["serve"], &[environment]);
    serve(("ROADSTEAD_LOG__LEVLE", "debug"))
        .expect_error(64, &["ROADSTEAD_LOG__LEVLE: ", "did you mean `ROADSTEAD_LOG__LEVEL`?"]);
    serve(("ROADSTEAD_SERVER__IDLE_TIMEOUT", "soon")).expect_error(64, &["ROADSTEAD_SERVER__IDLE_TIMEOUT: ", "30s"]);
    // A cluster sets this for a service of that name.
    assert_eq!(run(folder.path(), &["check"], &[("ROADSTEAD_PORT", "tcp://10.0.0.1:5000")]).code, Some(0));
}

#[test]
fn an_address_beyond_loopback_is_refused_until_the_network_is_said_to_be_closed() {
    let remedies = ["may push and delete", "listen on 127.0.0.1", "insecure_open = true"];
    let (folder, ended) = refused("[server]\nlisten = \"0.0.0.0:5000\"\n");
    ended.expect_error(64, &[&["r.toml:2: server.listen: "], remedies.as_slice()].concat());
    let flag = run(folder.path(), &["serve", "--listen", "[::]:5000"], &[]);
    flag.expect_error(64, &[&["--listen: [::]:5000"], remedies.as_slice()].concat());
    let variable = run(folder.path(), &["serve"], &[("ROADSTEAD_SERVER__LISTEN", "192.0.2.1:5000")]);
    variable.expect_error(64, &[&["ROADSTEAD_SERVER__LISTEN: 192.0.2.1:5000"], remedies.as_slice()].concat());
    let open = run(folder.path(), &["check", "--config", "r.toml"], &[("ROADSTEAD_SERVER__INSECURE_OPEN", "true")]);
    assert_eq!(open.code, Some(0), "{open:?}");
}

#[test]
fn check_says_what_would_be_served_and_no_secret() {
    let folder = TempDir::new().unwrap();
    let text = "[storage]\nurl = \"memory:\"\n[[upstream]]\nhost = \"ghcr.io\"\nusername = \"team\"\npassword_env = \"GHCR\"\n";
    std::fs::write(folder.path().join("r.toml"), text).unwrap();
    let ended = run(folder.path(), &["check", "--config", "r.toml"], &[("GHCR", "hunter2")]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    for part in ["r.toml: ok", "http://127.0.0.1:5000", "memory", "ghcr.io at https://ghcr.io/", "logged in as team"] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    assert!(!ended.out.contains("hunter2"), "{}", ended.out);
    let without = run(folder.path(), &["check", "--config", "r.toml"], &[]);
    without.expect_error(64, &["r.toml:6: upstream.password_env: names no variable", "set it to the secret"]);
}

#[test]
fn without_a_file_the_defaults_are_served() {
    let folder = TempDir::new().unwrap();
    let ended = run(folder.path(), &["check"], &[]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    for part in ["defaults: ok", "http://127.0.0.1:5000", "./data", "docker.io", "library/**"] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    assert!(!Path::new(&folder.path().join("data")).exists(), "check starts nothing");
}
