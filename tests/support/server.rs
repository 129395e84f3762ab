//! The server under test: the real binary, with a configuration file of its own, up before the test goes on.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::process::{Daemon, Place, free_port};

/// A running `roadstead serve`, ended when dropped.
pub(crate) struct Server {
    daemon: Daemon,
    scheme: &'static str,
    address: SocketAddr,
}

impl Server {
    /// Starts a server in a directory of its own. The settings are what follows `listen` in the configuration file.
    pub(crate) fn start(place: &Place, directory: &Path, settings: &str) -> Self {
        std::fs::create_dir_all(directory).expect("the directory can be made");
        let address = SocketAddr::new(place.address.unwrap_or(Ipv4Addr::LOCALHOST.into()), free_port());
        let mut config = String::new();
        writeln!(config, "[server]\nlisten = \"{address}\"\n{settings}").expect("a string takes text");
        let file = directory.join("roadstead.toml");
        std::fs::write(&file, config).expect("the configuration can be written");
        let mut command = place.daemon(Path::new(env!("CARGO_BIN_EXE_roadstead")));
        command.arg("serve").arg("--config").arg(&file).current_dir(directory);
        let daemon = Daemon::start(&mut command, directory.join("roadstead.log"));
        let scheme = if settings.contains("[server.tls]") { "https" } else { "http" };
        let mut server = Self { daemon, scheme, address };
        let ready = server.url("/readyz");
        server.daemon.wait_until(|| place.request(&[&ready]).is_some_and(|(status, _)| status == 200));
        server
    }

    /// Its address, as an image name begins with it.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The URL of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.host())
    }
}
