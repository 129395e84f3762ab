//! Names to addresses, without those that may not be reached.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{env, io};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use url::Url;

use crate::reach::Reach;

/// The variables in which the HTTP stack looks for proxies.
const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The system's resolver with the rules of a [`Reach`] behind it.
pub(crate) struct Resolver {
    reach: Reach,
    /// Proxies are configured by the operator and often stand on loopback; the connection goes to them by name, too.
    proxies: Arc<[String]>,
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("{0}")]
    Lookup(io::Error),
    #[error("the lookup gave no address")]
    Empty,
    #[error("{0}")]
    Forbidden(&'static str),
}

impl Resolver {
    pub(crate) fn new(reach: Reach) -> Self {
        let proxies = PROXY_VARIABLES.iter().filter_map(|name| env::var(name).ok()).filter_map(|value| proxy_host(&value));
        Self { reach, proxies: proxies.collect() }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach.clone();
        let proxies = Arc::clone(&self.proxies);
        Box::pin(async move {
            let name = name.as_str();
            let found: Vec<SocketAddr> = lookup_host((name, 0)).await.map_err(ResolveError::Lookup)?.collect();
            let is_proxy = proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(name));
            let allowed = if is_proxy { found } else { filter(&reach, name, &found)? };
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be reached; an error if there are none.
fn filter(reach: &Reach, name: &str, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, ResolveError> {
    let mut refusal = ResolveError::Empty;
    let mut allowed = Vec::with_capacity(found.len());
    for address in found {
        match reach.check_resolved(name, address.ip()) {
            Ok(()) => allowed.push(*address),
            Err(reason) => refusal = ResolveError::Forbidden(reason),
        }
    }
    if allowed.is_empty() { Err(refusal) } else { Ok(allowed) }
}

/// The host of a proxy variable, which may lack its scheme.
fn proxy_host(value: &str) -> Option<String> {
    let url = Url::parse(value).ok().filter(Url::has_host).or_else(|| Url::parse(&format!("http://{value}")).ok())?;
    url.host_str().map(str::to_owned)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn forbidden_addresses_are_left_out_and_an_empty_rest_is_an_error() {
        let reach = Reach::from_origin(&Url::parse("https://registry.example").unwrap());
        let good = SocketAddr::from(([10, 0, 0, 1], 0));
        let bad = SocketAddr::from(([169, 254, 169, 254], 0));
        assert_eq!(filter(&reach, "cdn.example", &[bad, good]).unwrap(), [good]);
        assert!(matches!(filter(&reach, "cdn.example", &[bad]), Err(ResolveError::Forbidden(_))));
        assert!(matches!(filter(&reach, "cdn.example", &[]), Err(ResolveError::Empty)));
    }

    #[test]
    fn proxies_are_recognised_with_and_without_a_scheme() {
        assert_eq!(proxy_host("http://proxy.example:3128").as_deref(), Some("proxy.example"));
        assert_eq!(proxy_host("localhost:3128").as_deref(), Some("localhost"));
        assert_eq!(proxy_host("socks5h://user:word@proxy.example").as_deref(), Some("proxy.example"));
        assert_eq!(proxy_host(""), None);
    }
}
