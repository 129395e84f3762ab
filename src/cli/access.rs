//! `roadstead access`.

use std::fmt::Write as _;
use std::process::ExitCode;

use auth::{Policy, Principal, Verb};
use oci::RepositoryName;
use serde_json::json;

use super::table::shown;
use super::{ConfigFile, FAILED, Output, environment, print};
use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Say whether somebody may do something by the rules of a configuration, and which rule says so; ends with 1 if not
    Check {
        /// Who: anonymous, user:NAME, robot:NAME, cert:NAME, oidc:PROVIDER:SUBJECT
        principal: String,
        /// What: pull, push, delete, build, promote, admin
        #[arg(value_parser = verb)]
        verb: Verb,
        /// Where, as it is stored here: docker.io/library/nginx; not needed for admin
        repository: Option<String>,
        /// A group that he belongs to; may be repeated
        #[arg(long = "group", value_name = "NAME")]
        groups: Vec<String>,
        /// What his issuer says of him; may be repeated
        #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
        claims: Vec<(String, String)>,
    },
}

fn verb(text: &str) -> Result<Verb, String> {
    Verb::parse(text).ok_or_else(|| format!("write one of {}", Verb::ALL.map(Verb::as_str).join(", ")))
}

fn claim(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "write NAME=VALUE".to_owned())
}

/// Does it, and answers how the process should end.
pub(super) fn run(command: Command, file: &ConfigFile, output: Output) -> anyhow::Result<ExitCode> {
    let Command::Check { principal, verb, repository, groups, claims } = command;
    let config = Config::load(file.config.as_deref(), environment())?;
    let repository = repository.map(|name| RepositoryName::parse(&name)).transpose()?;
    anyhow::ensure!(repository.is_some() || verb == Verb::Admin, "name the repository: {verb} is asked of one");
    let Some(rules) = config.access else {
        let answer = json!({ "allowed": true, "rule": null });
        return Ok(print(&shown(output, &answer, |_| {
            "allowed: there is no [[access]], so everyone may do everything\n".to_owned()
        })));
    };
    let Some(somebody) = Principal::parse(&principal) else {
        anyhow::bail!("{principal:?} is nobody: write anonymous, user:NAME, robot:NAME, cert:NAME or oidc:PROVIDER:SUBJECT");
    };
    let somebody = somebody.in_groups(groups).with_claims(claims.into_iter().map(|(name, value)| (name, vec![value])).collect());
    let policy = Policy::new(rules);
    // Of the whole server: it is about no repository.
    let place = repository.as_ref().filter(|_| verb != Verb::Admin);
    let decision = policy.decide(&somebody, verb, place);
    let allowed = match decision {
        auth::Decision::Allowed(rule) => Some(rule.place.clone()),
        auth::Decision::Denied => None,
    };
    let mut said = match &allowed {
        Some(place) => format!("allowed by the rule at {place}\n"),
        None => "denied: no rule allows it\n".to_owned(),
    };
    if allowed.is_none() {
        for (rule, [who, claims, what, place]) in policy.explain(&somebody, verb, place) {
            let not = [
                (who, "for somebody else"),
                // Of somebody else nothing need be said.
                (claims || !who, "for those of whom other claims are said"),
                (what, "about other verbs"),
                (place, "about other repositories"),
            ];
            let why: Vec<&str> = not.into_iter().filter(|(is, _)| !is).map(|(_, text)| text).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(said, "  the rule at {} is {}", rule.place, why.join(" and "));
        }
    }
    let answer = json!({ "allowed": allowed.is_some(), "rule": allowed });
    let code = print(&shown(output, &answer, |_| said.clone()));
    Ok(if allowed.is_some() { code } else { ExitCode::from(FAILED) })
}
