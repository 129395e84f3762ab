//! Manifests: the bytes that were pushed, and a view of them.

use bytes::Bytes;
use serde::Deserialize;

use crate::descriptor::{Annotations, Descriptor};
use crate::digest::Digest;
use crate::error::Error;
use crate::media_type;

/// The deepest nesting of arrays and objects that a manifest may have. Real ones stay under ten.
const MAX_DEPTH: usize = 64;

/// Characters of a reason: it may repeat what was sent, which can be megabytes.
const LONGEST_REASON: usize = 500;

/// A manifest as it is stored and served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Digest under which it was asked for or, for a tag, under which it was pushed.
    pub digest: Digest,
    /// Media type that it was pushed with.
    pub media_type: String,
    /// The bytes, untouched.
    pub bytes: Bytes,
    /// Set when the copy may be out of date because its origin did not answer.
    pub warning: Option<String>,
}

/// What a HEAD of a manifest tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestStat {
    /// As [`Manifest::digest`].
    pub digest: Digest,
    /// As [`Manifest::media_type`].
    pub media_type: String,
    /// Size in bytes.
    pub size: u64,
    /// As [`Manifest::warning`].
    pub warning: Option<String>,
}

impl Manifest {
    /// What a HEAD of this manifest tells.
    #[must_use]
    pub fn stat(&self) -> ManifestStat {
        ManifestStat {
            digest: self.digest.clone(),
            media_type: self.media_type.clone(),
            size: self.bytes.len() as u64,
            warning: self.warning.clone(),
        }
    }
}

/// The two shapes of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A configuration and layers.
    Image,
    /// A list of manifests.
    Index,
}

/// The parts of a manifest that a registry acts on. [image-spec, Image Manifest, Image Index; Docker schema 2]
#[derive(Clone, Debug)]
pub struct ManifestView {
    /// Its media type, without parameters.
    pub media_type: String,
    /// Its shape.
    pub kind: Kind,
    /// Content that should be in the repository as blobs: configuration and layers.
    pub blobs: Vec<Descriptor>,
    /// Content that should be in the repository as manifests.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to.
    pub subject: Option<Descriptor>,
    /// What the referrers listing says of it: `artifactType`, else the configuration's media type, else nothing.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: Option<Annotations>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<Annotations>,
}

impl ManifestView {
    /// Parses and validates `bytes` that came with this `Content-Type` (none: the body's `mediaType` counts).
    ///
    /// `ManifestInvalid` says what is wrong with it.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, Error> {
        check_depth(bytes)?;
        // The parser would take the fields in an array, one after the other.
        if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
            return Err(invalid("a manifest is a JSON object"));
        }
        // JSON is UTF-8 [RFC 8259, section 8.1], but the parser would not look at what it passes over.
        let text = str::from_utf8(bytes).map_err(|_| invalid("a manifest is UTF-8 text"))?;
        let wire: Wire = serde_json::from_str(text).map_err(|cause| invalid(cause.to_string()))?;
        let media_type = media_type_of(&wire, content_type)?;
        if wire.schema_version != Some(2) {
            return Err(invalid("schemaVersion must be 2"));
        }
        match media_type.as_str() {
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Self::image(media_type, wire),
            media_type::OCI_INDEX | media_type::DOCKER_LIST => Self::index(media_type, wire),
            other => Err(invalid(format!("the media type {other:?} is not that of an OCI or Docker schema 2 manifest or index"))),
        }
    }

    fn image(media_type: String, wire: Wire) -> Result<Self, Error> {
        if wire.manifests.is_some() {
            return Err(invalid("an image manifest has no manifests"));
        }
        let config = wire.config.ok_or_else(|| invalid("config is missing"))?;
        let layers = wire.layers.ok_or_else(|| invalid("layers is missing"))?;
        let artifact_type = wire.artifact_type.filter(|text| !text.is_empty()).unwrap_or_else(|| config.media_type.clone());
        let mut blobs = vec![config];
        blobs.extend(layers);
        Ok(Self {
            media_type,
            kind: Kind::Image,
            blobs,
            manifests: Vec::new(),
            subject: wire.subject,
            artifact_type: Some(artifact_type),
            annotations: wire.annotations,
        })
    }

    fn index(media_type: String, wire: Wire) -> Result<Self, Error> {
        if wire.config.is_some() || wire.layers.is_some() {
            return Err(invalid("an index has no config and no layers"));
        }
        Ok(Self {
            media_type,
            kind: Kind::Index,
            blobs: Vec::new(),
            manifests: wire.manifests.ok_or_else(|| invalid("manifests is missing"))?,
            subject: wire.subject,
            artifact_type: wire.artifact_type.filter(|text| !text.is_empty()),
            annotations: wire.annotations,
        })
    }
}

fn invalid(reason: impl AsRef<str>) -> Error {
    Error::ManifestInvalid { reason: reason.as_ref().chars().take(LONGEST_REASON).collect() }
}

fn media_type_of(wire: &Wire, content_type: Option<&str>) -> Result<String, Error> {
    let header = content_type.map(media_type::essence);
    let media_type = match (header, wire.media_type.as_ref()) {
        (Some(header), Some(body)) if header != *body => {
            return Err(invalid(format!("mediaType is {body:?} but Content-Type is {header:?}")));
        }
        (Some(header), _) => header,
        (None, Some(body)) => body.clone(),
        (None, None) => return Err(invalid("there is neither a Content-Type nor a mediaType")),
    };
    if media_type::DOCKER_SCHEMA1.contains(&media_type.as_str()) {
        return Err(invalid("Docker schema 1 is not supported; push schema 2 or OCI"));
    }
    Ok(media_type)
}

/// Refuses nesting that no manifest has before a parser walks it. Malformed JSON is left to the parser.
fn check_depth(bytes: &[u8]) -> Result<(), Error> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(invalid(format!("nested deeper than {MAX_DEPTH} levels")));
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn reason(body: &str, content_type: Option<&str>) -> String {
        match ManifestView::parse(body.as_bytes(), content_type) {
            Err(Error::ManifestInvalid { reason }) => reason,
            other => format!("{other:?}"),
        }
    }

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":2}}"#, "a".repeat(64))
    }

    #[test]
    fn the_artifact_type_falls_back_to_the_configuration() {
        let body = format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, descriptor("application/x.config"));
        let view = ManifestView::parse(body.as_bytes(), Some(media_type::OCI_MANIFEST)).unwrap();
        assert_eq!(view.artifact_type.as_deref(), Some("application/x.config"));
        assert_eq!(view.kind, Kind::Image);
    }

    #[test]
    fn an_index_needs_manifests_and_no_artifact_type() {
        let view = ManifestView::parse(br#"{"schemaVersion":2,"manifests":[]}"#, Some(media_type::OCI_INDEX)).unwrap();
        assert_eq!(view.artifact_type, None);
        assert!(reason(r#"{"schemaVersion":2}"#, Some(media_type::OCI_INDEX)).contains("manifests is missing"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let index = Some(media_type::OCI_INDEX);
        assert!(reason("{", index).contains("EOF"));
        assert!(reason("[]", index).contains("JSON object"));
        assert!(reason(r"[2, null, null, null, null, [], null, null]", index).contains("JSON object"));
        assert!(reason(r#"{"schemaVersion":1,"manifests":[]}"#, index).contains("schemaVersion"));
        assert!(reason(r#"{"schemaVersion":2,"manifests":[]}"#, None).contains("neither"));
        assert!(reason(r#"{"schemaVersion":2,"manifests":[]}"#, Some("text/plain")).contains("text/plain"));
        assert!(reason(r#"{"schemaVersion":2,"mediaType":"x/y","manifests":[]}"#, index).contains("Content-Type"));
        assert!(reason(r#"{"schemaVersion":2,"manifests":[{"size":1}]}"#, index).contains("mediaType"));
        assert!(reason(r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:x"}]}"#, index).contains("64 lower-case hex"));
        assert!(reason("{}", Some(media_type::DOCKER_SCHEMA1[1])).contains("schema 1"));
    }

    #[test]
    fn what_is_not_utf8_is_refused_wherever_it_stands() {
        let body = b"{\"schemaVersion\":2,\"manifests\":[],\"not looked at\":\"\xff\"}";
        let refused = ManifestView::parse(body, Some(media_type::OCI_INDEX));
        assert!(matches!(refused, Err(Error::ManifestInvalid { reason }) if reason.contains("UTF-8")));
    }

    #[test]
    fn a_reason_repeats_only_a_part_of_what_was_sent() {
        let body = format!(r#"{{"schemaVersion":"{}"}}"#, "x".repeat(100_000));
        let reason = reason(&body, Some(media_type::OCI_INDEX));
        assert!(reason.starts_with("invalid type") && reason.len() <= LONGEST_REASON, "{}", reason.len());
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_walked() {
        let deep = format!(r#"{{"schemaVersion":2,"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(reason(&deep, Some(media_type::OCI_INDEX)).contains("deeper"));
        let text = format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"x":"{}\""}}}}"#, "[".repeat(500));
        assert!(ManifestView::parse(text.as_bytes(), Some(media_type::OCI_INDEX)).is_ok());
    }
}
