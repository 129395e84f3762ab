//! A real registry of another make, Debian's docker-registry, in the place of Docker Hub.

use std::path::Path;

use crate::support::layout::Layout;
use crate::support::process::{Daemon, Place, run, tool};

/// Starts it, empty, with its files in `directory`.
pub(crate) fn start(place: &Place, directory: &Path, port: u16) -> Daemon {
    let (data, file) = (directory.join("upstream"), directory.join("upstream.yml"));
    let storage = format!("storage: {{filesystem: {{rootdirectory: {}}}}}", data.display());
    let config = format!("version: 0.1\n{storage}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n");
    std::fs::write(&file, config).expect("the configuration can be written");
    let mut command = place.daemon(&tool("docker-registry"));
    // A certificate bundle meant for other programs stops its S3 driver, and with that all of it.
    command.env_remove("AWS_CA_BUNDLE").arg("serve").arg(&file);
    let mut registry = Daemon::start(&mut command, directory.join("upstream.log"));
    let url = format!("http://127.0.0.1:{port}/v2/");
    registry.wait_until(|| place.request(&[&url]).is_some());
    registry
}

/// Pushes an image to it, as `name`.
pub(crate) fn push(place: &Place, image: &Layout, port: u16, name: &str) {
    let mut skopeo = place.program(&tool("skopeo"));
    skopeo.args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false"]);
    skopeo.arg(format!("oci:{}:1", image.path.display()));
    run(skopeo.arg(format!("docker://127.0.0.1:{port}/{name}")));
}
