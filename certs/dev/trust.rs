//! How each client is told to trust an authority.

use std::path::{Path, PathBuf};

use super::Made;

impl Made {
    /// What to do on the machine of each client, so that it trusts the server at `host` (`registry.example.org:5000`).
    #[must_use]
    pub fn instructions(&self, host: &str) -> String {
        let whole = std::path::absolute(&self.authority).unwrap_or_else(|_| self.authority.clone());
        let ca = quoted(&whole);
        let fingerprint = &self.fingerprint;
        let podman = folder("/etc/containers/certs.d", host);
        let docker = folder("/etc/docker/certs.d", host);
        let containerd = folder("/etc/containerd/certs.d", host);
        format!(
            r#"Clients have to trust {ca}
(sha256 {fingerprint}).
On another machine copy that file there first, and put its path in its place below. Never copy ca.key.

podman, buildah, skopeo, CRI-O (without root: ~/.config/containers/certs.d)
  sudo install -D -m 0644 {ca} {podman}

docker (no restart)
  sudo install -D -m 0644 {ca} {docker}

containerd (with config_path = "/etc/containerd/certs.d" in its configuration; no restart)
  sudo install -D -m 0644 {ca} {containerd}
  and in {hosts}:
    server = "https://{host}"
    ca = "{containerd_bare}"
    [host]

k3s (restart k3s after it)
  sudo install -D -m 0644 {ca} /etc/rancher/k3s/roadstead-ca.crt
  and in /etc/rancher/k3s/registries.yaml:
    configs:
      "{host}":
        tls:
          ca_file: /etc/rancher/k3s/roadstead-ca.crt

the whole system, Debian and Ubuntu
  sudo install -D -m 0644 {ca} /usr/local/share/ca-certificates/roadstead-ca.crt
  sudo update-ca-certificates

the whole system, Fedora and RHEL
  sudo install -D -m 0644 {ca} /etc/pki/ca-trust/source/anchors/roadstead-ca.crt
  sudo update-ca-trust
"#,
            podman = quoted(&podman),
            docker = quoted(&docker),
            containerd = quoted(&containerd),
            containerd_bare = containerd.display(),
            hosts = containerd.with_file_name("hosts.toml").display(),
        )
    }
}

fn folder(all: &str, host: &str) -> PathBuf {
    Path::new(all).join(host).join("ca.crt")
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:+@".contains(letter);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
