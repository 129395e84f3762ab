//! What repositories may hold, tags that stay where they are, and how much somebody may ask.

use serde_json::Value;

use crate::harness::{As, Server, image};

const RULES: &str = r#"
[[access]]
who = ["user:alice", "user:bob"]
may = ["pull", "push", "delete"]
repositories = ["**"]
[[repository]]
names = ["team/**"]
immutable = ["v*"]
[[repository]]
names = ["small/**"]
max_size = "2000"
[[repository]]
names = ["few/**"]
max_tags = 2
"#;

async fn error(response: reqwest::Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let error = &body["errors"][0];
    (status, error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_immutable_tag_is_neither_moved_nor_removed() {
    let server = Server::start(RULES).await;
    let alice = As::User("alice");
    let (first, _) = server.push_image(alice, "team/app", "v1", "one").await;
    // The same again changes nothing, and is no fault: clients push again after a lost answer.
    assert_eq!(server.push_image(alice, "team/app", "v1", "one").await.0, first);
    let config = server.push_blob(alice, "team/app", "{}").await;
    let layer = server.push_blob(alice, "team/app", "two").await;
    let push = |path: &str| {
        let request = server.request(alice, "PUT", path).header("content-type", oci::media_type::OCI_MANIFEST);
        request.body(image(&config, &layer, 3, None).to_string()).send()
    };
    let (status, code, message) = error(push("/v2/team/app/manifests/v1").await.unwrap()).await;
    assert_eq!((status, code.as_str()), (403, "DENIED"));
    assert!(message.contains("the tag v1 of team/app is immutable"), "{message}");
    // By several tags at once none is set, if one may not.
    let second = crate::harness::sha256(image(&config, &layer, 3, None).to_string().as_bytes());
    let answer = push(&format!("/v2/team/app/manifests/{second}?tag=latest&tag=v1")).await.unwrap();
    assert_eq!(answer.status(), 403);
    assert_eq!(server.status(alice, "GET", "/v2/team/app/manifests/latest").await, 404);
    assert_eq!(push("/v2/team/app/manifests/latest").await.unwrap().status(), 201);
    for path in ["/v2/team/app/manifests/v1".to_owned(), format!("/v2/team/app/manifests/{first}")] {
        let (status, code, message) = error(server.ask(alice, "DELETE", &path).await).await;
        assert_eq!((status, code.as_str()), (403, "DENIED"));
        assert!(message.contains("immutable"), "{message}");
    }
    let answer = server.ask(alice, "GET", "/v2/team/app/manifests/v1").await;
    assert_eq!(answer.headers()["docker-content-digest"], first.to_string());
    // Other tags and other repositories are as before.
    assert_eq!(server.status(alice, "DELETE", "/v2/team/app/manifests/latest").await, 202);
    server.push_image(alice, "other/app", "v1", "one").await;
    server.push_image(alice, "other/app", "v1", "two").await;
}

#[tokio::test]
async fn of_many_who_set_an_immutable_tag_at_once_one_does() {
    let server = Server::start(RULES).await;
    let alice = As::User("alice");
    let config = server.push_blob(alice, "team/app", "{}").await;
    let mut bodies = Vec::new();
    for number in 0..16 {
        let layer = server.push_blob(alice, "team/app", format!("layer {number:02}")).await;
        bodies.push(image(&config, &layer, 8, None).to_string());
    }
    let pushes = bodies.iter().map(|body| {
        let request = server.request(alice, "PUT", "/v2/team/app/manifests/v9");
        request.header("content-type", oci::media_type::OCI_MANIFEST).body(body.clone()).send()
    });
    let answers = futures_util::future::join_all(pushes).await;
    let taken = answers.iter().filter(|answer| answer.as_ref().unwrap().status() == 201).count();
    assert_eq!(taken, 1);
}

#[tokio::test]
async fn a_repository_holds_no_more_than_its_quota() {
    let server = Server::start(RULES).await;
    let alice = As::User("alice");
    server.push_image(alice, "small/app", "one", &"a".repeat(500)).await;
    let config = server.push_blob(alice, "small/app", "{}").await;
    let layer = server.push_blob(alice, "small/app", "b".repeat(1_200)).await;
    let push = |tag: &str| {
        let request = server.request(alice, "PUT", &format!("/v2/small/app/manifests/{tag}"));
        request.header("content-type", oci::media_type::OCI_MANIFEST).body(image(&config, &layer, 1_200, None).to_string()).send()
    };
    let (status, code, message) = error(push("two").await.unwrap()).await;
    assert_eq!((status, code.as_str()), (403, "DENIED"));
    assert!(message.contains("may hold 2000"), "{message}");
    // What is there already takes no more room under another tag.
    server.push_image(alice, "small/app", "again", &"a".repeat(500)).await;
    let there = server.ask(alice, "HEAD", "/v2/small/app/manifests/one").await;
    let digest = there.headers()["docker-content-digest"].to_str().unwrap().to_owned();
    assert_eq!(server.status(alice, "DELETE", &format!("/v2/small/app/manifests/{digest}")).await, 202);
    assert_eq!(push("two").await.unwrap().status(), 201);
    // Each repository has its own.
    server.push_image(alice, "small/other", "one", &"a".repeat(1_000)).await;
}

#[tokio::test]
async fn a_repository_has_no_more_tags_than_it_may() {
    let server = Server::start(RULES).await;
    let alice = As::User("alice");
    for tag in ["a", "b", "a"] {
        server.push_image(alice, "few/app", tag, tag).await;
    }
    let config = server.push_blob(alice, "few/app", "{}").await;
    let push = || {
        let request = server.request(alice, "PUT", "/v2/few/app/manifests/c");
        request.header("content-type", oci::media_type::OCI_MANIFEST).body(image(&config, &config, 2, None).to_string()).send()
    };
    let (status, _, message) = error(push().await.unwrap()).await;
    assert!(status == 403 && message.contains("has 2 tags and may have 2"), "{status} {message}");
    assert_eq!(server.status(alice, "DELETE", "/v2/few/app/manifests/a").await, 202);
    assert_eq!(push().await.unwrap().status(), 201);
}

#[tokio::test]
async fn whoever_asks_too_much_is_told_when_to_come_back() {
    let limit = "[[limit]]\nwho = [\"user:bob\"]\nrequests_per_second = 1\n";
    let server = Server::start(&format!("{RULES}{limit}")).await;
    let mut refused = None;
    for _ in 0..15 {
        let answer = server.ask(As::User("bob"), "GET", "/v2/").await;
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    assert!((1..=4).contains(&refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap()));
    let (_, code, message) = error(refused).await;
    assert!(code == "TOOMANYREQUESTS" && message.contains("too fast"), "{code} {message}");
    for _ in 0..30 {
        assert_eq!(server.status(As::User("alice"), "GET", "/v2/").await, 200);
    }
    assert_eq!(server.status(As::Nobody, "GET", "/livez").await, 200);
}
