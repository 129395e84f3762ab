use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A key that signs, with what is published of it.
pub(crate) struct SigningKey {
    pub(crate) kid: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) pair: KeyPair,
    secret: EncodingKey,
}

fn rsa(kid: &'static str) -> SigningKey {
    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let secret = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
    SigningKey { kid, algorithm: Algorithm::RS256, pair, secret }
}

/// Keys that take long to make are made once.
pub(crate) static RSA: LazyLock<SigningKey> = LazyLock::new(|| rsa("rsa"));
pub(crate) static OTHER_RSA: LazyLock<SigningKey> = LazyLock::new(|| rsa("rsa"));
pub(crate) static P256: LazyLock<SigningKey> = LazyLock::new(|| {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let secret = EncodingKey::from_ec_der(&pair.serialize_der());
    SigningKey { kid: "p256", algorithm: Algorithm::ES256, pair, secret }
});
pub(crate) static P384: LazyLock<SigningKey> = LazyLock::new(|| {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let secret = EncodingKey::from_ec_der(&pair.serialize_der());
    SigningKey { kid: "p384", algorithm: Algorithm::ES384, pair, secret }
});
pub(crate) static ED: LazyLock<SigningKey> = LazyLock::new(|| {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let secret = EncodingKey::from_ed_der(&pair.serialize_der());
    SigningKey { kid: "ed", algorithm: Algorithm::EdDSA, pair, secret }
});

impl SigningKey {
    pub(crate) fn header(&self) -> Header {
        Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    pub(crate) fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.secret).unwrap()
    }

    /// As it is published: without `alg`, so that it is good for all that its kind can.
    pub(crate) fn public(&self) -> Value {
        let raw = self.pair.public_key_raw();
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |size: usize, curve: &str| json!({ "kty": "EC", "crv": curve, "x": encoded(&raw[1..=size]), "y": encoded(&raw[1 + size..]) });
        let mut public = match self.algorithm {
            Algorithm::ES256 => point(32, "P-256"),
            Algorithm::ES384 => point(48, "P-384"),
            Algorithm::EdDSA => json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(raw) }),
            _ => {
                let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.secret, self.algorithm).unwrap()).unwrap();
                jwk.as_object_mut().unwrap().remove("alg");
                jwk
            }
        };
        public["kid"] = self.kid.into();
        public["use"] = "sig".into();
        public
    }
}

/// How the address of the keys answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// 500.
    Broken,
    /// Closes the connection.
    Gone,
    /// A body of ten gigabytes, which it has announced.
    Huge,
    /// The same in chunks, without an end that anybody would see.
    Endless,
    /// The beginning of a body, and then a byte now and then.
    Slow,
    /// Sends elsewhere.
    Elsewhere,
    /// A page.
    Page,
}

struct State {
    keys: Vec<Value>,
    mood: Mood,
    discovery: Option<Value>,
    asked_discovery: usize,
    asked_keys: usize,
}

/// An issuer on this machine.
#[derive(Clone)]
pub(crate) struct Issuer {
    port: u16,
    state: Arc<Mutex<State>>,
    /// Bytes of bodies that were taken from it.
    sent: Arc<AtomicU64>,
}

impl Issuer {
    /// With these keys.
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let keys = keys.iter().map(|key| key.public()).collect();
        let state = State { keys, mood: Mood::Good, discovery: None, asked_discovery: 0, asked_keys: 0 };
        let issuer = Self { port, state: Arc::new(Mutex::new(state)), sent: Arc::default() };
        let here = issuer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let here = here.clone();
                tokio::spawn(async move { here.answer(stream).await });
            }
        });
        issuer
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        self.publish_raw(keys.iter().map(|key| key.public()).collect());
    }

    pub(crate) fn publish_raw(&self, keys: Vec<Value>) {
        self.state.lock().unwrap().keys = keys;
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// What it says of itself.
    pub(crate) fn describe(&self, discovery: Value) {
        self.state.lock().unwrap().discovery = Some(discovery);
    }

    /// How often it was asked for its description, and for its keys.
    pub(crate) fn asked(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.asked_discovery, state.asked_keys)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    async fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let path = String::from_utf8_lossy(&head).split(' ').nth(1)?.to_owned();
        let (mood, body) = {
            let mut state = self.state.lock().unwrap();
            if path.ends_with("/.well-known/openid-configuration") {
                state.asked_discovery += 1;
                let usual = json!({ "issuer": self.url(), "jwks_uri": format!("{}/keys", self.url()) });
                (Mood::Good, state.discovery.clone().unwrap_or(usual).to_string())
            } else {
                state.asked_keys += 1;
                (state.mood, json!({ "keys": state.keys }).to_string())
            }
        };
        match mood {
            Mood::Good => self.send(&mut stream, "200 OK", "", &body).await,
            Mood::Broken => self.send(&mut stream, "500 Internal Server Error", "", "no").await,
            Mood::Page => self.send(&mut stream, "200 OK", "", "<html>").await,
            Mood::Elsewhere => self.send(&mut stream, "302 Found", &format!("location: {}/good\r\n", self.url()), &body).await,
            Mood::Gone => Some(()),
            Mood::Huge => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n").await.ok()?;
                self.flood(&mut stream, "").await
            }
            Mood::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
                self.flood(&mut stream, "10000\r\n").await
            }
            Mood::Slow => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await.ok()?;
                for byte in body.bytes() {
                    stream.write_u8(byte).await.ok()?;
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                }
                Some(())
            }
        }
    }

    async fn send(&self, stream: &mut TcpStream, status: &str, headers: &str, body: &str) -> Option<()> {
        let mut text = String::new();
        write!(text, "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).unwrap();
        stream.write_all(text.as_bytes()).await.ok()
    }

    /// Spaces, which are good JSON before anything.
    async fn flood(&self, stream: &mut TcpStream, before: &str) -> Option<()> {
        let piece = [before.as_bytes(), &vec![b' '; 0x10000], if before.is_empty() { b"" } else { b"\r\n" }].concat();
        for _ in 0..10_u64 * 1024 * 16 {
            stream.write_all(&piece).await.ok()?;
            self.sent.fetch_add(0x10000, Ordering::Relaxed);
        }
        Some(())
    }
}
