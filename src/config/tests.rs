//! Whole files: what they mean, and everything that can be wrong with them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;
use telemetry::log::Format;

use super::{Config, ConfigErrors, Flag, KEYS, Location};

mod budget;
mod promotions;

const DOCUMENTATION: &str = include_str!("../../docs/config.md");

/// Files that are there, so that no test depends on the machine's.
fn files(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("/run/secrets/hub" | "/run/secrets/s3" | "/run/secrets/git" | "/run/secrets/argocd") => Ok(b"hunter2\n".to_vec()),
        Some("/run/secrets/windows") => Ok(b" two words \r\n".to_vec()),
        Some("/run/secrets/empty") => Ok(b"\n".to_vec()),
        Some("/run/secrets/binary") => Ok(b"\xff\n".to_vec()),
        Some(path) if path.starts_with("/etc/roadstead/") => Ok(Vec::new()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn load(text: &str, env: &[(&str, &str)], flags: &[Flag]) -> Result<Config, ConfigErrors> {
    let environment: BTreeMap<String, String> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::read("r.toml", text, &environment, flags, &files)
}

fn parse(text: &str) -> Config {
    load(text, &[], &[]).unwrap()
}

fn errors(text: &str) -> Vec<String> {
    errors_with(text, &[])
}

fn errors_with(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    load(text, env, &[]).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

/// Each error begins and ends as wanted; there are as many.
fn assert_errors(found: &[String], wanted: &[(&str, &str)]) {
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (error, (start, part)) in found.iter().zip(wanted) {
        assert!(error.starts_with(start) && error.contains(part), "{error:?} is not {start:?}…{part:?}");
    }
}

#[test]
fn without_a_file_everything_has_its_default() {
    let config = Config::load(None, std::iter::empty()).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:5000");
    assert_eq!(config.server.header_timeout, Duration::from_secs(30));
    assert_eq!(config.server.drain_timeout, Duration::from_mins(5));
    assert_eq!(config.server.max_connections, 10_000);
    assert_eq!(config.server.max_manifest_size, 8 * 1024 * 1024);
    assert_eq!(config.server.max_blob_size, None);
    assert_eq!(config.storage.location, Location::Folder(PathBuf::from("./data")));
    assert_eq!(config.storage.upload_lifetime, Duration::from_hours(24));
    assert_eq!(config.log.format, Format::Text);
    assert_eq!(config.log.level, "info");
    let hub = &config.upstreams[0];
    assert_eq!(
        (hub.host.as_str(), hub.name.as_str(), hub.url.as_str()),
        ("docker.io", "docker.io", "https://registry-1.docker.io/")
    );
    assert!(hub.default && hub.root[0].matches("library/nginx") && !hub.root[0].matches("micro/app"));
    assert_eq!((hub.reserve, hub.requests_per_second), (50, 20));
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(format!("{:?}", parse("")), format!("{:?}", Config::default()));
}

#[test]
fn an_empty_list_of_upstreams_is_none() {
    assert!(parse("upstream = []").upstreams.is_empty());
}

#[test]
fn every_error_of_a_file_is_reported_with_its_line() {
    let text = r#"colour = "blue"
[server]
lisen = "127.0.0.1:5000"
listen = "localhost:5000"
idle_timeout = 30
max_manifest_size = "1MiB"
insecure_open = "yes"
[server.tls]
certificate = "/etc/roadstead/tls.crt"
[storage]
url = "s3:images/roadstead"
[log]
format = "xml"
level = "loud"
[cache]
max_size = "200GiB"
[[upstream]]
hots = "docker.io"
[[upstream]]
host = "https://ghcr.io"
url = "ftp://ghcr.io"
root = ["library/**"]
realms = [
  "a.example",
  "b.example/x",
]
"#;
    assert_errors(
        &errors(text),
        &[
            (
                "r.toml:1: colour: ",
                "remove it, or use one of `access`, `admin`, `audit`, `auth`, `git`, `hook`, `limit`, `log`, `mirror`, `promotion`, `repository`, `server`, `storage`, `trigger`, `upstream`",
            ),
            ("r.toml:3: server.lisen: ", "did you mean `listen`?"),
            ("r.toml:4: server.listen: ", "\"127.0.0.1:5000\""),
            ("r.toml:5: server.idle_timeout: ", "\"30s\""),
            ("r.toml:6: server.max_manifest_size: ", "4 MiB"),
            ("r.toml:7: server.insecure_open: ", "true or false"),
            ("r.toml:9: server.tls.key: ", "is missing"),
            ("r.toml:11: storage.url: ", "does not name a bucket"),
            ("r.toml:13: log.format: ", "\"text\" or \"json\""),
            ("r.toml:14: log.level: ", "has no level"),
            ("r.toml:15: cache: ", "is not known here"),
            ("r.toml:17: upstream.host: ", "is missing"),
            ("r.toml:18: upstream.hots: ", "did you mean `host`?"),
            ("r.toml:20: upstream.host: ", "is more than a host"),
            ("r.toml:21: upstream.url: ", "neither http: nor https:"),
            ("r.toml:22: upstream.root: ", "only the default upstream"),
            ("r.toml:25: upstream.realms: ", "is more than a host"),
        ],
    );
}

#[test]
fn an_error_of_syntax_has_its_line_and_does_not_hide_the_others() {
    let found = errors("[server]\nlisten = 127.0.0.1:5000\nidle_timeout = 30s\n\n[log]\nlevle = \"info\"\n");
    assert_errors(
        &found,
        &[("r.toml:2: is not TOML: ", "quotes"), ("r.toml:3: is not TOML: ", "quoted"), ("r.toml:6: log.levle: ", "`level`")],
    );
    assert_errors(&errors("[server\nlisten = 1\n"), &[("r.toml:1: is not TOML: ", "]")]);
    assert_errors(&errors("[log]\nlevel = \"info\"\nlevel = \"warn\"\n"), &[("r.toml:3: is not TOML: duplicate key", "")]);
    assert_errors(&errors("[log]\nlevel ="), &[("r.toml:2: is not TOML: ", "")]);
}

#[test]
fn what_a_broken_line_may_have_held_is_not_missed() {
    assert_errors(&errors("[[upstream]]\nhost = ghcr.io\n"), &[("r.toml:2: is not TOML: ", "")]);
}

#[test]
fn a_key_in_the_wrong_place_is_told_where_it_belongs() {
    assert_errors(&errors("listen = \"127.0.0.1:1\""), &[("r.toml:1: listen: ", "did you mean `listen` in `[server]`?")]);
    assert_errors(&errors("[log]\ntag_lifetime = \"5m\""), &[("r.toml:2: log.tag_lifetime: ", "`tag_lifetime` in `[upstream]`")]);
    assert_errors(&errors("[upstreams]\n"), &[("r.toml:1: upstreams: ", "did you mean `upstream`?")]);
    assert_errors(&errors("\"a\\nb\" = 1"), &[("r.toml:1: a\\nb: ", "is not known")]);
}

#[test]
fn a_section_of_the_wrong_shape_is_told_its_right_one() {
    assert_errors(&errors("server = 5000"), &[("r.toml:1: server: is an integer", "`[server]`")]);
    assert_errors(&errors("[[log]]\nlevel = \"info\""), &[("r.toml:1: log: is a list", "`[log]`")]);
    assert_errors(&errors("[server]\ntls = true"), &[("r.toml:2: server.tls: is a boolean", "`[server.tls]`")]);
    assert_errors(
        &errors("[upstream]\nhost = \"ghcr.io\"\nurll = \"\""),
        &[("r.toml:1: upstream: is a table", "`[[upstream]]`"), ("r.toml:3: upstream.urll: ", "`url`")],
    );
    assert_errors(&errors("upstream = [\n\"ghcr.io\",\n]"), &[("r.toml:2: upstream: is a list with a text", "`[[upstream]]`")]);
}

#[test]
fn beyond_loopback_the_server_listens_only_when_told_twice() {
    assert_errors(
        &errors("[server]\nlisten = \"0.0.0.0:80\""),
        &[("r.toml:2: server.listen: 0.0.0.0:80 is reachable", "insecure_open = true")],
    );
    assert!(load("[server]\nlisten = \"[::]:80\"", &[], &[]).is_err());
    assert!(parse("[server]\nlisten = \"0.0.0.0:80\"\ninsecure_open = true").server.insecure_open);
    for loopback in ["127.0.0.2:1", "[::1]:0", "[::ffff:127.0.0.1]:5000"] {
        assert!(load(&format!("[server]\nlisten = \"{loopback}\""), &[], &[]).is_ok(), "{loopback}");
    }
}

#[test]
fn the_environment_is_stronger_than_the_file_and_the_command_line_than_both() {
    let file = "[server]\nlisten = \"nonsense\"\n[log]\nformat = \"text\"\n";
    let env = [
        ("ROADSTEAD_SERVER__LISTEN", "127.0.0.1:1"),
        ("ROADSTEAD_SERVER__INSECURE_OPEN", "true"),
        ("ROADSTEAD_SERVER__MAX_CONNECTIONS", "7"),
        ("ROADSTEAD_SERVER__MAX_BLOB_SIZE", "1GB"),
        ("ROADSTEAD_SERVER__TLS__CERTIFICATE", "/etc/roadstead/tls.crt"),
        ("ROADSTEAD_SERVER__TLS__KEY", "/etc/roadstead/tls.key"),
        ("ROADSTEAD_LOG__FORMAT", "json"),
        ("ROADSTEAD_STORAGE__URL", "memory:"),
    ];
    let config = load(file, &env, &[]).unwrap();
    assert_eq!(config.server.listen.port(), 1);
    assert!(config.server.insecure_open);
    assert_eq!(config.server.max_connections, 7);
    assert_eq!(config.server.max_blob_size, Some(1_000_000_000));
    assert_eq!(config.server.tls.unwrap().settings.certificates[0].key, PathBuf::from("/etc/roadstead/tls.key"));
    assert_eq!(config.log.format, Format::Json);
    assert_eq!(config.storage.location, Location::Memory);

    let flag = Flag { name: "--listen", key: "server.listen", value: "127.0.0.1:2".to_owned() };
    assert_eq!(load(file, &env, std::slice::from_ref(&flag)).unwrap().server.listen.port(), 2);
    let wrong = Flag { value: "0.0.0.0:2".to_owned(), ..flag };
    let found = load(file, &[], &[wrong]).unwrap_err().to_string();
    assert!(found.starts_with("--listen: 0.0.0.0:2 is reachable"), "{found}");
}

#[test]
fn an_error_from_the_environment_names_the_variable() {
    let env = [
        ("ROADSTEAD_SERVER__LISTEN", ":5000"),
        ("ROADSTEAD_SERVER__IDLE_TIMEOUT", "30"),
        ("ROADSTEAD_SERVER__INSECURE_OPEN", "1"),
        ("ROADSTEAD_SERVER__TLS__KEY", "/etc/roadstead/tls.key"),
        ("ROADSTEAD_LOG__LEVLE", "info"),
        ("ROADSTEAD_LOG__LEVEL", ""),
        ("ROADSTEAD_UPSTREAM__HOST", "ghcr.io"),
        ("ROADSTEAD_X__Y", "z"),
    ];
    assert_errors(
        &errors_with("", &env),
        &[
            ("ROADSTEAD_LOG__LEVEL: is empty", ""),
            ("ROADSTEAD_LOG__LEVLE: ", "did you mean `ROADSTEAD_LOG__LEVEL`?"),
            ("ROADSTEAD_SERVER__IDLE_TIMEOUT: ", "\"30s\""),
            ("ROADSTEAD_SERVER__INSECURE_OPEN: ", "true or false"),
            ("ROADSTEAD_SERVER__LISTEN: ", "\"127.0.0.1:5000\""),
            ("ROADSTEAD_SERVER__TLS__KEY: server.tls.certificate: is missing", ""),
            ("ROADSTEAD_UPSTREAM__HOST: ", "in the file only"),
            ("ROADSTEAD_X__Y: ", "remove it"),
        ],
    );
}

#[test]
fn variables_that_a_cluster_sets_are_not_meant() {
    let env = [
        ("ROADSTEAD_PORT", "tcp://10.0.0.1:5000"),
        ("ROADSTEAD_SERVICE_HOST", "10.0.0.1"),
        ("ROADSTEAD_CONFIG", "x"),
        ("A__B", ""),
    ];
    assert!(load("", &env, &[]).is_ok());
}

#[test]
fn an_upstream_is_named_by_its_host_unless_it_has_a_name() {
    let config = parse("[[upstream]]\nhost = \"10.0.0.1:5000\"\n[[upstream]]\nhost = \"GHCR.io\"\nname = \"mirror/ghcr\"\n");
    let [local, ghcr] = config.upstreams.as_slice() else { panic!("{config:?}") };
    assert_eq!(
        (local.host.as_str(), local.name.as_str(), local.url.as_str()),
        ("10.0.0.1:5000", "10.0.0.1_5000", "https://10.0.0.1:5000/")
    );
    assert_eq!((ghcr.host.as_str(), ghcr.name.as_str(), ghcr.url.as_str()), ("ghcr.io", "mirror/ghcr", "https://ghcr.io/"));
    assert!(!local.default && local.root.is_empty() && local.credentials.is_none());
    assert_errors(&errors("[[upstream]]\nhost = \"[::1]:5000\""), &[("r.toml:2: upstream.name: is missing", "give it a `name`")]);
    assert_errors(&errors("[[upstream]]\nhost = \"ghcr.io\"\nname = \"_x\""), &[("r.toml:3: upstream.name: ", "\"_x\"")]);
}

#[test]
fn two_upstreams_that_could_be_confused_are_refused_with_both_lines() {
    let text = r#"[[upstream]]
host = "docker.io"
default = true
[[upstream]]
host = "Docker.io"
name = "hub"
default = true
[[upstream]]
host = "ghcr.io"
name = "hub"
[[upstream]]
host = "quay.io"
name = "hub/quay"
"#;
    assert_errors(
        &errors(text),
        &[
            ("r.toml:5: upstream.host: ", "the upstream of line 1"),
            ("r.toml:7: upstream.default: ", "the upstream of line 1"),
            ("r.toml:10: upstream.name: ", "the upstream of line 4"),
            ("r.toml:13: upstream.name: ", "\"hub\", the name of the upstream of line 4"),
            ("r.toml:13: upstream.name: ", "\"hub\", the name of the upstream of line 8"),
        ],
    );
}

#[test]
fn a_password_comes_from_a_file_or_a_variable_and_loses_one_line_end() {
    let upstream = |rest: &str| format!("[[upstream]]\nhost = \"docker.io\"\nusername = \"team\"\n{rest}\n");
    let password = |rest: &str| {
        let config = load(&upstream(rest), &[("HUB", " s3cret ")], &[]).unwrap();
        config.upstreams[0].credentials.as_ref().unwrap().password.expose_secret().to_owned()
    };
    assert_eq!(password("password_file = \"/run/secrets/hub\""), "hunter2");
    assert_eq!(password("password_file = \"/run/secrets/windows\""), " two words ");
    assert_eq!(password("password_env = \"HUB\""), " s3cret ");
    for (rest, part) in [
        ("", "password_file: is missing"),
        ("password_file = \"/run/secrets/none\"", "password_file: cannot be read"),
        ("password_file = \"/run/secrets/empty\"", "password_file: names a file that is empty"),
        ("password_file = \"/run/secrets/binary\"", "password_file: names a file that is not UTF-8"),
        ("password_env = \"NONE\"", "password_env: names no variable"),
        ("password_env = \"NONE\"\npassword_file = \"/run/secrets/hub\"", "password_env: names no variable"),
    ] {
        assert!(errors(&upstream(rest))[0].contains(part), "{rest:?}: {:?}", errors(&upstream(rest)));
    }
    assert_errors(
        &errors("[[upstream]]\nhost = \"a.io\"\npassword_file = \"/run/secrets/hub\""),
        &[("r.toml:3: upstream.username: is missing", "")],
    );
}

#[test]
fn a_secret_is_in_no_output() {
    let file = "[[upstream]]\nhost = \"docker.io\"\nusername = \"team\"\npassword_file = \"/run/secrets/hub\"\n";
    assert!(!format!("{:?}", parse(file)).contains("hunter2"));
    // Secrets at the wrong place, too: nothing there is repeated.
    let text = r#"[server]
external_url = "https://team:hunter2@registry.example.org"
[storage]
url = "s4://hunter2"
[[upstream]]
host = "docker.io:hunter2@x"
url = "https://team:hunter2@[docker.io"
username = "team:hunter2"
password_file = "hunter2"
password_env = "hunter2"
password = "hunter2"
token = hunter2
"#;
    let errors = load(text, &[("ROADSTEAD_UPSTREAM__PASSWORD", "hunter2")], &[]).unwrap_err();
    assert!(errors.to_string().lines().count() >= 9, "{errors}");
    assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
}

#[test]
fn times_and_sizes_are_read_with_their_units() {
    let time =
        |text: &str| load(&format!("[storage]\nupload_lifetime = {text}"), &[], &[]).map(|config| config.storage.upload_lifetime);
    assert_eq!(time("\"250ms\"").unwrap(), Duration::from_millis(250));
    assert_eq!(time("\"90m\"").unwrap(), Duration::from_mins(90));
    assert_eq!(time("\"1d\"").unwrap(), Duration::from_hours(24));
    for wrong in [
        "\"1.5h\"",
        "\"h\"",
        "\"-1s\"",
        "\"1w\"",
        "\"30\"",
        "30",
        "true",
        "\"0s\"",
        "\"\"",
        "\"99999999999999999d\"",
        "\"40000d\"",
    ] {
        assert!(time(wrong).is_err(), "{wrong}");
    }
    let size =
        |text: &str| load(&format!("[server]\nmax_blob_size = {text}"), &[], &[]).map(|config| config.server.max_blob_size);
    assert_eq!(size("\"200GiB\"").unwrap(), Some(200 << 30));
    assert_eq!(size("\"1GB\"").unwrap(), Some(1_000_000_000));
    assert_eq!(size("\"5kB\"").unwrap(), Some(5000));
    assert_eq!(size("1_000").unwrap(), Some(1000));
    assert_eq!(size("0x10").unwrap(), Some(16));
    assert_eq!(size("\"1000\"").unwrap(), Some(1000));
    for wrong in ["\"1.5GiB\"", "\"8Mi\"", "\"8 MiB\"", "-1", "0", "1.0", "\"99999999TiB\"", "\"18446744073709551616\"", "[1]"] {
        assert!(size(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_folder_is_written_in_three_ways() {
    let folder = |url: &str| load(&format!("[storage]\nurl = \"{url}\""), &[], &[]).map(|config| config.storage.location);
    assert_eq!(folder("file:data").unwrap(), Location::Folder(PathBuf::from("data")));
    assert_eq!(folder("file:/var/lib/a%20b").unwrap(), Location::Folder(PathBuf::from("/var/lib/a%20b")));
    assert_eq!(folder("file:///var/lib").unwrap(), Location::Folder(PathBuf::from("/var/lib")));
    for wrong in ["file:", "file://host/x", "./data", "memory:x", "ftp:x", "gs:b", "az://"] {
        assert!(folder(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_bucket_has_its_settings_and_nothing_else_has_them() {
    let found = |rest: &str| load(&format!("[storage]\n{rest}"), &[], &[]);
    let key = "access_key = \"A\"\nsecret_key_file = \"/run/secrets/s3\"";
    let config = found(&format!("url = \"s3://images/a/\"\nendpoint = \"http://127.0.0.1:9000\"\n{key}")).unwrap();
    let Location::Bucket(bucket) = &config.storage.location else { panic!("{config:?}") };
    assert_eq!((bucket.to_string().as_str(), bucket.endpoint.as_deref()), ("s3://images/a", Some("http://127.0.0.1:9000")));
    assert!(!bucket.single_server && !format!("{config:?}").contains("hunter2"));
    for (wrong, part) in [
        ("url = \"file:data\"\nendpoint = \"http://x\"", "of no use without a bucket"),
        ("url = \"s3://images\"\naccess_key = \"A\"", "secret_key_file: is missing"),
        ("url = \"s3://images\"\nsecret_key_file = \"/run/secrets/s3\"", "access_key: is missing"),
        ("url = \"s3://images\"\naccess_key = \"A\"\nsecret_key_file = \"/run/secrets/empty\"", "is empty"),
        ("url = \"gs://images\"\nregion = \"x\"", "a setting of s3: alone"),
        ("url = \"gs://images\"\naccess_key = \"A\"", "not what gs: asks for"),
        ("url = \"s3://images\"\nca = \"/nowhere\"", "cannot be read"),
    ] {
        let errors = found(wrong).unwrap_err().to_string();
        assert!(errors.contains(part), "{wrong}: {errors}");
    }
}

#[test]
fn a_level_is_one_or_several_by_target() {
    let level = |text: &str| load(&format!("[log]\nlevel = \"{text}\""), &[], &[]).is_ok();
    assert!(
        level("debug")
            && level("INFO")
            && level("warn,roadstead_proxy=debug")
            && level("off")
            && level("info,a[span{x=1}]=trace")
    );
    assert!(!level("inof") && !level("info,roadstead_proxy") && !level("info,") && !level("a=") && !level("a=loud"));
}

#[test]
fn what_a_file_holds_is_repeated_without_its_control_characters() {
    let found = errors(
        "[server.tls]\ncertificate = \"a\\u001b[31m\\nroadstead.toml:9: b\"\nkey = \"/etc/roadstead/key\"\n[storage]\nurl = \"a\\nb\"\n",
    );
    assert_errors(
        &found,
        &[
            ("r.toml:2: server.tls.certificate: ", "a\\u{1b}[31m\\nroadstead.toml:9: b cannot be read"),
            ("r.toml:5: ", "file:a\\nb"),
        ],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/r.toml")), std::iter::empty()).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/r.toml: there is no such file"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.toml");
    std::fs::write(&path, b"\xff\xfe").unwrap();
    let error = Config::load(Some(&path), std::iter::empty()).unwrap_err().to_string();
    assert!(error.contains("r.toml: is not UTF-8 text"), "{error}");
    std::fs::write(&path, "[server]\r\nlisten = \"127.0.0.1:7\"\r\n").unwrap();
    assert_eq!(Config::load(Some(&path), std::iter::empty()).unwrap().server.listen.port(), 7);
}

/// The fenced blocks of the documentation in that language.
fn blocks(language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    let after = DOCUMENTATION.split(start.as_str()).skip(1);
    after.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_example_of_the_documentation_is_accepted() {
    let examples = blocks("toml");
    assert!(examples.len() >= 6);
    for example in &examples {
        let loaded = load(example, &[("TEAM_PASSWORD", "x")], &[]);
        assert!(loaded.is_ok(), "{example}\n{}", loaded.unwrap_err());
    }
    let every: String = examples.concat();
    for key in KEYS {
        let last = key.rsplit('.').next().unwrap();
        assert!(every.contains(&format!("{last} = ")), "no example of {key}");
    }
}

#[test]
fn the_errors_of_the_documentation_are_the_real_ones() {
    let text =
        "[server]\nlisten = \"localhost:5000\"\nidle_timeout = 30\n\n[[upstream]]\nhots = \"ghcr.io\"\nhost = \"ghcr.io\"\n";
    let found = errors_with(text, &[("ROADSTEAD_LOG__LEVLE", "debug")]).join("\n");
    assert_eq!(found.replace("r.toml", "roadstead.toml"), blocks("text")[0].trim_end());
}

#[test]
fn the_documentation_describes_every_key_and_no_other() {
    let rows = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let described: Vec<&str> = rows.filter(|key| !key.starts_with("ROADSTEAD_")).collect();
    assert_eq!(described, KEYS);
}
