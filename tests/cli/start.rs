//! A start that cannot be: exit code 1, one line that says why and what to do.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::program::{Ended, Serving, finish, run};
use crate::support::process::{Place, run as succeed, tool};

/// Serves on a free port with its content in this folder.
fn serve_in(folder: &Path, storage: &str) -> Ended {
    let url = format!("file:{storage}");
    run(folder, &["serve", "--listen", "127.0.0.1:0"], &[("ROADSTEAD_STORAGE__URL", &url)])
}

#[test]
fn a_taken_port_is_told_and_the_store_left_alone() {
    let folder = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = run(folder.path(), &["serve", "--listen", &address], &[]);
    ended.expect_error(1, &["roadstead: ", &address, "in use", "stop the other server", "`server.listen`"]);
    assert!(!folder.path().join("data").exists(), "the store was touched");
}

#[test]
fn an_address_of_another_machine_is_told() {
    let folder = TempDir::new().unwrap();
    let open = [("ROADSTEAD_SERVER__INSECURE_OPEN", "true")];
    let ended = run(folder.path(), &["serve", "--listen", "192.0.2.1:0"], &open);
    ended.expect_error(1, &["this machine has no address 192.0.2.1", "0.0.0.0"]);
}

#[test]
fn a_folder_that_cannot_be_one_is_told() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for storage in ["file", "file/below"] {
        let parts = [&format!("cannot write to the folder {storage}:"), "make it writable", "storage.url"];
        serve_in(folder.path(), storage).expect_error(1, &parts);
    }
}

#[test]
fn a_folder_without_write_permission_is_told() {
    let folder = TempDir::new().unwrap();
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o555)).unwrap();
    for storage in ["closed", "closed/below"] {
        let url = format!("file:{storage}");
        let mut command = unprivileged();
        command.args([env!("CARGO_BIN_EXE_roadstead"), "serve", "--listen", "127.0.0.1:0"]);
        let ended = finish(&mut command, folder.path(), &[("ROADSTEAD_STORAGE__URL", &url)]);
        let refusal = format!("cannot write to the folder {storage}: Permission denied");
        ended.expect_error(1, &[&refusal, "make it writable for this user", "storage.url"]);
    }
}

/// Root may write everywhere, so it gives up that right first; others do not have it.
fn unprivileged() -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Place::default().program(&tool("setpriv"));
        command.args(["--bounding-set=-dac_override,-dac_read_search"]);
        return command;
    }
    Place::default().program(&tool("env"))
}

#[test]
fn a_second_server_on_the_same_folder_is_told_who_has_it() {
    let folder = TempDir::new().unwrap();
    let first = Serving::start(folder.path());
    let holder = format!("in use by another roadstead (process {})", first.id());
    let second = serve_in(folder.path(), "./data");
    second.expect_error(1, &["the folder ./data is ", &holder, "stop that one or set storage.url to another folder"]);
    let (status, _) = Place::default().request(&[&format!("http://{}/readyz", first.address)]).unwrap();
    assert_eq!(status, 200, "the first goes on");
}

#[test]
fn a_folder_of_another_version_is_left_alone() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/layout"), "99").unwrap();
    serve_in(folder.path(), "./data").expect_error(1, &["layout \"99\"", "use the version of roadstead that wrote it"]);
}

#[test]
fn a_folder_with_something_else_in_it_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("letter"), "dear").unwrap();
    serve_in(folder.path(), "home")
        .expect_error(1, &["the folder home is not empty", "letter", "set storage.url to an empty folder"]);
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 1, "something was added");
}

#[test]
fn tls_files_that_do_not_fit_are_told() {
    let folder = TempDir::new().unwrap();
    certificate(folder.path(), "one");
    certificate(folder.path(), "two");
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let serve = |certificate, key| {
        let environment = [("ROADSTEAD_SERVER__TLS__CERTIFICATE", certificate), ("ROADSTEAD_SERVER__TLS__KEY", key)];
        run(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &environment)
    };
    serve("absent.crt", "one.key")
        .expect_error(64, &["ROADSTEAD_SERVER__TLS__CERTIFICATE: absent.crt cannot be read", "check the path"]);
    let environment = [("ROADSTEAD_SERVER__TLS__CERTIFICATE", "empty"), ("ROADSTEAD_SERVER__TLS__KEY", "one.key")];
    run(folder.path(), &["check"], &environment).expect_error(64, &["empty holds no certificate"]);
    serve("empty", "one.key").expect_error(1, &["empty holds no certificate", "BEGIN CERTIFICATE"]);
    serve("one.crt", "empty").expect_error(1, &["empty holds no private key", "BEGIN PRIVATE KEY"]);
    serve("one.key", "one.crt").expect_error(1, &["one.key holds no certificate", "are certificate and key exchanged?"]);
    serve("one.crt", "two.key")
        .expect_error(1, &["the key two.key does not match the certificate one.crt", "must be that of the server"]);
}

/// `NAME.crt` and `NAME.key`.
fn certificate(folder: &Path, name: &str) {
    let mut openssl = Place::default().program(&tool("openssl"));
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=localhost",
    ]);
    openssl.args(["-days", "1", "-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]);
    succeed(openssl.current_dir(folder));
}
