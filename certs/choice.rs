//! Which certificate a client is shown.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::chain::Chain;
use crate::facts::Origin;

/// The chains by the names that they are valid for.
///
/// A name is looked for among the exact ones, then among the wildcards. Of several chains for it the client is shown the first
/// whose key it can check, those that are cheap to sign with before the others. Who names no host, or an unknown one, is shown
/// the first chain of all, or the first that it can check. A placeholder is shown to those alone for whom there is no other.
#[derive(Debug)]
pub(crate) struct Choice {
    all: Vec<Arc<CertifiedKey>>,
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`.
    wildcards: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Choice {
    pub(crate) fn new(chains: &[Chain]) -> Self {
        let all = chains.iter().map(|chain| Arc::clone(&chain.certified)).collect();
        let mut choice = Self { all, exact: HashMap::new(), wildcards: HashMap::new() };
        for chain in chains.iter().filter(|chain| chain.facts.origin != Origin::Placeholder) {
            for name in &chain.facts.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut choice.wildcards, rest),
                    None => (&mut choice.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(Arc::clone(&chain.certified));
            }
        }
        for keys in choice.exact.values_mut().chain(choice.wildcards.values_mut()) {
            keys.sort_by_key(|certified| cost(certified));
        }
        choice
    }

    /// The chains for a name, the best first; rustls gives it in lower case. A wildcard stands for one label (RFC 6125, section
    /// 6.4.3).
    fn named(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wildcard).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = hello.server_name().and_then(|name| self.named(name)).unwrap_or(&self.all);
        let checks = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        match candidates {
            [only] => Some(only),
            // Without one that it can check the handshake fails, and rustls says why.
            several => several.iter().find(checks).or(several.first()),
        }
        .map(Arc::clone)
    }
}

/// A signature by RSA takes many times what one on a curve takes.
fn cost(certified: &CertifiedKey) -> u8 {
    match certified.key.algorithm() {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::RSA => 2,
        _ => 1,
    }
}
