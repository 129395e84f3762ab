//! Manifests: every shape is taken and given back byte for byte, with its tags and referrers.

use serde_json::{Value, json};

use crate::exchange::{ALGORITHMS, Registry, digest};
use crate::support::layout::{INDEX, MANIFEST};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

#[test]
fn every_shape_of_a_manifest_is_kept_byte_for_byte() {
    let registry = Registry::with("sparse_images = true");
    let (config, layer) = (blob(&registry, CONFIG, "{}"), blob(&registry, LAYER, "layer"));
    let absent = descriptor(LAYER, b"never pushed");
    let foreign = descriptor(FOREIGN, b"kept elsewhere");
    let image = image(&config, &[&layer]);
    let child = descriptor(MANIFEST, image.to_string().as_bytes());
    let inner = index(&[&child]);
    let mut data = config.clone();
    data["data"] = json!("e30=");
    let mut custom = image.clone();
    custom["org.example.field"] = json!({ "any": ["thing", 1.50, null] });
    let mut large = image.clone();
    let annotations: serde_json::Map<_, _> = (0..390).map(|count| (format!("a{count}"), json!("A".repeat(10_000)))).collect();
    large["annotations"] = Value::Object(annotations);
    let shapes = [
        ("image", MANIFEST, image.clone()),
        ("no-layers", MANIFEST, self::image(&config, &[])),
        ("sparse", MANIFEST, self::image(&config, &[&layer, &absent])),
        ("foreign", MANIFEST, self::image(&config, &[&foreign, &layer])),
        ("data", MANIFEST, self::image(&data, &[&layer])),
        ("custom", MANIFEST, custom),
        ("large", MANIFEST, large),
        ("index", INDEX, inner.clone()),
        ("empty-index", INDEX, index(&[])),
        ("sparse-index", INDEX, index(&[&child, &descriptor(MANIFEST, b"never pushed either")])),
        ("nested", INDEX, index(&[&descriptor(INDEX, inner.to_string().as_bytes())])),
    ];
    for (tag, media_type, document) in shapes {
        for (media_type, child) in [(MANIFEST, &image), (INDEX, &inner)] {
            let content = child.to_string();
            registry.push_manifest("team/app", &digest("sha256", content.as_bytes()), media_type, content.as_bytes()).expect(201);
        }
        keep(&registry, tag, media_type, document.to_string().as_bytes());
    }
}

#[test]
fn an_image_without_its_layer_is_refused_unless_the_configuration_takes_it() {
    let registry = Registry::new();
    let content = image(&blob(&registry, CONFIG, "{}"), &[&descriptor(LAYER, b"never pushed")]).to_string();
    let refused = registry.push_manifest("team/app", "sparse", MANIFEST, content.as_bytes());
    let body = String::from_utf8_lossy(&refused.expect(400).body);
    assert!(body.contains("MANIFEST_BLOB_UNKNOWN"), "{body}");
}

#[test]
fn tags_are_pushed_with_a_digest_of_either_algorithm() {
    let registry = Registry::new();
    let config = blob(&registry, CONFIG, "{}");
    for algorithm in ALGORITHMS {
        let content = json!({ "of": algorithm, "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] });
        let content = content.to_string();
        let digest = digest(algorithm, content.as_bytes());
        let (one, two) = (format!("{algorithm}-1"), format!("{algorithm}-2"));
        let pushed = registry.push_manifest("team/app", &format!("{digest}?tag={one}&tag={two}"), MANIFEST, content.as_bytes());
        let tags = pushed.expect(201).header("OCI-Tag").expect("the tags are told");
        let mut tags: Vec<_> = tags.split(',').map(str::trim).collect();
        tags.sort_unstable();
        assert_eq!(tags, [one.as_str(), &two]);
        for reference in [&one, &two, &digest] {
            let answer = registry.ask("GET", &path(reference));
            answer.expect(200).expect_header("Docker-Content-Digest", &digest).expect_body(content.as_bytes());
        }
        registry.delete(&path(&one));
        registry.ask("HEAD", &path(&digest)).expect(200);
        registry.delete(&path(&digest));
        registry.ask("HEAD", &path(&two)).expect(404);
    }
}

#[test]
fn a_manifest_that_is_not_its_digest_is_refused() {
    let registry = Registry::new();
    let content = image(&blob(&registry, CONFIG, "{}"), &[]).to_string();
    let digest = digest("sha256", content.as_bytes());
    let other = format!("{content}  ");
    registry.push_manifest("team/app", &digest, MANIFEST, other.as_bytes()).expect(400);
    registry.push_manifest("team/app", "sha256:baddigeststring", MANIFEST, content.as_bytes()).expect(400);
    let status = registry.ask("GET", &path("sha256:baddigeststring")).status;
    assert!(matches!(status, 400 | 404), "{status}");
    registry.ask("GET", &path(&digest)).expect(404);
    registry.ask("GET", &path("absent")).expect(404);
}

#[test]
fn tags_are_listed_in_order_and_after_one_another() {
    let registry = Registry::new();
    let status = registry.ask("GET", "/v2/team/app/tags/list").status;
    assert!(matches!(status, 200 | 404), "{status}");
    let content = image(&blob(&registry, CONFIG, "{}"), &[]).to_string();
    for tag in ["b", "a", "C", "1.10", "1.9"] {
        registry.push_manifest("team/app", tag, MANIFEST, content.as_bytes()).expect(201);
    }
    let list = |query: &str| {
        let answer = registry.ask("GET", &format!("/v2/team/app/tags/list{query}"));
        let list: Value = serde_json::from_slice(&answer.expect(200).body).expect("a list is JSON");
        (list["tags"].clone(), answer.header("Link"))
    };
    assert_eq!(list("").0, json!(["1.10", "1.9", "C", "a", "b"]));
    assert_eq!(list("?last=C").0, json!(["a", "b"]));
    assert_eq!(list("?last=B").0, json!(["C", "a", "b"]));
    let (two, link) = list("?n=2");
    assert_eq!(two, json!(["1.10", "1.9"]));
    assert!(link.is_some_and(|link| link.contains("rel=\"next\"")));
    assert_eq!(list("?n=0").0, json!([]));
}

#[test]
fn referrers_are_listed_by_their_type() {
    let registry = Registry::new();
    let (config, layer) = (blob(&registry, "application/vnd.oci.empty.v1+json", "{}"), blob(&registry, LAYER, "layer"));
    let subject = descriptor(MANIFEST, b"need not be there");
    let digest = subject["digest"].as_str().expect("a descriptor has a digest");
    let list = |query: &str| {
        let answer = registry.ask("GET", &format!("/v2/team/app/referrers/{digest}{query}"));
        answer.expect(200).expect_header("Content-Type", INDEX);
        let list: Value = serde_json::from_slice(&answer.body).expect("a list is JSON");
        assert_eq!((&list["schemaVersion"], &list["mediaType"]), (&json!(2), &json!(INDEX)));
        (list["manifests"].as_array().expect("a list has entries").clone(), answer.header("OCI-Filters-Applied"))
    };
    assert!(list("").0.is_empty());
    let mut typed = image(&config, &[&layer]);
    typed["artifactType"] = json!("application/vnd.example.one");
    typed["annotations"] = json!({ "org.example": "kept" });
    let mut listed = index(&[]);
    listed["artifactType"] = json!("application/vnd.example.two");
    let untyped = image(&blob(&registry, CONFIG, "{ }"), &[]);
    for (media_type, mut document) in [(MANIFEST, typed), (INDEX, listed), (MANIFEST, untyped)] {
        document["subject"] = subject.clone();
        let content = document.to_string();
        let reference = self::digest("sha256", content.as_bytes());
        let pushed = registry.push_manifest("team/app", &reference, media_type, content.as_bytes());
        pushed.expect(201).expect_header("OCI-Subject", digest);
    }
    assert_eq!(list("").0.len(), 3);
    for kind in ["application/vnd.example.one", "application/vnd.example.two", CONFIG] {
        let (entries, applied) = list(&format!("?artifactType={}", kind.replace('+', "%2B")));
        assert_eq!(applied.as_deref(), Some("artifactType"));
        assert_eq!(entries.len(), 1, "{kind}: {entries:?}");
        assert_eq!(entries[0]["artifactType"], kind);
    }
    let (entries, _) = list("?artifactType=application/vnd.example.one");
    assert_eq!(entries[0]["annotations"], json!({ "org.example": "kept" }));
}

/// Pushes a manifest by tag and by digest, pulls it in every way, and deletes it.
fn keep(registry: &Registry, tag: &str, media_type: &str, content: &[u8]) {
    let digest = digest("sha256", content);
    for reference in [&digest, tag] {
        let pushed = registry.push_manifest("team/app", reference, media_type, content);
        pushed.expect(201).expect_header("Docker-Content-Digest", &digest);
        registry.ask("GET", &pushed.location()).expect(200).expect_header("Content-Type", media_type).expect_body(content);
    }
    for reference in [&digest, tag] {
        for method in ["HEAD", "GET"] {
            let answer = registry.ask(method, &path(reference));
            answer.expect(200).expect_header("Content-Type", media_type).expect_header("Docker-Content-Digest", &digest);
            answer.expect_header("Content-Length", &content.len().to_string());
            answer.expect_body(if method == "GET" { content } else { b"" });
        }
    }
    registry.delete(&path(tag));
    registry.delete(&path(&digest));
}

fn path(reference: &str) -> String {
    format!("/v2/team/app/manifests/{reference}")
}

fn image(config: &Value, layers: &[&Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
}

fn index(manifests: &[&Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

fn blob(registry: &Registry, media_type: &str, content: &str) -> Value {
    registry.push_blob("team/app", content.as_bytes());
    descriptor(media_type, content.as_bytes())
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest("sha256", content), "size": content.len() })
}
