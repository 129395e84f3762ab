//! What every client's test stands on: a namespace, a server with rules behind TLS, and somebody who may log in.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;
use tempfile::TempDir;

use crate::home::Home;
use crate::netns::Netns;
use crate::support::layout::Layout;
use crate::support::process::{Daemon, Place, run, tool};
use crate::support::server::Server;

/// Of those that are for documentation; here it is on the namespace's own loopback interface.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Who may everything, by which the repositories are filled.
pub(crate) const OWNER: (&str, &str) = ("owner", "owner-password");

const RULES: &str = r#"
[[access]]
who = ["anonymous"]
may = ["pull"]
repositories = ["public/**", "docker.io/**"]

[[access]]
who = ["user:owner"]
may = ["pull", "push"]
repositories = ["**"]

[[access]]
who = ["user:alice", "robot:ci", "oidc:jobs:ci", "cert:builder.example.org"]
may = ["pull", "push"]
repositories = ["team/**"]

[[access]]
who = ["user:alice", "robot:ci", "oidc:jobs:ci", "cert:builder.example.org"]
may = ["pull"]
repositories = ["base/**", "registry.test/**"]
"#;

/// How somebody logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A password with every request.
    Password,
    /// A password for tokens.
    Tokens,
    /// A token of an `OpenID` provider in the place of the password.
    Issuer,
    /// A robot's token in the place of the password.
    Robot,
}

impl Way {
    /// A stage for each of them.
    pub(crate) fn stages() -> Vec<(Self, Stage)> {
        [Self::Password, Self::Tokens, Self::Issuer, Self::Robot].map(|way| (way, Stage::new(way))).into()
    }
}

/// Settings of some tests alone.
#[derive(Default)]
pub(crate) struct More {
    /// Of `[server.tls]`.
    pub(crate) tls: String,
    /// At the end of the file.
    pub(crate) rest: String,
}

/// All of it; what is declared first ends first.
pub(crate) struct Stage {
    pub(crate) server: Server,
    _others: Vec<Daemon>,
    _netns: Netns,
    /// An image to push.
    pub(crate) image: Layout,
    /// What clients have to trust.
    pub(crate) authority: PathBuf,
    /// The name and the password of whom the rules let push to `team/**`.
    pub(crate) login: (String, String),
    home: Home,
}

impl Deref for Stage {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Stage {
    pub(crate) fn new(way: Way) -> Self {
        Self::with(way, |_, _| (None, More::default()))
    }

    /// With what is made in the directory before the server, and the settings that speak of it.
    pub(crate) fn with(way: Way, more: impl FnOnce(&Place, &Path) -> (Option<Daemon>, More)) -> Self {
        let directory = TempDir::new().expect("a directory can be made");
        let netns = Netns::new();
        let place = Place { address: Some(IpAddr::V4(ADDRESS)), ..netns.place() };
        run(place.program(&tool("ip")).args(["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]));
        let image = Layout::write(&directory.path().join("image"), "logged in");
        let made = certs::dev::make(&directory.path().join("tls"), &[ADDRESS.to_string()], SystemTime::now());
        let made = made.expect("a certificate can be made");
        let (upstream, more) = more(&place, directory.path());
        let issuer = (way == Way::Issuer).then(|| Issuer::start(&place, directory.path()));
        let settings = format!(
            "[server.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n{}\n[storage]\nurl = \"memory:\"\n[admin]\ntoken_file = \"{}\"\n\
             [auth]\ntoken_flow = {}\nhtpasswd_file = \"{}\"\n{}{RULES}{}",
            made.certificate.display(),
            made.key.display(),
            more.tls,
            directory.path().join("admin-token").display(),
            way != Way::Password,
            accounts(directory.path()).display(),
            issuer.as_ref().map_or_else(String::new, Issuer::settings),
            more.rest,
        );
        let server = Server::start(&place, &directory.path().join("server"), &settings);
        let login = match (way, &issuer) {
            (Way::Issuer, Some(issuer)) => ("oidc".to_owned(), issuer.token(&place)),
            (Way::Robot, _) => ("ci".to_owned(), robot(&place, &server, directory.path(), &made.authority)),
            _ => ("alice".to_owned(), "alice-password".to_owned()),
        };
        let others = upstream.into_iter().chain(issuer.map(|issuer| issuer.daemon)).collect();
        let (authority, home) = (made.authority, Home::new(place, directory));
        Self { server, _others: others, _netns: netns, image, authority, login, home }
    }

    /// The server's address, as image names begin.
    pub(crate) fn host(&self) -> String {
        self.server.host()
    }

    /// A full image name on the server.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// Puts the authority where a client looks for it.
    pub(crate) fn trust(&self, rest: &str) -> PathBuf {
        self.write(rest, &std::fs::read_to_string(&self.authority).expect("the authority is a file"))
    }

    /// The answer's status when the owner asks for a manifest.
    pub(crate) fn status_of(&self, repository: &str, tag: &str) -> u16 {
        let url = self.server.url(&format!("/v2/{repository}/manifests/{tag}"));
        let user = format!("{}:{}", OWNER.0, OWNER.1);
        self.place.request(&["--user", &user, "--header", "Accept: */*", &url]).expect("the server answers").0
    }
}

/// The file of accounts, of the lowest cost that there is.
fn accounts(directory: &Path) -> PathBuf {
    let line = |name: &str| format!("{name}:{}\n", bcrypt::hash(format!("{name}-password"), 4).expect("a password has a hash"));
    let file = directory.join("htpasswd");
    std::fs::write(&file, line("alice") + &line(OWNER.0)).expect("the accounts can be written");
    file
}

/// A robot's token, as operators make it.
fn robot(place: &Place, server: &Server, directory: &Path, authority: &Path) -> String {
    let mut command = place.program(Path::new(env!("CARGO_BIN_EXE_roadstead")));
    command.args(["token", "create", "ci", "--expires", "1h", "--server", &server.url("")]);
    command.arg("--ca").arg(authority).arg("--token-file").arg(directory.join("admin-token"));
    run(command.current_dir(directory)).trim().to_owned()
}

/// A real `OpenID` provider.
struct Issuer {
    daemon: Daemon,
    url: String,
}

impl Issuer {
    fn start(place: &Place, directory: &Path) -> Self {
        let mut command = place.daemon(&tool("oidc-provider"));
        let log = directory.join("issuer.log");
        let mut daemon = Daemon::start(command.args(["--audience", "registry"]), log.clone());
        let url = || std::fs::read_to_string(&log).ok()?.lines().find(|line| line.starts_with("http://")).map(str::to_owned);
        daemon.wait_until(|| url().is_some());
        Self { url: url().expect("it told its URL"), daemon }
    }

    fn settings(&self) -> String {
        format!("[[auth.oidc]]\nname = \"jobs\"\nissuer = \"{}\"\naudience = [\"registry\"]\n", self.url)
    }

    fn token(&self, place: &Place) -> String {
        let form = ["--user", "ci:ci-secret", "--data", "grant_type=client_credentials", &format!("{}/token", self.url)];
        let (status, body) = place.request(&form).expect("the issuer answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let body: Value = serde_json::from_slice(&body).expect("the issuer answers with JSON");
        body["access_token"].as_str().expect("the issuer gives a token").to_owned()
    }
}
