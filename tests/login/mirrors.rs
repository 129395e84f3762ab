//! Pulls through a server that asks for logins, by clients for which it is a mirror: what is public for everybody, and what is not.

use std::path::Path;

use base64::Engine as _;

use crate::containerd::Containerd;
use crate::containers::podman;
use crate::dockerd::Docker;
use crate::hub;
use crate::stage::{More, Stage, Way};
use crate::story::{Client, refused, went_well};
use crate::support::layout::Layout;
use crate::support::process::{Daemon, Place, free_port, output};

/// Everybody may pull it.
const PUBLIC: &str = "docker.io/library/busybox:1";
/// alice may pull it. Nothing but `?ns=registry.test` tells the server where it is.
const PRIVATE: &str = "registry.test/team/app:1";

/// A stage with an upstream registry behind the server, in the place of two of them.
fn stage(way: Way) -> Stage {
    Stage::with(way, upstream)
}

fn upstream(place: &Place, directory: &Path) -> (Option<Daemon>, More) {
    let port = free_port();
    let upstream = hub::start(place, directory, port);
    let image = Layout::write(&directory.join("busybox"), "pulled through");
    for name in ["library/busybox:1", "team/app:1"] {
        hub::push(place, &image, port, name);
    }
    let rest = format!(
        "[[upstream]]\nhost = \"docker.io\"\ndefault = true\nroot = [\"library/**\"]\nurl = \"http://127.0.0.1:{port}\"\n\
         [[upstream]]\nhost = \"registry.test\"\nurl = \"http://127.0.0.1:{port}\"\n"
    );
    (Some(upstream), More { rest, ..More::default() })
}

/// dockerd tells no mirror who asks: it gets a token for nobody in particular, as from Docker Hub.
#[test]
fn dockerd_pulls_what_is_public_through_a_mirror_that_asks_for_logins() {
    let stage = stage(Way::Tokens);
    let docker = Docker::start(&stage, &format!(r#"{{"registry-mirrors": ["https://{}"]}}"#, stage.host()));
    went_well("a pull", &output(docker.command().args(["pull", "busybox:1"])));
}

/// And gives up where only passwords are taken, since it has none for the mirror. Then it asks Docker Hub, which is not to be had here.
#[test]
fn dockerd_pulls_nothing_through_a_mirror_that_takes_passwords_alone() {
    let stage = stage(Way::Password);
    let docker = Docker::start(&stage, &format!(r#"{{"registry-mirrors": ["https://{}"]}}"#, stage.host()));
    refused("a pull", &output(docker.command().args(["pull", "busybox:1"])), &["registry-1.docker.io"]);
}

#[test]
fn containerd_pulls_through_a_mirror_with_credentials() {
    for way in [Way::Password, Way::Tokens, Way::Robot] {
        let stage = stage(way);
        let containerd = Containerd::start(&stage, None);
        let (name, password) = &stage.login;
        let pull = |hosts: &str, more: &[&str], image: &str| {
            containerd.ctr(&[&["images", "pull", "--snapshotter=native", "--hosts-dir", hosts], more, &[image]].concat())
        };
        let plain = hosts(&stage, "plain", "");
        went_well("what is public", &pull(&plain, &[], PUBLIC));
        refused("what is not, without a login", &pull(&plain, &[], PRIVATE), &["unauthorized"]);
        let user = format!("{name}:{password}");
        went_well("what is not, with a name and a password", &pull(&plain, &["--user", &user], PRIVATE));
        containerd.ctr(&["images", "rm", "--sync", PRIVATE]);
        went_well("the same by a header", &pull(&hosts(&stage, "header", &header(&user)), &[], PRIVATE));
        containerd.ctr(&["images", "rm", "--sync", PRIVATE]);
        let wrong = hosts(&stage, "wrong", &header("alice:wrong"));
        refused("a wrong password in the header", &pull(&wrong, &[], PRIVATE), &["unauthorized", "authorization failed"]);
    }
}

#[test]
fn podman_pulls_through_a_mirror_with_the_login_of_the_mirror() {
    for way in [Way::Password, Way::Tokens, Way::Issuer] {
        let stage = stage(way);
        let podman = podman(&stage);
        let (name, password) = &stage.login;
        refused("a pull without a login", &podman.pull("registry.test/team/app"), &["unauthorized"]);
        went_well("a login at the mirror", &podman.login(name, password));
        went_well("a pull", &podman.pull("registry.test/team/app"));
    }
}

/// A kubelet says names and passwords of its pull secrets with each pull; those for a mirror stand in the node's configuration.
#[test]
fn a_kubelet_pulls_with_pull_secrets_and_through_a_mirror() {
    for way in [Way::Password, Way::Tokens, Way::Issuer] {
        let stage = stage(way);
        let (name, password) = &stage.login;
        let user = format!("{name}:{password}");
        let folder = hosts(&stage, "node", &header(&user));
        let text = format!("server = \"https://{}\"\nca = \"{}\"\n[host]\n", stage.host(), stage.authority.display());
        stage.write(&format!("node/{}/hosts.toml", stage.host()), &text);
        let settings = format!(
            "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"{folder}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n"
        );
        let containerd = Containerd::start(&stage, Some(&settings));
        went_well("what is public, through the mirror", &containerd.crictl(&["pull", PUBLIC]));
        went_well("what is not, through the mirror", &containerd.crictl(&["pull", PRIVATE]));
        let image = stage.name("registry.test/team/app:1");
        refused("by the server's name, without a secret", &containerd.crictl(&["pull", &image]), &["unauthorized"]);
        refused("with a wrong secret", &containerd.crictl(&["pull", "--creds", "alice:wrong", &image]), &["unauthorized"]);
        went_well("with a pull secret", &containerd.crictl(&["pull", "--creds", &user, &image]));
    }
}

/// The folder with settings that make the server the mirror of both registries, and the only place to ask.
fn hosts(stage: &Stage, folder: &str, more: &str) -> String {
    let (host, authority) = (stage.host(), stage.authority.display().to_string());
    for registry in ["docker.io", "registry.test"] {
        let text = format!(
            "server = \"http://127.0.0.1:9\"\n[host.\"https://{host}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"{authority}\"\n{}",
            more.replace("HOST", &host)
        );
        stage.write(&format!("{folder}/{registry}/hosts.toml"), &text);
    }
    stage.path(folder).display().to_string()
}

fn header(user: &str) -> String {
    let credentials = base64::engine::general_purpose::STANDARD.encode(user);
    format!("[host.\"https://HOST\".header]\n  authorization = \"Basic {credentials}\"\n")
}
