//! `[auth]`: how those who ask are known; `[[access]]`: who may do what.

use std::collections::BTreeMap;

use auth::{Htpasswd, Pattern, Rule, TOKEN_LIFETIME, Verb, Who};
use toml::de::DeValue;

use super::problem::Place;
use super::reader::Section;
use super::value::{self, Value};
use super::{Auth, spelling};

pub(super) fn auth(mut section: Section<'_, '_>, has_rules: bool) -> Auth {
    let default = Auth::default();
    let document = section.document();
    let accounts = section.optional("htpasswd_file", |value| {
        let path = value::path(value)?;
        let bytes = document.file(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
        Htpasswd::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    });
    let token_lifetime = section.value("token_lifetime", default.token_lifetime, |value| match value::duration(value)? {
        lifetime if lifetime < TOKEN_LIFETIME / 5 => Err("is below 1m, which no client expects; write a longer time".to_owned()),
        lifetime if lifetime > TOKEN_LIFETIME * 12 * 24 => {
            Err("is above 24h; what somebody may is looked up each time, but who he is is not: write a shorter time".to_owned())
        }
        lifetime => Ok(lifetime),
    });
    let auth = Auth {
        accounts: accounts.unwrap_or_default(),
        token_flow: section.value("token_flow", default.token_flow, value::boolean),
        token_lifetime,
        public_metrics: section.value("public_metrics", default.public_metrics, value::boolean),
    };
    if !has_rules && section.given("htpasswd_file").is_some() {
        section.wrong("htpasswd_file", "is of no use without [[access]]: without rules everyone may do everything".to_owned());
    }
    section.finish();
    auth
}

/// All rules of a file; `None` if it has none.
pub(super) fn rules(root: &mut Section<'_, '_>) -> Option<Vec<Rule>> {
    let sections = root.sections("access")?;
    Some(sections.into_iter().filter_map(|mut section| {
        let rule = rule(&mut section);
        section.finish();
        rule
    }).collect())
}

fn rule(section: &mut Section<'_, '_>) -> Option<Rule> {
    let who = section.list("who", |value| Who::parse(value.text()?).map_err(|error| error.to_string()));
    let may = section.list("may", verb);
    let repositories = section.list("repositories", pattern);
    let claims = section.optional("claims", claims);
    let needs_place = may.as_ref().is_some_and(|may| may.iter().any(|verb| *verb != Verb::Admin));
    for (key, is_needed, text) in [
        ("who", true, "is missing; write for whom the rule is, such as [\"anonymous\"] or [\"user:alice\", \"robot:ci\"]"),
        ("may", true, "is missing; write what they may, such as [\"pull\"]"),
        ("repositories", needs_place, "is missing; write where, such as [\"micro/**\"], or [\"**\"] for everywhere"),
    ] {
        if is_needed && section.given(key).is_none() {
            section.missing(key, None, text);
        }
    }
    for (key, is_empty) in [
        ("who", who.as_ref().is_some_and(Vec::is_empty)),
        ("may", may.as_ref().is_some_and(Vec::is_empty)),
        ("repositories", repositories.as_ref().is_some_and(Vec::is_empty)),
    ] {
        if is_empty {
            section.wrong(key, "is empty, so that the rule would allow nothing; remove the rule, or write some".to_owned());
        }
    }
    let anonymous = who.as_ref().is_some_and(|who| who.iter().any(|who| matches!(who, Who::Anonymous)));
    if anonymous && may.as_ref().is_some_and(|may| may.contains(&Verb::Admin)) {
        section.wrong("may", "gives admin to everybody; write who it is for".to_owned());
    }
    let place = match section.place() {
        Place::Line(line) => format!("line {line}"),
        _ => "the configuration".to_owned(),
    };
    Some(Rule { place, who: who?, claims: claims.unwrap_or_default(), may: may?, repositories: repositories.unwrap_or_default() })
}

fn verb(value: &Value<'_>) -> Result<Verb, String> {
    let text = value.text()?;
    Verb::parse(text).ok_or_else(|| {
        let all = Verb::ALL.map(Verb::as_str);
        match spelling::nearest(text, all.into_iter()) {
            Some(near) => format!("{text:?} is not known; did you mean \"{near}\"?"),
            None => format!("{text:?} is not known; write one of {}", all.join(", ")),
        }
    })
}

fn pattern(value: &Value<'_>) -> Result<Pattern, String> {
    Pattern::parse(value.text()?).map_err(|error| error.to_string())
}

/// `{ ref = "refs/heads/main", "kubernetes.io.namespace" = "prod" }`.
fn claims(value: &Value<'_>) -> Result<BTreeMap<String, Pattern>, String> {
    let Value::Toml(DeValue::Table(table)) = value else {
        return Err(format!("is {}; write {{ NAME = \"PATTERN\" }}", value.kind()));
    };
    let one = |(name, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
        let name = name.get_ref().to_string();
        let pattern = pattern(&Value::Toml(value.get_ref())).map_err(|error| format!("{name}: {error}"))?;
        Ok((name, pattern))
    };
    table.iter().map(one).collect()
}
