//! Names in certificates, as text that can be compared and shown.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;

/// The longest name that is taken from a certificate: that of a domain has 253 characters, a SPIFFE ID 2048 bytes.
const LONGEST: usize = 2048;

/// The subject alternative names of a certificate; without the extension none. `None` if it is malformed or there twice.
pub(crate) fn alternative<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [GeneralName<'a>]> {
    let extension = certificate.subject_alternative_name().ok()?;
    Some(extension.map_or(&[], |found| found.value.general_names.as_slice()))
}

/// A DNS name in lower case, without the dot at its end. `None` if it is none.
pub(crate) fn dns(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let bare = name.strip_prefix("*.").unwrap_or(name);
    rustls::pki_types::DnsName::try_from(bare).ok()?;
    Some(name.to_ascii_lowercase())
}

/// An address as RFC 5280 encodes it.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Text that reads as what it is: no control characters, nothing that is invisible or changes the direction.
pub(crate) fn legible(text: &str) -> bool {
    let hidden = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    !text.is_empty() && text.len() <= LONGEST && !text.chars().any(hidden)
}

/// The common name of a certificate's subject. `None` if there is none, or more than one: which is meant cannot be known.
pub(crate) fn common(name: &X509Name<'_>) -> Option<String> {
    let mut all = name.iter_common_name();
    let only = all.next().filter(|_| all.next().is_none())?;
    let text = only.as_str().ok()?;
    legible(text).then(|| text.to_owned())
}

/// How a person calls whoever bears this name.
pub(crate) fn readable(name: &X509Name<'_>) -> String {
    common(name).unwrap_or_else(|| {
        let whole = name.to_string();
        if legible(&whole) { whole } else { "a name that cannot be shown".to_owned() }
    })
}

/// How a person calls the certificate.
pub(crate) fn subject(certificate: &X509Certificate<'_>) -> String {
    let first = || {
        alternative(certificate)?.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => dns(name),
            _ => None,
        })
    };
    common(certificate.subject()).or_else(first).unwrap_or_else(|| readable(certificate.subject()))
}
