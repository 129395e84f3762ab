//! What the OCI distribution specification asks of a registry, asked of the real binary: request by request in `blobs` and
//! `manifests`, and by the conformance suite, of which nothing may fail and nothing may be skipped as unsupported.
//!
//! The suite is a program of the Open Container Initiative, kept in the folder `conformance` of its distribution specification. No
//! package registry has it, so its tests are ignored unless asked for, with the program's path in `ROADSTEAD_CONFORMANCE`:
//!
//! ```text
//! ROADSTEAD_CONFORMANCE=/path/to/conformance cargo test --test conformance -- --include-ignored
//! ```
//!
//! Every interface and every kind of data that the suite knows is on, by the development version of the specification, those that
//! are off by default too: sparse manifests, cancelled uploads, digest headers and tag parameters.
#![expect(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]
#![expect(clippy::disallowed_methods, reason = "certificates are made by the clock of the suite")]
#![expect(clippy::unwrap_used, reason = "so does its object store")]
#![expect(clippy::print_stdout, reason = "how much passed is worth reading")]

#[path = "../support/buckets.rs"]
mod buckets;
#[path = "../support/mod.rs"]
mod support;

mod blobs;
mod exchange;
mod manifests;
mod suite;

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::json;
use suite::{Suite, Verdict};
use support::layout::{INDEX, Layout, MANIFEST, sha256};
use support::process::{Place, run, tool};
use support::server::Server;
use tempfile::TempDir;

/// What the suite passes when it does all it can; fewer means that it stopped early.
const ENOUGH: usize = 1000;
/// And when it may only read: a ping, lists, every tag, manifest and blob by HEAD and GET, and what is not there.
const ENOUGH_READ_ONLY: usize = 28;

#[test]
#[ignore = "needs the path of the suite in ROADSTEAD_CONFORMANCE"]
fn the_suite_passes_on_memory() {
    let directory = directory();
    let server = Server::start(
        &Place::default(),
        &directory.path().join("server"),
        "sparse_images = true\n[storage]\nurl = \"memory:\"\n",
    );
    Suite::new(&server.host(), &directory.path().join("results")).run().expect_clean("memory", ENOUGH);
}

#[test]
#[ignore = "needs the path of the suite in ROADSTEAD_CONFORMANCE"]
fn the_suite_passes_on_files() {
    let directory = directory();
    let server = Server::start(&Place::default(), &directory.path().join("server"), &sparse(&directory));
    Suite::new(&server.host(), &directory.path().join("results")).run().expect_clean("files", ENOUGH);
}

/// As one of several servers, so that nothing is remembered that another one could change.
#[test]
#[ignore = "needs the path of the suite in ROADSTEAD_CONFORMANCE"]
fn the_suite_passes_on_s3() {
    let directory = directory();
    let store = buckets::seaweedfs();
    let (id, secret) = buckets::KEY;
    let key = directory.path().join("secret");
    std::fs::write(&key, secret).expect("the file can be written");
    let settings = format!(
        "sparse_images = true\n[storage]\nurl = \"s3://{}/roadstead\"\nendpoint = \"{}\"\naccess_key = \"{id}\"\nsecret_key_file = \"{}\"\n",
        buckets::BUCKET,
        store.endpoint,
        key.display()
    );
    let server = Server::start(&Place::default(), &directory.path().join("server"), &settings);
    Suite::new(&server.host(), &directory.path().join("results")).run().expect_clean("S3", ENOUGH);
}

#[test]
#[ignore = "needs the path of the suite in ROADSTEAD_CONFORMANCE"]
fn the_suite_passes_over_tls_and_http2() {
    let directory = directory();
    let (certificate, key) = (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
    make_certificate(&certificate, &key);
    let settings = format!(
        "sparse_images = true\n[server.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n{}",
        certificate.display(),
        key.display(),
        files(&directory)
    );
    let server = Server::start(&Place::default(), &directory.path().join("server"), &settings);
    let verdict = Suite::new(&server.host(), &directory.path().join("results"))
        .with("OCI_TLS", "enabled")
        .with("SSL_CERT_FILE", &certificate.display().to_string())
        .with("GODEBUG", "http2debug=1")
        .run();
    assert!(verdict.stderr.contains("http2: Transport received HEADERS"), "the suite did not speak HTTP/2");
    verdict.expect_clean("TLS and HTTP/2", ENOUGH);
}

#[test]
#[ignore = "needs the path of the suite in ROADSTEAD_CONFORMANCE"]
fn the_suite_passes_with_tokens_over_tls() {
    let verdict = logged_in("token_flow = true", "Authorization: [Bearer ");
    verdict.expect_clean("TLS and tokens", ENOUGH);
}

#[test]
#[ignore = "needs the path of the suite in ROADSTEAD_CONFORMANCE"]
fn the_suite_passes_with_a_password_alone_over_tls() {
    let verdict = logged_in("token_flow = false", "Authorization: [Basic ");
    verdict.expect_clean("TLS and a password", ENOUGH);
}

#[test]
#[ignore = "needs the path of the suite in ROADSTEAD_CONFORMANCE"]
fn the_suite_passes_read_only_through_an_upstream() {
    let directory = directory();
    let place = Place::default();
    let origin = Server::start(&place, &directory.path().join("origin"), "[storage]\nurl = \"memory:\"\n");
    let image = Layout::write(&directory.path().join("image"), "read only");
    let referrer = push(&place, &origin, &image, &directory);
    let settings = format!("{}[[upstream]]\nhost = \"origin.test\"\nurl = \"{}\"\n", files(&directory), origin.url(""));
    let server = Server::start(&place, &directory.path().join("server"), &settings);
    let manifests = [[image.index.clone(), referrer].as_slice(), &image.images].concat().join(" ");
    let verdict = Suite::new(&server.host(), &directory.path().join("results"))
        .with("OCI_REPO1", "origin.test/team/app")
        .without(&["API_PUSH", "API_BLOBS_DELETE", "API_BLOBS_ATOMIC", "API_MANIFESTS_DELETE", "API_MANIFESTS_ATOMIC"])
        .without(&["API_TAGS_DELETE", "API_TAGS_ATOMIC", "API_BLOBS_MOUNT_ANONYMOUS", "API_BLOBS_UPLOAD_CANCEL"])
        // The suite looks for this header in a response that it does not keep when it did not push the manifest itself.
        .without(&["API_MANIFESTS_TAG_PARAM", "API_MANIFESTS_DIGEST_HEADER"])
        .with("OCI_RO_DATA_TAGS", "1 2")
        .with("OCI_RO_DATA_MANIFESTS", &manifests)
        .with("OCI_RO_DATA_BLOBS", &image.blobs.join(" "))
        .with("OCI_RO_DATA_REFERRERS", &image.index)
        .run();
    verdict.expect_clean("read-only through an upstream", ENOUGH_READ_ONLY);
}

fn directory() -> TempDir {
    TempDir::new().expect("a directory can be made")
}

/// The suite as somebody who may do everything in its repositories, and nothing elsewhere.
fn logged_in(flow: &str, shown: &str) -> Verdict {
    let directory = directory();
    let made = certs::dev::make(&directory.path().join("tls"), &["127.0.0.1".to_owned()], SystemTime::now());
    let made = made.expect("a certificate can be made");
    let accounts = directory.path().join("htpasswd");
    let hash = bcrypt::hash("secret", 4).expect("a password has a hash");
    std::fs::write(&accounts, format!("alice:{hash}\n")).expect("the accounts can be written");
    let settings = format!(
        "sparse_images = true\n[server.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n{}[auth]\nhtpasswd_file = \"{}\"\n{flow}\n\
         [[access]]\nwho = [\"user:alice\"]\nmay = [\"pull\", \"push\", \"delete\"]\nrepositories = [\"conformance/*\"]\n",
        made.certificate.display(),
        made.key.display(),
        files(&directory),
        accounts.display(),
    );
    let server = Server::start(&Place::default(), &directory.path().join("server"), &settings);
    let verdict = Suite::new(&server.host(), &directory.path().join("results"))
        .with("OCI_TLS", "enabled")
        .with("SSL_CERT_FILE", &made.authority.display().to_string())
        .with("OCI_USERNAME", "alice")
        .with("OCI_PASSWORD", "secret")
        .run();
    verdict.expect_sent(shown);
    verdict
}

/// Sparse images are refused unless the configuration takes them, which the suite wants to see.
fn sparse(directory: &TempDir) -> String {
    format!("sparse_images = true\n{}", files(directory))
}

fn files(directory: &TempDir) -> String {
    format!("[storage]\nurl = \"file:{}\"\n", directory.path().join("data").display())
}

fn make_certificate(certificate: &Path, key: &Path) {
    let mut openssl = Command::new(tool("openssl"));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    run(openssl.arg("-keyout").arg(key).arg("-out").arg(certificate));
}

/// Pushes the image with two tags and an artifact that refers to it, and returns the artifact's digest.
fn push(place: &Place, server: &Server, image: &Layout, directory: &TempDir) -> String {
    let send = |method: &str, path: &str, media_type: &str, file: &Path| {
        let data = format!("@{}", file.display());
        let header = format!("Content-Type: {media_type}");
        let url = server.url(&format!("/v2/team/app/{path}"));
        let answer = place.request(&["--request", method, "--header", &header, "--data-binary", &data, &url]);
        let (status, body) = answer.expect("the server answers");
        assert_eq!(status, 201, "{method} {url}: {}", String::from_utf8_lossy(&body));
    };
    let blob = |digest: &str, file: &Path| {
        send("POST", &format!("blobs/uploads/?digest={digest}"), "application/octet-stream", file);
    };
    image.blobs.iter().for_each(|digest| blob(digest, &image.file(digest)));
    for digest in &image.images {
        send("PUT", &format!("manifests/{digest}"), MANIFEST, &image.file(digest));
    }
    for tag in ["1", "2"] {
        send("PUT", &format!("manifests/{tag}"), INDEX, &image.file(&image.index));
    }
    let empty = directory.path().join("empty.json");
    std::fs::write(&empty, "{}").expect("the file can be written");
    let digest = sha256(b"{}");
    blob(&digest, &empty);
    let descriptor = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": 2 });
    let size = std::fs::metadata(image.file(&image.index)).expect("the index is a file").len();
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.sbom",
        "config": descriptor,
        "layers": [descriptor],
        "subject": { "mediaType": INDEX, "digest": image.index, "size": size },
    });
    let file = directory.path().join("artifact.json");
    std::fs::write(&file, artifact.to_string()).expect("the file can be written");
    let digest = sha256(artifact.to_string().as_bytes());
    send("PUT", &format!("manifests/{digest}"), MANIFEST, &file);
    digest
}
