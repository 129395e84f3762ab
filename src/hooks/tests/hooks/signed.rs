//! Signatures that another program made, so that ours are not tried against themselves.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The HMAC in hex, by `openssl`.
pub(crate) fn openssl_hmac(algorithm: &str, key: &[u8], body: &[u8]) -> String {
    let key = format!("hexkey:{}", hex::encode(key));
    let mut openssl = Command::new("openssl")
        .args(["dgst", &format!("-{algorithm}"), "-mac", "HMAC", "-macopt", &key, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("openssl is needed to sign as forges do: {error}"));
    openssl.stdin.take().unwrap().write_all(body).unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl could not sign");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

/// The same in base64.
pub(crate) fn openssl_base64(key: &[u8], body: &[u8]) -> String {
    STANDARD.encode(hex::decode(openssl_hmac("sha256", key, body)).unwrap())
}
