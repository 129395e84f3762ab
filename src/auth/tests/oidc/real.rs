//! Providers that other people wrote: what they publish and sign is read as it is.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use outbound::{Body, Client, Config, Response};
use roadstead_auth::{Provider, Refusal};
use serde_json::{Value, json};
use telemetry::{Clock, SystemClock};
use url::Url;

use crate::harness::{World, named};

const WAIT: Duration = Duration::from_secs(30);

/// A program that ends with its test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where `tests/tools/install` puts it.
fn tool(name: &str) -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let tools = std::env::var_os("ROADSTEAD_TOOLS").map_or_else(|| cache.join("roadstead/tools"), PathBuf::from);
    let path = tools.join("bin").join(name);
    assert!(path.exists(), "{name} is missing: run tests/tools/install");
    path
}

/// A world at the time of these programs, which have the machine's clock.
fn world_of_today() -> World {
    let world = World::new();
    let seconds = |time: SystemTime| i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    world.clock.jump(seconds(SystemClock::default().now()) - seconds(world.clock.now()));
    world
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn client(origin: &str) -> Client {
    Client::new(&Config { system_roots: false, ..Config::new(&url(origin)) }).unwrap()
}

async fn post(address: &str, user: Option<&str>, form: &str) -> Response {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))]);
    if let Some(user) = user {
        headers.insert(AUTHORIZATION, format!("Basic {}", STANDARD.encode(user)).parse().unwrap());
    }
    let body = Body::Bytes(form.to_owned().into());
    client(address).send(Method::POST, &url(address), headers, body, WAIT, WAIT).await.unwrap()
}

async fn json_of(response: Response) -> Value {
    let status = response.status;
    let body = response.bytes(1 << 20).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body:?}");
    serde_json::from_slice(&body).unwrap()
}

/// `oidc-provider`, and its issuer.
fn provider_of_node(options: &[&str]) -> (Program, String) {
    let mut command = Command::new(tool("oidc-provider"));
    let mut child = command.args(options).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let program = Program(child);
    let issuer = lines.find_map(|line| line.ok().filter(|line| line.starts_with("http://"))).unwrap();
    (program, issuer)
}

async fn token_of_node(issuer: &str) -> String {
    let answer = json_of(post(&format!("{issuer}/token"), Some("ci:ci-secret"), "grant_type=client_credentials").await).await;
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn tokens_of_a_real_provider_are_taken() {
    let claims = json!({ "repository": "org/app", "realm_access": { "roles": ["dev", "ops"] } }).to_string();
    for algorithm in ["RS256", "PS384", "ES256", "ES384", "EdDSA"] {
        let (_program, issuer) = provider_of_node(&["--algorithm", algorithm, "--claims", &claims]);
        let world = world_of_today();
        let settings = Provider::new("node", &issuer, vec!["registry".to_owned()]);
        let oidc = world.oidc(vec![Provider { groups: "realm_access.roles".to_owned(), ..settings.clone() }]);
        let token = token_of_node(&issuer).await;
        let verified = oidc.verify(&token).await.unwrap();
        let who = verified.principal();
        assert_eq!((who.name(), who.groups().join(" ")), ("oidc:node:ci", "dev ops".to_owned()), "{algorithm}");
        assert_eq!(who.claim("repository"), ["org/app"]);
        let other = world.oidc(vec![Provider { audiences: vec!["another".to_owned()], ..settings }]);
        assert_eq!(named(&other, &token).await, Err(Refusal::Audience));
        world.clock.advance(Duration::from_mins(7));
        assert_eq!(named(&oidc, &token).await, Err(Refusal::Expired));
    }
}

#[tokio::test]
async fn a_real_provider_changes_its_key() {
    let (program, issuer) = provider_of_node(&["--lifetime", "86400"]);
    let world = world_of_today();
    let oidc = world.oidc(vec![Provider::new("node", &issuer, vec!["registry".to_owned()])]);
    let old = token_of_node(&issuer).await;
    assert!(named(&oidc, &old).await.is_ok());
    let hangs_up = Command::new("kill").args(["-HUP", &program.0.id().to_string()]).status().unwrap();
    assert!(hangs_up.success());
    let head = |token: &str| token.split('.').next().unwrap().to_owned();
    let mut new = token_of_node(&issuer).await;
    for _ in 0..100 {
        if head(&new) != head(&old) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        new = token_of_node(&issuer).await;
    }
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(named(&oidc, &new).await.as_deref(), Ok("oidc:node:ci"));
    assert_eq!(named(&oidc, &old).await, Err(Refusal::Key));
}

/// `oidc-provider-mock`, and its issuer.
async fn provider_of_python() -> (Program, String) {
    // It takes no port 0.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(tool("oidc-provider-mock"));
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--user-claims", "{\"sub\":\"ann\",\"groups\":[\"dev\"]}"]);
    let program = Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let issuer = format!("http://127.0.0.1:{port}");
    let client = client(&issuer);
    for _ in 0..600 {
        if client.get(&url(&format!("{issuer}/jwks")), HeaderMap::new()).await.is_ok() {
            return (program, issuer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("oidc-provider-mock does not listen");
}

#[tokio::test]
async fn an_id_token_that_names_no_key_is_taken() {
    let (_program, issuer) = provider_of_python().await;
    let back = "redirect_uri=http://127.0.0.1:1/back";
    let asked = format!("{issuer}/oauth2/authorize?client_id=registry&{back}&response_type=code&scope=openid&state=s");
    let sent = post(&asked, None, "sub=ann").await;
    let location = url(sent.headers[LOCATION].to_str().unwrap());
    let code = location.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    let form = format!("grant_type=authorization_code&code={code}&{back}");
    let answer = json_of(post(&format!("{issuer}/oauth2/token"), Some("registry:any"), &form).await).await;
    let world = world_of_today();
    let oidc = world.oidc(vec![Provider::new("python", &issuer, vec!["registry".to_owned()])]);
    let verified = oidc.verify(answer["id_token"].as_str().unwrap()).await.unwrap();
    assert_eq!((verified.principal().name(), verified.principal().groups().join(" ")), ("oidc:python:ann", "dev".to_owned()));
    // What its access token is, only it knows.
    assert_eq!(named(&oidc, answer["access_token"].as_str().unwrap()).await, Err(Refusal::Malformed));
}
