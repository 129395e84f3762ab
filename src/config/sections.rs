//! The sections that a file has once: `[server]`, `[log]`.

use std::net::SocketAddr;

use super::reader::Section;
use super::{Admin, Log, Server, Tls, value};

pub(super) fn server(mut section: Section<'_, '_>) -> Server {
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
    // Until there are access rules, everyone who reaches the server may do everything.
    if !insecure_open && !unreadable && !is_loopback(server.listen) {
        let text = format!(
            "{} is reachable from other machines, and whoever reaches it may push and delete: this version has no access rules; \
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
    let certificate = section.optional("certificate", value::path);
    let key = section.optional("key", value::path);
    let places = (section.given("certificate"), section.given("key"));
    match places {
        (Some(place), None) => section.missing("key", Some(place), "is missing; name the file of the certificate's private key"),
        (None, Some(place)) => section.missing("certificate", Some(place), "is missing; name the file of the key's certificate"),
        _ => {}
    }
    for (name, path) in [("certificate", &certificate), ("key", &key)] {
        if let Some(path) = path
            && let Err(error) = section.document().file(path)
        {
            section.wrong(name, format!("{} cannot be read: {error}; check the path and its permissions", path.display()));
        }
    }
    section.finish();
    Some(Tls { certificate: certificate?, key: key? })
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
