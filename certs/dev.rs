//! An authority of one's own and a certificate of it, to begin with: on a desk, in a laboratory, in a test.

mod trust;

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::pem::Source;
use crate::{chain, facts, names};

const AUTHORITY_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// Apple's clients accept nothing above 398 days.
const SERVER_LIFE: Duration = Duration::from_hours(397 * 24);
/// The clocks of the machines that will look at it may be slow.
const BACKDATED: Duration = Duration::from_hours(1);
/// What a common name may have at most (RFC 5280, appendix A.1).
const LONGEST_COMMON_NAME: usize = 64;

/// Where an authority and its server's certificate are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The authority's certificate: what clients have to trust.
    pub authority: PathBuf,
    /// The server's certificate, followed by the authority's.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// Whether the authority is new; else the one of the folder has signed.
    pub is_new_authority: bool,
    /// The SHA-256 of the authority's certificate, in hexadecimal, for comparing on the client.
    pub fingerprint: String,
    /// Until when the server's certificate is valid.
    pub not_after: SystemTime,
}

/// Makes a certificate for `names` (DNS names, wildcards, addresses) that is valid from `now`, in `folder`: `ca.pem`, `ca.key`,
/// `server.pem`, `server.key`. The keys are for their owner alone. Each file is there whole or as it was.
///
/// An authority that is in the folder already signs again, so that who trusts it trusts the new certificate too. Blocks. Fails
/// if a name is none, if the authority cannot sign, and if the folder cannot be written.
pub fn make(folder: &Path, names: &[String], now: SystemTime) -> Result<Made, Error> {
    let names = alternative(names)?;
    // Of two that begin at once the second waits: else the key of one could meet the certificate of the other.
    let _turn = turn(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
    let (authority, is_new_authority) = Authority::open_or_make(folder, now)?;

    let not_before = now.checked_sub(BACKDATED).unwrap_or(SystemTime::UNIX_EPOCH);
    let not_after = authority.not_after.min(not_before + SERVER_LIFE);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Making)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&names);
    params.subject_alt_names = names;
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &authority.issuer).map_err(Error::Making)?;

    let made = Made {
        authority: folder.join("ca.pem"),
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
        is_new_authority,
        fingerprint: hex::encode(Sha256::digest(&authority.certificate)),
        not_after,
    };
    write(&made.key, &key.serialize_pem(), 0o600)?;
    write(&made.certificate, &format!("{}{}", certificate.pem(), authority.pem), 0o644)?;
    Ok(made)
}

/// Who signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    not_after: SystemTime,
}

impl Authority {
    fn open_or_make(folder: &Path, now: SystemTime) -> Result<(Self, bool), Error> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        match (certificate.exists(), key.exists()) {
            (true, true) => Ok((Self::open(&certificate, &key, now)?, false)),
            (false, false) => Ok((Self::make(&certificate, &key, now)?, true)),
            (is_there, _) => {
                let missing = if is_there { "ca.key" } else { "ca.pem" };
                let reason = format!("{missing} is missing beside it; bring it back, or remove this one too for a new authority");
                Err(Error::Authority { path: if is_there { certificate } else { key }, reason })
            }
        }
    }

    fn open(path: &Path, key: &Path, now: SystemTime) -> Result<Self, Error> {
        let unusable = |what: &str| Error::Authority {
            path: path.to_owned(),
            reason: format!("{what}; remove ca.pem and ca.key for a new authority, which clients have to trust anew"),
        };
        let certificate = Source::read(path)?.certificates()?.swap_remove(0);
        let parsed = chain::parse(&certificate).ok_or_else(|| unusable("it is malformed"))?;
        if !parsed.is_ca() {
            return Err(unusable("it is no authority"));
        }
        let not_after = facts::time(parsed.validity().not_after);
        if not_after <= now {
            return Err(unusable("it has expired"));
        }
        let pair = Source::read_private(key)?.key()?;
        let pair = KeyPair::try_from(&pair).map_err(|_| unusable("its key is of an unknown kind"))?;
        if pair.subject_public_key_info() != parsed.public_key().raw {
            return Err(Error::Mismatch { certificate: path.to_owned(), key: key.to_owned() });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(|_| unusable("it is of an unknown kind"))?;
        let pem = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Ok(Self { issuer, certificate, pem, not_after })
    }

    fn make(path: &Path, key: &Path, now: SystemTime) -> Result<Self, Error> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Making)?;
        let not_before = now.checked_sub(BACKDATED).unwrap_or(SystemTime::UNIX_EPOCH);
        let not_after = not_before + AUTHORITY_LIFE;
        let mut params = CertificateParams::default();
        // Two authorities of one name but different keys confuse the stores that look them up by name.
        let mark = hex::encode(&Sha256::digest(pair.public_key_raw())[..4]);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Roadstead development authority {mark}"));
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&pair).map_err(Error::Making)?;
        write(key, &pair.serialize_pem(), 0o600)?;
        write(path, &certificate.pem(), 0o644)?;
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Ok(Self { issuer: Issuer::new(params, pair), certificate: der, pem, not_after })
    }
}

/// The names as a certificate bears them.
fn alternative(given: &[String]) -> Result<Vec<SanType>, Error> {
    if given.is_empty() {
        return Err(Error::Name { name: String::new(), reason: "give at least one, as registry.example.org or 10.0.0.5" });
    }
    given.iter().map(|name| one(name).map_err(|reason| Error::Name { name: name.clone(), reason })).collect()
}

fn one(name: &str) -> Result<SanType, &'static str> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    if name.contains("://") || name.contains('/') {
        return Err("give the host alone, without scheme and path");
    }
    if name.contains(':') {
        return Err("give the host alone: a certificate is for all its ports");
    }
    let valid = names::dns(name).ok_or("a DNS name of letters, digits and hyphens, or an address, is needed")?;
    Ok(SanType::DnsName(valid.try_into().map_err(|_| "it is not ASCII; give its form that begins with xn--")?))
}

/// The first name that fits, for those who show certificates by their subject; clients look at the alternative names.
fn common_name(names: &[SanType]) -> DistinguishedName {
    let text = |name: &SanType| match name {
        SanType::DnsName(name) => Some(name.to_string()),
        SanType::IpAddress(address) => Some(address.to_string()),
        _ => None,
    };
    let mut subject = DistinguishedName::new();
    let fits = names.iter().filter_map(text).find(|name| name.len() <= LONGEST_COMMON_NAME);
    subject.push(DnType::CommonName, fits.unwrap_or_else(|| "roadstead".to_owned()));
    subject
}

/// Makes the folder, and holds it until what is returned is dropped.
fn turn(folder: &Path) -> io::Result<fs::File> {
    fs::create_dir_all(folder)?;
    let turn = fs::File::open(folder)?;
    turn.lock()?;
    Ok(turn)
}

/// Replaces the file in one step.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    replace(path, text, mode).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let folder = folder(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|cause| cause.error)?;
    fs::File::open(folder)?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
