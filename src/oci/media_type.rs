//! The media types of manifests, and which descriptors a registry need not hold. Over `oci-spec` for the OCI names; the
//! Docker schema 2 names stand here.

use oci_spec::image::MediaType;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list, schema 2.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker schema 1, signed or not: refused.
pub const DOCKER_SCHEMA1: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws"];
/// The type of bytes of which nothing else is known.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// Every manifest type that this server takes and asks for, most wanted first.
pub const MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// The media type without its parameters, trimmed and in lower case: `Text/JSON; charset=utf-8` is `text/json`.
#[must_use]
pub fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Is this a layer whose bytes a registry may be without (foreign, non-distributable)?
#[must_use]
pub fn is_nondistributable(media_type: &str) -> bool {
    matches!(
        MediaType::from(media_type),
        MediaType::ImageLayerNonDistributable
            | MediaType::ImageLayerNonDistributableGzip
            | MediaType::ImageLayerNonDistributableZstd
    ) || media_type == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        || media_type == "application/vnd.docker.image.rootfs.foreign.diff.tar"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_those_of_oci_spec() {
        assert_eq!(MediaType::from(OCI_MANIFEST), MediaType::ImageManifest);
        assert_eq!(MediaType::from(OCI_INDEX), MediaType::ImageIndex);
    }

    #[test]
    fn parameters_and_case_do_not_matter() {
        assert_eq!(essence(" Application/VND.oci.image.index.v1+JSON ;charset=utf-8"), OCI_INDEX);
    }

    #[test]
    fn foreign_layers_are_known() {
        assert!(is_nondistributable("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"));
        assert!(is_nondistributable("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
        assert!(!is_nondistributable("application/vnd.oci.image.layer.v1.tar+gzip"));
    }
}
