//! `roadstead certs`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use telemetry::{Clock, SystemClock};

use super::table::shown;
use super::{Output, print};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a certificate of an authority of your own, and say how clients trust it: for a desk or a laboratory
    Dev {
        /// Names and addresses that clients use for this server
        #[arg(default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
        names: Vec<String>,
        /// The folder for the files; an authority that is there signs again
        #[arg(long, value_name = "FOLDER", default_value = "dev-certs")]
        folder: PathBuf,
        /// The port in what is said about clients
        #[arg(long, default_value_t = 5000)]
        port: u16,
    },
}

/// Does it, and answers how the process should end.
pub(super) fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    let Command::Dev { names, folder, port } = command;
    let made = ::certs::dev::make(&folder, &names, SystemClock::default().now())?;
    let answer = json!({
        "authority": made.authority,
        "certificate": made.certificate,
        "key": made.key,
        "is_new_authority": made.is_new_authority,
        "fingerprint": made.fingerprint,
    });
    let name = names.first().map_or("localhost", String::as_str);
    let host = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
    let said = format!(
        "made {} and {}; serve with them by\n\n[server.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n\n{}",
        made.certificate.display(),
        made.key.display(),
        made.certificate.display(),
        made.key.display(),
        made.instructions(&host)
    );
    Ok(print(&shown(output, &answer, |_| said.clone())))
}
