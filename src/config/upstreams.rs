//! `[[upstream]]`: each by itself, then all of them together.

use std::time::Duration;

use oci::RepositoryName;
use url::Url;

use super::problem::Place;
use super::reader::Section;
use super::value::{self, Value};
use super::{Credentials, RootPattern, Upstream, secrets};

const DOCKER_HUB: &str = "docker.io";

/// What is pulled through when a file says nothing about it.
#[expect(clippy::expect_used, reason = "constants, which every test of a default parses")]
pub(super) fn docker_hub() -> Upstream {
    Upstream {
        host: DOCKER_HUB.to_owned(),
        name: RepositoryName::parse(DOCKER_HUB).expect("a valid name"),
        default: true,
        root: vec![RootPattern::library()],
        url: default_url(DOCKER_HUB).expect("a valid URL"),
        ca: None,
        credentials: None,
        realms: Vec::new(),
        tag_lifetime: Duration::from_mins(5),
        idle_timeout: Duration::from_secs(30),
        reserve: 50,
        requests_per_second: 20,
    }
}

/// All upstreams of a file. An empty list means none at all.
pub(super) fn read(root: &mut Section<'_, '_>) -> Vec<Upstream> {
    let Some(sections) = root.sections("upstream") else {
        // The table below is empty, and nothing in it is wrong: it only says which keys there are.
        return vec![docker_hub()];
    };
    let mut upstreams = Vec::new();
    let mut earlier: Vec<Identity> = Vec::new();
    for mut section in sections {
        let (upstream, identity) = one(&mut section);
        for other in &earlier {
            compare(&section, &identity, other);
        }
        earlier.push(identity);
        upstreams.extend(upstream);
        section.finish();
    }
    upstreams
}

/// What no two upstreams may share, as far as it could be read.
struct Identity {
    line: String,
    host: Option<String>,
    name: Option<RepositoryName>,
    default: bool,
}

fn compare(section: &Section<'_, '_>, this: &Identity, other: &Identity) {
    let line = &other.line;
    let same_host = this.host.is_some() && this.host == other.host;
    if same_host {
        let host = this.host.as_deref().unwrap_or_default();
        section.wrong("host", format!("{host:?} is also the host of the upstream of {line}; keep one of the two"));
    }
    if this.default && other.default {
        section.wrong("default", format!("the upstream of {line} is the default too; only one can be"));
    }
    let (Some(name), Some(others)) = (&this.name, &other.name) else { return };
    // A name that was not given comes from the host, and there it has to be mended.
    let key = if section.given("name").is_some() { "name" } else { "host" };
    if name == others && !same_host {
        section.wrong(key, format!("\"{name}\" is also the name of the upstream of {line}; give one of them another `name`"));
    } else if name.strip_prefix(others.as_str()).is_some() || others.strip_prefix(name.as_str()).is_some() {
        let text = format!(
            "one of \"{name}\" and \"{others}\", the name of the upstream of {line}, begins with the other, so that an image \
             could belong to both; give one of them another `name`"
        );
        section.wrong(key, text);
    }
}

/// One upstream, and who it is even if the rest of it is wrong.
fn one(section: &mut Section<'_, '_>) -> (Option<Upstream>, Identity) {
    let defaults = docker_hub();
    let host = section.optional("host", value::host);
    if section.given("host").is_none() {
        section.missing("host", None, "is missing; write what clients call this registry, such as \"ghcr.io\"");
    }
    let name = name(section, host.as_deref());
    let default = section.optional("default", value::boolean);
    // One that cannot be read is reported already: nothing more is concluded from it.
    let default = if section.given("default").is_some() { default } else { Some(false) };
    let root = root(section, default);
    let default = default == Some(true);
    let url = section.optional("url", value::registry_url);
    let given_url = section.given("url").is_some();
    let url = url.or_else(|| host.as_deref().filter(|_| !given_url).and_then(default_url));
    let ca = section.optional("ca", value::path);
    if let Some(path) = &ca
        && let Err(error) = section.document().file(path)
    {
        section.wrong("ca", format!("{} cannot be read: {error}; check the path and its permissions", path.display()));
    }
    let credentials = credentials(section);
    let realms = section.list("realms", value::host).unwrap_or_default();
    let tag_lifetime = section.value("tag_lifetime", defaults.tag_lifetime, value::duration);
    let idle_timeout = section.value("idle_timeout", defaults.idle_timeout, value::limit);
    let reserve = section.value("reserve", defaults.reserve, value::share);
    let requests_per_second = section.value("requests_per_second", defaults.requests_per_second, value::rate);

    let line = match section.place() {
        Place::Line(line) => format!("line {line}"),
        Place::Whole | Place::Named(_) => "the same file".to_owned(),
    };
    let identity = Identity { line, host: host.clone(), name: name.clone(), default };
    let upstream = match (host, name, url) {
        (Some(host), Some(name), Some(url)) => Some(Upstream {
            host,
            name,
            default,
            root,
            url,
            ca,
            credentials,
            realms,
            tag_lifetime,
            idle_timeout,
            reserve,
            requests_per_second,
        }),
        _ => None,
    };
    (upstream, identity)
}

/// The name that its repositories begin with: the host, unless another is given.
fn name(section: &mut Section<'_, '_>, host: Option<&str>) -> Option<RepositoryName> {
    let name = section.optional("name", |value| {
        let text = value.text()?;
        RepositoryName::parse(text).map_err(|error| format!("{text:?} cannot begin a repository's name: {error}; write another"))
    });
    if section.given("name").is_some() {
        return name;
    }
    let host = host?;
    let name = RepositoryName::parse(&host.replace(':', "_"));
    if name.is_err() {
        let place = section.given("host");
        section.missing("name", place, "is missing, and the host cannot begin a repository's name; give it a `name`");
    }
    name.ok()
}

/// What it answers at the root; `default` is `None` if that is not known.
fn root(section: &mut Section<'_, '_>, default: Option<bool>) -> Vec<RootPattern> {
    let root = section.list("root", |value: &Value<'_>| {
        let text = value.text()?;
        RootPattern::parse(text).map_err(|error| format!("{text:?} {error}"))
    });
    if section.given("root").is_none() {
        return if default == Some(true) { vec![RootPattern::library()] } else { Vec::new() };
    }
    if default == Some(false) {
        let text = "is of no use here: only the default upstream answers at the root; add default = true, or remove it";
        section.wrong("root", text.to_owned());
    }
    root.unwrap_or_default()
}

fn credentials(section: &mut Section<'_, '_>) -> Option<Credentials> {
    let username = section.optional("username", |value| {
        let username = value.text()?;
        if username.contains(':') {
            return Err("has a colon, which separates name and password in HTTP; write the account's name alone".to_owned());
        }
        Ok(username.to_owned())
    });
    let password = secrets::either(section, "password_file", "password_env");
    let given = [section.given("password_file"), section.given("password_env")];
    let name_place = section.given("username");
    match (name_place, given) {
        (None, [place @ Some(_), None] | [None, place @ Some(_)]) => {
            section.missing("username", place, "is missing; a password alone is of no use");
        }
        (place @ Some(_), [None, None]) => {
            section.missing(
                "password_file",
                place,
                "is missing; name the file of the password, or its variable with password_env",
            );
        }
        _ => {}
    }
    Some(Credentials { username: username?, password: password? })
}

/// Where an upstream is when the file does not say.
fn default_url(host: &str) -> Option<Url> {
    // Docker Hub's registry is not at the name that everyone calls it by.
    let host = if host == DOCKER_HUB { "registry-1.docker.io" } else { host };
    Url::parse(&format!("https://{host}")).ok()
}
