//! The ways to a repository: over SSH and over HTTP, with real servers on loopback.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use promotion::{Login, Outcome, Remote};

use crate::buckets::port;
use crate::forge::{Bare, Promoter, executable, git, intent};

pub(crate) const TOKEN: &str = "t0ken-that-nobody-may-see";
const LIMIT: Duration = Duration::from_secs(30);

/// A server that ends with its test.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command, port: u16) -> Server {
    let log = tempfile::tempfile().unwrap();
    let name = command.get_program().to_owned();
    let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    let server =
        Server(server.unwrap_or_else(|error| panic!("{} is missing: run tests/tools/install ({error})", name.display())));
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return server;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("{} does not listen", name.display());
}

/// `git http-backend` behind lighttpd, for those with the token.
pub(crate) fn web(bare: &Bare) -> (Server, String) {
    let (folder, port) = (bare.folder.path(), port());
    fs::write(folder.join("users"), format!("bot:{TOKEN}\n")).unwrap();
    let config = format!(
        r#"server.modules = ("mod_alias", "mod_auth", "mod_authn_file", "mod_setenv", "mod_cgi")
server.document-root = "{0}"
server.bind = "127.0.0.1"
server.port = {port}
alias.url = ("/git" => "/usr/lib/git-core/git-http-backend")
setenv.add-environment = ("GIT_PROJECT_ROOT" => "{0}", "GIT_HTTP_EXPORT_ALL" => "1")
cgi.assign = ("" => "")
auth.backend = "plain"
auth.backend.plain.userfile = "{0}/users"
auth.require = ("/git" => ("method" => "basic", "realm" => "git", "require" => "valid-user"))
"#,
        folder.display()
    );
    fs::write(folder.join("lighttpd.conf"), config).unwrap();
    let server = start(Command::new("/usr/sbin/lighttpd").arg("-D").arg("-f").arg(folder.join("lighttpd.conf")), port);
    (server, format!("http://127.0.0.1:{port}/git/repo.git"))
}

fn basic(password: &str) -> Login {
    Login::Basic { username: "bot".to_owned(), password: password.to_owned().into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_with_a_token_that_is_in_no_list_of_processes() {
    let bare = Bare::new();
    let (_server, url) = web(&bare);
    // What each git is told that others can read, and each program that it starts.
    let (program, seen) = (bare.folder.path().join("git"), bare.folder.path().join("seen"));
    executable(
        &program,
        &format!(
            "#!/bin/sh\necho \"$@\" >> {0}\n(for i in 1 2 3 4 5 6 7 8; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >> {0}; done) &\nexec /usr/bin/git \"$@\"\n",
            seen.display()
        ),
    );
    let promoter = Promoter::new(&url, basic(TOKEN), &program, LIMIT).await;
    let outcomes = promoter.promote(&[intent("a", "v2")]).await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Committed { .. }]), "{outcomes:?}");
    assert_eq!(bare.log(), ["first", "promote v2"]);
    let seen = fs::read_to_string(&seen).unwrap();
    assert!(seen.contains("push") && seen.contains("127.0.0.1"), "{seen}");
    assert!(!seen.contains(TOKEN) && !seen.contains("Basic"), "{seen}");

    let wrong = Promoter::new(&url, basic("wrong-token"), Path::new("git"), LIMIT).await;
    let error = wrong.promote(&[intent("a", "v3")]).await.unwrap_err().to_string();
    assert!(!error.contains("wrong-token"), "{error}");
    assert!(error.contains("the token is ") && error.contains("wrong or has expired") && !error.contains("askpass"), "{error}");
    assert_eq!(bare.log().len(), 2);
}

/// An SSH server with a key of its own that lets in whoever has another.
struct Ssh {
    _server: Server,
    url: String,
    key: PathBuf,
    known_hosts: PathBuf,
}

fn ssh(bare: &Bare) -> Ssh {
    let (folder, port) = (bare.folder.path(), port());
    for key in ["host", "client"] {
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-f"];
        assert!(Command::new("ssh-keygen").args(arguments).arg(folder.join(key)).status().unwrap().success());
    }
    fs::copy(folder.join("client.pub"), folder.join("authorized")).unwrap();
    let _ = fs::create_dir_all("/run/sshd");
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
        folder.display()
    );
    fs::write(folder.join("sshd.conf"), config).unwrap();
    let server = start(Command::new("/usr/sbin/sshd").arg("-D").arg("-f").arg(folder.join("sshd.conf")), port);
    let host = fs::read_to_string(folder.join("host.pub")).unwrap();
    let known_hosts = folder.join("known hosts");
    fs::write(&known_hosts, format!("[127.0.0.1]:{port} {host}")).unwrap();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let url = format!("ssh://{}@127.0.0.1:{port}{}", user.trim(), bare.path().display());
    Ssh { _server: server, url, key: folder.join("client"), known_hosts }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_ssh_with_a_key_and_a_host_that_is_known() {
    let bare = Bare::new();
    let ssh = ssh(&bare);
    let login = |key: &Path, known_hosts: &Path| Login::Key { key: key.to_owned(), known_hosts: known_hosts.to_owned() };
    let promoter = Promoter::new(&ssh.url, login(&ssh.key, &ssh.known_hosts), Path::new("git"), LIMIT).await;
    let outcomes = promoter.promote(&[intent("a", "v2")]).await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Committed { .. }]), "{outcomes:?}");
    assert_eq!(bare.log(), ["first", "promote v2"]);

    let nobody = bare.folder.path().join("nobody");
    fs::write(&nobody, "").unwrap();
    let stranger = Promoter::new(&ssh.url, login(&ssh.key, &nobody), Path::new("git"), LIMIT).await;
    let error = stranger.promote(&[intent("a", "v3")]).await.unwrap_err().to_string();
    assert!(error.contains("Host key verification failed"), "{error}");
    let other = bare.folder.path().join("host");
    let refused = Promoter::new(&ssh.url, login(&other, &ssh.known_hosts), Path::new("git"), LIMIT).await;
    let error = refused.promote(&[intent("a", "v3")]).await.unwrap_err().to_string();
    assert!(error.contains("Permission denied"), "{error}");
    assert_eq!(bare.log().len(), 2);
}

#[tokio::test]
async fn commits_are_signed_by_a_key() {
    let bare = Bare::new();
    let key = bare.folder.path().join("signing");
    assert!(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap().success());
    let remote = Remote::new(&bare.url(), "main", Login::Nobody).unwrap();
    let mut promoter = Promoter::of(remote, Path::new("git"), LIMIT).await;
    promoter.key = Some(key.clone());
    promoter.promote(&[intent("a", "v2")]).await.unwrap();
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let allowed = bare.folder.path().join("allowed");
    fs::write(&allowed, format!("roadstead@localhost {public}")).unwrap();
    let setting = format!("gpg.ssh.allowedSignersFile={}", allowed.display());
    let shown = git(&bare.path(), &["-c", &setting, "log", "-1", "--format=%G? %GS", "main"]);
    assert_eq!(shown.trim(), "G roadstead@localhost");
}
