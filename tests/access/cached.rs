//! What the server pulls with its own credentials is for those to whom the rules give it.

use testing::{Auth, FakeUpstream};

use crate::harness::{As, Server};

const RULES: &str = r#"
[[access]]
who = ["user:alice"]
may = ["pull"]
repositories = ["private.test/**", "docker.io/**"]
[[access]]
who = ["anonymous"]
may = ["pull"]
repositories = ["docker.io/library/**"]
"#;

#[tokio::test]
async fn private_images_of_an_upstream_are_for_those_who_may_pull_them_here() {
    let private = FakeUpstream::start();
    private.auth(Auth::Basic { username: "team".to_owned(), password: "hub-secret".to_owned() });
    let image = private.put_image("team/app", "v1");
    let hub = FakeUpstream::start();
    hub.put_image("library/alpine", "3");
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("password");
    std::fs::write(&file, "hub-secret").unwrap();
    let upstreams = format!(
        "[[upstream]]\nhost = \"private.test\"\nurl = \"{}\"\nusername = \"team\"\npassword_file = \"{}\"\n\
         [[upstream]]\nhost = \"docker.io\"\nurl = \"{}\"\ndefault = true\n",
        private.url(),
        file.display(),
        hub.url()
    );
    let server = Server::start(&format!("{RULES}{upstreams}")).await;
    let by_path = "/v2/private.test/team/app/manifests/v1";
    let by_namespace = "/v2/team/app/manifests/v1?ns=private.test";
    for path in [by_path, by_namespace] {
        assert_eq!(server.status(As::Nobody, "GET", path).await, 401, "{path}");
        assert_eq!(server.status(As::User("bob"), "GET", path).await, 404, "{path}");
    }
    assert_eq!(private.requests().len(), 0, "the upstream is asked for somebody who may not pull it");
    for path in [by_path, by_namespace] {
        assert_eq!(server.status(As::User("alice"), "GET", path).await, 200, "{path}");
    }
    // Once it is here it is no more his than before.
    for path in [
        by_path.to_owned(),
        by_namespace.to_owned(),
        format!("/v2/private.test/team/app/blobs/{}", image.layers[0]),
        format!("/v2/team/app/blobs/{}?ns=private.test", image.layers[0]),
        "/v2/private.test/team/app/tags/list".to_owned(),
        format!("/v2/private.test/team/app/referrers/{}", image.digest),
    ] {
        assert_eq!(server.status(As::User("bob"), "GET", &path).await, 404, "{path}");
        assert_eq!(server.status(As::User("bob"), "HEAD", &path).await, 404, "{path}");
    }
    // A token for the name that the client knows is one for the name that is stored.
    assert_eq!(server.status(As::Nobody, "GET", "/v2/library/alpine/manifests/3").await, 200);
    let made = server.token(As::Nobody, &["repository:library/alpine:pull"]).await;
    let token = made["token"].as_str().unwrap();
    for path in [
        "/v2/library/alpine/manifests/3",
        "/v2/docker.io/library/alpine/manifests/3",
        "/v2/library/alpine/manifests/3?ns=docker.io",
    ] {
        assert_eq!(server.status(As::Bearer(token), "GET", path).await, 200, "{path}");
    }
    assert_eq!(server.status(As::Bearer(token), "GET", by_namespace).await, 401);
    let listed = server.ask(As::User("bob"), "GET", "/v2/_catalog").await.text().await.unwrap();
    assert!(listed.contains("docker.io/library/alpine") && !listed.contains("private.test"), "{listed}");
}
