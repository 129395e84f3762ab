//! Which manifests of an index are chosen with some platforms, and the index of only those.

use std::collections::HashSet;

use bytes::Bytes;
use oci::{Descriptor, Digest, Hasher, Manifest, Platform};
use serde_json::Value;

/// What says of a descriptor that it attests another one of the same index; buildx writes it so.
const ATTESTATION: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");
/// Which one that is.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// The manifests of an index that are copied: those of the wanted platforms, those without a platform, and the attestations of all
/// these. With nothing wanted in particular, all.
///
/// Where images have platforms and none is wanted, the platforms that there are.
pub(crate) fn chosen<'a>(manifests: &'a [Descriptor], wanted: &[Platform]) -> Result<Vec<&'a Descriptor>, Vec<Platform>> {
    if wanted.is_empty() {
        return Ok(manifests.iter().collect());
    }
    let images = || manifests.iter().filter(|manifest| attested(manifest).is_none());
    let offered: Vec<&Platform> = images().filter_map(platform).collect();
    let fits = |platform: &Platform| wanted.iter().any(|wanted| wanted.takes(platform));
    if !offered.is_empty() && !offered.iter().any(|platform| fits(platform)) {
        return Err(offered.into_iter().cloned().collect());
    }
    let taken: HashSet<&Digest> = images().filter(|image| platform(image).is_none_or(fits)).map(|image| &image.digest).collect();
    let is_chosen = |manifest: &&Descriptor| match attested(manifest) {
        Some(attested) => taken.iter().any(|digest| digest.to_string() == attested),
        None => platform(manifest).is_none_or(fits),
    };
    Ok(manifests.iter().filter(is_chosen).collect())
}

/// What a manifest runs on, if it says so.
fn platform(manifest: &Descriptor) -> Option<&Platform> {
    manifest.platform.as_ref().filter(|platform| !platform.os.is_empty() || !platform.architecture.is_empty())
}

/// The digest of what a manifest attests, if it is an attestation.
fn attested(manifest: &Descriptor) -> Option<&str> {
    let annotations = manifest.annotations.as_ref()?;
    annotations.get(ATTESTATION.0).filter(|kind| *kind == ATTESTATION.1)?;
    Some(annotations.get(ATTESTED).map_or("", String::as_str))
}

/// The index without the manifests that are not chosen; `None` if all are. Whatever else it says is kept.
pub(crate) fn trimmed(index: &Manifest, chosen: &[&Descriptor]) -> Option<Manifest> {
    let mut value: Value = serde_json::from_slice(&index.bytes).ok()?;
    let manifests = value.get_mut("manifests")?.as_array_mut()?;
    let before = manifests.len();
    let kept: HashSet<String> = chosen.iter().map(|manifest| manifest.digest.to_string()).collect();
    manifests.retain(|manifest| manifest.get("digest").and_then(Value::as_str).is_some_and(|digest| kept.contains(digest)));
    if manifests.len() == before {
        return None;
    }
    let bytes = Bytes::from(value.to_string());
    let digest = Hasher::digest(index.digest.algorithm(), &bytes);
    Some(Manifest { digest, media_type: index.media_type.clone(), bytes, warning: None })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use oci::{Algorithm, ManifestView, media_type};
    use serde_json::json;

    use super::*;

    fn digest(number: usize) -> Digest {
        Hasher::digest(Algorithm::Sha256, number.to_string().as_bytes())
    }

    fn entry(number: usize, platform: Option<&str>, attests: Option<usize>) -> Value {
        let mut value = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest(number).to_string(), "size": 2 });
        if let Some((os, architecture)) = platform.and_then(|platform| platform.split_once('/')) {
            value["platform"] = json!({ "os": os, "architecture": architecture, "os.features": ["x"] });
        }
        if let Some(attested) = attests {
            value["annotations"] = json!({ ATTESTATION.0: ATTESTATION.1, ATTESTED: digest(attested).to_string() });
        }
        value
    }

    fn index() -> Manifest {
        let manifests = json!([
            entry(0, Some("linux/amd64"), None),
            entry(1, Some("linux/arm64"), None),
            entry(2, Some("unknown/unknown"), Some(0)),
            entry(3, Some("unknown/unknown"), Some(1)),
            entry(4, None, None),
        ]);
        let value = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests, "x": 1 });
        let bytes = Bytes::from(value.to_string());
        let digest = Hasher::digest(Algorithm::Sha256, &bytes);
        Manifest { digest, media_type: media_type::OCI_INDEX.to_owned(), bytes, warning: None }
    }

    fn numbers(wanted: &[&str]) -> Result<Vec<usize>, Vec<Platform>> {
        let view = ManifestView::parse(&index().bytes, None).unwrap();
        let wanted: Vec<Platform> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        let chosen = chosen(&view.manifests, &wanted)?;
        Ok(chosen.iter().map(|chosen| (0..5).find(|number| digest(*number) == chosen.digest).unwrap()).collect())
    }

    #[test]
    fn an_attestation_goes_with_what_it_attests() {
        assert_eq!(numbers(&[]), Ok(vec![0, 1, 2, 3, 4]));
        assert_eq!(numbers(&["linux/amd64"]), Ok(vec![0, 2, 4]));
        assert_eq!(numbers(&["linux/arm64/v8", "windows/amd64"]), Ok(vec![1, 3, 4]));
    }

    #[test]
    fn where_nothing_fits_it_is_said_what_there_is() {
        let offered = numbers(&["windows/amd64"]).unwrap_err();
        assert_eq!(offered.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/amd64", "linux/arm64"]);
    }

    #[test]
    fn a_trimmed_index_lacks_the_others_and_keeps_the_rest() {
        let index = index();
        let view = ManifestView::parse(&index.bytes, None).unwrap();
        let some = chosen(&view.manifests, &["linux/amd64".parse().unwrap()]).unwrap();
        let trimmed = super::trimmed(&index, &some).unwrap();
        let value: Value = serde_json::from_slice(&trimmed.bytes).unwrap();
        assert_eq!(value["manifests"].as_array().unwrap().len(), 3);
        assert_eq!(value["manifests"][0]["platform"]["os.features"], json!(["x"]));
        assert_eq!(value["x"], 1);
        assert_eq!(trimmed.digest, Hasher::digest(Algorithm::Sha256, &trimmed.bytes));
        let all: Vec<&Descriptor> = view.manifests.iter().collect();
        assert_eq!(super::trimmed(&index, &all), None);
    }
}
