//! The server's TLS as it is now, and how it is replaced while connections go on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;

use crate::chain::Chain;
use crate::clients::Clients;
use crate::error::Error;
use crate::facts::{Facts, Origin, Problem};
use crate::pem::Source;
use crate::provider;
use crate::server::{self, Sessions};

/// A certificate chain, the server's own first, and its key: two PEM files, or one that holds both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// From which files a server's TLS is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// At least one; the first is shown to clients that name no host, or an unknown one.
    pub certificates: Vec<Pair>,
    /// The authorities whose clients are accepted. Absent: clients are not asked for certificates.
    pub client_ca: Option<PathBuf>,
    /// What these authorities have revoked; one list for each of them.
    pub client_crl: Option<PathBuf>,
    /// Whether a client must have a certificate; else it may.
    pub require_client: bool,
}

/// The TLS of a server, made from files that can be read again at any time.
///
/// A connection keeps the configuration that it began with; each new one takes that of [`Tls::config`].
pub struct Tls {
    settings: Settings,
    now: RwLock<Arc<State>>,
    /// Held while files are read, so that an older state never replaces a newer one.
    turn: Mutex<()>,
    /// Why ACME has brought nothing better, the last time.
    trouble: Mutex<Option<String>>,
}

/// What [`Tls::reload`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// Every file is as it was.
    Unchanged,
    /// New connections have what is new.
    Changed {
        /// The certificates of the pairs of which a file is different.
        certificates: Vec<PathBuf>,
        /// Whether the authorities of clients or their revocation lists are different. Then no session from before is resumed.
        clients: bool,
    },
}

/// What is served, made in one step.
struct State {
    config: Arc<ServerConfig>,
    facts: Vec<Facts>,
    sessions: Sessions,
    parts: Arc<Parts>,
    acme: Option<Chain>,
}

/// What is made of the files, all of them at once.
struct Parts {
    chains: Vec<Chain>,
    clients: Clients,
    digests: Digests,
}

/// The files, each read once.
struct Files {
    pairs: Vec<(Source, Source)>,
    client_ca: Option<Source>,
    client_crl: Option<Source>,
}

#[derive(PartialEq, Eq)]
struct Digests {
    pairs: Vec<[[u8; 32]; 2]>,
    clients: [Option<[u8; 32]>; 2],
}

impl Tls {
    /// Reads every file. Blocks; fails if one cannot be read or used, if a key can be read by every user of the machine, if
    /// certificate and key do not belong together, and if the settings contradict each other.
    pub fn load(settings: &Settings) -> Result<Self, Error> {
        if settings.certificates.is_empty() {
            return Err(Error::NoPair);
        }
        Self::new(settings, None)
    }

    /// Like [`Tls::load`], beside a certificate for `domains` that [`crate::acme::Acme`] has issued later; there may be no files
    /// then. Until it comes clients that ask for what no file is for are shown a placeholder, which [`Tls::problems`] tells of.
    pub fn with_acme(settings: &Settings, domains: &[String]) -> Result<Self, Error> {
        Self::new(settings, Some(placeholder(domains)?))
    }

    fn new(settings: &Settings, acme: Option<Chain>) -> Result<Self, Error> {
        check(settings)?;
        let parts = Parts::new(settings, &Files::read(settings)?)?;
        let state = State::new(Arc::new(parts), acme, Sessions::new()?)?;
        Ok(Self {
            settings: settings.clone(),
            now: RwLock::new(Arc::new(state)),
            turn: Mutex::new(()),
            trouble: Mutex::default(),
        })
    }

    /// Serves what ACME has issued from the next connection on. Connections go on with what they began with.
    pub(crate) fn take_from_acme(&self, chain: Chain) -> Result<(), Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.state();
        let new = State::new(Arc::clone(&old.parts), Some(chain), old.sessions.clone())?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }

    /// Why there is nothing better from ACME; `None` once there is.
    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What a connection that begins now uses. Cheap: ask for it at each connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state().config)
    }

    /// Reads every file again and, if one is different, replaces all in one step. Blocks for as long as the files take.
    ///
    /// After an error everything is as it was. That also survives a certificate and a key that are replaced one after the
    /// other: between the two they do not match, and the next call finds them well.
    pub fn reload(&self) -> Result<Reloaded, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.state();
        let files = Files::read(&self.settings)?;
        let digests = files.digests();
        let before = &old.parts.digests;
        if digests == *before {
            return Ok(Reloaded::Unchanged);
        }
        let clients = digests.clients != before.clients;
        let pairs = self.settings.certificates.iter().zip(digests.pairs.iter().zip(&before.pairs));
        let certificates = pairs.filter(|(_, (new, old))| new != old).map(|(pair, _)| pair.certificate.clone()).collect();
        // A session brings the client's certificate with it, and nobody verifies it again.
        let sessions = if clients { Sessions::new()? } else { old.sessions.clone() };
        let parts = Arc::new(Parts::new(&self.settings, &files)?);
        let new = Arc::new(State::new(parts, old.acme.clone(), sessions)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(Reloaded::Changed { certificates, clients })
    }

    /// What each certificate says, in the order of the settings; that of ACME comes last.
    #[must_use]
    pub fn certificates(&self) -> Vec<Facts> {
        self.state().facts.clone()
    }

    /// What is wrong with what is served at `now`, though it can be served; to expire within `soon` counts.
    #[must_use]
    pub fn problems(&self, now: SystemTime, soon: Duration) -> Vec<Problem> {
        let state = self.state();
        let lists = state.parts.clients.due.filter(|due| *due < now).zip(self.settings.client_crl.clone());
        let outdated = lists.map(|(at, path)| Problem::OutdatedRevocations { path, at });
        let trouble = || self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let problem = |facts: &Facts| match facts.origin {
            Origin::File => facts.problem(now, soon),
            Origin::Acme | Origin::Placeholder => facts.problem_of_acme(now, soon, trouble()),
        };
        state.facts.iter().filter_map(problem).chain(outdated).collect()
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl State {
    fn new(parts: Arc<Parts>, acme: Option<Chain>, sessions: Sessions) -> Result<Self, Error> {
        let chains: Vec<Chain> = parts.chains.iter().chain(&acme).cloned().collect();
        let config = server::config(&chains, Arc::clone(&parts.clients.verifier), &sessions, &provider())?;
        let facts = chains.into_iter().map(|chain| chain.facts).collect();
        Ok(Self { config, facts, sessions, parts, acme })
    }
}

impl Parts {
    fn new(settings: &Settings, files: &Files) -> Result<Self, Error> {
        let provider = provider();
        let chain = |(certificate, key): &(Source, Source)| Chain::new(certificate, key, &provider);
        let chains = files.pairs.iter().map(chain).collect::<Result<_, _>>()?;
        let clients = match &files.client_ca {
            Some(ca) => Clients::of(ca, files.client_crl.as_ref(), settings.require_client, &provider)?,
            None => Clients::anyone(),
        };
        Ok(Self { chains, clients, digests: files.digests() })
    }
}

impl Files {
    fn read(settings: &Settings) -> Result<Self, Error> {
        let pair = |pair: &Pair| Ok((Source::read(&pair.certificate)?, Source::read_private(&pair.key)?));
        Ok(Self {
            pairs: settings.certificates.iter().map(pair).collect::<Result<_, _>>()?,
            client_ca: settings.client_ca.as_deref().map(Source::read).transpose()?,
            client_crl: settings.client_crl.as_deref().map(Source::read).transpose()?,
        })
    }

    fn digests(&self) -> Digests {
        Digests {
            pairs: self.pairs.iter().map(|(certificate, key)| [certificate.digest(), key.digest()]).collect(),
            clients: [&self.client_ca, &self.client_crl].map(|file| file.as_ref().map(Source::digest)),
        }
    }
}

/// What nobody trusts: it keeps the port open, and an ACME server can meet its challenge there.
fn placeholder(domains: &[String]) -> Result<Chain, Error> {
    let mut params = rcgen::CertificateParams::new(domains).map_err(Error::Making)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "roadstead placeholder");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(Error::Making)?;
    let certificate = params.self_signed(&key).map_err(Error::Making)?;
    let name = Path::new("the placeholder");
    let certificate = Source::of(name, certificate.pem().as_bytes());
    let mut chain = Chain::new(&certificate, &Source::of(name, key.serialize_pem().as_bytes()), &provider())?;
    chain.facts.origin = Origin::Placeholder;
    Ok(chain)
}

/// What can be seen to be wrong before a file is read.
fn check(settings: &Settings) -> Result<(), Error> {
    let setting = match (&settings.client_ca, &settings.client_crl, settings.require_client) {
        (None, Some(_), _) => "client_crl",
        (None, None, true) => "require_client",
        _ => return Ok(()),
    };
    Err(Error::NoClientCa { setting })
}
