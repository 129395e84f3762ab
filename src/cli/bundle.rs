//! `roadstead export` and `roadstead import`: images over an air gap.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use oci::{Platform, Push, Reference, RepositoryName};
use registry::Registry;
use serde_json::json;
use storage::{Location, OpenError, Store, Surroundings};
use telemetry::{Clock, Metrics, SystemClock};
use transfer::{Progress, Source, bundle};

use super::client::Where;
use super::mirror::bytes;
use super::{Output, print};
use crate::config::Config;
use crate::{app, wiring};

#[derive(Debug, clap::Args)]
pub(super) struct ExportOptions {
    /// The bundle to write: a tar file, or with --folder a folder
    bundle: PathBuf,
    /// The images, such as micro/app:1.2 or micro/app@sha256:…; latest without a tag
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Only these platforms of an index, such as linux/amd64; all without
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<Platform>,
    /// Leave signatures, SBOMs and other referrers out
    #[arg(long)]
    no_referrers: bool,
    /// Write a folder and not a tar file
    #[arg(long)]
    folder: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportOptions {
    /// The bundle to read: a tar file or a folder in the OCI image layout
    bundle: PathBuf,
    /// Put this before every repository's name, such as airgap
    #[arg(long, value_name = "NAME")]
    prefix: Option<RepositoryName>,
    /// The repository for images that the bundle gives no repository
    #[arg(long, value_name = "NAME")]
    repository: Option<RepositoryName>,
    /// Only say what is in the bundle
    #[arg(long)]
    list: bool,
}

/// Where images come from and go to: a running server, or the storage of one that is not running.
enum End {
    Server(Arc<upstream::Upstream>),
    Storage(Box<Registry>),
}

impl End {
    /// The server that `--server` names, else the storage of the configuration, else the server that has that storage open.
    async fn new(server: &Where, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let config = server.config()?;
        if server.is_named() {
            return Self::running(server, &config, clock);
        }
        if matches!(config.storage.location, Location::Memory) {
            // What a stopped server had there is gone.
            return Self::running(server, &config, clock);
        }
        if let Location::Folder(folder) = &config.storage.location
            && !folder.join("lock").exists()
        {
            bail!(
                "there is no storage at {}: name a running server with --server, or a configuration with --config",
                folder.display()
            );
        }
        let around = Surroundings {
            transport: wiring::transport(&config.storage)?,
            ..Surroundings::new(Arc::clone(clock), Metrics::new())
        };
        match Store::open_in(&config.storage.location, around).await {
            // Whoever acts on changes of tags finds these in the journal.
            Ok(store) if app::is_heard(&config) => {
                Ok(Self::Storage(Box::new(app::registry(&config, store.with_journal(), clock))))
            }
            Ok(store) => Ok(Self::Storage(Box::new(app::registry(&config, store, clock)))),
            Err(OpenError::InUse { .. }) => Self::running(server, &config, clock),
            Err(error) => Err(error.into()),
        }
    }

    fn running(server: &Where, config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let url = server.url(config)?;
        let host = url.host_str().context("the server's URL has no host")?.to_owned();
        // The name beside a token is not looked at.
        let credentials = server.password()?.map(|password| upstream::Credentials { username: "token".to_owned(), password });
        let settings = upstream::Config { ca: server.ca().into_iter().next(), credentials, ..upstream::Config::new(host, url) };
        Ok(Self::Server(Arc::new(upstream::Upstream::new(settings, Arc::clone(clock), Metrics::new())?)))
    }

    fn source(&self) -> Arc<dyn Source> {
        match self {
            Self::Server(server) => Arc::clone(server) as Arc<dyn Source>,
            Self::Storage(registry) => Arc::new(registry.as_ref().clone()),
        }
    }

    fn target(&self) -> Arc<dyn Push> {
        match self {
            Self::Server(server) => Arc::clone(server) as Arc<dyn Push>,
            Self::Storage(registry) => Arc::new(registry.as_ref().clone()),
        }
    }
}

/// Writes a bundle.
pub(super) async fn export(asked: ExportOptions, server: &Where, output: Output) -> anyhow::Result<ExitCode> {
    let images: anyhow::Result<Vec<_>> = asked.images.iter().map(|text| image(text)).collect();
    let images = images?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let end = End::new(server, &clock).await?;
    let options = transfer::Options {
        platforms: asked.platform,
        referrers: !asked.no_referrers,
        // A mirror of some platforms keeps the original index.
        sparse: true,
        seed: wiring::seed(),
        ..transfer::Options::default()
    };
    let format = if asked.folder { bundle::Format::Folder } else { bundle::Format::Tar };
    let progress = Progress::new();
    let work = bundle::export(end.source(), &images, &asked.bundle, format, Arc::clone(&clock), options, &progress);
    let copied = shown(work, &progress, clock.as_ref()).await?;
    let rows = images.iter().zip(&copied);
    if output == Output::Json {
        let images: Vec<_> = rows
            .map(|((name, reference), copied)| json!({ "image": named(name, reference), "digest": copied.digest.to_string() }))
            .collect();
        return Ok(print(&format!("{}\n", json!({ "bundle": asked.bundle, "images": images }))));
    }
    let mut text = String::new();
    for ((name, reference), copied) in rows {
        let _ = writeln!(text, "{}  {}  {} referrers", named(name, reference), copied.digest, copied.referrers);
    }
    let _ = writeln!(text, "written to {}: {}", asked.bundle.display(), bytes(size(&asked.bundle)));
    Ok(print(&text))
}

/// Reads a bundle into a server or a storage.
pub(super) async fn import(asked: ImportOptions, server: &Where, output: Output) -> anyhow::Result<ExitCode> {
    if asked.list {
        return list(&asked, output).await;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let rename = |image: &bundle::Image| {
        let name = image.repository.clone().or_else(|| asked.repository.clone())?;
        match &asked.prefix {
            Some(prefix) => name.under(prefix.as_str()).ok(),
            None => Some(name),
        }
    };
    let end = End::new(server, &clock).await?;
    if let End::Storage(_) = end {
        ::server::keep_from_others();
        // A running server refuses this by itself.
        let caches: Vec<_> = server.config()?.upstreams.into_iter().map(|upstream| upstream.name).collect();
        for name in bundle::list(&asked.bundle).await?.iter().filter_map(rename) {
            if let Some(cache) = caches.iter().find(|cache| name == **cache || name.strip_prefix(cache.as_str()).is_some()) {
                bail!("{name} lies in the cache of {cache}, which takes no pushes: put a name in front with --prefix");
            }
        }
    }
    let options = transfer::Options { sparse: true, seed: wiring::seed(), ..transfer::Options::default() };
    let progress = Progress::new();
    let work = bundle::import(&asked.bundle, end.target(), &rename, Arc::clone(&clock), options, &progress);
    let imported = shown(work, &progress, clock.as_ref()).await?;
    let mut text = String::new();
    let mut rows = Vec::new();
    let mut left = 0;
    for one in &imported {
        let Some((name, copied)) = &one.to else {
            left += 1;
            super::complain(&format!("{} has no repository's name: left out, name one with --repository", one.image.digest));
            continue;
        };
        let _ = writeln!(text, "{}  {}", named(name, &one.image.reference), copied.digest);
        rows.push(json!({ "image": named(name, &one.image.reference), "digest": copied.digest.to_string() }));
    }
    let text = if output == Output::Json { format!("{}\n", json!({ "images": rows })) } else { text };
    let code = print(&text);
    Ok(if left > 0 { ExitCode::from(super::FAILED) } else { code })
}

async fn list(asked: &ImportOptions, output: Output) -> anyhow::Result<ExitCode> {
    let images = bundle::list(&asked.bundle).await?;
    let name = |image: &bundle::Image| match &image.repository {
        Some(repository) => named(repository, &image.reference),
        None => image.reference.to_string(),
    };
    if output == Output::Json {
        let rows: Vec<_> =
            images.iter().map(|image| json!({ "image": name(image), "digest": image.digest.to_string() })).collect();
        return Ok(print(&format!("{}\n", json!({ "images": rows }))));
    }
    let mut text = String::new();
    for image in &images {
        let _ = writeln!(text, "{}  {}", name(image), image.digest);
    }
    Ok(print(&text))
}

/// An image as a user types it.
fn image(text: &str) -> anyhow::Result<(RepositoryName, Reference)> {
    let (name, reference) = match text.split_once('@') {
        Some((name, digest)) => (name.split_once(':').map_or(name, |(name, _)| name), digest),
        None => match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        },
    };
    let name = RepositoryName::parse(name).with_context(|| format!("{text:?} is no image"))?;
    let reference = Reference::parse(reference).with_context(|| format!("{text:?} is no image"))?;
    Ok((name, reference))
}

fn named(name: &RepositoryName, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{name}:{tag}"),
        Reference::Digest(digest) => format!("{name}@{digest}"),
    }
}

fn size(path: &PathBuf) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Waits for the work, with a bar on a terminal.
async fn shown<T>(work: impl Future<Output = T>, progress: &Progress, clock: &dyn Clock) -> T {
    if !io::stderr().is_terminal() {
        return work.await;
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{wide_bar} {binary_bytes:>11} of {binary_total_bytes:>11} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let draw = async {
        loop {
            clock.sleep(std::time::Duration::from_millis(100)).await;
            let seen = progress.seen();
            bar.set_length(seen.bytes_known);
            bar.set_position(seen.bytes_done);
            bar.set_message(format!("{}/{} blobs", seen.blobs_done, seen.blobs_known));
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = draw => unreachable!("it draws for ever"),
    };
    bar.finish_and_clear();
    done
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn images_are_read_as_users_type_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let read = |text: &str| image(text).map(|(name, reference)| named(&name, &reference));
        assert_eq!(read("micro/app:1.2").unwrap(), "micro/app:1.2");
        assert_eq!(read("micro/app").unwrap(), "micro/app:latest");
        assert_eq!(read(&format!("micro/app@{digest}")).unwrap(), format!("micro/app@{digest}"));
        assert_eq!(read(&format!("micro/app:1@{digest}")).unwrap(), format!("micro/app@{digest}"));
        assert!(read("Micro/App").is_err());
        assert!(read("micro/app:").is_err());
    }
}
