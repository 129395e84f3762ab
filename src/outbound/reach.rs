//! Which addresses a remote may send us to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::error::{Error, ErrorKind};

/// What a remote may make us connect to, by a redirect or a token realm.
///
/// Never: link-local addresses, the metadata services of clouds, "this host", multicast. Loopback only if the origin itself
/// is configured there. Private networks are allowed: registries and their object stores live in them. Behind an HTTP proxy
/// names are resolved by the proxy, and only what stands in the URL can be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    loopback: bool,
    private: bool,
    /// The origin's own name, which an operator chose and which may therefore lead to loopback.
    origin: String,
}

/// Metadata and platform services at addresses that no rule for a whole network covers.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

impl Reach {
    /// What remotes may name in answers of `origin`, the URL that an operator configured.
    #[must_use]
    pub fn from_origin(origin: &Url) -> Self {
        let loopback = match origin.host() {
            Some(Host::Domain(name)) => is_localhost(name),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => is_loopback(IpAddr::V6(address)),
            None => false,
        };
        Self { loopback, private: true, origin: origin.host_str().unwrap_or_default().to_ascii_lowercase() }
    }

    /// The same without private networks.
    #[must_use]
    pub fn without_private(self) -> Self {
        Self { private: false, ..self }
    }

    /// May an answer from `from` send us to `to`?
    ///
    /// Refuses other schemes than HTTP, the step from https to http, and the addresses above where the URL spells one out;
    /// names are checked when the client resolves them.
    pub fn check(&self, from: &Url, to: &Url) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::new(ErrorKind::Forbidden, to, reason));
        match (from.scheme(), to.scheme()) {
            ("https", "http") => return refuse("an answer over https must not lead to http"),
            (_, "http" | "https") => {}
            _ => return refuse("it is not an address of the web"),
        }
        let address = match to.host() {
            Some(Host::Domain(name)) if is_localhost(name) && !self.loopback => return refuse("it is this machine itself"),
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            None => return refuse("it has no host"),
        };
        self.check_address(address, self.loopback).or_else(refuse)
    }

    /// May the name `name` lead to `address`?
    pub(crate) fn check_resolved(&self, name: &str, address: IpAddr) -> Result<(), &'static str> {
        let trusted = name.eq_ignore_ascii_case(&self.origin);
        self.check_address(address, self.loopback || trusted)
    }

    fn check_address(&self, address: IpAddr, loopback: bool) -> Result<(), &'static str> {
        if is_never_reached(address) {
            return Err("it is a link-local, metadata or reserved address");
        }
        if is_loopback(address) && !loopback {
            return Err("it is this machine itself");
        }
        if is_private(address) && !self.private {
            return Err("it is in a private network");
        }
        Ok(())
    }
}

/// Networks that are not part of the Internet; 100.64.0.0/10 is shared by a provider and its customers, and by many clusters.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(address) => address.is_unique_local() || embedded(address).is_some_and(|inner| is_private(IpAddr::V4(inner))),
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback() || embedded(address).is_some_and(|inner| inner.is_loopback()),
    }
}

fn is_never_reached(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_never_reached_v4(address),
        IpAddr::V6(address) => {
            address.is_unspecified()
                || address.is_multicast()
                || address.is_unicast_link_local()
                || METADATA_V6.contains(&address)
                || (!address.is_loopback() && embedded(address).is_some_and(is_never_reached_v4))
        }
    }
}

fn is_never_reached_v4(address: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this network"; 224.0.0.0/3 is multicast, reserved and broadcast.
    let first = address.octets()[0];
    first == 0 || first >= 224 || address.is_link_local() || METADATA_V4.contains(&address)
}

/// The IPv4 address inside a mapped, compatible, NAT64 or 6to4 address: another spelling of the same target.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(join(high, low))
        }
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn allowed(origin: &str, to: &str) -> bool {
        Reach::from_origin(&url(origin)).check(&url(origin), &url(to)).is_ok()
    }

    #[test]
    fn link_local_and_metadata_addresses_are_refused_in_every_spelling() {
        for host in [
            "169.254.169.254",
            "0xa9fea9fe",
            "2852039166",
            "169.254.1",
            "0.0.0.0",
            "0",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[::]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:a9fe:a9fe::1]",
            "[ff02::1]",
        ] {
            assert!(!allowed("http://127.0.0.1:5000", &format!("http://{host}/latest/meta-data")), "{host}");
        }
    }

    #[test]
    fn loopback_is_reached_only_from_an_origin_on_loopback() {
        for host in ["127.0.0.1", "127.8.9.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "localhost.", "a.localhost"] {
            assert!(!allowed("http://registry.example", &format!("http://{host}:1/")), "{host}");
            assert!(allowed("http://localhost:5000", &format!("http://{host}:1/")), "{host}");
        }
    }

    #[test]
    fn public_and_private_addresses_are_reached_but_not_by_a_downgrade() {
        for host in ["cdn.example", "10.0.0.1", "192.168.1.1", "[fd12::1]", "[2606:4700::1]", "8.8.8.8"] {
            assert!(allowed("https://registry.example", &format!("https://{host}/")), "{host}");
            assert!(!allowed("https://registry.example", &format!("http://{host}/")), "{host}");
            assert!(allowed("http://registry.example", &format!("http://{host}/")), "{host}");
        }
        assert!(!allowed("https://registry.example", "file:///etc/passwd"));
    }

    #[test]
    fn names_are_judged_by_what_they_resolve_to() {
        let reach = Reach::from_origin(&url("https://registry.example"));
        let (metadata, loopback) = (IpAddr::from([169, 254, 169, 254]), IpAddr::from([127, 0, 0, 1]));
        assert!(reach.check_resolved("cdn.example", metadata).is_err());
        assert!(reach.check_resolved("registry.example", metadata).is_err());
        assert!(reach.check_resolved("cdn.example", loopback).is_err());
        assert!(reach.check_resolved("Registry.example", loopback).is_ok());
        assert!(reach.check_resolved("cdn.example", IpAddr::from([10, 0, 0, 1])).is_ok());
    }

    #[test]
    fn private_networks_are_not_reached_where_that_is_not_meant() {
        let reach = Reach::from_origin(&url("https://hooks.example")).without_private();
        for address in ["10.0.0.5", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"] {
            assert!(reach.check_resolved("hooks.example", address.parse().unwrap()).is_err(), "{address}");
        }
        assert!(reach.check_resolved("hooks.example", IpAddr::from([8, 8, 8, 8])).is_ok());
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_the_address_itself(octets in any::<[u8; 4]>()) {
            let v4 = Ipv4Addr::from(octets);
            prop_assert_eq!(is_never_reached(IpAddr::V4(v4)), is_never_reached(IpAddr::V6(v4.to_ipv6_mapped())));
            prop_assert_eq!(is_loopback(IpAddr::V4(v4)), is_loopback(IpAddr::V6(v4.to_ipv6_mapped())));
        }
    }
}
