use std::time::Duration;

use http::Method;
use roadstead_promotion::rollout::{FluxReceiver, NotifySettings, RepoUrl, RolloutError, SettingsError, Webhook, tell};
use secrecy::SecretString;
use serde_json::Value;

use crate::argo::{Fault, SECRET, TOKEN};
use crate::stage::{DIGEST, NEW, Stage, moved};

#[tokio::test]
async fn argo_cd_refreshes_at_once_when_it_is_told() {
    let stage = Stage::new().await;
    let notify = stage.notify(NotifySettings::ArgoCdWebhook(stage.webhook())).unwrap();
    notify.tell(&moved()).await.unwrap();
    let argo = stage.argo.state();
    assert_eq!(argo.cluster.refreshes, 1);
    let request = &argo.log[0];
    assert_eq!((&request.method, request.path.as_str()), (&Method::POST, "/api/webhook"));
    assert_eq!(request.headers["content-type"], "application/json");
    let push: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(push["after"], NEW);
    assert_eq!(push["repository"]["html_url"], "https://git.example.org/micro/tinybird");
    assert_eq!(push["commits"][0]["modified"][0], "k8s/overlays/prod/kustomization.yaml");
    assert_eq!(push["commits"][0]["timestamp"], "2026-01-01T00:01:00Z");
}

#[tokio::test]
async fn the_repository_is_found_by_host_and_path_whatever_else_its_url_has() {
    for (known, told, is_found) in [
        ("ssh://git@git.example.org:2222/micro/tinybird.git", "https://git.example.org/micro/tinybird", true),
        ("https://bot@git.example.org/micro/tinybird", "git@git.example.org:micro/tinybird.git", true),
        (
            "http://gitea.gitea.svc.cluster.local:3000/micro/tinybird.git",
            "http://gitea.gitea.svc.cluster.local/micro/tinybird",
            true,
        ),
        ("http://gitea.gitea.svc.cluster.local:3000/micro/tinybird.git", "https://gitea.local/micro/tinybird", false),
        ("https://git.example.org/micro/other", "https://git.example.org/micro/tinybird", false),
    ] {
        let stage = Stage::new().await;
        stage.argo.state().cluster.repo_url = known.to_owned();
        let settings = roadstead_promotion::rollout::ArgoCdWebhook { repo_url: RepoUrl::parse(told).unwrap(), ..stage.webhook() };
        stage.notify(NotifySettings::ArgoCdWebhook(settings)).unwrap().tell(&moved()).await.unwrap();
        assert_eq!(stage.argo.state().cluster.refreshes, usize::from(is_found), "{known} by {told}");
    }
}

#[tokio::test]
async fn an_application_that_follows_head_is_refreshed_when_our_branch_is_the_default_one() {
    for (default_branch, is_found) in [(None, true), (Some("main"), true), (Some("trunk"), false)] {
        let stage = Stage::new().await;
        stage.argo.state().cluster.target_revision = "HEAD".to_owned();
        let default_branch = default_branch.map(str::to_owned);
        let settings = roadstead_promotion::rollout::ArgoCdWebhook { default_branch, ..stage.webhook() };
        stage.notify(NotifySettings::ArgoCdWebhook(settings)).unwrap().tell(&moved()).await.unwrap();
        assert_eq!(stage.argo.state().cluster.refreshes, usize::from(is_found));
    }
}

#[tokio::test]
async fn another_secret_is_refused_and_the_error_says_where_to_look() {
    let stage = Stage::new().await;
    for secret in [Some(SecretString::from("another")), None] {
        let settings = roadstead_promotion::rollout::ArgoCdWebhook { secret, ..stage.webhook() };
        let error = stage.notify(NotifySettings::ArgoCdWebhook(settings)).unwrap().tell(&moved()).await.unwrap_err();
        assert!(!error.may_pass());
        let text = error.to_string();
        assert!(text.contains("400") && text.contains("webhook.gogs.secret"), "{text}");
        assert!(!text.contains("another") && !text.contains(SECRET), "{text}");
    }
    assert_eq!(stage.argo.state().cluster.refreshes, 0);
}

#[tokio::test]
async fn flux_and_anybody_else_are_told_in_our_words_with_a_signature() {
    let stage = Stage::new().await;
    let flux = FluxReceiver { url: stage.argo.url("/hook/flux"), secret: SecretString::from(SECRET), ca: None };
    let plain = Webhook {
        url: stage.argo.url("/plain"),
        secret: Some(SecretString::from(SECRET)),
        authorization: Some(SecretString::from("Basic Ym90OnNlY3JldA==")),
        ca: None,
    };
    for settings in [NotifySettings::Flux(flux), NotifySettings::Webhook(plain)] {
        stage.notify(settings).unwrap().tell(&moved()).await.unwrap();
    }
    let argo = stage.argo.state();
    let bodies: Vec<Value> = argo.log.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!((&bodies[0]["promotion"], &bodies[0]["after"]), (&Value::from("tinybird-prod"), &Value::from(NEW)));
    assert!(bodies[0]["image"].as_str().unwrap().ends_with(DIGEST));
    assert!(argo.log[0].headers.get("authorization").is_none());
    assert_eq!(argo.log[1].headers["authorization"], "Basic Ym90OnNlY3JldA==");
}

#[tokio::test]
async fn a_webhook_without_secrets_has_neither_signature_nor_authorization() {
    let stage = Stage::new().await;
    let plain = Webhook { url: stage.argo.url("/plain"), secret: None, authorization: None, ca: None };
    let error = stage.notify(NotifySettings::Webhook(plain)).unwrap().tell(&moved()).await.unwrap_err();
    assert!(matches!(error, RolloutError::Refused { status, .. } if status == 403), "this server wants a signature: {error}");
    let argo = stage.argo.state();
    assert!(["x-roadstead-signature-256", "authorization"].iter().all(|name| argo.log[0].headers.get(*name).is_none()));
}

#[tokio::test]
async fn each_is_told_and_each_has_an_outcome_whatever_the_others_do() {
    let stage = Stage::new().await;
    let flux = |path| FluxReceiver { url: stage.argo.url(path), secret: SecretString::from(SECRET), ca: None };
    let settings = [
        NotifySettings::Flux(flux("/hook/gone")),
        NotifySettings::ArgoCdWebhook(stage.webhook()),
        NotifySettings::ArgoCdRefresh(stage.api()),
        NotifySettings::Flux(flux("/hook/flux")),
    ];
    let notifies: Vec<_> = settings.into_iter().map(|settings| stage.notify(settings).unwrap()).collect();
    let told = tell(&notifies, &moved()).await;
    let names: Vec<&str> = told.iter().map(|told| told.to.split(" at ").next().unwrap()).collect();
    assert_eq!(names, ["the Receiver of Flux", "the webhook of Argo CD", "the API of Argo CD", "the Receiver of Flux"]);
    assert!(told[0].result.as_ref().unwrap_err().to_string().contains("status.webhookPath"));
    assert!(told[1..].iter().all(|told| told.result.is_ok()), "{told:?}");
    assert_eq!(stage.argo.state().cluster.refreshes, 2);
    assert!(tell(&[], &moved()).await.is_empty());
}

#[tokio::test]
async fn who_is_silent_holds_up_nobody_else_and_is_given_up() {
    let (silent, stage) = (Stage::new().await, Stage::new().await);
    silent.argo.fault(Fault::Silent);
    let make = |stage: &Stage| stage.notify(NotifySettings::ArgoCdWebhook(stage.webhook())).unwrap();
    // Each has a clock of its own, and only that of the silent one moves.
    let notifies = [make(&silent), make(&stage)];
    let telling = tokio::spawn(async move { tell(&notifies, &moved()).await });
    while stage.argo.state().cluster.refreshes == 0 || silent.argo.state().log.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!telling.is_finished(), "the silent one has its time");
    silent.clock.advance(Duration::from_secs(30));
    let told = telling.await.unwrap();
    let error = told[0].result.as_ref().unwrap_err();
    assert!(matches!(error, RolloutError::Overdue { .. }) && error.may_pass(), "{error}");
    assert!(told[1].result.is_ok());
}

#[tokio::test]
async fn what_may_pass_is_told_from_what_never_will() {
    let stage = Stage::new().await;
    let notify = stage.notify(NotifySettings::ArgoCdWebhook(stage.webhook())).unwrap();
    for (status, may_pass) in
        [(400, false), (401, false), (403, false), (404, false), (413, false), (408, true), (429, true), (500, true), (503, true)]
    {
        stage.argo.fault(Fault::Status(status, "Queue is full,\n discarding webhook payload".to_owned()));
        let error = notify.tell(&moved()).await.unwrap_err();
        assert_eq!(error.may_pass(), may_pass, "{error}");
        let text = error.to_string();
        assert!(text.contains(&status.to_string()) && text.contains("Queue is full, discarding webhook payload"), "{text}");
    }
    stage.argo.fault(Fault::TooMany(7));
    assert_eq!(notify.tell(&moved()).await.unwrap_err().retry_after(), Some(Duration::from_secs(7)));
    stage.argo.fault(Fault::Redirect);
    let error = notify.tell(&moved()).await.unwrap_err();
    assert!(!error.may_pass() && !error.to_string().contains("secret"), "{error}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = url::Url::parse(&format!("http://{nobody}/api/webhook")).unwrap();
    let settings = roadstead_promotion::rollout::ArgoCdWebhook { url, ..stage.webhook() };
    let error = stage.notify(NotifySettings::ArgoCdWebhook(settings)).unwrap().tell(&moved()).await.unwrap_err();
    assert!(matches!(error, RolloutError::Unanswered { .. }) && error.may_pass(), "{error}");
}

#[tokio::test]
async fn no_secret_is_in_any_error_or_debug() {
    let stage = Stage::new().await;
    stage.argo.fault(Fault::Echo);
    let plain = Webhook {
        url: stage.argo.url("/plain/path-that-is-a-secret"),
        secret: Some(SecretString::from(SECRET)),
        authorization: Some(SecretString::from("Basic Ym90OnNlY3JldA==")),
        ca: None,
    };
    let settings = [
        NotifySettings::Webhook(plain),
        NotifySettings::ArgoCdRefresh(stage.api()),
        NotifySettings::ArgoCdWebhook(stage.webhook()),
    ];
    for settings in settings {
        let shown = format!("{settings:?}");
        let notify = stage.notify(settings).unwrap();
        let error = notify.tell(&moved()).await.unwrap_err();
        for text in [shown, format!("{notify:?}"), notify.to().to_owned(), error.to_string(), format!("{error:?}")] {
            for secret in [SECRET, TOKEN, "Ym90OnNlY3JldA=="] {
                assert!(!text.contains(secret), "{text}");
            }
        }
        for text in [format!("{notify:?}"), notify.to().to_owned(), error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("path-that-is-a-secret"), "{text}");
        }
    }
    assert_eq!(stage.argo.state().log.len(), 3);
}

#[tokio::test]
async fn a_certificate_of_our_own_authority_is_believed_only_with_its_file() {
    let fake = testing::FakeUpstream::start_tls();
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, fake.ca_pem().unwrap()).unwrap();
    let url = url::Url::parse(&format!("{}/hook", fake.url())).unwrap();
    let tell = async |ca| {
        let settings = FluxReceiver { url: url.clone(), secret: SecretString::from(SECRET), ca };
        stage.notify(NotifySettings::Flux(settings)).unwrap().tell(&moved()).await.unwrap_err()
    };
    let error = tell(None).await;
    assert!(matches!(error, RolloutError::Unanswered { .. }) && fake.requests().is_empty(), "{error}");
    let error = tell(Some(path)).await;
    assert!(matches!(error, RolloutError::Refused { .. }), "this one is a registry, and has no hook: {error}");
    assert_eq!(fake.count("POST", "/hook"), 1);
}

#[tokio::test]
async fn what_cannot_be_told_is_refused_before_anything_is_sent() {
    let stage = Stage::new().await;
    let url = |text: &str| url::Url::parse(text).unwrap();
    let with = |address: &str| {
        let settings = roadstead_promotion::rollout::ArgoCdWebhook { url: url(address), ..stage.webhook() };
        stage.notify(NotifySettings::ArgoCdWebhook(settings))
    };
    assert!(matches!(with("ftp://argocd.example.org/"), Err(SettingsError::Address { .. })));
    let error = with("https://bot:hunter2@argocd.example.org/api/webhook").unwrap_err();
    assert!(matches!(error, SettingsError::Password { .. }) && !error.to_string().contains("hunter2"));

    let settings = roadstead_promotion::rollout::ArgoCdWebhook { secret: Some(SecretString::from("")), ..stage.webhook() };
    assert!(matches!(stage.notify(NotifySettings::ArgoCdWebhook(settings)), Err(SettingsError::Secret { .. })));
    let api = roadstead_promotion::rollout::ArgoCdApi { token: SecretString::from("two\nlines"), ..stage.api() };
    let error = stage.notify(NotifySettings::ArgoCdRefresh(api)).unwrap_err();
    assert!(matches!(error, SettingsError::Secret { .. }) && !error.to_string().contains("two"), "{error}");
    for name in ["", "a/b", "a b", "../a\n"] {
        let api = roadstead_promotion::rollout::ArgoCdApi { application: name.to_owned(), ..stage.api() };
        assert!(matches!(stage.notify(NotifySettings::ArgoCdRefresh(api)), Err(SettingsError::Application(_))), "{name:?}");
    }
    let api = roadstead_promotion::rollout::ArgoCdApi { ca: Some("/absent/ca.pem".into()), ..stage.api() };
    assert!(matches!(stage.notify(NotifySettings::ArgoCdRefresh(api)), Err(SettingsError::Client(_))));
    assert!(stage.argo.state().log.is_empty());
}
