//! A pebble of one's own: an ACME server, and a DNS server that knows every name to be here.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http::HeaderMap;
use outbound::{Client, Config};
use roadstead_certs::dev;
use telemetry::{Clock, SystemClock};
use tempfile::TempDir;
use url::Url;

/// How long a program may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Pebble {
    folder: TempDir,
    port: u16,
    management: u16,
    /// They end with it.
    _programs: [Program; 2],
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pebble {
    /// Looks for TLS-ALPN-01 and HTTP-01 at these ports of this machine.
    pub(crate) async fn start(tls: u16, http: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = dev::make(folder.path(), &["127.0.0.1".to_owned()], SystemClock::default().now()).unwrap();
        let [port, management, control] = free_ports();
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": made.certificate,
            "privateKey": made.key,
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let path = folder.path().join("pebble.json");
        fs::write(&path, config.to_string()).unwrap();

        let names = [
            "-defaultIPv4=127.0.0.1",
            "-defaultIPv6=",
            "-http01=",
            "-https01=",
            "-tlsalpn01=",
            &format!("-dns01=127.0.0.1:{dns}"),
            &format!("-management=127.0.0.1:{control}"),
        ];
        let names = start(folder.path(), "pebble-challtestsrv", &names);
        let server = start(
            folder.path(),
            "pebble",
            &["-config", &path.display().to_string(), "-strict", "-dnsserver", &format!("127.0.0.1:{dns}")],
        );
        let pebble = Self { folder, port, management, _programs: [names, server] };
        for port in [control, pebble.port, pebble.management] {
            pebble.wait_for(port).await;
        }
        pebble
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// The file of whoever signed its own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> Client {
        let ca = vec![self.ca()];
        let config = Config::new(&Url::parse(&self.directory()).unwrap());
        Client::new(&Config { ca, system_roots: false, ..config }).unwrap()
    }

    /// The file of the authority that issues.
    pub(crate) async fn root(&self) -> PathBuf {
        let url = Url::parse(&format!("https://127.0.0.1:{}/roots/0", self.management)).unwrap();
        let pem = self.client().get(&url, HeaderMap::new()).await.unwrap().bytes(1 << 16).await.unwrap();
        let path = self.folder.path().join("root.pem");
        fs::write(&path, pem).unwrap();
        path
    }

    async fn wait_for(&self, port: u16) {
        let listens = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, listens).await.is_err() {
            let log = fs::read_to_string(self.folder.path().join("pebble.log")).unwrap_or_default();
            panic!("nothing listens at port {port}; pebble says: {log}");
        }
    }
}

fn start(folder: &Path, program: &str, arguments: &[&str]) -> Program {
    let log = File::create(folder.join(format!("{program}.log"))).unwrap();
    let child = Command::new(program)
        .args(arguments)
        .env("PEBBLE_VA_NOSLEEP", "1")
        // Each order is proven anew.
        .env("PEBBLE_AUTHZREUSE", "0")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    Program(child.unwrap_or_else(|error| panic!("{program} is missing: run tests/tools/install ({error})")))
}

/// Ports that nobody had just now.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.each_ref().map(|listener| listener.local_addr().unwrap().port())
}
