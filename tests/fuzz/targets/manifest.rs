//! Input: a line with a `Content-Type`, or an empty one for none, then the manifest.

use oci::{Descriptor, Error, Kind, ManifestView, media_type};
use serde::de::IgnoredAny;
use serde_json::Value;

/// So deep may a manifest be nested.
const DEEPEST: usize = 64;

pub(crate) fn target(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (line, body) = (&data[..end], &data[end + 1..]);
    let Ok(line) = str::from_utf8(line) else { return };
    let content_type = Some(line).filter(|line| !line.is_empty());
    match ManifestView::parse(body, content_type) {
        Ok(view) => holds(&view, body, content_type),
        Err(error @ Error::ManifestInvalid { .. }) => {
            // What a client sent is repeated in part only.
            assert!(error.to_string().len() <= 2048, "{error}");
        }
        Err(other) => panic!("{other}"),
    }
}

fn holds(view: &ManifestView, body: &[u8], content_type: Option<&str>) {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        // Half of a surrogate pair, or a number that is too large, in a place that nobody reads: JSON all the same.
        let text = str::from_utf8(body).unwrap();
        serde_json::from_str::<IgnoredAny>(text).unwrap();
        return;
    };
    let object = json.as_object().unwrap();
    assert_eq!(object["schemaVersion"].as_u64(), Some(2));
    assert!(depth(&json) <= DEEPEST);
    assert!(media_type::MANIFESTS.contains(&view.media_type.as_str()));
    assert!(content_type.is_none_or(|sent| media_type::essence(sent) == view.media_type));
    let written = object.get("mediaType").filter(|written| !written.is_null());
    assert!(written.is_none_or(|written| written == view.media_type.as_str()));
    let listed = |key: &str| object.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let (blobs, manifests) = match view.kind {
        Kind::Image => ([vec![object["config"].clone()], listed("layers")].concat(), Vec::new()),
        Kind::Index => (Vec::new(), listed("manifests")),
    };
    same(&view.blobs, &blobs);
    same(&view.manifests, &manifests);
    let subject: Vec<Value> = object.get("subject").filter(|subject| !subject.is_null()).cloned().into_iter().collect();
    same(view.subject.as_slice(), &subject);
    if view.kind == Kind::Image {
        assert!(view.artifact_type.is_some(), "an image has an artifact type, at least that of its configuration");
    }
}

/// The view has these descriptors, in this order, and no others.
fn same(seen: &[Descriptor], written: &[Value]) {
    assert_eq!(seen.len(), written.len());
    for (seen, written) in seen.iter().zip(written) {
        assert_eq!(written["mediaType"], seen.media_type.as_str());
        assert_eq!(written["digest"], seen.digest.to_string());
        assert_eq!(written["size"].as_u64(), Some(seen.size));
        let again: Descriptor = serde_json::from_value(serde_json::to_value(seen).unwrap()).unwrap();
        assert_eq!(again, *seen);
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(entries) => 1 + entries.iter().map(depth).max().unwrap_or(0),
        Value::Object(entries) => 1 + entries.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
