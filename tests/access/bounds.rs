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
    assert!((1..=5).contains(&refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap()));
    let (_, code, message) = error(refused).await;
    assert!(code == "TOOMANYREQUESTS" && message.contains("too fast"), "{code} {message}");
    for _ in 0..30 {
        assert_eq!(server.status(As::User("alice"), "GET", "/v2/").await, 200);
    }
    assert_eq!(server.status(As::Nobody, "GET", "/livez").await, 200);
}

#[tokio::test]
async fn a_quota_goes_by_what_is_there_and_not_by_what_a_manifest_says() {
    let server = Server::start(RULES).await;
    let alice = As::User("alice");
    let config = server.push_blob(alice, "small/app", "{}").await;
    let layer = server.push_blob(alice, "small/app", "b".repeat(1_500)).await;
    let request = server.request(alice, "PUT", "/v2/small/app/manifests/v1");
    let lies = image(&config, &layer, 1, None).to_string();
    let answer = request.header("content-type", oci::media_type::OCI_MANIFEST).body(lies).send().await.unwrap();
    let (status, code, message) = error(answer).await;
    assert!(status == 400 && code == "MANIFEST_INVALID" && message.contains("1500 bytes"), "{status} {code} {message}");
    // Layers that images share count once, and until the last of them is gone.
    let mut manifests = Vec::new();
    for tag in ["v1", "v2", "v3"] {
        let config = server.push_blob(alice, "small/shared", format!("{{\"tag\":\"{tag}\"}}")).await;
        let layer = server.push_blob(alice, "small/shared", "s".repeat(700)).await;
        let mut manifest = image(&config, &layer, 700, None);
        manifest["config"]["size"] = serde_json::json!(12);
        let request = server.request(alice, "PUT", &format!("/v2/small/shared/manifests/{tag}"));
        let request = request.header("content-type", oci::media_type::OCI_MANIFEST).body(manifest.to_string());
        manifests
            .push((request.send().await.unwrap().status().as_u16(), crate::harness::sha256(manifest.to_string().as_bytes())));
    }
    let statuses: Vec<u16> = manifests.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [201, 201, 201]);
}

#[tokio::test]
async fn bytes_are_counted_that_came_or_went_and_none_that_were_only_announced() {
    let limit = "[[limit]]\nwho = [\"user:bob\"]\nbytes_per_hour = 10000\n";
    let server = Server::start(&format!("{RULES}{limit}")).await;
    let (bob, alice) = (As::User("bob"), As::User("alice"));
    let large = server.push_blob(alice, "team/app", "x".repeat(50_000)).await;
    // What HEAD tells of was not sent, and what is refused did not come.
    assert_eq!(server.status(bob, "HEAD", &format!("/v2/team/app/blobs/{large}")).await, 200);
    let announced =
        server.request(bob, "GET", "/v2/").header("content-length", "900000000000").timeout(std::time::Duration::from_secs(1));
    drop(announced.send().await);
    assert_eq!(server.status(bob, "GET", "/v2/").await, 200);
    // A push without a length counts as it comes.
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("y".repeat(12_000))]));
    let digest = crate::harness::sha256("y".repeat(12_000).as_bytes());
    let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    assert_eq!(server.request(bob, "POST", &path).body(body).send().await.unwrap().status(), 201);
    let answer = server.ask(bob, "GET", "/v2/").await;
    assert_eq!(answer.status(), 429);
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 600);
    assert_eq!(server.status(alice, "GET", "/v2/").await, 200);
}
