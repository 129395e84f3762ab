//! `[[hook]]`: who is told of what happens here; `[[trigger]]`: what a forge's webhook starts.

use std::time::Duration;

use hooks::{Action, Dialect, Endpoint, Globs, InboundKind};
use mirror::Mirror;
use url::Url;

use super::deployers::url;
use super::git::readable;
use super::reader::Section;
use super::value::{self, Value};
use super::{Promotion, Starts, Trigger, secrets};

/// The longest that a delivery may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// All hooks of a file.
pub(super) fn read(root: &mut Section<'_, '_>) -> Vec<Endpoint> {
    let mut hooks: Vec<Endpoint> = Vec::new();
    for mut section in root.sections("hook").unwrap_or_default() {
        if let Some(hook) = one(&mut section) {
            if hooks.iter().any(|other| other.name == hook.name) {
                section.wrong("name", format!("{:?} is also the name of another hook; give one of them another", hook.name));
            }
            hooks.push(hook);
        }
        section.finish();
    }
    hooks
}

fn one(section: &mut Section<'_, '_>) -> Option<Endpoint> {
    let name = section.optional("name", name);
    let address: Option<Url> = section.optional("url", url);
    let dialect = section.optional("dialect", |value| {
        let text = value.text()?;
        Dialect::parse(text)
            .ok_or_else(|| format!("{text:?} is not known; write one of {}", all(&Dialect::ALL.map(Dialect::as_str))))
    });
    for (key, text) in [
        ("name", "is missing; write what to call this hook, such as \"image-updater\""),
        ("url", "is missing; write where it listens"),
        ("dialect", "is missing; write in whose words it is told, such as \"harbor\" or \"cloudevents\""),
    ] {
        if section.given(key).is_none() {
            section.missing(key, None, text);
        }
    }
    let secret = secrets::either(section, "secret_file", "secret_env");
    let authorization = secrets::file(section, "authorization_file");
    let repositories = globs(section, "repositories");
    let tags = globs(section, "tags");
    let actions = section.list("actions", action).unwrap_or_default();
    let ca = readable(section, "ca");
    let allow_local = section.value("allow_local", false, value::boolean);
    let timeout = section.value("timeout", TIMEOUT, value::limit);
    if dialect == Some(Dialect::FluxHmac) && section.given("secret_file").is_none() && section.given("secret_env").is_none() {
        section.missing("secret_file", None, "is missing; its receiver verifies a signature");
    }
    Some(Endpoint {
        secret,
        authorization,
        repositories,
        tags,
        actions,
        ca,
        allow_local,
        timeout,
        ..Endpoint::new(&name?, address?, dialect?)
    })
}

/// All triggers of a file.
pub(super) fn triggers(root: &mut Section<'_, '_>, mirrors: &[Mirror], promotions: &[Promotion]) -> Vec<Trigger> {
    let mut triggers: Vec<Trigger> = Vec::new();
    for mut section in root.sections("trigger").unwrap_or_default() {
        if let Some(trigger) = trigger(&mut section, mirrors, promotions) {
            if triggers.iter().any(|other| other.name == trigger.name) {
                section
                    .wrong("name", format!("{:?} is also the name of another trigger; give one of them another", trigger.name));
            }
            triggers.push(trigger);
        }
        section.finish();
    }
    triggers
}

fn trigger(section: &mut Section<'_, '_>, mirrors: &[Mirror], promotions: &[Promotion]) -> Option<Trigger> {
    let name = section.optional("name", name);
    let forge = section.optional("forge", |value| {
        let text = value.text()?;
        let known = InboundKind::ALL.map(InboundKind::as_str);
        InboundKind::parse(text).ok_or_else(|| format!("{text:?} is not known; write one of {}", all(&known)))
    });
    let secret = secrets::either(section, "secret_file", "secret_env");
    for (key, text) in [
        ("name", "is missing; it is listened to at /hooks/NAME"),
        ("forge", "is missing; write who sends: \"gitea\", \"github\", \"gitlab\" or \"generic\""),
        ("run", "is missing; write what is started, such as [\"mirror:nightly\"]"),
    ] {
        if section.given(key).is_none() {
            section.missing(key, None, text);
        }
    }
    if section.given("secret_file").is_none() && section.given("secret_env").is_none() {
        section.missing("secret_file", None, "is missing; without a secret everybody could send");
    }
    let repository = section.optional("repository", |value| value.text().map(str::to_owned));
    let branches = globs(section, "branches");
    let paths = globs(section, "paths");
    let on_tags = section.value("tags", false, value::boolean);
    let starts = section.list("run", |value| starts(value, mirrors, promotions))?;
    if starts.is_empty() {
        section.wrong("run", "is empty, so that nothing would be started; write [\"mirror:NAME\"]".to_owned());
    }
    Some(Trigger { name: name?, forge: forge?, secret: secret?, repository, branches, paths, on_tags, starts })
}

/// `mirror:NAME`, `check:PROMOTION` or `promotion:NAME`.
fn starts(value: &Value<'_>, mirrors: &[Mirror], promotions: &[Promotion]) -> Result<Starts, String> {
    let text = value.text()?;
    let (known, made): (Vec<&str>, fn(String) -> Starts) = match text.split_once(':') {
        Some(("mirror", _)) => (mirrors.iter().map(|mirror| mirror.name.as_str()).collect(), Starts::Mirror),
        Some(("promotion", _)) => (promotions.iter().map(|one| one.rule.name.as_str()).collect(), Starts::Promotion),
        Some(("check", name)) if promotions.iter().any(|one| one.rule.name == name && one.over_api) => {
            return Err(format!(
                "{text:?} cannot be done: {name} has over = \"api\", and a whole repository is looked at with git alone"
            ));
        }
        Some(("check", _)) => (promotions.iter().map(|one| one.rule.name.as_str()).collect(), Starts::Check),
        _ => {
            return Err(format!(
                "{text:?} is nothing that can be started; write \"mirror:NAME\", \"check:PROMOTION\" or \"promotion:NAME\""
            ));
        }
    };
    let name = text.split_once(':').map(|(_, name)| name).unwrap_or_default();
    if known.contains(&name) {
        return Ok(made(name.to_owned()));
    }
    let known = if known.is_empty() { "there is none".to_owned() } else { format!("there are {}", known.join(", ")) };
    Err(format!("{text:?} is not in this file; {known}"))
}

fn name(value: &Value<'_>) -> Result<String, String> {
    let name = value::name(value)?;
    if name.len() > 40 {
        return Err(format!("{name:?} is longer than 40 letters"));
    }
    Ok(name)
}

fn globs(section: &mut Section<'_, '_>, key: &'static str) -> Globs {
    let texts = section.list(key, |value| {
        let text = value.text()?;
        Globs::new([text]).map(|_| text.to_owned()).map_err(|error| format!("{error}"))
    });
    // Each was made by itself.
    Globs::new(texts.unwrap_or_default()).unwrap_or_default()
}

fn action(value: &Value<'_>) -> Result<Action, String> {
    match value.text()? {
        "push" => Ok(Action::Push),
        "delete" => Ok(Action::Delete),
        other => Err(format!("{other:?} is not known; write \"push\" or \"delete\"")),
    }
}

fn all(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
