//! Who deploys what a promotion has written: `argocd`, `flux` and `webhook` of a promotion.

use std::time::Duration;

use promotion::Remote;
use promotion::forge::{self, Kind};
use promotion::rollout::{ArgoCdApi, ArgoCdWebhook, FluxReceiver, NotifySettings, RepoUrl, Webhook};
use url::Url;

use super::git::readable;
use super::reader::Section;
use super::value::{self, Value};
use super::{Deployer, secrets};

/// So long it may take until what was promoted is well in the cluster.
const HEALTHY_WITHIN: Duration = Duration::from_mins(10);

/// All that a promotion says of what comes after its commits. `git_url` is where it pushes to.
pub(super) fn deployer(section: &mut Section<'_, '_>, git_url: Option<&str>) -> Deployer {
    let mut deployer = Deployer { limit: HEALTHY_WITHIN, ..Deployer::default() };
    argocd(section.section("argocd"), git_url, &mut deployer);
    flux(section.section("flux"), &mut deployer);
    webhook(section.section("webhook"), &mut deployer);
    let limit = section.optional("healthy_within", value::limit);
    let rolls_back = section.optional("rollback", value::boolean);
    for (key, is_given) in [("healthy_within", limit.is_some()), ("rollback", rolls_back.is_some())] {
        if is_given && deployer.argocd.is_none() {
            let text = "is of no use unless the cluster is watched; add argocd = { api = \"…\", application = \"…\", token_file = \"…\" }";
            section.wrong(key, text.to_owned());
        }
    }
    deployer.limit = limit.unwrap_or(deployer.limit);
    deployer.rolls_back = rolls_back.unwrap_or(false);
    deployer
}

fn argocd(mut section: Section<'_, '_>, git_url: Option<&str>, deployer: &mut Deployer) {
    let hook = section.optional("webhook", url);
    let secret = secrets::either(&mut section, "secret_file", "secret_env");
    let repo_url = section.optional("repo_url", |value| {
        RepoUrl::parse(value.text()?).map_err(|error| format!("{error}; write the repoURL of the application"))
    });
    let default_branch = section.optional("default_branch", |value| value.text().map(str::to_owned));
    let api = section.optional("api", url);
    let token = secrets::either(&mut section, "token_file", "token_env");
    let application = section.optional("application", |value| value.text().map(str::to_owned));
    let app_namespace = section.optional("namespace", |value| value.text().map(str::to_owned));
    let project = section.optional("project", |value| value.text().map(str::to_owned));
    let ca = readable(&mut section, "ca");
    needs(&section, "webhook", &["secret_file", "secret_env", "repo_url", "default_branch"]);
    needs(&section, "api", &["token_file", "token_env", "application", "namespace", "project"]);
    if !section.is_absent() && section.given("webhook").is_none() && section.given("api").is_none() {
        section.missing("webhook", None, "is missing; write Argo CD's webhook, its API, or both");
    }
    if section.given("api").is_some() {
        if section.given("application").is_none() {
            section.missing("application", None, "is missing; write the name of the application that is watched");
        }
        if section.given("token_file").is_none() && section.given("token_env").is_none() {
            section.missing("token_file", None, "is missing; name the file with a token that may get the application");
        }
    }
    if let Some(url) = hook {
        // A repository that only we reach under its name is called something else over there.
        let repo_url = repo_url.or_else(|| git_url.and_then(|url| RepoUrl::parse(url).ok()));
        match repo_url {
            Some(repo_url) => {
                let settings = ArgoCdWebhook { url, secret, repo_url, default_branch, ca: ca.clone() };
                deployer.notifies.push(NotifySettings::ArgoCdWebhook(settings));
            }
            None if section.given("repo_url").is_none() => {
                section.missing("repo_url", None, "is missing; write the repoURL of the application");
            }
            None => {}
        }
    }
    if let (Some(url), Some(token), Some(application)) = (api, token, application) {
        let api = ArgoCdApi { url, token, application, app_namespace, project, ca };
        if deployer.notifies.is_empty() {
            deployer.notifies.push(NotifySettings::ArgoCdRefresh(api.clone()));
        }
        deployer.argocd = Some(api);
    }
    section.finish();
}

/// Where the repository is for people: `forge = { kind = "gitea" }`. What is not said is taken from `git`.
pub(super) fn forge(mut section: Section<'_, '_>, remote: Option<&Remote>, is_needed: bool) -> Option<forge::Settings> {
    let kind = section.optional("kind", |value| match value.text()? {
        "gitea" => Ok(Kind::Gitea),
        "github" => Ok(Kind::GitHub),
        "gitlab" => Ok(Kind::GitLab),
        other => Err(format!("{other:?} is not known; write \"gitea\", \"github\" or \"gitlab\"")),
    });
    let api = section.optional("api", url);
    let project = section.optional("project", |value| match value.text()? {
        text if text.contains('/') && !text.starts_with('/') && !text.ends_with('/') => Ok(text.to_owned()),
        other => Err(format!("{other:?} is no project; write \"owner/name\"")),
    });
    let token = secrets::either(&mut section, "token_file", "token_env");
    let ca = readable(&mut section, "ca");
    if section.given("kind").is_none() && (is_needed || !section.is_absent()) {
        section.missing("kind", None, "is missing; write forge = { kind = \"gitea\" }, or \"github\" or \"gitlab\"");
    }
    let found = remote.and_then(|remote| guess(kind?, remote.url()));
    let (guessed_api, guessed_project) = found.unzip();
    if kind.is_some() {
        for (key, is_known) in
            [("api", api.is_some() || guessed_api.is_some()), ("project", project.is_some() || guessed_project.is_some())]
        {
            if !is_known && section.given(key).is_none() {
                section.missing(key, None, "is missing; it cannot be told by git.url");
            }
        }
    }
    let token = token.or_else(|| remote.and_then(Remote::token).cloned());
    if kind.is_some() && token.is_none() && section.given("token_file").is_none() && section.given("token_env").is_none() {
        section.missing("token_file", None, "is missing; name the file with a token of the forge");
    }
    section.finish();
    Some(forge::Settings { kind: kind?, api: api.or(guessed_api)?, project: project.or(guessed_project)?, token: token?, ca })
}

/// The API and the project of a repository, by its URL.
fn guess(kind: Kind, git: &str) -> Option<(Url, String)> {
    let git = Url::parse(git).ok().filter(|url| matches!(url.scheme(), "https" | "http"))?;
    let host = git.host_str()?;
    let mut api = git.clone();
    api.set_path(match kind {
        Kind::Gitea => "/api/v1",
        Kind::GitHub => "/api/v3",
        Kind::GitLab => "/api/v4",
    });
    if kind == Kind::GitHub && host == "github.com" {
        api = Url::parse("https://api.github.com").ok()?;
    }
    let project = git.path().trim_matches('/').trim_end_matches(".git").to_owned();
    Some((api, project)).filter(|(_, project)| project.contains('/'))
}

fn flux(mut section: Section<'_, '_>, deployer: &mut Deployer) {
    let receiver = section.optional("receiver", url);
    let secret = secrets::either(&mut section, "token_file", "token_env");
    let ca = readable(&mut section, "ca");
    if !section.is_absent() {
        if section.given("receiver").is_none() {
            section.missing("receiver", None, "is missing; write the Receiver's URL, with the path that stands in its status");
        }
        if section.given("token_file").is_none() && section.given("token_env").is_none() {
            section.missing("token_file", None, "is missing; name the file with the `token` of the Receiver's secret");
        }
    }
    if let (Some(url), Some(secret)) = (receiver, secret) {
        deployer.notifies.push(NotifySettings::Flux(FluxReceiver { url, secret, ca }));
    }
    section.finish();
}

fn webhook(mut section: Section<'_, '_>, deployer: &mut Deployer) {
    let address = section.optional("url", url);
    let secret = secrets::either(&mut section, "secret_file", "secret_env");
    let authorization = secrets::file(&mut section, "authorization_file");
    let ca = readable(&mut section, "ca");
    if !section.is_absent() && section.given("url").is_none() {
        section.missing("url", None, "is missing; write where to POST to");
    }
    if let Some(url) = address {
        deployer.notifies.push(NotifySettings::Webhook(Webhook { url, secret, authorization, ca }));
    }
    section.finish();
}

/// Keys that say nothing without another one.
fn needs(section: &Section<'_, '_>, key: &str, of_it: &[&str]) {
    if section.given(key).is_none() {
        for key_of_it in of_it.iter().filter(|key| section.given(key).is_some()) {
            section.wrong(key_of_it, format!("is of no use without `{key}`; add it, or remove this"));
        }
    }
}

/// An address to POST to. It is not repeated in errors, for it can hold a secret.
pub(super) fn url(value: &Value<'_>) -> Result<Url, String> {
    const ADVICE: &str = "write one such as \"https://argocd.example.org/api/webhook\"";
    let url = Url::parse(value.text()?).map_err(|error| format!("is not a URL ({error}); {ADVICE}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("is neither http: nor https:; {ADVICE}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; give it in a file".to_owned());
    }
    Ok(url)
}
