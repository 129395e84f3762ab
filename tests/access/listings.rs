//! Nobody ever sees what he may not pull: not in a listing, not in what refers to something, not in an error.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::harness::{As, PEOPLE, Server, image};

const REPOSITORIES: [&str; 6] = ["a/one", "a/two", "a/deep/three", "b/one", "b/two", "c"];
const PATTERNS: [&str; 8] = ["a/*", "a/**", "b/*", "b/one", "c", "**", "*/one", "**/two"];

/// Who may pull what, by pattern.
type Rules = Vec<(usize, usize)>;

fn rules() -> impl Strategy<Value = Rules> {
    prop::collection::vec((0..=PEOPLE.len(), 0..PATTERNS.len()), 0..6)
}

/// As the rules mean it, said in another way than the server does.
fn matches(pattern: &str, name: &str) -> bool {
    let depth = name.matches('/').count();
    match pattern {
        "**" => true,
        "a/*" => name.starts_with("a/") && depth == 1,
        "a/**" => name.starts_with("a/"),
        "b/*" => name.starts_with("b/") && depth == 1,
        "*/one" => name.ends_with("/one") && depth == 1,
        "**/two" => name.ends_with("/two"),
        exact => exact == name,
    }
}

fn text(rules: &Rules) -> String {
    let rule = |(who, pattern): &(usize, usize)| {
        let who = PEOPLE.get(*who).map_or_else(|| "anonymous".to_owned(), |name| format!("user:{name}"));
        format!("[[access]]\nwho = [\"{who}\"]\nmay = [\"pull\"]\nrepositories = [\"{}\"]\n", PATTERNS[*pattern])
    };
    let all = "[[access]]\nwho = [\"robot:filler\"]\nmay = [\"pull\", \"push\"]\nrepositories = [\"**\"]\n";
    rules.iter().map(rule).collect::<String>() + all
}

/// Asks for everything that there is as somebody, and looks at every byte of the answers.
async fn look(server: &Server, who: As<'_>, visible: &BTreeSet<&str>, known: &[(String, Vec<String>)]) {
    let mut listed = BTreeSet::new();
    let mut path = "/v2/_catalog?n=2".to_owned();
    for _ in 0..10 {
        let answer = server.ask(who, "GET", &path).await;
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        for (name, secrets) in known.iter().filter(|(name, _)| !visible.contains(name.as_str())) {
            let is_told =
                |text: &str| secrets.iter().any(|secret| text.contains(secret)) || text.contains(&format!("last={name}"));
            assert!(!link.as_deref().is_some_and(is_told), "{who:?} is told of {name} by {link:?}");
        }
        if answer.status() == 401 {
            assert!(visible.is_empty());
            break;
        }
        let body: Value = answer.json().await.unwrap();
        listed.extend(body["repositories"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()));
        match link {
            Some(link) => link.trim_start_matches('<').split('>').next().unwrap().clone_into(&mut path),
            None => break,
        }
    }
    assert_eq!(listed.iter().map(String::as_str).collect::<BTreeSet<_>>(), *visible, "{who:?}");
    for (name, secrets) in known {
        let paths = [
            format!("/v2/{name}/tags/list"),
            format!("/v2/{name}/manifests/v1"),
            format!("/v2/{name}/manifests/{}", secrets[0]),
            format!("/v2/{name}/blobs/{}", secrets[1]),
            format!("/v2/{name}/referrers/{}", secrets[0]),
        ];
        for path in paths {
            let answer = server.ask(who, "GET", &path).await;
            let status = answer.status().as_u16();
            let headers = format!("{:?}", answer.headers());
            let body = String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned();
            if visible.contains(name.as_str()) {
                assert_eq!(status, 200, "{who:?} {path}");
                continue;
            }
            assert_eq!(status, if matches!(who, As::Nobody) { 401 } else { 404 }, "{who:?} {path}");
            // What was asked for may be repeated; nothing else of it is there.
            for secret in secrets.iter().filter(|secret| !path.contains(secret.as_str())) {
                assert!(!body.contains(secret) && !headers.contains(secret), "{who:?} {path} tells {secret}: {body}");
            }
        }
        // A blob of what he cannot see is not his by another name.
        for other in visible {
            let status = server.status(who, "GET", &format!("/v2/{other}/blobs/{}", secrets[1])).await;
            assert!(status == 404 || visible.contains(name.as_str()), "{who:?} has a blob of {name} by {other}");
        }
    }
}

async fn check(rules: Rules) {
    let server = Server::start(&text(&rules)).await;
    let token = server.request(As::Bearer(&server.admin_token()), "POST", "/api/v1/robots/filler/tokens");
    let token: Value = token.send().await.unwrap().json().await.unwrap();
    let filler = As::Bearer(token["token"].as_str().unwrap());
    let mut known = Vec::new();
    for name in REPOSITORIES {
        let (manifest, layer) = server.push_image(filler, name, "v1", &format!("the layer of {name}")).await;
        let config = server.push_blob(filler, name, "{}").await;
        let layer_of = server.push_blob(filler, name, format!("what refers to {name}")).await;
        let size = 2;
        let referrer = image(&config, &layer_of, format!("what refers to {name}").len(), Some((&manifest, size)));
        let refers = server.put(filler, &format!("/v2/{name}/manifests/signature"), &referrer).await;
        known.push((name.to_owned(), vec![manifest.to_string(), layer.to_string(), refers.to_string(), "signature".to_owned()]));
    }
    for who in 0..=PEOPLE.len() {
        // What is for everybody is for those who are known as well.
        let mine = |(owner, _): &&(usize, usize)| *owner == who || *owner == PEOPLE.len();
        let patterns: Vec<&str> = rules.iter().filter(mine).map(|(_, pattern)| PATTERNS[*pattern]).collect();
        let is_visible = |name: &&str| patterns.iter().any(|pattern| matches(pattern, name));
        let visible: BTreeSet<&str> = REPOSITORIES.into_iter().filter(is_visible).collect();
        let somebody = PEOPLE.get(who).map_or(As::Nobody, |name| As::User(name));
        look(&server, somebody, &visible, &known).await;
    }
}

#[test]
fn nobody_sees_what_he_may_not_pull() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cases = std::env::var("ROADSTEAD_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    let mut runner = TestRunner::new(Config { cases, max_shrink_iters: 20, failure_persistence: None, ..Config::default() });
    runner
        .run(&rules(), |rules| {
            runtime.block_on(check(rules));
            Ok(())
        })
        .unwrap();
}
