//! What the tests begin with.

use std::sync::Arc;

use jiff::Timestamp;
use oci::{Digest, Tag};
use roadstead_promotion::rollout::{
    ArgoCd, ArgoCdApi, ArgoCdWebhook, Moved, Notify, NotifySettings, RepoUrl, SettingsError, Wanted,
};
use secrecy::SecretString;
use telemetry::Clock;
use testing::ManualClock;

use crate::argo::{APPLICATION, Argo, PROJECT, SECRET, TOKEN};
use crate::cluster::OLD;

pub(crate) const NEW: &str = "4e1243bd22c66e76c2ba9eddc1f91394e57f9f83";
pub(crate) const DIGEST: &str = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";
pub(crate) const IMAGE: &str = "registry.example.org/micro/tinybird-local";

/// A small Argo CD in which our commit has just landed, and the clock of both.
pub(crate) struct Stage {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) argo: Argo,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let argo = Argo::start(&clock).await;
        clock.advance(std::time::Duration::from_mins(1));
        NEW.clone_into(&mut argo.state().cluster.tip);
        argo.state().cluster.image = format!("{IMAGE}:latest@{DIGEST}");
        Self { clock, argo }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    pub(crate) fn api(&self) -> ArgoCdApi {
        ArgoCdApi {
            url: self.argo.url("/"),
            token: SecretString::from(TOKEN),
            application: APPLICATION.to_owned(),
            app_namespace: None,
            project: Some(PROJECT.to_owned()),
            ca: None,
        }
    }

    pub(crate) fn argocd(&self) -> ArgoCd {
        ArgoCd::new(self.api(), &self.clock()).unwrap()
    }

    pub(crate) fn webhook(&self) -> ArgoCdWebhook {
        ArgoCdWebhook {
            url: self.argo.url("/api/webhook"),
            secret: Some(SecretString::from(SECRET)),
            repo_url: RepoUrl::parse("https://git.example.org/micro/tinybird").unwrap(),
            default_branch: None,
            ca: None,
        }
    }

    pub(crate) fn notify(&self, settings: NotifySettings) -> Result<Notify, SettingsError> {
        Notify::new(settings, &self.clock())
    }

    pub(crate) fn wanted(&self) -> Wanted {
        wanted(Timestamp::try_from(self.clock.now()).unwrap())
    }
}

pub(crate) fn wanted(since: Timestamp) -> Wanted {
    Wanted {
        commit: NEW.to_owned(),
        digest: Digest::parse(DIGEST).unwrap(),
        image: IMAGE.to_owned(),
        tag: Tag::parse("latest").unwrap(),
        since,
    }
}

pub(crate) fn moved() -> Moved {
    Moved {
        repository: "http://gitea.gitea.svc.cluster.local:3000/micro/tinybird.git".to_owned(),
        branch: "main".to_owned(),
        before: OLD.to_owned(),
        after: NEW.to_owned(),
        paths: vec!["k8s/overlays/prod/kustomization.yaml".to_owned()],
        promotion: "tinybird-prod".to_owned(),
        image: format!("{IMAGE}:latest@{DIGEST}"),
        message: "Promote \"tinybird\" to läuft\n\nwith a body".to_owned(),
        author: "roadstead".to_owned(),
        email: "roadstead@example.org".to_owned(),
    }
}
