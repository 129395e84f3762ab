//! When the next certificate is ordered.

use std::time::{Duration, SystemTime};

use instant_acme::{Account, CertificateIdentifier};
use rustls::pki_types::Der;
use x509_parser::extensions::ParsedExtension;

use super::settings::Settings;
use crate::chain::{self, Chain};
use crate::facts::Facts;

/// RFC 9773, section 4.3.3: a client that gets no answer asks again after six hours.
const UNANSWERED: Duration = Duration::from_hours(6);
/// What a server may ask for.
const OFTEN: Duration = Duration::from_mins(5);
const SELDOM: Duration = Duration::from_hours(24);

/// What the server suggests for one certificate.
#[derive(Debug, Clone)]
pub(crate) struct Suggestion {
    /// When to renew it; `None` if the server does not say.
    pub(crate) at: Option<SystemTime>,
    /// By the monotonic clock; it is asked again after it.
    pub(crate) again: Duration,
}

impl Suggestion {
    /// None, for a while.
    pub(crate) fn none(now: Duration) -> Self {
        Self { at: None, again: now + UNANSWERED }
    }

    /// Asks the server (RFC 9773, section 4.1); `now` is the monotonic clock's. That there is no answer is no failure.
    pub(crate) async fn ask(account: &Account, identifier: &CertificateIdentifier<'_>, now: Duration) -> Self {
        match account.renewal_info(identifier).await {
            Ok((info, again)) => {
                let (start, end) = (SystemTime::from(info.suggested_window.start), info.suggested_window.end);
                // "Select a uniform random time within the suggested window" (section 4.2).
                let width = SystemTime::from(end).duration_since(start).unwrap_or_default();
                let at = start.checked_add(width.mul_f64(rand::random()));
                Self { at, again: now + again.clamp(OFTEN, SELDOM) }
            }
            Err(cause) => {
                tracing::debug!(%cause, "the ACME server suggests no time for the renewal");
                Self::none(now)
            }
        }
    }
}

/// When it is time to order another one.
pub(crate) fn due(facts: &Facts, settings: &Settings, suggested: Option<SystemTime>) -> SystemTime {
    let lifetime = facts.lifetime();
    let before = |left: Duration| facts.not_after.checked_sub(left).unwrap_or(facts.not_before);
    let own = before(settings.renew_before.map_or(lifetime / 3, |before| before.min(lifetime / 2)));
    match suggested {
        // Later than that nothing may go wrong any more, whatever the server thinks.
        Some(suggested) if settings.renew_before.is_none() => suggested.min(before(lifetime / 6)),
        Some(suggested) => suggested.min(own),
        None => own,
    }
}

/// How the server calls a certificate (RFC 9773, section 4.1). `None` if it does not name its authority's key.
pub(crate) fn identifier(chain: &Chain) -> Option<CertificateIdentifier<'static>> {
    let certificate = chain::parse(chain.certified.cert.first()?)?;
    let authority = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.as_ref().map(|key| key.0),
        _ => None,
    })?;
    Some(CertificateIdentifier::new(Der::from_slice(authority), Der::from_slice(certificate.raw_serial())).into_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::facts::Origin;

    const DAY: Duration = Duration::from_hours(24);

    fn at(days: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * days
    }

    fn facts() -> Facts {
        let (not_before, not_after) = (at(0), at(90));
        Facts { names: Vec::new(), not_before, not_after, issuer: String::new(), path: PathBuf::new(), origin: Origin::Acme }
    }

    fn settings(renew_before: Option<u32>) -> Settings {
        Settings { renew_before: renew_before.map(|days| DAY * days), ..Settings::new(Vec::new()) }
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left_or_as_it_is_set() {
        assert_eq!(due(&facts(), &settings(None), None), at(60));
        assert_eq!(due(&facts(), &settings(Some(10)), None), at(80));
        // A span that is too long for this server would have it renewed all the time.
        assert_eq!(due(&facts(), &settings(Some(365)), None), at(45));
    }

    #[test]
    fn the_server_may_say_when_but_not_that_it_is_too_late() {
        assert_eq!(due(&facts(), &settings(None), Some(at(3))), at(3));
        assert_eq!(due(&facts(), &settings(None), Some(at(65))), at(65));
        assert_eq!(due(&facts(), &settings(None), Some(at(89))), at(75));
        assert_eq!(due(&facts(), &settings(Some(10)), Some(at(85))), at(80));
    }
}
