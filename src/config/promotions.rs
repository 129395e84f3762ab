//! `[[promotion]]`: each by itself, then all of them together.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use oci::{RepositoryName, Selector};
use promotion::{Gate, Mode, Order, Remote, Rule, Template, Window, Write};
use toml::de::DeValue;

use super::problem::Place;
use super::reader::Section;
use super::tags::{list, selector};
use super::value::{self, Value};
use super::{Promotion, deployers, edits, git};

/// So many commits within [`WITHIN`], and a promotion stops by itself.
const LIMIT: usize = 60;
const WITHIN: Duration = Duration::from_mins(10);

/// So many times of commits are remembered.
const HIGHEST_LIMIT: usize = 1000;

fn limit(value: &Value) -> Result<usize, String> {
    let limit = value::count(value)?;
    if limit <= HIGHEST_LIMIT { Ok(limit) } else { Err(format!("is above {HIGHEST_LIMIT}, of which nothing is remembered")) }
}

/// All promotions of a file, whose commits are signed or not.
pub(super) fn read(root: &mut Section<'_, '_>, is_signed: bool) -> Vec<Promotion> {
    let mut promotions: Vec<(Promotion, String)> = Vec::new();
    let mut sections = Vec::new();
    for mut section in root.sections("promotion").unwrap_or_default() {
        let line = match section.place() {
            Place::Line(line) => format!("line {line}"),
            Place::Whole | Place::Named(_) => "the same file".to_owned(),
        };
        let promotion = one(&mut section);
        if let Some(promotion) = &promotion {
            if promotion.over_api && is_signed {
                let text = "\"api\" cannot sign commits, as git.signing_key_file asks; write \"git\", or remove the key";
                section.wrong("over", text.to_owned());
            }
            for (other, line) in &promotions {
                compare(&section, promotion, other, line);
            }
        }
        sections.push((section, promotion.as_ref().map(|_| promotions.len())));
        promotions.extend(promotion.map(|promotion| (promotion, line)));
    }
    let promotions: Vec<Promotion> = promotions.into_iter().map(|(promotion, _)| promotion).collect();
    for (section, index) in sections {
        if let Some(promotion) = index.and_then(|index| promotions.get(index)) {
            check_stage(&section, promotion, &promotions);
        }
        section.finish();
    }
    promotions
}

/// What two promotions may not share: a name, and a place that both would write; and what those of one branch must.
fn compare(section: &Section<'_, '_>, this: &Promotion, other: &Promotion, line: &str) {
    let (one, two) = (&this.rule, &other.rule);
    if one.name == two.name {
        section.wrong("name", format!("{:?} is also the name of the promotion of {line}; give one of them another", one.name));
    }
    if one.branch != two.branch {
        return;
    }
    if this.over_api != other.over_api {
        section.wrong("over", format!("is another one than that of {line}, which has the same branch; write the same in both"));
    }
    if !this.remote.has_login_of(&other.remote) {
        section.wrong("git", format!("names the branch of {line} with another login or CA; write the same in both"));
    }
    if one.path.trim_matches('/') == two.path.trim_matches('/') && edits::is_same_place(&one.edit, &two.edit) {
        section.wrong("edit", format!("is the place that the promotion of {line} writes; remove one of them"));
    }
}

/// An earlier stage is another promotion of the same repository, and no circle.
fn check_stage(section: &Section<'_, '_>, promotion: &Promotion, all: &[Promotion]) {
    let of = |name: &str| all.iter().map(|one| &one.rule).find(|rule| rule.name == name);
    let Some((stage, _)) = &promotion.rule.gate.after else { return };
    let Some(before) = of(stage) else {
        let known: Vec<&str> = all.iter().map(|one| one.rule.name.as_str()).filter(|name| *name != promotion.rule.name).collect();
        let known = if known.is_empty() { "there is no other".to_owned() } else { format!("there are {}", known.join(", ")) };
        section.wrong("after", format!("{stage:?} is no promotion; {known}"));
        return;
    };
    if before.repository != promotion.rule.repository {
        section.wrong("after", format!("{stage:?} promotes {}, not {}", before.repository, promotion.rule.repository));
        return;
    }
    let mut seen = vec![promotion.rule.name.as_str()];
    let mut at = Some(before);
    while let Some(rule) = at {
        if seen.contains(&rule.name.as_str()) {
            section.wrong("after", format!("goes in a circle: {} after {}", seen.join(" after "), rule.name));
            return;
        }
        seen.push(&rule.name);
        at = rule.gate.after.as_ref().and_then(|(stage, _)| of(stage));
    }
}

/// One promotion, if nothing that it cannot do without is wrong.
fn one(section: &mut Section<'_, '_>) -> Option<Promotion> {
    let name = section.optional("name", value::name);
    let repository = section.optional("repository", |value| {
        RepositoryName::parse(value.text()?).map_err(|error| format!("{error}; write a repository's name without a tag"))
    });
    let tags = list(section, "tags", selector);
    require(section);
    let exclude = section.list("exclude", selector).unwrap_or_default();
    let order = section.optional("order", order);
    let remote = git::remote(section.section("git"));
    let mode = section.value("mode", Mode::Commit, mode);
    let is_pull = mode == Mode::PullRequest;
    let over_api = section.value("over", false, over);
    let forge = deployers::forge(section.section("forge"), remote.as_ref(), is_pull || over_api);
    let place = edits::edit(section.section("edit"));
    let mut template = section.value("message", Template::default(), message);
    template.skip_ci = section.value("skip_ci", true, value::boolean);
    let validates = section.value("validate", true, value::boolean);
    let gate = gate(section);
    let limit = section.value("limit", LIMIT, limit);
    let within = section.value("limit_within", WITHIN, value::limit);
    let mut deployer = deployers::deployer(section, remote.as_ref().map(Remote::url));
    deployer.forge = forge;
    let tags = tags?;
    if tags.is_empty() {
        section.wrong("tags", "selects nothing; write at least one tag, or { glob = \"*\" } for all".to_owned());
    }
    let by_version = tags.iter().all(Selector::is_version);
    let (path, edit) = place?;
    let follows = tags.iter().find_map(Selector::as_exact);
    if let Some(tag) = follows.filter(|_| edit.write() == Write::Tag) {
        let text = format!(
            "writes \"{tag}\" each time, so that nothing would change when new content gets that tag; write the digest too: \
             write = \"tag+digest\""
        );
        section.wrong("edit", text);
    }
    let remote = remote?;
    let rule = Rule {
        name: name?,
        repository: repository?,
        order: order.unwrap_or(if by_version { Order::Version } else { Order::Push }),
        tags,
        exclude,
        branch: remote.key(),
        path,
        edit,
        mode,
        validates,
        message: template,
        gate,
        breaker: Some((limit, within)),
    };
    Some(Promotion { rule, remote, over_api, deployer })
}

fn require(section: &Section<'_, '_>) {
    for (key, text) in [
        ("name", "is missing; write what to call this promotion, such as \"app-prod\""),
        ("repository", "is missing; write the repository here whose tags are promoted, such as \"team/app\""),
        ("tags", "is missing; write the tags to promote, such as [\"latest\"] or [{ semver = \"*\" }]"),
    ] {
        if section.given(key).is_none() {
            section.missing(key, None, text);
        }
    }
}

fn order(value: &Value<'_>) -> Result<Order, String> {
    Ok(match value.text()? {
        "push" => Order::Push,
        "version" => Order::Version,
        "number" => Order::Number,
        "date" => Order::Date,
        "name" => Order::Name,
        "created" => Order::Created,
        other => {
            return Err(format!(
                "{other:?} is not known; write \"push\", \"version\", \"number\", \"date\", \"name\" or \"created\""
            ));
        }
    })
}

fn mode(value: &Value<'_>) -> Result<Mode, String> {
    match value.text()? {
        "commit" => Ok(Mode::Commit),
        "pull-request" => Ok(Mode::PullRequest),
        other => Err(format!("{other:?} is not known; write \"commit\" or \"pull-request\"")),
    }
}

/// Is the API of the forge used?
fn over(value: &Value<'_>) -> Result<bool, String> {
    match value.text()? {
        "git" => Ok(false),
        "api" => Ok(true),
        other => Err(format!("{other:?} is not known; write \"git\" or \"api\"")),
    }
}

fn message(value: &Value<'_>) -> Result<Template, String> {
    value.text()?.parse().map_err(|error| format!("{error}"))
}

fn gate(section: &mut Section<'_, '_>) -> Gate {
    let platforms = section.list("platforms", value::platform).unwrap_or_default();
    let approval = section.value("approval", false, value::boolean);
    let after = section.optional("after", value::name);
    let soak = section.optional("soak", value::duration);
    if soak.is_some() && section.given("after").is_none() {
        section.wrong("soak", "is of no use without `after`; name the promotion that comes before, or remove it".to_owned());
    }
    let hours = section.section("hours");
    let window = window(hours);
    Gate { platforms, approval, after: after.map(|after| (after, soak.unwrap_or_default())), window }
}

/// `hours = { days = "mon-fri", from = "09:00", to = "17:00", time_zone = "Europe/Berlin" }`.
fn window(mut section: Section<'_, '_>) -> Option<Window> {
    let days = section.value("days", [true; 7], days);
    let from = section.value("from", Time::midnight(), time);
    let to = section.value("to", Time::constant(23, 59, 59, 999_999_999), time);
    let zone = section.value("time_zone", TimeZone::UTC, |value| {
        let text = value.text()?;
        TimeZone::get(text).map_err(|_| format!("{text:?} is not a time zone; write one such as \"Europe/Berlin\""))
    });
    if from >= to {
        section.wrong("to", "is not after `from`; write two promotions for hours around midnight".to_owned());
    }
    let is_given = !section.is_absent();
    section.finish();
    is_given.then_some(Window { days, from, to, zone })
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `"mon-fri"`, `"sat,sun"`.
fn days(value: &Value<'_>) -> Result<[bool; 7], String> {
    let text = value.text()?;
    let index = |day: &str| DAYS.iter().position(|known| *known == day.trim().to_ascii_lowercase());
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (index(first), index(last)) else {
            return Err(format!("{text:?} is no list of days; write \"mon-fri\" or \"sat,sun\""));
        };
        let mut at = first;
        while at != last {
            days[at] = true;
            at = (at + 1) % 7;
        }
        days[last] = true;
    }
    Ok(days)
}

fn time(value: &Value<'_>) -> Result<Time, String> {
    if let Value::Toml(DeValue::Datetime(_)) = value {
        return Err("is a time without quotes; write \"09:00\"".to_owned());
    }
    let text = value.text()?;
    let parts = text.split_once(':').and_then(|(hour, minute)| Some((hour.parse().ok()?, minute.parse().ok()?)));
    let time = parts.and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok());
    time.ok_or_else(|| format!("{text:?} is no time of the day; write \"09:00\""))
}
