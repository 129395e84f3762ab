//! Which clients are who they say: their authorities and what these have revoked.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::error::Error;
use crate::pem::Source;
use crate::{chain, facts, names};

/// How clients are verified.
pub(crate) struct Clients {
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
    /// When the first of the revocation lists should have been replaced.
    pub(crate) due: Option<SystemTime>,
}

impl Clients {
    /// Everyone is let in, nobody is asked.
    pub(crate) fn anyone() -> Self {
        Self { verifier: WebPkiClientVerifier::no_client_auth(), due: None }
    }

    /// Those of the authorities of `ca` but for whom `crl` revokes; without a certificate only if it is not `required`.
    ///
    /// With lists, each authority of a client's chain must have one. A list that is out of date is used all the same: to
    /// refuse every client would be worse than to miss who was revoked since.
    pub(crate) fn of(ca: &Source, crl: Option<&Source>, required: bool, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let authorities = ca.certificates()?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            let unusable = |cause: rustls::Error| Error::Unusable { path: ca.path().to_owned(), reason: cause.to_string() };
            roots.add(authority.clone()).map_err(unusable)?;
        }
        let lists = crl.map(Source::revocations).transpose()?.unwrap_or_default();
        let due = crl.map(|crl| check(crl, &lists, ca, &authorities)).transpose()?.flatten();
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).with_crls(lists);
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        // The authorities are known to be good, so what is refused here is a list.
        let blamed = crl.unwrap_or(ca).path();
        let refused =
            |cause: rustls::server::VerifierBuilderError| Error::Unusable { path: blamed.to_owned(), reason: cause.to_string() };
        Ok(Self { verifier: builder.build().map_err(refused)?, due })
    }
}

/// Each authority has a list, and each list that bears its name its signature. Returns when the first should be replaced.
fn check(
    crl: &Source,
    lists: &[CertificateRevocationListDer<'static>],
    ca: &Source,
    authorities: &[CertificateDer<'static>],
) -> Result<Option<SystemTime>, Error> {
    let unusable = |path: &Source, what: &str| Error::Unusable {
        path: path.path().to_owned(),
        reason: format!("{what} of it is malformed"),
    };
    let lists: Vec<CertificateRevocationList<'_>> = lists
        .iter()
        .map(|der| CertificateRevocationList::from_der(der).map(|(_, list)| list).map_err(|_| unusable(crl, "a revocation list")))
        .collect::<Result<_, _>>()?;
    let authorities: Vec<X509Certificate<'_>> =
        authorities.iter().map(|der| chain::parse(der).ok_or_else(|| unusable(ca, "a certificate"))).collect::<Result<_, _>>()?;
    let of = |list: &CertificateRevocationList<'_>, authority: &X509Certificate<'_>| {
        list.issuer().as_raw() == authority.subject().as_raw()
    };
    for authority in &authorities {
        if !lists.iter().any(|list| of(list, authority)) {
            return Err(Error::Unlisted { path: crl.path().to_owned(), authority: names::subject(authority) });
        }
    }
    for list in &lists {
        // An authority that has changed its key is there twice.
        let mut namesakes = authorities.iter().filter(|authority| of(list, authority)).peekable();
        if namesakes.peek().is_some() && !namesakes.any(|authority| may_have_signed(authority, list)) {
            return Err(Error::Forged { path: crl.path().to_owned(), authority: names::readable(list.issuer()) });
        }
    }
    Ok(lists.iter().filter_map(CertificateRevocationList::next_update).map(facts::time).min())
}

/// Only a signature that is wrong is held against the list; of kinds that are unknown here rustls judges at each handshake.
fn may_have_signed(authority: &X509Certificate<'_>, list: &CertificateRevocationList<'_>) -> bool {
    !matches!(list.verify_signature(authority.public_key()), Err(X509Error::SignatureVerificationError))
}
