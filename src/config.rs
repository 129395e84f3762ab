//! The configuration: one TOML file, overridden by the environment, read as a whole before anything starts.
//!
//! It is walked by hand rather than by serde, because serde stops at the first error: here every error of a file is reported
//! at once, each with its line, and what is not known is an error too. `docs/config.md` says what each key means; a test
//! holds [`KEYS`], that page and this reader together.

mod access;
mod deployers;
mod edits;
mod git;
mod hooks;
mod keys;
mod mirrors;
mod problem;
mod promotions;
mod reader;
mod root_pattern;
mod rules;
mod secrets;
mod sections;
mod spelling;
mod storage;
mod tags;
mod upstreams;
mod value;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use ::hooks::{Endpoint, Globs, InboundKind};
use auth::Htpasswd;
use mirror::Mirror;
use oci::RepositoryName;
use promotion::forge;
use promotion::rollout::{ArgoCdApi, NotifySettings};
use promotion::{Remote, Rule};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use telemetry::AuditPlace;
use telemetry::log::Format;
use url::Url;

pub use ::storage::Location;

pub use self::keys::KEYS;
pub use self::problem::ConfigErrors;
pub use self::root_pattern::{PatternError, RootPattern};
pub use self::rules::{RepositoryRule, RepositoryRules};

use self::reader::Document;

/// Everything that a server is told before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`: where and how it listens.
    pub server: Server,
    /// `[storage]`: where content is kept.
    pub storage: Storage,
    /// `[log]`: what is logged, and how it looks.
    pub log: Log,
    /// `[[upstream]]`: the registries that are pulled through, in the file's order. Docker Hub if the file names none.
    pub upstreams: Vec<Upstream>,
    /// `[admin]`: what lets operators in.
    pub admin: Admin,
    /// `[auth]`: how those who ask are known.
    pub auth: Auth,
    /// `[[access]]`: who may do what, in the file's order. `None` without any: everyone may do everything.
    pub access: Option<Vec<auth::Rule>>,
    /// `[[limit]]`: how much somebody may ask, each for those whom it is for.
    pub limits: Vec<api::Limit>,
    /// `[[repository]]`: what repositories may hold, and which tags stay where they are.
    pub repositories: RepositoryRules,
    /// `[audit]`: where it is written down what was done by whom.
    pub audit: Option<AuditPlace>,
    /// `[[mirror]]`: what is copied on a schedule, in the file's order.
    pub mirrors: Vec<Mirror>,
    /// `[git]`: how commits are made.
    pub git: Git,
    /// `[[promotion]]`: which tags go into which Git repository, in the file's order.
    pub promotions: Vec<Promotion>,
    /// `[[hook]]`: who is told of what happens here.
    pub hooks: Vec<Endpoint>,
    /// `[[trigger]]`: what a forge's webhook starts.
    pub triggers: Vec<Trigger>,
}

/// One `[[trigger]]`.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// It is listened to at `/hooks/NAME`.
    pub name: String,
    /// Who sends.
    pub forge: InboundKind,
    /// What the sender signs with.
    pub secret: SecretString,
    /// Only events of this repository, `owner/name` as the forge calls it.
    pub repository: Option<String>,
    /// Only pushes to these branches.
    pub branches: Globs,
    /// Only pushes that change one of these paths.
    pub paths: Globs,
    /// Pushed tags count too.
    pub on_tags: bool,
    /// What is started.
    pub starts: Vec<Starts>,
}

/// What a trigger starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Starts {
    /// A run of this mirror.
    Mirror(String),
    /// A look at what waits in this promotion.
    Promotion(String),
    /// Looking over what was committed to the repository of this promotion.
    Check(String),
}

/// `[git]`.
#[derive(Debug, Clone)]
pub struct Git {
    /// The program: a path, or a name.
    pub program: PathBuf,
    /// A folder for what is known of the branches; `None` for one that goes with the process.
    pub cache: Option<PathBuf>,
    /// No call of git takes longer.
    pub time_limit: Duration,
    /// How long it is tried while git fails.
    pub retry_for: Duration,
    /// How long is waited for more before a commit is made.
    pub batch: Duration,
    /// Who commits.
    pub name: String,
    /// And under which address.
    pub email: String,
    /// The file of the SSH key that signs commits.
    pub signing_key: Option<PathBuf>,
}

/// One `[[promotion]]`.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// What is promoted, where to, and when.
    pub rule: Rule,
    /// The branch; [`Rule::branch`] is its [`Remote::key`].
    pub remote: Remote,
    /// The API of the forge is used in the place of git.
    pub over_api: bool,
    /// What comes after its commits.
    pub deployer: Deployer,
}

/// Who is told of a promotion's commits, and what is watched.
#[derive(Debug, Clone, Default)]
pub struct Deployer {
    /// They are told.
    pub notifies: Vec<NotifySettings>,
    /// Where pull requests are made.
    pub forge: Option<forge::Settings>,
    /// The application that is watched.
    pub argocd: Option<ArgoCdApi>,
    /// How long it may take until what was promoted is well there.
    pub limit: Duration,
    /// Write the image before it again if it is not.
    pub rolls_back: bool,
}

/// `[admin]`.
#[derive(Debug, Clone, Default)]
pub struct Admin {
    /// The file with the token of `/api/v1/`; `None` for the default, see [`Config::token_file`].
    pub token_file: Option<PathBuf>,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// The address that is listened on.
    pub listen: SocketAddr,
    /// What clients call this server, if that is not the address they reach it by.
    pub external_url: Option<Url>,
    /// Listen beyond loopback although everyone who reaches the server may do everything.
    pub insecure_open: bool,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a connection may be silent in the middle of a transfer.
    pub idle_timeout: Duration,
    /// How long running transfers may take to finish once the server is told to stop.
    pub drain_timeout: Duration,
    /// How many connections are served at a time.
    pub max_connections: usize,
    /// The largest manifest that is accepted, in bytes.
    pub max_manifest_size: u64,
    /// The largest blob that is accepted, in bytes.
    pub max_blob_size: Option<u64>,
    /// Accept image manifests whose blobs are not here.
    pub sparse_images: bool,
    /// `[server.tls]`: plain HTTP without it.
    pub tls: Option<Tls>,
}

/// `[server.tls]`.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Certificates from files; none where they are issued.
    pub settings: certs::Settings,
    /// `[server.tls.acme]`: certificates that are issued.
    pub acme: Option<Acme>,
}

/// `[server.tls.acme]`.
#[derive(Debug, Clone)]
pub struct Acme {
    /// By whom, for which names, proven how.
    pub settings: certs::acme::Settings,
    /// A file of certificates that are trusted for the authority beside the system's roots.
    pub ca: Option<PathBuf>,
    /// Where it may ask over plain HTTP.
    pub http_listen: Option<SocketAddr>,
}

/// `[auth]`.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Accounts with passwords, from the file of `htpasswd_file`.
    pub accounts: Htpasswd,
    /// `[[auth.oidc]]`: others whose tokens are taken.
    pub issuers: Vec<Issuer>,
    /// Clients are told to fetch tokens; without it they send passwords with each request.
    pub token_flow: bool,
    /// How long an access token is taken.
    pub token_lifetime: Duration,
    /// Everybody may read `/metrics`.
    pub public_metrics: bool,
}

/// One `[[auth.oidc]]`.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// What is taken of it.
    pub provider: auth::Provider,
    /// A file of certificates that are trusted for it beside the system's roots.
    pub ca: Option<PathBuf>,
}

/// `[storage]`.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Where content is kept.
    pub location: Location,
    /// An upload session without any request for this long is dropped.
    pub upload_lifetime: Duration,
    /// A file of certificates that are trusted for a bucket beside the system's roots.
    pub ca: Option<PathBuf>,
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// How a line looks.
    pub format: Format,
    /// Which events are logged: a level, or levels by target.
    pub level: String,
}

/// One `[[upstream]]`.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// What clients call it, in lower case: `?ns=HOST`.
    pub host: String,
    /// The first component or components of the names of its repositories here.
    pub name: RepositoryName,
    /// It also answers at the root, for names that match [`root`](Self::root).
    pub default: bool,
    /// Which names it answers at the root; empty unless [`default`](Self::default).
    pub root: Vec<RootPattern>,
    /// Where it really is.
    pub url: Url,
    /// A file of certificates that are trusted for it beside the system's roots.
    pub ca: Option<PathBuf>,
    /// Who we are to it; nobody without.
    pub credentials: Option<Credentials>,
    /// Hosts, beside its own, that may ask for these credentials as its token service.
    pub realms: Vec<String>,
    /// A cached tag is checked again after this.
    pub tag_lifetime: Duration,
    /// How long it may be silent in the middle of a transfer.
    pub idle_timeout: Duration,
    /// The part of its quota, in percent, that is left to people's pulls.
    pub reserve: u8,
    /// How often background work may ask it.
    pub requests_per_second: u32,
}

/// A name and a secret; the secret is in no output.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The account's name.
    pub username: String,
    /// Its password or token.
    pub password: SecretString,
}

/// A setting from the command line, which is stronger than the environment and the file.
#[derive(Debug, Clone)]
pub struct Flag {
    /// How errors call it: `--listen`.
    pub name: &'static str,
    /// The key that it sets; one of [`KEYS`].
    pub key: &'static str,
    /// What the user typed.
    pub value: String,
}

impl Config {
    /// Reads the file at `path`, or the defaults without one, and lays the overrides of `env` over it.
    ///
    /// `env` is the whole environment: `ROADSTEAD_SECTION__KEY` overrides a key, and `password_env` names any variable.
    /// Every error is reported, not only the first.
    pub fn load(path: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        Self::load_with(path, env, &[])
    }

    /// Like [`load_with`](Self::load_with), with a mark of the content of all files that were read.
    pub(crate) fn load_marked(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[Flag],
    ) -> (Result<Self, ConfigErrors>, [u8; 32]) {
        let mark = RefCell::new(Sha256::new());
        let note = |path: &Path, read: &io::Result<Vec<u8>>| {
            let mut mark = mark.borrow_mut();
            mark.update(path.as_os_str().as_encoded_bytes());
            mark.update(read.as_ref().map_or([0; 32], |bytes| Sha256::digest(bytes).into()));
        };
        let files = |path: &Path| {
            let read = fs::read(path);
            note(path, &read);
            read
        };
        let environment: BTreeMap<String, String> = env.collect();
        let file = path.map(|path| path.display().to_string()).unwrap_or_default();
        let loaded = match path.map(files).transpose() {
            Ok(bytes) => match String::from_utf8(bytes.unwrap_or_default()) {
                Ok(text) => Self::read(&file, &text, &environment, flags, &files),
                Err(_) => {
                    Err(ConfigErrors::unreadable(&file, &io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text")))
                }
            },
            Err(error) => Err(ConfigErrors::unreadable(&file, &error)),
        };
        (loaded, mark.into_inner().finalize().into())
    }

    /// Like [`load`](Self::load), with settings of the command line over both.
    pub fn load_with(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[Flag],
    ) -> Result<Self, ConfigErrors> {
        Self::load_marked(path, env, flags).0
    }

    /// The file with the token of `/api/v1/`: in the folder where content is kept, or beside a bucket in the working directory. What is
    /// kept in memory has none unless one is named: nobody is let in.
    #[must_use]
    pub fn token_file(&self) -> Option<PathBuf> {
        const NAME: &str = "admin-token";
        match (&self.admin.token_file, &self.storage.location) {
            (Some(path), _) => Some(path.clone()),
            (None, Location::Folder(folder)) => Some(folder.join(NAME)),
            (None, Location::Bucket(_)) => Some(PathBuf::from(NAME)),
            (None, Location::Memory) => None,
        }
    }

    /// The reading itself, of a text that errors call `file`; other files, such as passwords, are fetched through `files`.
    pub fn read(
        file: &str,
        text: &str,
        environment: &BTreeMap<String, String>,
        flags: &[Flag],
        files: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, ConfigErrors> {
        let (table, syntax) = toml::de::DeTable::parse_recoverable(text);
        let mut document = Document::new(text, environment, files);
        for error in &syntax {
            let offset = error.span().map_or(text.len(), |span| span.start);
            document.report_syntax(document.place(offset), error.message());
        }
        document.override_by(flags);
        let mut root = document.root(table.get_ref());
        let upstreams = upstreams::read(&mut root);
        let git = git::git(root.section("git"));
        let promotions = promotions::read(&mut root, git.signing_key.is_some());
        let mirrors = mirrors::read(&mut root, &upstreams);
        let access = access::rules(&mut root);
        let config = Self {
            server: sections::server(root.section("server"), access.is_some()),
            storage: storage::storage(root.section("storage")),
            log: sections::log(root.section("log")),
            admin: sections::admin(root.section("admin")),
            auth: access::auth(root.section("auth"), access.is_some()),
            access,
            limits: rules::limits(&mut root),
            repositories: rules::repositories(&mut root),
            audit: rules::audit(root.section("audit")),
            git,
            hooks: hooks::read(&mut root),
            triggers: hooks::triggers(&mut root, &mirrors, &promotions),
            mirrors,
            promotions,
            upstreams,
        };
        root.finish();
        document.into_result(file, config)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            storage: Storage::default(),
            log: Log::default(),
            upstreams: vec![upstreams::docker_hub()],
            admin: Admin::default(),
            auth: Auth::default(),
            access: None,
            limits: Vec::new(),
            repositories: RepositoryRules::default(),
            audit: None,
            mirrors: Vec::new(),
            git: Git::default(),
            promotions: Vec::new(),
            hooks: Vec::new(),
            triggers: Vec::new(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)),
            external_url: None,
            insecure_open: false,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_mins(5),
            max_connections: 10_000,
            max_manifest_size: 8 << 20,
            max_blob_size: None,
            sparse_images: false,
            tls: None,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            accounts: Htpasswd::default(),
            issuers: Vec::new(),
            token_flow: true,
            token_lifetime: auth::TOKEN_LIFETIME,
            public_metrics: false,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { location: Location::Folder(PathBuf::from("./data")), upload_lifetime: Duration::from_hours(24), ca: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned() }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
