//! Clients that are known by their certificates: who may is asked as of everybody else, and no password is.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::containerd::Containerd;
use crate::dockerd::Docker;
use crate::stage::{More, OWNER, Stage, Way};
use crate::story::{Client, TAG, refused, went_well};
use crate::support::process::{Place, output, run, tool};

/// In the rules, by its DNS name.
const KNOWN: &str = "builder.example.org";
/// Of the same authority, and in no rule.
const OTHER: &str = "other.example.org";

fn stage(way: Way) -> Stage {
    Stage::with(way, |_, directory| {
        let authority = directory.join("clients");
        make(&authority);
        let tls = format!("client_ca = \"{}\"\n", authority.join("ca.pem").display());
        (None, More { tls, ..More::default() })
    })
}

#[test]
fn curl_is_known_by_its_certificate() {
    let stage = stage(Way::Tokens);
    let [known, other] = [KNOWN, OTHER].map(|name| stage.path("clients").join(name));
    let ask = |folder: &Path, path: &str| curl(&stage, Some(folder), &[&stage.server.url(path)]);
    assert_eq!(ask(&known, "/v2/"), 200);
    assert_eq!(ask(&other, "/v2/"), 200);
    assert_eq!(curl(&stage, None, &[&stage.server.url("/v2/")]), 401);
    let start = |folder: &Path, repository: &str| {
        curl(&stage, Some(folder), &["--request", "POST", &stage.server.url(&format!("/v2/{repository}/blobs/uploads/"))])
    };
    assert_eq!((start(&known, "team/app"), start(&known, "base/app"), start(&known, "secret/app")), (202, 403, 404));
    assert_eq!((start(&other, "team/app"), start(&other, "public/app")), (404, 403));
    // Whoever says who he is besides is that.
    let owner = format!("{}:{}", OWNER.0, OWNER.1);
    let url = stage.server.url("/v2/secret/app/blobs/uploads/");
    assert_eq!(curl(&stage, Some(&known), &["--user", &owner, "--request", "POST", &url]), 202);
    // A certificate of somebody else's authority ends the connection.
    make(&stage.path("strangers"));
    assert_eq!(ask(&stage.path("strangers").join(KNOWN), "/v2/"), 0);
}

#[test]
fn skopeo_is_known_by_its_certificate() {
    for way in [Way::Password, Way::Tokens] {
        let stage = stage(way);
        let copy = |folder: &str, from: &str, to: &str| {
            let folder = stage.path("clients").join(folder).display().to_string();
            let side = if from.starts_with("docker:") { "--src-cert-dir" } else { "--dest-cert-dir" };
            output(stage.client("skopeo").args(["--insecure-policy", "copy", "--all", side, &folder, from, to]))
        };
        for name in [KNOWN, OTHER] {
            stage.trust(&format!("clients/{name}/ca.crt"));
        }
        let image = |repository: &str| format!("docker://{}:{TAG}", stage.name(repository));
        went_well("a push", &copy(KNOWN, "oci:image:1", &image("team/app")));
        went_well("a pull", &copy(KNOWN, &image("team/app"), "oci:pulled:1"));
        refused("a push to where only pulls are allowed", &copy(KNOWN, "oci:image:1", &image("base/app")), &["denied"]);
        refused("a pull by another", &copy(OTHER, &image("team/app"), "oci:pulled:1"), &["not known"]);
    }
}

/// containerd finds its certificate beside the authority, as a node has it.
#[test]
fn containerd_is_known_by_its_certificate() {
    let stage = stage(Way::Tokens);
    let containerd = Containerd::start(&stage, None);
    let folder = stage.path("clients").join(KNOWN);
    let (host, ca) = (stage.host(), stage.authority.display());
    let text = format!(
        "server = \"https://{host}\"\nca = \"{ca}\"\nclient = [[\"{0}/client.cert\", \"{0}/client.key\"]]\n[host]\n",
        folder.display()
    );
    stage.write(&format!("known/{host}/hosts.toml"), &text);
    let hosts = stage.path("known").display().to_string();
    let name = stage.name("team/app:1.0.0");
    let archive = stage.path("image.tar").display().to_string();
    went_well("an import", &containerd.ctr(&["images", "import", "--all-platforms", "--base-name", "local/image", &archive]));
    went_well("a push", &containerd.ctr(&["images", "push", "--hosts-dir", &hosts, &name, "local/image:1"]));
    went_well("a pull", &containerd.ctr(&["images", "pull", "--snapshotter=native", "--hosts-dir", &hosts, &name]));
}

/// As does dockerd, which reads them below `/etc/docker`.
#[test]
fn dockerd_is_known_by_its_certificate() {
    for way in [Way::Password, Way::Tokens] {
        let stage = stage(way);
        for file in ["client.cert", "client.key"] {
            let text = std::fs::read_to_string(stage.path("clients").join(KNOWN).join(file)).expect("a file can be read");
            stage.write(&format!("etc/certs.d/{}/{file}", stage.host()), &text);
        }
        let docker = Docker::start(&stage, "{}");
        went_well("a push", &docker.push("team/app", TAG));
        went_well("a pull", &docker.pull("team/app"));
        refused("a push to where only pulls are allowed", &docker.push("base/app", TAG), &["denied"]);
    }
}

/// The status, 0 without any.
fn curl(stage: &Stage, certificate: Option<&Path>, arguments: &[&str]) -> u16 {
    let mut command = stage.client("curl");
    command.args(["--silent", "--output", "curl.out", "--write-out", "%{http_code}", "--cacert"]).arg(&stage.authority);
    if let Some(folder) = certificate {
        command.arg("--cert").arg(folder.join("client.cert")).arg("--key").arg(folder.join("client.key"));
    }
    let Output { stdout, .. } = output(command.args(arguments));
    String::from_utf8_lossy(&stdout).trim().parse().unwrap_or(0)
}

/// An authority of clients in a folder, and two of its clients, each with the files of `--cert-dir` in a folder of its own.
fn make(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder can be made");
    let file = |rest: &str| folder.join(rest);
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let (ca, ca_key) = (file("ca.pem"), file("ca.key"));
    let made = |command: &mut Command, key: &PathBuf, out: &PathBuf| run(command.arg("-keyout").arg(key).arg("-out").arg(out));
    made(openssl().args(["req", "-x509", "-days", "2", "-subj", "/CN=clients"]).args(key), &ca_key, &ca);
    for name in [KNOWN, OTHER] {
        std::fs::create_dir_all(file(name)).expect("a folder can be made");
        let [asked, more, key_file, cert] =
            ["asked.csr", "more", "client.key", "client.cert"].map(|rest| folder.join(name).join(rest));
        made(openssl().args(["req", "-new", "-subj", "/CN=client"]).args(key), &key_file, &asked);
        std::fs::write(&more, format!("subjectAltName=DNS:{name}\nextendedKeyUsage=clientAuth\n"))
            .expect("a file can be written");
        let mut sign = openssl();
        sign.args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"]).arg(&asked).arg("-CA").arg(&ca).arg("-CAkey");
        run(sign.arg(&ca_key).arg("-extfile").arg(&more).arg("-out").arg(&cert));
    }
}

fn openssl() -> Command {
    Place::default().program(&tool("openssl"))
}
