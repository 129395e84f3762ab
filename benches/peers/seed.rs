//! Content, pushed to each registry over its API, and the same bytes as files for nginx.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Result, bail};

use crate::client::Client;
use crate::content::{EMPTY, LARGE, REPOSITORY, digest, image, noise, small_blobs, smallest_image};
use crate::peers::stored;
use crate::server::Kind;

/// How many clients push at once.
const CLIENTS: usize = 8;
/// How many tags the repository of the listing has.
pub(crate) const TAGS: usize = 10_000;
/// The repository that has them.
pub(crate) const TAGGED: &str = "bench/tags";

/// What a server's data folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// Nothing.
    Empty,
    /// An image, 512 small blobs, a large one.
    Content,
    /// One repository with ten thousand tags.
    Tags,
    /// So many repositories.
    Repositories(usize),
}

impl Set {
    /// What its folder is called.
    pub(crate) fn folder(self) -> String {
        match self {
            Self::Empty => "empty".to_owned(),
            Self::Content => "content".to_owned(),
            Self::Tags => "tags".to_owned(),
            Self::Repositories(count) => format!("repositories-{count}"),
        }
    }
}

/// The paths of the content, as every server serves it.
pub(crate) struct Paths {
    /// The image by its tag.
    pub(crate) tag: String,
    /// The image by its digest.
    pub(crate) manifest: String,
    /// The small blobs.
    pub(crate) small: Vec<String>,
    /// The large blob, and its digest.
    pub(crate) large: String,
    pub(crate) large_digest: String,
}

impl Paths {
    /// Makes them.
    pub(crate) fn new() -> Self {
        let blobs = small_blobs();
        let image = image(&blobs);
        let large_digest = digest(&large());
        let blob = |digest: &str| format!("/v2/{REPOSITORY}/blobs/sha256:{digest}");
        Self {
            tag: format!("/v2/{REPOSITORY}/manifests/v1"),
            manifest: format!("/v2/{REPOSITORY}/manifests/sha256:{}", digest(image.as_bytes())),
            small: blobs.iter().map(|bytes| blob(&digest(bytes))).collect(),
            large: blob(&large_digest),
            large_digest,
        }
    }
}

fn large() -> Vec<u8> {
    noise(1, LARGE)
}

/// The name of a tag of the long list.
pub(crate) fn tag(number: usize) -> String {
    format!("t{number:05}")
}

/// Pushes a set to the registry at a port.
pub(crate) fn push(port: u16, set: Set) -> Result<()> {
    match set {
        Set::Empty => Ok(()),
        Set::Content => push_content(port),
        Set::Tags => {
            let manifest = smallest_image();
            Client::connect(port)?.push_bytes(TAGGED, &digest(EMPTY), &[EMPTY])?;
            each(port, TAGS, |client, number| client.push_manifest(TAGGED, &tag(number), &manifest))
        }
        Set::Repositories(count) => {
            let (manifest, empty) = (smallest_image(), digest(EMPTY));
            each(port, count, |client, number| {
                let name = format!("bench/r{number:05}");
                client.push_bytes(&name, &empty, &[EMPTY])?;
                client.push_manifest(&name, "v1", &manifest)
            })
        }
    }
}

fn push_content(port: u16) -> Result<()> {
    let (blobs, large) = (small_blobs(), large());
    let mut client = Client::connect(port)?;
    client.push_bytes(REPOSITORY, &digest(&large), &[&large])?;
    each(port, blobs.len(), |client, number| client.push_bytes(REPOSITORY, &digest(&blobs[number]), &[&blobs[number]]))?;
    client.push_manifest(REPOSITORY, "v1", &image(&blobs))
}

/// Does something for each number, with several clients.
fn each(port: u16, count: usize, act: impl Fn(&mut Client, usize) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let act = &act;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|first| {
                scope.spawn(move || -> Result<()> {
                    let mut client = Client::connect(port)?;
                    (first..count).step_by(CLIENTS).try_for_each(|number| act(&mut client, number))
                })
            })
            .collect();
        for client in clients {
            let Ok(done) = client.join() else { bail!("a client ended") };
            done?;
        }
        Ok(())
    })
}

/// Writes the content as files, under the paths that registries have for it.
pub(crate) fn write(data: &Path) -> Result<()> {
    let (blobs, large) = (small_blobs(), large());
    let image = image(&blobs);
    let folder = data.join("v2").join(REPOSITORY);
    for part in ["manifests", "blobs"] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::write(folder.join("manifests/v1"), &image)?;
    fs::write(folder.join("manifests").join(format!("sha256:{}", digest(image.as_bytes()))), &image)?;
    for blob in blobs.iter().chain([&large]) {
        fs::write(stored(Kind::Nginx, data, REPOSITORY, &digest(blob)), blob)?;
    }
    Ok(())
}
