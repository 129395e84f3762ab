use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci::{Digest, ManifestView};
use roadstead_transfer::bundle::{self, Format};
use roadstead_transfer::layout;
use tempfile::TempDir;

use crate::bundle::{export, five, import};
use crate::shelf::Shelf;
use crate::stage;

/// A bundle as a file and as a folder.
struct Bundles {
    folder: TempDir,
    tar: PathBuf,
    open: PathBuf,
}

async fn bundles() -> Bundles {
    let stage = stage();
    let images = five(&stage);
    let folder = tempfile::tempdir().unwrap();
    let (tar, open) = (folder.path().join("bundle.tar"), folder.path().join("bundle"));
    export(&stage, &images, &tar, Format::Tar).await.unwrap();
    export(&stage, &images, &open, Format::Folder).await.unwrap();
    Bundles { folder, tar, open }
}

/// The text of the refusal; and nothing was pushed.
async fn refused(path: &Path) -> String {
    let target = Arc::new(Shelf::default());
    let refused = import(path, &target).await.unwrap_err();
    assert!(target.names().is_empty() && target.log().is_empty(), "nothing is imported half: {:?}", target.log());
    let text = refused.to_string();
    assert!(matches!(refused, bundle::Error::Layout(_)), "{text}");
    text
}

fn blobs(open: &Path) -> Vec<(Digest, Bytes)> {
    let folder = open.join("blobs/sha256");
    let mut blobs: Vec<(Digest, Bytes)> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let bytes = fs::read(folder.join(&name)).unwrap();
            (Digest::parse(&format!("sha256:{name}")).unwrap(), Bytes::from(bytes))
        })
        .collect();
    blobs.sort();
    blobs
}

#[tokio::test]
async fn any_blob_that_is_damaged_in_a_file_is_named_and_nothing_is_pushed() {
    let bundles = bundles().await;
    let whole = fs::read(&bundles.tar).unwrap();
    for (digest, bytes) in blobs(&bundles.open) {
        // The content begins in the block after the entry's name.
        let header = format!("blobs/sha256/{}", digest.hex());
        let at = whole.windows(header.len()).position(|part| part == header.as_bytes()).unwrap() + 512;
        let mut damaged = whole.clone();
        damaged[at + bytes.len() / 2] ^= 1;
        let path = bundles.folder.path().join("damaged.tar");
        fs::write(&path, damaged).unwrap();
        let text = refused(&path).await;
        assert!(text.contains(&digest.to_string()), "{digest}: {text}");
    }
}

#[tokio::test]
async fn any_blob_that_is_damaged_or_missing_in_a_folder_is_named() {
    let bundles = bundles().await;
    let children: Vec<Digest> = blobs(&bundles.open)
        .iter()
        .filter_map(|(_, bytes)| ManifestView::parse(bytes, None).ok())
        .flat_map(|view| view.manifests.into_iter().map(|child| child.digest))
        .collect();
    for (digest, bytes) in blobs(&bundles.open) {
        let path = bundles.open.join("blobs/sha256").join(digest.hex());
        let mut other = bytes.to_vec();
        other[0] ^= 1;
        for damaged in [Some(other), Some(bytes[1..].to_vec()), None] {
            let is_missing = damaged.is_none();
            match damaged {
                Some(damaged) => fs::write(&path, damaged).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            // An index may be without some of its images.
            if !(is_missing && children.contains(&digest)) {
                let text = refused(&bundles.open).await;
                assert!(text.contains(&digest.to_string()), "{digest}: {text}");
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert!(import(&bundles.open, &Arc::new(Shelf::default())).await.is_ok(), "whole again");
}

#[tokio::test]
async fn a_file_that_is_cut_anywhere_is_refused() {
    let bundles = bundles().await;
    let whole = fs::read(&bundles.tar).unwrap();
    let path = bundles.folder.path().join("cut.tar");
    // The last kibibytes say only that it ends there.
    let content = whole.len() - 1024;
    for cut in [0, 1, 511, 512, 600, content / 3, content / 2, content - 600, content - 513] {
        fs::write(&path, &whole[..cut]).unwrap();
        let text = refused(&path).await;
        assert!(text.contains("cut.tar"), "{cut}: {text}");
    }
}

#[tokio::test]
async fn what_is_no_bundle_is_refused_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    assert!(refused(&path).await.contains("could not be read"));
    fs::create_dir(&path).unwrap();
    assert!(refused(&path).await.contains("oci-layout could not be read"));
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"9"}"#).unwrap();
    fs::write(path.join("index.json"), "{}").unwrap();
    assert!(refused(&path).await.contains("only 1.x"));
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    assert!(refused(&path).await.contains("schemaVersion"));
    let absent = format!("sha256:{}", "a".repeat(64));
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{absent}","size":2}}]}}"#
    );
    fs::write(path.join("index.json"), index).unwrap();
    let text = refused(&path).await;
    assert!(text.contains(&absent) && text.contains("missing"), "{text}");
    let opened = layout::Folder::open(folder.path()).await.err().unwrap();
    assert!(opened.to_string().contains("other things"), "{opened}");
}
