use std::time::Duration;

use roadstead_promotion::rollout::{ArgoCd, ArgoCdApi, Note, NotifySettings, RolloutError, Verdict, Wanted, judge};

use crate::argo::{Fault, TOKEN};
use crate::cluster::{BEGINS, DONE, OVER, Trouble, UP};
use crate::stage::{NEW, Stage, moved};

fn is_ours(revision: &str) -> bool {
    revision == NEW
}

async fn verdict(argocd: &ArgoCd, wanted: &Wanted) -> Verdict {
    judge(&argocd.look().await.unwrap(), wanted, is_ours)
}

/// Tells the webhook, and goes on to `passed` after that.
async fn told(stage: &Stage, passed: Duration) -> (ArgoCd, Wanted) {
    let wanted = stage.wanted();
    let notify = stage.notify(NotifySettings::ArgoCdWebhook(stage.webhook())).unwrap();
    notify.tell(&moved()).await.unwrap();
    stage.clock.advance(passed);
    (stage.argocd(), wanted)
}

#[tokio::test]
async fn a_promotion_is_followed_from_the_webhook_until_it_is_healthy() {
    let stage = Stage::new().await;
    let (wanted, argocd) = (stage.wanted(), stage.argocd());
    assert!(matches!(verdict(&argocd, &wanted).await, Verdict::Stale { .. }), "nobody has told it yet");
    let notify = stage.notify(NotifySettings::ArgoCdWebhook(stage.webhook())).unwrap();
    notify.tell(&moved()).await.unwrap();
    let mut said = Vec::new();
    let mut passed = Duration::ZERO;
    for moment in [Duration::ZERO, BEGINS, DONE, UP] {
        stage.clock.advance(moment.abs_diff(passed));
        passed = moment;
        let verdict = verdict(&argocd, &wanted).await;
        assert_eq!(verdict.is_final(), said.len() == 3, "{verdict:?}");
        said.push(verdict);
    }
    let words = ["not yet what the commit says", "is syncing", "still on their way", "deployed and healthy"];
    for (verdict, word) in said.iter().zip(words) {
        assert!(verdict.message().contains(word), "{verdict:?}");
    }
    assert!(matches!(said[3], Verdict::Healthy { note: None, .. }), "{:?}", said[3]);
}

#[tokio::test]
async fn the_health_of_before_the_sync_is_not_taken_for_that_of_after_it() {
    let stage = Stage::new().await;
    stage.argo.state().cluster.trouble = Trouble::OldHealth;
    let (argocd, wanted) = told(&stage, UP).await;
    let old = verdict(&argocd, &wanted).await;
    assert!(matches!(&old, Verdict::Stale { message } if message.contains("a refresh is needed")), "{old:?}");
    argocd.refresh(false).await.unwrap();
    let fresh = verdict(&argocd, &wanted).await;
    assert!(matches!(fresh, Verdict::Healthy { note: None, .. }), "{fresh:?}");
}

#[tokio::test]
async fn images_that_are_not_said_are_noted_and_others_are_waited_for() {
    let stage = Stage::new().await;
    stage.argo.state().cluster.trouble = Trouble::NoImages;
    let (argocd, wanted) = told(&stage, UP).await;
    let unknown = verdict(&argocd, &wanted).await;
    assert!(matches!(unknown, Verdict::Healthy { note: Some(Note::ImagesUnknown), .. }), "{unknown:?}");

    let stage = Stage::new().await;
    stage.argo.state().cluster.image = format!("{}:latest@sha256:{}", crate::stage::IMAGE, "1".repeat(64));
    let (argocd, wanted) = told(&stage, UP).await;
    let other = verdict(&argocd, &wanted).await;
    assert!(matches!(&other, Verdict::Waiting { message } if message.contains("not with ours")), "{other:?}");
}

#[tokio::test]
async fn what_falls_over_and_what_cannot_be_synced_is_said_at_once() {
    let stage = Stage::new().await;
    stage.argo.state().cluster.trouble = Trouble::FallsOver;
    let (argocd, wanted) = told(&stage, UP).await;
    assert!(matches!(verdict(&argocd, &wanted).await, Verdict::Healthy { .. }));
    stage.clock.advance(OVER.abs_diff(UP));
    let degraded = verdict(&argocd, &wanted).await;
    let is_said = matches!(&degraded, Verdict::Degraded { message } if message.contains("Deployment tinybird (0 of 1 pods)"));
    assert!(is_said, "{degraded:?}");

    let stage = Stage::new().await;
    stage.argo.state().cluster.trouble = Trouble::SyncFails;
    let (argocd, wanted) = told(&stage, DONE).await;
    let failed = verdict(&argocd, &wanted).await;
    assert!(
        matches!(&failed, Verdict::Failed { message } if message.contains("one or more objects failed to apply")),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_refresh_asks_for_what_it_says_and_looks_at_the_branch() {
    let stage = Stage::new().await;
    let argocd = ArgoCd::new(
        ArgoCdApi { url: stage.argo.url("/"), app_namespace: Some("argocd".to_owned()), ..stage.api() },
        &stage.clock(),
    )
    .unwrap();
    let seen = argocd.refresh(false).await.unwrap();
    assert_eq!(seen.revisions, [NEW]);
    argocd.refresh(true).await.unwrap();
    argocd.look().await.unwrap();
    let argo = stage.argo.state();
    let paths: Vec<&str> = argo.log.iter().map(|request| request.path.as_str()).collect();
    let base = "/api/v1/applications/tinybird?appNamespace=argocd&project=analytics";
    assert_eq!(paths, [&format!("{base}&refresh=normal"), &format!("{base}&refresh=hard"), base]);
    assert!(argo.log.iter().all(|request| request.headers["authorization"] == format!("Bearer {TOKEN}")));
    assert_eq!(argo.cluster.refreshes, 2);
}

#[tokio::test]
async fn argo_cd_below_a_path_is_found() {
    for base in ["/argocd", "/argocd/"] {
        let stage = Stage::new().await;
        let api = ArgoCdApi { url: stage.argo.url(base), project: None, ..stage.api() };
        let error = ArgoCd::new(api, &stage.clock()).unwrap().look().await.unwrap_err();
        assert!(matches!(error, RolloutError::Refused { status, .. } if status == 404), "this one is not below a path: {error}");
        assert_eq!(stage.argo.state().log[0].path, "/argocd/api/v1/applications/tinybird");
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_compare() {
    let stage = Stage::new().await;
    let token = secrecy::SecretString::from("old");
    let elsewhere = || Some("elsewhere".to_owned());
    for (api, status, word) in [
        (ArgoCdApi { token, ..stage.api() }, 401, "does not know the token"),
        (ArgoCdApi { application: "other".to_owned(), project: None, ..stage.api() }, 403, "permission denied"),
        (ArgoCdApi { application: "other".to_owned(), ..stage.api() }, 404, "no such application"),
        (ArgoCdApi { app_namespace: elsewhere(), ..stage.api() }, 404, "app_namespace"),
        (ArgoCdApi { project: elsewhere(), ..stage.api() }, 403, "project"),
    ] {
        let error = ArgoCd::new(api, &stage.clock()).unwrap().look().await.unwrap_err();
        let text = error.to_string();
        assert!(!error.may_pass() && text.contains(&status.to_string()) && text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_ill_is_asked_again() {
    let stage = Stage::new().await;
    let argocd = stage.argocd();
    for fault in [
        Fault::Status(500, "<html><body>502 Bad Gateway</body></html>".to_owned()),
        Fault::Status(503, String::new()),
        Fault::TooMany(1),
        Fault::Body("{\"metadata\":".to_owned()),
        Fault::Body("<html>please log in</html>".to_owned()),
        Fault::Body("[]".to_owned()),
        Fault::Body("{\"metadata\":{\"name\":\"tinybird\"}}".to_owned()),
        Fault::Body("{\"metadata\":{\"name\":\"other\"},\"status\":{}}".to_owned()),
    ] {
        stage.argo.fault(fault.clone());
        let error = argocd.look().await.unwrap_err();
        assert!(error.may_pass(), "{fault:?}: {error}");
        assert!(!error.to_string().contains('<'), "{error}");
    }
    stage.argo.fault(Fault::Huge);
    let error = argocd.look().await.unwrap_err();
    assert!(matches!(&error, RolloutError::Unanswered { .. }) && !error.may_pass(), "{error}");
}

#[tokio::test]
async fn a_refresh_that_is_never_answered_is_given_up_and_has_taken_place() {
    let stage = Stage::new().await;
    stage.argo.fault(Fault::SilentRefresh);
    let argocd = std::sync::Arc::new(stage.argocd());
    let asking = tokio::spawn({
        let argocd = std::sync::Arc::clone(&argocd);
        async move { argocd.refresh(false).await }
    });
    while stage.argo.state().cluster.refreshes == 0 {
        tokio::task::yield_now().await;
    }
    stage.clock.advance(Duration::from_secs(59));
    tokio::task::yield_now().await;
    assert!(!asking.is_finished(), "it has a minute");
    stage.clock.advance(Duration::from_secs(1));
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, RolloutError::Overdue { .. }) && error.may_pass(), "{error}");
    assert_eq!(argocd.look().await.unwrap().revisions, [NEW]);
}
