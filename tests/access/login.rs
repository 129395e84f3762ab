//! Logging in: challenges, passwords, tokens.

use serde_json::Value;

use crate::harness::{As, Server};

const RULES: &str = r#"
[[access]]
who = ["anonymous"]
may = ["pull"]
repositories = ["public/**"]
[[access]]
who = ["user:alice"]
may = ["pull", "push", "delete"]
repositories = ["team/**", "public/**"]
[[access]]
who = ["user:bob"]
may = ["pull"]
repositories = ["team/**"]
"#;

fn challenges(response: &reqwest::Response) -> Vec<String> {
    response.headers().get_all("www-authenticate").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_client_without_credentials_is_told_how_to_log_in() {
    let server = Server::start(RULES).await;
    let answer = server.ask(As::Nobody, "GET", "/v2/").await;
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["docker-distribution-api-version"], "registry/2.0");
    let told = challenges(&answer);
    // Of passwords nothing is said besides: dockerd would then show none where it has a token.
    assert_eq!(told, [format!("Bearer realm=\"{}/token\",service=\"roadstead\"", server.url)]);
    let answer = server.ask(As::Nobody, "GET", "/v2/team/app/manifests/v1").await;
    assert_eq!(answer.status(), 401);
    assert!(challenges(&answer)[0].ends_with(",scope=\"repository:team/app:pull\""), "{:?}", challenges(&answer));
    let answer = server.ask(As::Nobody, "POST", "/v2/team/app/blobs/uploads/").await;
    assert!(challenges(&answer)[0].ends_with(",scope=\"repository:team/app:pull,push\""), "{:?}", challenges(&answer));
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["errors"][0]["code"], "UNAUTHORIZED");
    for (path, who) in [("/token?service=roadstead", As::User("mallory")), ("/metrics", As::Nobody)] {
        let told = challenges(&server.ask(who, "GET", path).await);
        assert!(told.len() == 1 && told[0].starts_with("Basic realm="), "{path}: {told:?}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.status(As::Nobody, "GET", path).await, 200);
    }
}

#[tokio::test]
async fn a_password_is_enough_and_a_wrong_one_is_not() {
    let server = Server::start(RULES).await;
    assert_eq!(server.status(As::User("alice"), "GET", "/v2/").await, 200);
    server.push_image(As::User("alice"), "team/app", "v1", "layer").await;
    assert_eq!(server.status(As::User("bob"), "GET", "/v2/team/app/manifests/v1").await, 200);
    assert_eq!(server.status(As::User("bob"), "PUT", "/v2/team/app/manifests/v2").await, 403);
    assert_eq!(server.status(As::User("carol"), "GET", "/v2/team/app/manifests/v1").await, 404);
    assert_eq!(server.status(As::User("mallory"), "GET", "/v2/").await, 401);
    // An empty name and password are none.
    let empty = server.request(As::Nobody, "GET", "/v2/").header("authorization", "Basic Og==").send().await.unwrap();
    assert_eq!(empty.status(), 401);
    assert_eq!(server.status(As::Bearer("nonsense"), "GET", "/v2/public/x/tags/list").await, 401);
}

#[tokio::test]
async fn a_token_is_for_what_it_was_fetched_for() {
    let server = Server::start(RULES).await;
    server.push_image(As::User("alice"), "team/app", "v1", "layer").await;
    let made = server.token(As::User("alice"), &["repository:team/app:pull"]).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!(made["access_token"], made["token"]);
    assert!(made["expires_in"].as_u64().unwrap() >= 60 && made["refresh_token"].is_null());
    let issued: jiff::Timestamp = made["issued_at"].as_str().unwrap().parse().unwrap();
    assert!(issued.duration_until(jiff::Timestamp::now()).as_secs().abs() < 60, "{issued}");
    assert_eq!(server.status(As::Bearer(token), "GET", "/v2/").await, 200);
    assert_eq!(server.status(As::Bearer(token), "GET", "/v2/team/app/manifests/v1").await, 200);
    let answer = server.ask(As::Bearer(token), "DELETE", "/v2/team/app/manifests/v1").await;
    assert_eq!(answer.status(), 401);
    let told = challenges(&answer);
    assert!(told[0].ends_with("scope=\"repository:team/app:pull,delete\",error=\"insufficient_scope\""), "{told:?}");
    // Asking for more than one may have is no error; one has what one may.
    let made = server.token(As::User("bob"), &["repository:team/app:pull,push", "repository:other/x:pull"]).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!(server.status(As::Bearer(token), "GET", "/v2/team/app/manifests/v1").await, 200);
    assert_eq!(server.status(As::Bearer(token), "POST", "/v2/team/app/blobs/uploads/").await, 403);
    assert_eq!(server.status(As::Bearer(token), "GET", "/v2/other/x/manifests/v1").await, 404);
}

#[tokio::test]
async fn nobody_in_particular_gets_a_token_for_what_is_public() {
    let server = Server::start(RULES).await;
    server.push_image(As::User("alice"), "public/app", "v1", "layer").await;
    let made = server.token(As::Nobody, &["repository:public/app:pull", "repository:team/app:pull"]).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!(server.status(As::Bearer(token), "GET", "/v2/public/app/manifests/v1").await, 200);
    assert_eq!(server.status(As::Nobody, "GET", "/v2/public/app/manifests/v1").await, 200);
    assert_eq!(server.status(As::Bearer(token), "GET", "/v2/team/app/manifests/v1").await, 401);
}

#[tokio::test]
async fn a_form_gets_tokens_and_renews_them() {
    let server = Server::start(RULES).await;
    server.push_image(As::User("alice"), "team/app", "v1", "layer").await;
    let post = |form: &'static str| server.request(As::Nobody, "POST", "/token").body(form).send();
    let made = post(
        "grant_type=password&username=alice&password=alice-password&service=roadstead&access_type=offline&scope=repository%3Ateam%2Fapp%3Apull+repository%3Ateam%2Fb%3Apull",
    )
    .await
    .unwrap();
    assert_eq!(made.status(), 200);
    assert_eq!(made.headers()["cache-control"], "no-store");
    let made: Value = made.json().await.unwrap();
    let (token, refresh) = (made["access_token"].as_str().unwrap(), made["refresh_token"].as_str().unwrap());
    assert_eq!(server.status(As::Bearer(token), "GET", "/v2/team/app/manifests/v1").await, 200);
    assert!(made["issued_at"].as_str().unwrap().ends_with('Z'), "{made}");
    // One is not taken for the other.
    assert_eq!(server.status(As::Bearer(refresh), "GET", "/v2/team/app/manifests/v1").await, 401);
    let renew = |token: &str| {
        let form = format!("grant_type=refresh_token&service=roadstead&refresh_token={token}&scope=repository:team/app:pull");
        server.request(As::Nobody, "POST", "/token").body(form).send()
    };
    let again: Value = renew(refresh).await.unwrap().json().await.unwrap();
    assert_eq!(server.status(As::Bearer(again["access_token"].as_str().unwrap()), "GET", "/v2/team/app/manifests/v1").await, 200);
    assert_eq!(renew(token).await.unwrap().status(), 401);
    for (form, status) in [
        ("grant_type=password&username=alice&password=wrong&service=roadstead", 401),
        ("grant_type=password&username=ali%0Ace&password=x&service=roadstead", 401),
        ("grant_type=fly&service=roadstead", 405),
        ("grant_type=password&username=alice&password=alice-password&service=other.example", 400),
    ] {
        assert_eq!(post(form).await.unwrap().status(), status, "{form}");
    }
}

#[tokio::test]
async fn what_nobody_sends_by_accident_is_refused() {
    let server = Server::start(RULES).await;
    let many = "&scope=repository:a/b:pull".repeat(1000);
    assert_eq!(server.status(As::User("alice"), "GET", &format!("/token?service=roadstead{many}")).await, 400);
    assert_eq!(server.status(As::User("alice"), "GET", "/token?service=elsewhere").await, 400);
    assert_eq!(server.status(As::User("alice"), "PUT", "/token").await, 405);
    let two = server.request(As::User("alice"), "GET", "/v2/").header("authorization", "Basic eDp5").send().await.unwrap();
    assert_eq!(two.status(), 401);
    let made = server.token(As::User("alice"), &["repository:team/app:pull"]).await;
    // A token does not fetch tokens.
    assert_eq!(server.status(As::Bearer(made["token"].as_str().unwrap()), "GET", "/token?service=roadstead").await, 401);
    // Somebody else's claims under our signature, and no signature at all.
    let token = made["token"].as_str().unwrap().to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    let claims =
        String::from_utf8(base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, parts[1]).unwrap()).unwrap();
    let forged = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims.replace("alice", "root"));
    let none = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, r#"{"alg":"none","typ":"JWT"}"#);
    for token in [format!("{}.{forged}.{}", parts[0], parts[2]), format!("{none}.{forged}."), format!("{none}.{}.", parts[1])] {
        assert_eq!(server.status(As::Bearer(&token), "GET", "/v2/").await, 401);
    }
}

#[tokio::test]
async fn whoever_guesses_waits() {
    let server = Server::start(RULES).await;
    let guess = || server.request(As::Nobody, "GET", "/v2/").basic_auth("alice", Some("guess")).send();
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(guess().await.unwrap().status().as_u16());
    }
    assert!(statuses.starts_with(&[401; 5]) && statuses.contains(&429), "{statuses:?}");
    let refused = guess().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["errors"][0]["code"], "TOOMANYREQUESTS");
    assert_eq!(server.status(As::User("bob"), "GET", "/v2/").await, 200);
}

#[tokio::test]
async fn whoever_guesses_many_at_once_waits_as_well() {
    let server = Server::start(RULES).await;
    let guesses = (0..40)
        .map(|number| server.request(As::Nobody, "GET", "/v2/").basic_auth("alice", Some(format!("guess {number}"))).send());
    let answers = futures_util::future::join_all(guesses).await;
    let looked_at = answers.iter().filter(|answer| answer.as_ref().unwrap().status() == 401).count();
    // Five cost nothing, the sixth makes the next one wait; two are looked at together.
    assert!((6..=8).contains(&looked_at), "{looked_at} were looked at");
}

#[tokio::test]
async fn without_the_token_flow_passwords_are_asked_for() {
    let server = Server::start(&format!("token_flow = false\n{RULES}")).await;
    let told = challenges(&server.ask(As::Nobody, "GET", "/v2/").await);
    assert!(told.len() == 1 && told[0].starts_with("Basic "), "{told:?}");
    assert_eq!(server.status(As::User("alice"), "GET", "/token?service=roadstead").await, 404);
    assert_eq!(server.status(As::User("alice"), "GET", "/v2/").await, 200);
}
