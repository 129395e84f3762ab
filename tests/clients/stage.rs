//! What every client's test stands on: a namespace, an upstream registry that holds `library/busybox:1` and `team/app:1`, and the server.

use std::ops::Deref;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::home::Home;
use crate::hub;
use crate::netns::Netns;
use crate::support::layout::{Layout, sha256};
use crate::support::process::{Daemon, free_port};
use crate::support::server::Server;

/// The name of the upstream's image behind the server, by path.
pub(crate) const THROUGH: &str = "docker.io/library/busybox";

/// What clients say they take: some registries answer 404 to those who do not say it.
const ACCEPT: &str = "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json, */*";

/// All of it; what is declared first ends first.
pub(crate) struct Stage {
    server: Server,
    _upstream: Daemon,
    _netns: Netns,
    /// What the upstream holds under both names.
    pub(crate) busybox: Layout,
    /// An image to push.
    pub(crate) image: Layout,
    home: Home,
}

impl Deref for Stage {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Stage {
    /// Sets everything up.
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("a directory can be made");
        let netns = Netns::new();
        let place = netns.place();
        let port = free_port();
        let upstream = hub::start(&place, directory.path(), port);
        let image = Layout::write(&directory.path().join("image"), "pushed");
        let busybox = Layout::write(&directory.path().join("busybox"), "pulled through");
        for name in ["library/busybox:1", "team/app:1"] {
            hub::push(&place, &busybox, port, name);
        }
        let settings = format!(
            "[storage]\nurl = \"file:{}\"\n[[upstream]]\nhost = \"docker.io\"\ndefault = true\nroot = [\"library/**\"]\n\
             url = \"http://127.0.0.1:{port}\"\ntag_lifetime = \"5m\"\n\
             [[upstream]]\nhost = \"registry.test\"\nurl = \"http://127.0.0.1:{port}\"\n",
            directory.path().join("data").display(),
        );
        let server = Server::start(&place, &directory.path().join("server"), &settings);
        Self { server, _upstream: upstream, _netns: netns, busybox, image, home: Home::new(place, directory) }
    }

    /// The server's address, as image names begin.
    pub(crate) fn host(&self) -> String {
        self.server.host()
    }

    /// A full image name on the server.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// Whether the server has a manifest with a digest under a name, with exactly the bytes of the digest.
    pub(crate) fn serves(&self, repository: &str, digest: &str) -> bool {
        self.digest_of(repository, digest) == digest
    }

    /// The digest of the manifest that the server has for a tag, by its bytes.
    pub(crate) fn digest_of(&self, repository: &str, tag: &str) -> String {
        sha256(&self.manifest(repository, tag))
    }

    /// The digests of the images in an index, as the server tells it.
    pub(crate) fn images_of(&self, repository: &str, reference: &str) -> Vec<String> {
        let body = self.manifest(repository, reference);
        let index: Value = serde_json::from_slice(&body).expect("a manifest is JSON");
        let entries = index["manifests"].as_array().expect("an index has entries");
        entries.iter().map(|entry| entry["digest"].as_str().expect("an entry has a digest").to_owned()).collect()
    }

    fn manifest(&self, repository: &str, reference: &str) -> Vec<u8> {
        let url = self.server.url(&format!("/v2/{repository}/manifests/{reference}"));
        let (status, body) = self.place.request(&["--header", ACCEPT, &url]).expect("the server answers");
        assert_eq!(status, 200, "GET {url}: {}", String::from_utf8_lossy(&body));
        body
    }
}

/// The digest of what the `index.json` of a layout names first.
pub(crate) fn first_digest(layout: &Path) -> String {
    let index = std::fs::read(layout.join("index.json")).expect("the layout has an index");
    let index: Value = serde_json::from_slice(&index).expect("the index is JSON");
    index["manifests"][0]["digest"].as_str().expect("an entry has a digest").to_owned()
}
