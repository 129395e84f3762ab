//! One certificate chain and its key: whether they belong together and stand in the right order, and what they say.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::error::Error;
use crate::facts::Facts;
use crate::names;
use crate::pem::Source;

/// A chain that can be served. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) facts: Facts,
}

impl Chain {
    /// The chain of one file with the key of another; they may be the same file.
    pub(crate) fn new(certificate: &Source, key: &Source, provider: &CryptoProvider) -> Result<Self, Error> {
        let ders = certificate.certificates()?;
        let private = key.key()?;
        let unusable = |reason: String| Error::Unusable { path: certificate.path().to_owned(), reason };
        let parsed: Vec<X509Certificate<'_>> = ders
            .iter()
            .enumerate()
            .map(|(index, der)| parse(der).ok_or_else(|| unusable(format!("certificate {} of it is malformed", index + 1))))
            .collect::<Result<_, _>>()?;
        // rustls says "general" where the provider refuses a key.
        let signing = provider
            .key_provider
            .load_private_key(private)
            .map_err(|cause| Error::Unusable { path: key.path().to_owned(), reason: cause.to_string() })?;
        let own = owner(&ders, &signing).map_err(|cause| unusable(cause.to_string()))?;
        let own =
            own.ok_or_else(|| Error::Mismatch { certificate: certificate.path().to_owned(), key: key.path().to_owned() })?;
        in_order(&parsed, own, certificate)?;
        let facts = Facts::new(&parsed[own], certificate.path());
        drop(parsed);
        Ok(Self { certified: Arc::new(CertifiedKey::new(ders, signing)), facts })
    }
}

/// A certificate and nothing behind it.
pub(crate) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

/// Which certificate has the key; the first where that cannot be told.
fn owner(ders: &[CertificateDer<'static>], key: &Arc<dyn SigningKey>) -> Result<Option<usize>, rustls::Error> {
    for (index, der) in ders.iter().enumerate() {
        match CertifiedKey::new(vec![der.clone()], Arc::clone(key)).keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => return Ok(Some(index)),
            Err(rustls::Error::InconsistentKeys(_)) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

/// An issuer that is missing, or one too many, does no harm: clients find their own way, or say so. One that stands before
/// what it issued does: a part of the clients refuses that.
fn in_order(parsed: &[X509Certificate<'_>], own: usize, source: &Source) -> Result<(), Error> {
    let way = way(parsed, own);
    if own == 0 && way.is_sorted() {
        return Ok(());
    }
    let on_the_way: BTreeSet<usize> = way.iter().copied().collect();
    let others = (0..parsed.len()).filter(|index| !on_the_way.contains(index));
    let list = |order: &mut dyn Iterator<Item = usize>| {
        order.map(|index| names::subject(&parsed[index])).collect::<Vec<_>>().join(", then ")
    };
    Err(Error::Order {
        path: source.path().to_owned(),
        found: list(&mut (0..parsed.len())),
        wanted: list(&mut way.iter().copied().chain(others)),
    })
}

/// From one certificate to who issued it, and so on, as far as the file goes.
fn way(parsed: &[X509Certificate<'_>], own: usize) -> Vec<usize> {
    let mut way = vec![own];
    let mut last = own;
    while parsed[last].issuer().as_raw() != parsed[last].subject().as_raw() {
        let issued = |index: &usize| !way.contains(index) && parsed[*index].subject().as_raw() == parsed[last].issuer().as_raw();
        // Where one authority is there twice, signed by two others, the one that follows is meant.
        let Some(next) = (last + 1..parsed.len()).find(issued).or_else(|| (0..last).find(issued)) else { break };
        way.push(next);
        last = next;
    }
    way
}
