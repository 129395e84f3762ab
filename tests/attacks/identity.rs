//! What is of somebody else: his content, his upload sessions, what refers to it, his token.

use crate::harness::{As, Server, image, sha256};

const RULES: &str = r#"
[[access]]
who = ["user:alice"]
may = ["pull", "push", "delete"]
repositories = ["secret/**"]
[[access]]
who = ["user:bob", "user:carol"]
may = ["pull", "push", "delete"]
repositories = ["team/**"]
[[access]]
who = ["user:dave"]
may = ["pull"]
repositories = ["secret/**"]
[[access]]
who = ["user:dave"]
may = ["pull", "push", "delete"]
repositories = ["dave/**"]
"#;

#[tokio::test]
async fn a_mount_takes_only_from_what_the_caller_may_pull() {
    let server = Server::start(RULES).await;
    let (_, layer) = server.push_image(As::User("alice"), "secret/app", "v1", "treasure").await;
    for from in ["&from=secret/app", ""] {
        let path = |name: &str| format!("/v2/{name}/blobs/uploads/?mount={layer}{from}");
        // As if it were not there: a session is opened, and nothing is said of whether there is such a blob.
        let absent = sha256(b"nowhere");
        let told = server.ask(As::User("bob"), "POST", &path("team/app")).await;
        let other = server.ask(As::User("bob"), "POST", &path("team/app").replace(&layer.to_string(), &absent.to_string())).await;
        assert_eq!((told.status(), other.status()), (reqwest::StatusCode::ACCEPTED, reqwest::StatusCode::ACCEPTED));
        assert_eq!(server.status(As::User("bob"), "GET", &format!("/v2/team/app/blobs/{layer}")).await, 404);
        assert_eq!(server.status(As::User("dave"), "POST", &path("dave/app")).await, 201, "{from}");
    }
}

/// As with pulls: whoever may, by the rules, is told which token he needs for it. Whoever may not is told nothing.
#[tokio::test]
async fn a_mount_needs_a_token_for_both_repositories() {
    let server = Server::start(RULES).await;
    let (_, layer) = server.push_image(As::User("alice"), "secret/app", "v1", "treasure").await;
    let absent = sha256(b"nowhere");
    let scope = |name: &str| format!("repository:{name}:pull,push");
    for from in ["&from=secret/app", ""] {
        let path = |name: &str, digest: &oci::Digest| format!("/v2/{name}/blobs/uploads/?mount={digest}{from}");
        let made = server.token(As::User("dave"), &[&scope("dave/b")]).await;
        let token = As::Bearer(made["token"].as_str().unwrap());
        let answer = server.ask(token, "POST", &path("dave/b", &layer)).await;
        assert_eq!(answer.status(), 401, "{from}");
        let told = answer.headers()["www-authenticate"].to_str().unwrap();
        let wanted = "scope=\"repository:dave/b:pull,push repository:secret/app:pull\",error=\"insufficient_scope\"";
        assert!(told.ends_with(wanted), "{told}");
        assert_eq!(server.status(As::User("dave"), "HEAD", &format!("/v2/dave/b/blobs/{layer}")).await, 404);
        assert_eq!(server.status(token, "POST", &path("dave/b", &absent)).await, 202, "{from}");
        let made = server.token(As::User("bob"), &[&scope("team/app")]).await;
        let token = As::Bearer(made["token"].as_str().unwrap());
        assert_eq!(server.status(token, "POST", &path("team/app", &layer)).await, 202, "{from}");

        // With the token that was told of it is mounted.
        let made = server.token(As::User("dave"), &[&scope("dave/c"), "repository:secret/app:pull"]).await;
        let token = As::Bearer(made["token"].as_str().unwrap());
        assert_eq!(server.status(token, "POST", &path("dave/c", &layer)).await, 201, "{from}");
        assert_eq!(server.status(As::User("dave"), "DELETE", &format!("/v2/dave/c/blobs/{layer}")).await, 202);
    }
}

#[tokio::test]
async fn a_manifest_does_not_bring_blobs_of_another_repository() {
    let server = Server::start(RULES).await;
    let (_, layer) = server.push_image(As::User("alice"), "secret/app", "v1", "treasure").await;
    let config = server.push_blob(As::User("bob"), "team/app", "{}").await;
    let manifest = image(&config, &layer, 8, None).to_string();
    let request = server.request(As::User("bob"), "PUT", "/v2/team/app/manifests/v1");
    let answer = request.header("content-type", oci::media_type::OCI_MANIFEST).body(manifest).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(server.status(As::User("bob"), "HEAD", &format!("/v2/team/app/blobs/{layer}")).await, 404);
}

#[tokio::test]
async fn the_upload_session_of_somebody_else_is_not_there() {
    let server = Server::start(RULES).await;
    let started = server.ask(As::User("bob"), "POST", "/v2/team/app/blobs/uploads/").await;
    let location = started.headers()["location"].to_str().unwrap().to_owned();
    let digest = sha256(b"mine");
    for (method, path) in [
        ("GET", location.clone()),
        ("PATCH", location.clone()),
        ("PUT", format!("{location}?digest={digest}")),
        ("DELETE", location.clone()),
    ] {
        let answer = server.request(As::User("carol"), method, &path).body("x").send().await.unwrap();
        assert_eq!(answer.status(), 404, "{method}");
        // Nor for somebody who may push elsewhere.
        assert_eq!(server.status(As::User("alice"), method, &path).await, 404, "{method}");
        assert_eq!(server.status(As::Nobody, method, &path).await, 401, "{method}");
    }
    // Its owner goes on with it, by whatever he is known.
    let made = server.token(As::User("bob"), &["repository:team/app:pull,push"]).await;
    let token = made["token"].as_str().unwrap();
    let answer = server.request(As::Bearer(token), "PATCH", &location).body("mi").send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let path = format!("{location}?digest={digest}");
    let answer = server.request(As::User("bob"), "PUT", &path).body("ne").send().await.unwrap();
    assert_eq!(answer.status(), 201);
}

#[tokio::test]
async fn what_refers_to_a_hidden_subject_is_hidden_with_it() {
    let server = Server::start(RULES).await;
    let (subject, _) = server.push_image(As::User("alice"), "secret/app", "v1", "treasure").await;
    let config = server.push_blob(As::User("alice"), "secret/app", "{}").await;
    let refers = image(&config, &config, 2, Some((&subject, 2)));
    server.put(As::User("alice"), "/v2/secret/app/manifests/signature", &refers).await;
    assert_eq!(server.status(As::User("dave"), "GET", &format!("/v2/secret/app/referrers/{subject}")).await, 200);
    for (who, name, status) in [
        (As::User("bob"), "secret/app", 404),
        (As::Nobody, "secret/app", 401),
        // The same subject asked of a repository of his own: what refers to it elsewhere is not there.
        (As::User("bob"), "team/app", 200),
    ] {
        let answer = server.ask(who, "GET", &format!("/v2/{name}/referrers/{subject}")).await;
        assert_eq!(answer.status(), status, "{who:?} {name}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains(&crate::harness::sha256(refers.to_string().as_bytes()).to_string()), "{text}");
    }
    // An artifact of his own does not make him see the subject.
    let config = server.push_blob(As::User("bob"), "team/app", "{}").await;
    server.put(As::User("bob"), "/v2/team/app/manifests/mine", &image(&config, &config, 2, Some((&subject, 2)))).await;
    assert_eq!(server.status(As::User("bob"), "GET", &format!("/v2/team/app/manifests/{subject}")).await, 404);
}

#[tokio::test]
async fn the_token_of_operators_is_none_for_images() {
    let server = Server::start(RULES).await;
    let token = server.admin_token();
    assert_eq!(server.status(As::Bearer(&token), "GET", "/v2/").await, 401);
    let request = server.request(As::Nobody, "GET", "/v2/").basic_auth("operator", Some(&token));
    assert_eq!(request.send().await.unwrap().status(), 401);
    assert_eq!(server.status(As::Bearer(&token), "GET", "/api/v1/jobs").await, 200);
}
