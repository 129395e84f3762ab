//! What an operator wants to know of the certificates, and what is wrong with them today.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use crate::names;

/// What the server's own certificate of a chain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The DNS names and addresses that it is valid for, in its order.
    pub names: Vec<String>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
    /// Who issued it.
    pub issuer: String,
    /// The file that it was read from; what is in no file has a name here that tells it apart.
    pub path: PathBuf,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// From a file, for which somebody else cares.
    #[default]
    File,
    /// From an ACME server, as [`crate::acme`] had it issued.
    Acme,
    /// Signed by itself, until the ACME server has issued the first one.
    Placeholder,
}

/// What makes clients refuse this server, or will soon. It can be served all the same, so it is no [`crate::Error`]: an expired
/// certificate is worth more than none. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The certificate's time has not come.
    #[error("the certificate {path} is valid only from {from}: check this machine's clock, or wait", path = .path.display(), from = shown(*.from))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// From when it is valid.
        from: SystemTime,
    },
    /// The certificate's time is over.
    #[error("the certificate {path} expired at {at}: put a new one there, it is read without a restart", path = .path.display(), at = shown(*.at))]
    Expired {
        /// The file.
        path: PathBuf,
        /// Since when.
        at: SystemTime,
    },
    /// The certificate's time ends within the span that was asked for.
    #[error("the certificate {path} expires at {at}: renew it, it is read without a restart", path = .path.display(), at = shown(*.at))]
    ExpiresSoon {
        /// The file.
        path: PathBuf,
        /// When.
        at: SystemTime,
    },
    /// The certificate has no subject alternative name.
    #[error(
        "the certificate {path} names no host: clients look at subject alternative names alone, not at the common name; have it \
         issued with them",
        path = .path.display()
    )]
    Nameless {
        /// The file.
        path: PathBuf,
    },
    /// The ACME server has issued none yet.
    #[error("there is no certificate of {names} yet: clients are shown one that they cannot trust{}", because(.reason.as_deref()))]
    Placeholder {
        /// For which names.
        names: String,
        /// Why the last attempt to have one issued failed, if there was one.
        reason: Option<String>,
    },
    /// The ACME server should have issued a newer one by now.
    #[error("the certificate of {names} by ACME ends at {at} and is not renewed{}", because(.reason.as_deref()), at = shown(*.at))]
    NotRenewed {
        /// For which names.
        names: String,
        /// When it expires, or has expired.
        at: SystemTime,
        /// Why the last attempt to renew it failed, if there was one.
        reason: Option<String>,
    },
    /// A newer revocation list should be there.
    #[error(
        "a revocation list of {path} should have been replaced by {at}: whoever was revoked since is still accepted; fetch the new \
         one, it is read without a restart",
        path = .path.display(),
        at = shown(*.at)
    )]
    OutdatedRevocations {
        /// The file.
        path: PathBuf,
        /// When the next list was due.
        at: SystemTime,
    },
}

impl Facts {
    pub(crate) fn new(certificate: &X509Certificate<'_>, path: &Path) -> Self {
        let alternative = names::alternative(certificate).unwrap_or_default();
        let names = alternative.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => names::dns(name),
            GeneralName::IPAddress(bytes) => names::address(bytes).map(|address| address.to_string()),
            _ => None,
        });
        Self {
            names: names.collect(),
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
            issuer: names::readable(certificate.issuer()),
            path: path.to_owned(),
            origin: Origin::File,
        }
    }

    /// How long the certificate is valid in all.
    pub(crate) fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }

    /// Like `problem`, of a certificate that ACME cares for; `reason` says why it has not.
    pub(crate) fn problem_of_acme(&self, now: SystemTime, soon: Duration, reason: Option<String>) -> Option<Problem> {
        let names = self.names.join(", ");
        if self.origin == Origin::Placeholder {
            return Some(Problem::Placeholder { names, reason });
        }
        // Where a third is left it is renewed: what lives for days only would expire soon all the time.
        match self.problem(now, soon.min(self.lifetime() / 4))? {
            Problem::Expired { at, .. } | Problem::ExpiresSoon { at, .. } => Some(Problem::NotRenewed { names, at, reason }),
            other => Some(other),
        }
    }

    /// What is wrong with the certificate at `now`, the worst first; to expire within `soon` counts.
    #[must_use]
    pub fn problem(&self, now: SystemTime, soon: Duration) -> Option<Problem> {
        let path = self.path.clone();
        if now > self.not_after {
            Some(Problem::Expired { path, at: self.not_after })
        } else if now < self.not_before {
            Some(Problem::NotYetValid { path, from: self.not_before })
        } else if self.names.is_empty() {
            Some(Problem::Nameless { path })
        } else if self.not_after.duration_since(now).is_ok_and(|left| left < soon) {
            Some(Problem::ExpiresSoon { path, at: self.not_after })
        } else {
            None
        }
    }
}

/// A certificate can name any year from 0 to 9999, which a `SystemTime` can hold on Linux.
pub(crate) fn time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let span = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(span) } else { SystemTime::UNIX_EPOCH.checked_add(span) };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!("; the last attempt: {reason}"))
}

fn shown(time: SystemTime) -> String {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs()).ok().map(|seconds| -seconds),
    };
    let shown = seconds.and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    shown.map_or_else(|| "a time that cannot be shown".to_owned(), |time| time.to_string())
}
