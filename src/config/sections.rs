//! The sections that a file has once: `[server]`, `[log]`.

use std::net::SocketAddr;

use certs::acme::{self, Challenge};
use certs::{Pair, Settings};

use super::git::readable;
use super::reader::Section;
use super::{Acme, Admin, Log, Server, Tls, value};

pub(super) fn server(mut section: Section<'_, '_>, has_rules: bool) -> Server {
    let default = Server::default();
    let insecure_open = section.optional("insecure_open", value::boolean);
    // One that cannot be read is reported already: nothing more is concluded from it.
    let unreadable = insecure_open.is_none() && section.given("insecure_open").is_some();
    let insecure_open = insecure_open.unwrap_or(default.insecure_open);
    let server = Server {
        listen: section.value("listen", default.listen, value::listen),
        external_url: section.optional("external_url", value::registry_url),
        insecure_open,
        header_timeout: section.value("header_timeout", default.header_timeout, value::limit),
        idle_timeout: section.value("idle_timeout", default.idle_timeout, value::limit),
        drain_timeout: section.value("drain_timeout", default.drain_timeout, value::duration),
        max_connections: section.value("max_connections", default.max_connections, value::count),
        max_manifest_size: section.value("max_manifest_size", default.max_manifest_size, value::manifest_size),
        max_blob_size: section.optional("max_blob_size", value::size),
        sparse_images: section.value("sparse_images", default.sparse_images, value::boolean),
        tls: tls(section.section("tls")),
    };
    // Without access rules everyone who reaches the server may do everything.
    if !has_rules && !insecure_open && !unreadable && !is_loopback(server.listen) {
        let text = format!(
            "{} is reachable from other machines, and without [[access]] whoever reaches it may push and delete: write rules, \
             listen on 127.0.0.1, or set insecure_open = true if the network is closed to strangers",
            server.listen
        );
        section.wrong("listen", text);
    }
    section.finish();
    server
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn tls(mut section: Section<'_, '_>) -> Option<Tls> {
    let acme = acme(section.section("acme"));
    let pair = pair(&mut section);
    let mut certificates: Vec<Pair> = pair.into_iter().collect();
    let [client_ca, client_crl] = ["client_ca", "client_crl"].map(|key| readable(&mut section, key));
    let require_client = section.value("require_client", false, value::boolean);
    for mut also in section.sections("also").unwrap_or_default() {
        if also.given("certificate").is_none() && also.given("key").is_none() {
            also.missing("certificate", None, "is missing; name the file of a further certificate, and its key");
        }
        certificates.extend(self::pair(&mut also));
        also.finish();
    }
    let is_set = |key| section.given(key).is_some();
    if acme.is_none()
        && certificates.is_empty()
        && (is_set("client_ca") || is_set("client_crl") || is_set("also"))
        && !is_set("certificate")
    {
        section.missing("certificate", None, "is missing; clients that show certificates have to be shown one as well");
    }
    if client_ca.is_none() && !is_set("client_ca") {
        for key in ["client_crl", "require_client"].into_iter().filter(|key| is_set(key)) {
            section.wrong(
                key,
                "is of no use without client_ca; name the file of whoever signs the certificates of clients".to_owned(),
            );
        }
    }
    section.finish();
    let is_on = !certificates.is_empty() || acme.is_some();
    is_on.then_some(Tls { settings: Settings { certificates, client_ca, client_crl, require_client }, acme })
}

/// Certificates that are issued.
fn acme(mut section: Section<'_, '_>) -> Option<Acme> {
    let text = |value: &value::Value<'_>| value.text().map(str::to_owned);
    let domains = section.list("domains", text);
    let contact = section.list("contact", text).unwrap_or_default();
    let directory = section.optional("directory", text);
    let ca = readable(&mut section, "ca");
    let challenges = section.list("challenges", |value| match value.text()? {
        "tls-alpn-01" => Ok(Challenge::TlsAlpn01),
        "http-01" => Ok(Challenge::Http01),
        other => Err(format!("{other:?} is not known; write \"tls-alpn-01\" or \"http-01\"")),
    });
    let renew_before = section.optional("renew_before", value::limit);
    let http_listen = section.optional("http_listen", value::listen);
    let is_there = !section.is_absent();
    if is_there && section.given("domains").is_none() {
        section.missing("domains", None, "is missing; write the names of the certificate, such as [\"registry.example.org\"]");
    }
    let by_http = challenges.as_ref().is_some_and(|challenges| challenges.contains(&Challenge::Http01));
    if by_http && http_listen.is_none() && section.given("http_listen").is_none() {
        section.missing(
            "http_listen",
            section.given("challenges"),
            "is missing; http-01 asks at port 80, so write \"0.0.0.0:80\"",
        );
    }
    let mut settings = acme::Settings::new(domains.unwrap_or_default());
    settings.contact = contact;
    settings.directory = directory.unwrap_or(settings.directory);
    settings.renew_before = renew_before;
    settings.challenges = challenges.unwrap_or_else(|| match http_listen {
        Some(_) => vec![Challenge::TlsAlpn01, Challenge::Http01],
        None => vec![Challenge::TlsAlpn01],
    });
    if !settings.domains.is_empty()
        && let Err(error) = settings.check()
    {
        section.wrong("domains", error.to_string());
    }
    section.finish();
    is_there.then_some(Acme { settings, ca, http_listen })
}

/// A certificate and its key, where both are given.
fn pair(section: &mut Section<'_, '_>) -> Option<Pair> {
    let [certificate, key] = ["certificate", "key"].map(|name| readable(section, name));
    match (section.given("certificate"), section.given("key")) {
        (Some(place), None) => section.missing("key", Some(place), "is missing; name the file of the certificate's private key"),
        (None, Some(place)) => section.missing("certificate", Some(place), "is missing; name the file of the key's certificate"),
        _ => {}
    }
    Some(Pair { certificate: certificate?, key: key? })
}

pub(super) fn admin(mut section: Section<'_, '_>) -> Admin {
    let admin = Admin { token_file: section.optional("token_file", value::path) };
    section.finish();
    admin
}

pub(super) fn log(mut section: Section<'_, '_>) -> Log {
    let default = Log::default();
    let log = Log {
        format: section.value("format", default.format, value::format),
        level: section.value("level", default.level, value::level),
    };
    section.finish();
    log
}
