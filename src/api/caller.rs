//! Who sends a request, and what that lets him do.

use std::net::{IpAddr, Ipv4Addr};

use auth::{Identity, Verb};
use oci::RepositoryName;
use registry::Origin;
use server::Peer;

/// Who sends a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// `None` where there are no rules: everyone may do everything.
    identity: Option<Identity>,
    /// He has shown something: a password, a token, a certificate.
    pub(crate) has_credentials: bool,
    address: Option<IpAddr>,
}

impl Caller {
    /// Somebody on a server without rules.
    pub(crate) fn anybody(peer: Option<&Peer>) -> Self {
        Self { identity: None, has_credentials: false, address: address(peer) }
    }

    /// Somebody who was made out.
    pub(crate) fn known(identity: Identity, has_credentials: bool, peer: Option<&Peer>) -> Self {
        Self { identity: Some(identity), has_credentials, address: address(peer) }
    }

    /// Where he asks from; the address of nobody for a request that did not come over a connection.
    pub(crate) fn address(&self) -> IpAddr {
        self.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// As the audit calls him; `None` on a server without rules.
    pub(crate) fn name(&self) -> Option<String> {
        self.identity.as_ref().map(|identity| identity.principal().name().to_owned())
    }

    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// May he pull from there: by the rules, and by his token?
    pub(crate) fn may_pull(&self, name: &RepositoryName) -> bool {
        self.identity.as_ref().is_none_or(|identity| identity.verdict(Verb::Pull, name) == auth::Verdict::Allowed)
    }

    /// Is what he may less than the rules allow, by the token that he has shown?
    pub(crate) fn has_token(&self) -> bool {
        self.identity.as_ref().is_some_and(Identity::has_token)
    }

    /// May he see it, by the rules alone? A token for a listing has no repositories.
    pub(crate) fn may_see(&self, name: &RepositoryName) -> bool {
        self.identity.as_ref().is_none_or(|identity| identity.may(Verb::Pull, Some(name)))
    }

    /// As what he changes is told of.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            by: self.identity.as_ref().map(|identity| identity.principal().name().to_owned()),
            from: self.address.map(|address| address.to_string()),
        }
    }
}

fn address(peer: Option<&Peer>) -> Option<IpAddr> {
    peer.map(|peer| peer.addr().ip())
}

/// The address of a peer; that of nobody for a request that did not come over a connection.
pub(crate) fn address_of(peer: Option<&Peer>) -> IpAddr {
    address(peer).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
