//! Azurite, the emulator of Azure's blob storage.

use std::process::Command;

use crate::buckets::{BUCKET, Server, port, request, start, tool, until};

/// The account that Azurite is born with, the same everywhere.
pub(crate) const AZURE: (&str, &str) =
    ("devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==");

/// Azurite, with its container.
pub(crate) fn azurite() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let port = port();
    let mut command = Command::new(tool("azurite-blob"));
    command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--silent", "--skipApiVersionCheck"]);
    command.args(["--disableTelemetry", "-l"]).arg(folder.path());
    let process = start(&mut command, folder.path());
    let server = Server { process, endpoint: format!("http://127.0.0.1:{port}/{}", AZURE.0), folder };
    // A container is made by a signed request. [Azure Storage, Authorize with Shared Key]
    let date = "Sun, 22 Nov 2026 00:00:00 GMT";
    let resource = format!("/{}/{}/{BUCKET}\nrestype:container", AZURE.0, AZURE.0);
    let text = format!("PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-08-06\n{resource}");
    let signature = shared_key(&text);
    let headers =
        format!("x-ms-date: {date}\r\nx-ms-version: 2021-08-06\r\nauthorization: SharedKey {}:{signature}\r\n", AZURE.0);
    until(server.folder.path(), || request(port, "PUT", &format!("/{}/{BUCKET}?restype=container", AZURE.0), &headers, ""));
    server
}

/// HMAC-SHA-256 under the account's key, in base64. [RFC 2104]
fn shared_key(text: &str) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let mut key = STANDARD.decode(AZURE.1).unwrap();
    key.resize(64, 0);
    let hash = |pad: u8, message: &[u8]| {
        let mut bytes: Vec<u8> = key.iter().map(|byte| byte ^ pad).collect();
        bytes.extend_from_slice(message);
        hex::decode(oci::Hasher::digest(oci::Algorithm::Sha256, &bytes).hex()).unwrap()
    };
    STANDARD.encode(hash(0x5c, &hash(0x36, text.as_bytes())))
}
