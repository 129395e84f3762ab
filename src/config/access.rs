//! `[auth]`: how those who ask are known; `[[access]]`: who may do what.

use std::collections::BTreeMap;

use auth::{Algorithm, Htpasswd, Pattern, Provider, Rule, TOKEN_LIFETIME, Verb, Who};
use toml::de::DeValue;

use super::deployers::url;
use super::git::readable;
use super::problem::Place;
use super::reader::Section;
use super::value::{self, Value};
use super::{Auth, Issuer, spelling};

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
    let issuers = issuers(&mut section);
    let auth = Auth {
        issuers,
        accounts: accounts.unwrap_or_default(),
        token_flow: section.value("token_flow", default.token_flow, value::boolean),
        token_lifetime,
        public_metrics: section.value("public_metrics", default.public_metrics, value::boolean),
    };
    for key in ["htpasswd_file", "oidc"] {
        if !has_rules && section.given(key).is_some() {
            section.wrong(key, "is of no use without [[access]]: without rules everyone may do everything".to_owned());
        }
    }
    section.finish();
    auth
}

/// All issuers of a file.
fn issuers(section: &mut Section<'_, '_>) -> Vec<Issuer> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for mut section in section.sections("oidc").unwrap_or_default() {
        if let Some(issuer) = issuer(&mut section) {
            let (name, url) = (&issuer.provider.name, &issuer.provider.issuer);
            if issuers.iter().any(|other| other.provider.name == *name) {
                section.wrong("name", format!("{name:?} is also the name of another issuer; give one of them another"));
            } else if issuers.iter().any(|other| other.provider.issuer == *url) {
                section.wrong("issuer", format!("{url:?} stands in another [[auth.oidc]] too; put its audiences there"));
            } else if let Err(error) = issuer.provider.check() {
                section.wrong("issuer", error.to_string());
            }
            issuers.push(issuer);
        }
        section.finish();
    }
    issuers
}

fn issuer(section: &mut Section<'_, '_>) -> Option<Issuer> {
    let name = section.optional("name", value::name);
    let issuer = section.optional("issuer", |value| value.text().map(str::to_owned));
    let audiences = section.list("audience", |value| value.text().map(str::to_owned));
    for (key, text) in [
        ("name", "is missing; rules call those that it knows oidc:NAME:SUBJECT"),
        ("issuer", "is missing; write its URL as its tokens have it in iss"),
        ("audience", "is missing; write what its tokens have in aud when they are for this server, such as [\"registry\"]"),
    ] {
        if section.given(key).is_none() {
            section.missing(key, None, text);
        }
    }
    let text = |section: &mut Section<'_, '_>, key| section.optional(key, |value| value.text().map(str::to_owned));
    let [subject, groups] = ["subject", "groups"].map(|key| text(section, key));
    let algorithms = section.list("algorithms", |value| {
        let text = value.text()?;
        let all = Algorithm::ALL.map(Algorithm::as_str).join(", ");
        Algorithm::parse(text).ok_or_else(|| format!("{text:?} is not taken; write some of {all}"))
    });
    let leeway = section.optional("leeway", value::duration);
    let jwks_uri = section.optional("jwks_uri", url);
    let ca = readable(section, "ca");
    let mut provider = Provider::new(name?, issuer?, audiences?);
    provider.subject = subject.unwrap_or(provider.subject);
    provider.groups = groups.unwrap_or(provider.groups);
    provider.algorithms = algorithms.unwrap_or(provider.algorithms);
    provider.leeway = leeway.unwrap_or(provider.leeway);
    provider.jwks_uri = jwks_uri;
    Some(Issuer { provider, ca })
}

/// All rules of a file; `None` if it has none.
pub(super) fn rules(root: &mut Section<'_, '_>) -> Option<Vec<Rule>> {
    let sections = root.sections("access")?;
    Some(
        sections
            .into_iter()
            .filter_map(|mut section| {
                let rule = rule(&mut section);
                section.finish();
                rule
            })
            .collect(),
    )
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
    if may.as_ref().is_some_and(|may| may.contains(&Verb::Admin)) {
        if section.given("repositories").is_some() {
            let text =
                "gives admin, which is of the whole server, beside repositories; write it in a rule of its own without them";
            section.wrong("may", text.to_owned());
        }
        if who.as_ref().is_some_and(|who| who.iter().any(|who| matches!(who, Who::Authenticated))) {
            section.wrong("may", "gives admin to everybody who can log in; write who it is for".to_owned());
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

pub(super) fn pattern(value: &Value<'_>) -> Result<Pattern, String> {
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
