//! Who asks, and how what says so is read again while the server runs: certificates, accounts, rules.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use auth::{Auth, Oidc, Policy, Provider, Signer};
use certs::{CertificateDer, ClientIdentity, Reloaded};
use telemetry::{Audit, AuditEntry, Clock, Metrics};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::task::TaskTracker;

use crate::config::{self, Config, ConfigErrors};

/// How often it is looked whether files have changed.
const LOOK: Duration = Duration::from_secs(30);
/// A certificate that expires within this is told of again and again.
const SOON: Duration = Duration::from_hours(14 * 24);

/// Reads the configuration again: what it says now, and a mark of all files that it was read from.
pub(crate) type Source = Box<dyn Fn() -> (Result<Config, ConfigErrors>, Mark) + Send + Sync>;

/// What tells the content of files from another content.
pub(crate) type Mark = [u8; 32];

/// The certificates of the configuration, which can be read again.
pub(crate) fn tls(config: &Config) -> Result<Option<Arc<certs::Tls>>, certs::Error> {
    let load = |tls: &config::Tls| match &tls.acme {
        Some(acme) => certs::Tls::with_acme(&tls.settings, &acme.settings.domains),
        None => certs::Tls::load(&tls.settings),
    };
    Ok(config.server.tls.as_ref().map(load).transpose()?.map(Arc::new))
}

/// The same, as connections are encrypted by it.
pub(crate) fn encryption(tls: &Arc<certs::Tls>, clock: &Arc<dyn Clock>) -> server::Tls {
    let (certificates, clock) = (Arc::clone(tls), Arc::clone(clock));
    server::Tls::new(move || certificates.config(), move |chain| name_of(chain, clock.as_ref()))
}

/// As whom rules know a client by its certificate: a URI, as SPIFFE and meshes have it, else a DNS name, else the common name.
fn name_of(chain: &[CertificateDer<'_>], clock: &dyn Clock) -> Option<String> {
    let identity: ClientIdentity = certs::identity(chain)?;
    // A session that is resumed brings the certificate of the first one.
    if !identity.is_valid_at(clock.now()) {
        return None;
    }
    preferred(identity)
}

fn preferred(identity: ClientIdentity) -> Option<String> {
    let ClientIdentity { uris, dns, common_name, .. } = identity;
    // Whoever signs may let people choose their common name: none of them is to look like a URI or a host.
    let common_name = common_name.filter(|name| !name.contains([':', '/', '.']));
    uris.into_iter().next().or_else(|| dns.into_iter().next()).or(common_name)
}

/// The issuers whose tokens are taken, each asked over a way of its own.
pub(crate) fn issuers(config: &Config, clock: &Arc<dyn Clock>, tasks: &TaskTracker) -> anyhow::Result<Oidc> {
    let mut providers: Vec<(Provider, Arc<dyn auth::Fetch>)> = Vec::new();
    for issuer in &config.auth.issuers {
        let origin = match &issuer.provider.jwks_uri {
            Some(uri) => uri.clone(),
            None => issuer.provider.issuer.parse()?,
        };
        let mut settings = outbound::Config::new(&origin);
        settings.ca.extend(issuer.ca.clone());
        providers.push((issuer.provider.clone(), Arc::new(outbound::Client::new(&settings)?)));
    }
    Ok(Oidc::new(providers, Arc::clone(clock), tasks)?)
}

/// The guard that the configuration wants, and what makes out who asks where it wants one.
pub(crate) async fn guard(
    config: &Config,
    store: &storage::Store,
    clock: &Arc<dyn Clock>,
    tasks: &TaskTracker,
) -> anyhow::Result<(api::Guard, Option<Auth>)> {
    let Some(rules) = &config.access else { return Ok((api::Guard::open(), None)) };
    let records: Arc<dyn auth::Records> = Arc::new(super::kept(store, "auth"));
    let signer = Signer::new(Arc::clone(&records), Arc::clone(clock)).await?;
    let url = config.server.external_url.as_ref();
    let auth = Auth::new(auth::Parts {
        policy: Policy::new(rules.clone()),
        accounts: config.auth.accounts.clone(),
        oidc: issuers(config, clock, tasks)?,
        signer,
        records,
        service: url.map_or_else(|| "roadstead".to_owned(), |url| url.authority().to_owned()),
        token_lifetime: config.auth.token_lifetime,
        clock: Arc::clone(clock),
    });
    let rules = api::Rules { auth: auth.clone(), has_tokens: config.auth.token_flow, public_metrics: config.auth.public_metrics };
    Ok((api::Guard::new(rules), Some(auth)))
}

/// What is read again while the server runs.
pub(crate) struct Reloading {
    pub(crate) tls: Option<Arc<certs::Tls>>,
    pub(crate) auth: Option<Auth>,
    pub(crate) audit: Audit,
    pub(crate) readiness: api::Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What was found when it was looked last, so that nothing is told twice.
#[derive(Default)]
struct Told {
    mark: Option<Mark>,
    trouble: Option<String>,
    warnings: Vec<String>,
}

impl Reloading {
    /// Looks whether files have changed, now and then and at every SIGHUP. Never returns.
    pub(crate) async fn run(self, source: Option<(Source, Mark)>) -> Infallible {
        let mut hangups = signal(SignalKind::hangup()).ok();
        let (source, mark) = source.map(|(source, mark)| (Arc::new(source), mark)).unzip();
        let mut told = Told { mark, ..Told::default() };
        loop {
            self.tell_of_certificates(&mut told);
            let asked = tokio::select! {
                () = self.clock.sleep(LOOK) => false,
                () = hangup(hangups.as_mut()) => true,
            };
            self.read_certificates(&mut told, asked).await;
            if let Some(source) = &source {
                self.read_configuration(source, &mut told, asked).await;
            }
            if let Some(auth) = &self.auth
                && let Err(error) = auth.renew().await
            {
                tracing::warn!(error = %telemetry::chain(&error), "the keys of tokens could not be looked at");
            }
        }
    }

    async fn read_certificates(&self, told: &mut Told, asked: bool) {
        let Some(tls) = self.tls.clone() else { return };
        let Ok(read) = tokio::task::spawn_blocking(move || tls.reload()).await else { return };
        match read {
            Ok(Reloaded::Unchanged) => told.trouble = None,
            Ok(Reloaded::Changed { certificates, clients }) => {
                told.trouble = None;
                self.note("done", "certificates", None);
                tracing::info!(?certificates, clients, "certificates were read again");
            }
            Err(error) => {
                let trouble = telemetry::chain(&error);
                if asked || told.trouble.as_deref() != Some(&trouble) {
                    tracing::error!(error = trouble, "certificates could not be read again; those of before go on being used");
                    told.trouble = Some(trouble);
                }
            }
        }
    }

    /// Writes down what was read again.
    fn note(&self, outcome: &'static str, what: &str, reason: Option<String>) {
        let entry = AuditEntry { event: "reload", outcome, what: Some(what.to_owned()), reason, ..AuditEntry::default() };
        self.audit.record(self.clock.now(), &entry);
    }

    /// Says in metrics and in `/readyz` how long certificates last.
    fn tell_of_certificates(&self, told: &mut Told) {
        let Some(tls) = &self.tls else { return };
        for facts in tls.certificates() {
            self.metrics.certificate_expires(&facts.path.display().to_string(), facts.not_after);
        }
        let problems = tls.problems(self.clock.now(), SOON);
        let warnings: Vec<String> = problems.iter().map(ToString::to_string).collect();
        if warnings != told.warnings {
            for warning in &warnings {
                tracing::warn!(warning, "something is wrong with the certificates");
            }
            told.warnings.clone_from(&warnings);
        }
        self.readiness.set_warnings(warnings);
    }

    /// Takes rules and accounts of a configuration that has changed; a broken one changes nothing.
    async fn read_configuration(&self, source: &Arc<Source>, told: &mut Told, asked: bool) {
        let source = Arc::clone(source);
        let Ok((config, mark)) = tokio::task::spawn_blocking(move || source()).await else { return };
        if told.mark == Some(mark) && !asked {
            return;
        }
        told.mark = Some(mark);
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                let error = error.to_string();
                tracing::error!(error, "the configuration could not be read again; that of before goes on being used");
                self.note("failed", "the configuration", Some(error));
                return;
            }
        };
        match (&self.auth, config.access) {
            (Some(auth), rules) => {
                let rules = rules.unwrap_or_default();
                self.note("done", "rules and accounts", None);
                tracing::info!(
                    rules = rules.len(),
                    accounts = config.auth.accounts.len(),
                    "rules and accounts were read again; what else has changed counts from the next start on"
                );
                auth.set_accounts(config.auth.accounts);
                auth.set_policy(Policy::new(rules));
            }
            (None, Some(_)) => tracing::warn!("the configuration has rules now, which count from the next start on"),
            (None, None) => {}
        }
    }
}

/// The next SIGHUP; never where there is nothing that could hear it.
async fn hangup(hangups: Option<&mut Signal>) {
    match hangups {
        Some(hangups) => drop(hangups.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn identity(uris: &[&str], dns: &[&str], common_name: Option<&str>) -> ClientIdentity {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ClientIdentity {
            uris: owned(uris),
            dns: owned(dns),
            common_name: common_name.map(str::to_owned),
            serial: "1".to_owned(),
            fingerprint: String::new(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_certificate_has_one_name_and_a_common_name_is_taken_for_no_other_kind() {
        let spiffe = "spiffe://cluster.local/ns/prod/sa/web";
        for (identity, name) in [
            (identity(&[spiffe], &["web.prod"], Some("web")), Some(spiffe)),
            (identity(&[], &["web.prod"], Some("web")), Some("web.prod")),
            (identity(&[], &[], Some("web")), Some("web")),
            (identity(&[], &[], Some(spiffe)), None),
            (identity(&[], &[], Some("web.prod")), None),
            (identity(&[], &[], None), None),
        ] {
            assert_eq!(preferred(identity).as_deref(), name);
        }
    }
}
