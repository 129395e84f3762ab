//! `[[mirror]]`: each by itself, then all of them together.

use std::collections::BTreeMap;
use std::time::Duration;

use mirror::{Mirror, SameDay, Schedule, Template};
use oci::{RepositoryName, Selector, Tag};

use super::Upstream;
use super::problem::Place;
use super::reader::Section;
use super::tags::{list, selector};
use super::value::{self, Value};

/// How often what is attached to unchanged images is looked for.
const REFERRERS_EVERY: Duration = Duration::from_hours(24);
/// How many tags are looked at at the same time.
const AT_ONCE: usize = 4;

/// All mirrors of a file.
pub(super) fn read(root: &mut Section<'_, '_>, upstreams: &[Upstream]) -> Vec<Mirror> {
    let mut mirrors: Vec<(Mirror, String)> = Vec::new();
    for mut section in root.sections("mirror").unwrap_or_default() {
        let mirror = one(&mut section, upstreams);
        let line = match section.place() {
            Place::Line(line) => format!("line {line}"),
            Place::Whole | Place::Named(_) => "the same file".to_owned(),
        };
        if let Some(mirror) = mirror {
            for (other, line) in &mirrors {
                compare(&section, &mirror, other, line);
            }
            mirrors.push((mirror, line));
        }
        section.finish();
    }
    mirrors.into_iter().map(|(mirror, _)| mirror).collect()
}

/// What two mirrors may not share: a name, and a tag that both would write.
fn compare(section: &Section<'_, '_>, this: &Mirror, other: &Mirror, line: &str) {
    if this.name == other.name {
        section.wrong("name", format!("{:?} is also the name of the mirror of {line}; give one of them another", this.name));
    }
    if (&this.registry, &this.to) != (&other.registry, &other.to) {
        return;
    }
    let theirs = written(other);
    if let Some((tag, _)) = written(this).into_iter().find(|(tag, _)| theirs.iter().any(|(their, _)| their == tag)) {
        let text = format!("the mirror of {line} writes {}:{tag} too; give one of them another `to` or `tag_as`", this.to);
        section.wrong("to", text);
    }
}

/// The tags that a mirror writes, as far as they are known before a run, and what they are copied from: dates stay as they are
/// written in the template.
fn written(mirror: &Mirror) -> Vec<(String, &Tag)> {
    let exact = mirror.tags.iter().filter_map(Selector::as_exact);
    // One with a digest is the same for the same content alone.
    let templates = || mirror.tag_as.iter().chain(&mirror.trimmed_as).filter(|template| !template.as_str().contains("{digest"));
    exact.flat_map(|tag| templates().map(move |template| (template.as_str().replace("{tag}", tag.as_str()), tag))).collect()
}

/// A tag that would be written twice, and from what.
fn written_twice(mirror: &Mirror) -> Option<(String, &Tag, &Tag)> {
    let mut seen = BTreeMap::new();
    written(mirror).into_iter().find_map(|(written, tag)| Some((written.clone(), seen.insert(written, tag)?, tag)))
}

/// One mirror, if nothing that it cannot do without is wrong.
fn one(section: &mut Section<'_, '_>, upstreams: &[Upstream]) -> Option<Mirror> {
    let name = section.optional("name", value::name);
    let schedule = schedule(section);
    let from = section.optional("from", |value| from(value, upstreams));
    let to = section.optional("to", |value| to(value, upstreams));
    let tags = list(section, "tags", selector);
    require(section, &["name", "from", "to", "tags"]);
    let exclude = section.list("exclude", selector).unwrap_or_default();
    let tag_as = list(section, "tag_as", template);
    let tag_as = if section.given("tag_as").is_some() { tag_as } else { Some("{tag}".parse().into_iter().collect()) };
    let trimmed_as = section.optional("trimmed_as", template);
    let platforms = section.list("platforms", value::platform).unwrap_or_default();
    let mirror = Mirror {
        jitter: section.value("jitter", Duration::ZERO, value::duration),
        keep: section.optional("keep", value::count),
        keep_for: section.optional("keep_for", value::limit),
        always: section.value("always", false, value::boolean),
        same_day: section.value("same_day", SameDay::default(), same_day),
        follow_deletions: section.value("follow_deletions", false, value::boolean),
        referrers_every: section.value("referrers_every", REFERRERS_EVERY, value::duration),
        at_once: section.value("at_once", AT_ONCE, value::count),
        name: name?,
        schedule,
        upstream: from.as_ref().map(|(host, _)| host.clone())?,
        from: from?.1,
        registry: to.as_ref().and_then(|(registry, _)| registry.clone()),
        to: to?.1,
        tags: tags?,
        exclude,
        tag_as: tag_as?,
        trimmed_as,
        platforms,
    };
    check(section, &mirror);
    Some(mirror)
}

/// What is wrong with a mirror as a whole.
fn check(section: &Section<'_, '_>, mirror: &Mirror) {
    if mirror.tags.is_empty() {
        section.wrong("tags", "selects nothing; write at least one tag, or { glob = \"*\" } for all".to_owned());
    }
    if mirror.tag_as.is_empty() {
        section.wrong("tag_as", "is empty, so that nothing would be copied; write \"{tag}\"".to_owned());
    }
    if let Some(template) = mirror.may_meet() {
        let text = format!("{:?} makes one tag of all that `tags` selects; write {{tag}} in it", template.as_str());
        section.wrong("tag_as", text);
    } else if let Some((tag, one, other)) = written_twice(mirror) {
        let text =
            format!("{tag:?} is made of both \"{one}\" and \"{other}\"; write {{tag}} in it, or change `tags` or `trimmed_as`");
        section.wrong("tag_as", text);
    }
    if mirror.trimmed_as.is_some() && mirror.platforms.is_empty() {
        section
            .wrong("trimmed_as", "is of no use without `platforms`: there is nothing to trim; add them, or remove it".to_owned());
    }
    if mirror.registry.as_ref() == Some(&mirror.upstream) && mirror.from == mirror.to {
        section.wrong("to", "is what `from` is; write another repository".to_owned());
    }
    if !mirror.jitter.is_zero() && mirror.schedule.is_none() {
        section.wrong("jitter", "is of no use without a schedule; add one, or remove it".to_owned());
    }
    if let Some(template) = mirror.trimmed_as.as_ref().filter(|template| template.is_dated()) {
        section.wrong(
            "trimmed_as",
            format!("{:?} makes a new tag each time, which nothing would remove; leave the date out", template.as_str()),
        );
    }
    if let Some(template) = mirror.trimmed_as.as_ref().filter(|template| mirror.tag_as.contains(template)) {
        section.wrong("trimmed_as", format!("{:?} is in `tag_as` too, where the original index is", template.as_str()));
    }
    let dated = mirror.tag_as.iter().any(Template::is_dated);
    for (key, given) in [("keep", mirror.keep.is_some()), ("keep_for", mirror.keep_for.is_some()), ("always", mirror.always)] {
        if given && !dated {
            section.wrong(key, "is about dated tags, and `tag_as` makes none; write {date} in it, or remove this".to_owned());
        }
    }
    if mirror.registry.is_some() {
        let keys = [
            ("keep", mirror.keep.is_some()),
            ("keep_for", mirror.keep_for.is_some()),
            ("follow_deletions", mirror.follow_deletions),
        ];
        for (key, _) in keys.iter().filter(|(_, given)| *given) {
            section.wrong(key, "removes tags, which this server does only in its own repositories; remove it".to_owned());
        }
    }
}

fn require(section: &Section<'_, '_>, keys: &[&str]) {
    for key in keys {
        if section.given(key).is_some() {
            continue;
        }
        let text = match *key {
            "name" => "is missing; write what to call this mirror, such as \"nightly\"",
            "from" => "is missing; write an upstream's repository, such as \"docker.io/library/alpine\"",
            "to" => "is missing; write the repository to copy to, such as \"mirror/alpine\"",
            _ => "is missing; write the tags to copy, such as [\"latest\"]",
        };
        section.missing(key, None, text);
    }
}

fn schedule(section: &mut Section<'_, '_>) -> Option<Schedule> {
    let zone = section.optional("time_zone", |value| {
        let text = value.text()?;
        let known = Schedule::parse("0 0 * * *", Some(text)).map(|_| text.to_owned());
        known.map_err(|error| format!("{error}; write one such as \"Europe/Berlin\""))
    });
    if section.given("time_zone").is_some() && section.given("schedule").is_none() {
        section.wrong("time_zone", "is of no use without a schedule; add one, or remove it".to_owned());
    }
    section.optional("schedule", |value| {
        let parsed = Schedule::parse(value.text()?, zone.as_deref());
        parsed.map_err(|error| format!("{error}; write minute, hour, day, month and weekday, such as \"0 2 * * 0\""))
    })
}

/// The upstream's host and the repository there.
fn from(value: &Value<'_>, upstreams: &[Upstream]) -> Result<(String, RepositoryName), String> {
    let text = value.text()?;
    let Some((upstream, rest)) = of_upstream(text, upstreams) else {
        let known: Vec<&str> = upstreams.iter().map(|upstream| upstream.host.as_str()).collect();
        let known = if known.is_empty() { "there is none".to_owned() } else { format!("there are {}", known.join(", ")) };
        return Err(format!("{text:?} does not begin with the host of an upstream ({known}); add an [[upstream]] for it"));
    };
    let official = upstream.host == "docker.io" && !rest.contains('/');
    let repository = if official { format!("library/{rest}") } else { rest.to_owned() };
    Ok((upstream.host.clone(), repository_of(&repository)?))
}

/// The host of the registry, for one elsewhere, and the repository there.
fn to(value: &Value<'_>, upstreams: &[Upstream]) -> Result<(Option<String>, RepositoryName), String> {
    let text = value.text()?;
    if upstreams.iter().any(|upstream| text == upstream.host || text == upstream.name.as_str()) {
        return Err(format!("{text:?} is an upstream and no repository; write one of its repositories, or one of your own"));
    }
    match of_upstream(text, upstreams) {
        None => Ok((None, repository_of(text)?)),
        Some((upstream, rest)) => Ok((Some(upstream.host.clone()), repository_of(rest)?)),
    }
}

fn of_upstream<'u, 't>(text: &'t str, upstreams: &'u [Upstream]) -> Option<(&'u Upstream, &'t str)> {
    let below = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).filter(|rest| !rest.is_empty());
    upstreams.iter().find_map(|upstream| Some((upstream, below(&upstream.host).or_else(|| below(upstream.name.as_str()))?)))
}

fn repository_of(text: &str) -> Result<RepositoryName, String> {
    RepositoryName::parse(text).map_err(|error| format!("{error}; write a repository's name without a tag"))
}

fn template(value: &Value<'_>) -> Result<Template, String> {
    let text = value.text()?;
    let template: Template = text.parse().map_err(|error| format!("{text:?} {error}"))?;
    // What is fixed may make no tag whatever the rest is.
    let sample = Tag::parse("x").ok().zip(sample_digest());
    match sample.map(|(tag, digest)| template.render(&tag, &jiff::Zoned::default(), &digest)) {
        Some(Err(error)) => Err(format!("{text:?} makes no tag: {error}")),
        _ => Ok(template),
    }
}

fn sample_digest() -> Option<oci::Digest> {
    oci::Digest::parse(&format!("sha256:{}", "0".repeat(64))).ok()
}

fn same_day(value: &Value<'_>) -> Result<SameDay, String> {
    match value.text()? {
        "suffix" => Ok(SameDay::Suffix),
        "refuse" => Ok(SameDay::Refuse),
        other => Err(format!("{other:?} is not known; write \"suffix\" or \"refuse\"")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::super::{Config, ConfigErrors};
    use super::*;

    const START: &str = "[[upstream]]\nhost = \"docker.io\"\n[[upstream]]\nhost = \"ghcr.io\"\nname = \"github\"\n[[mirror]]\n";

    fn load(mirror: &str) -> Result<Config, ConfigErrors> {
        let files = |_: &std::path::Path| Err(io::Error::from(io::ErrorKind::NotFound));
        Config::read("t.toml", &format!("{START}{mirror}"), &BTreeMap::new(), &[], &files)
    }

    fn mirror(text: &str) -> Mirror {
        load(text).unwrap().mirrors.remove(0)
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let errors = load(text).unwrap_err().to_string();
        assert!(errors.contains(expected), "no `{expected}` in\n{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }

    const PLAIN: &str = "name = \"m\"\nfrom = \"docker.io/team/app\"\nto = \"micro/app\"\ntags = [\"latest\"]\n";

    #[test]
    fn what_is_not_said_has_its_default() {
        let mirror = mirror(PLAIN);
        assert_eq!((mirror.upstream.as_str(), mirror.from.as_str()), ("docker.io", "team/app"));
        assert_eq!((mirror.registry.as_deref(), mirror.to.as_str()), (None, "micro/app"));
        assert_eq!(mirror.tag_as.iter().map(Template::as_str).collect::<Vec<_>>(), ["{tag}"]);
        assert!(mirror.schedule.is_none() && mirror.platforms.is_empty() && mirror.keep.is_none());
        assert_eq!(mirror.referrers_every, Duration::from_hours(24));
    }

    #[test]
    fn official_images_lie_under_library_and_upstreams_are_known_by_both_names() {
        let with = |from: &str, to: &str| mirror(&format!("name = \"m\"\nfrom = \"{from}\"\nto = \"{to}\"\ntags = [\"1\"]\n"));
        assert_eq!(with("docker.io/alpine", "a").from.as_str(), "library/alpine");
        assert_eq!(with("github/team/app", "a").upstream, "ghcr.io");
        let elsewhere = with("docker.io/alpine", "ghcr.io/team/alpine");
        assert_eq!((elsewhere.registry.as_deref(), elsewhere.to.as_str()), (Some("ghcr.io"), "team/alpine"));
    }

    #[test]
    fn tags_are_selected_in_every_way() {
        let text = PLAIN.replace(
            "[\"latest\"]",
            "[\"latest\", { glob = \"1.*\" }, { regex = \"v[0-9]\", newest = 2 }, { semver = \">=1\" }]",
        );
        let shown: Vec<String> = mirror(&text).tags.iter().map(Selector::to_string).collect();
        assert_eq!(shown, ["latest", "glob 1.*", "regex v[0-9] (newest 2)", "semver >=1"]);
        for (tags, expected) in [
            ("[]", "selects nothing"),
            ("[\"a b\"]", "not a tag"),
            ("[{ glob = \"[\" }]", "not a glob"),
            ("[{ newest = 2 }]", "selects nothing"),
            ("[{ glob = \"*\", regex = \".*\" }]", "two selectors in one"),
            ("[{ globs = \"*\" }]", "has \"globs\""),
            ("[{ glob = \"*\", newest = 0 }]", "newest is 0"),
            ("[1]", "is an integer"),
        ] {
            refused(&PLAIN.replace("[\"latest\"]", tags), expected);
        }
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_told() {
        let errors = load("colour = 1\n").unwrap_err().to_string();
        for key in [
            "mirror.name: is missing",
            "mirror.from: is missing",
            "mirror.to: is missing",
            "mirror.tags: is missing",
            "mirror.colour",
        ] {
            assert!(errors.contains(key), "{errors}");
        }
        refused(&PLAIN.replace("\"m\"", "\"M m\""), "is not a name");
        refused(&PLAIN.replace("docker.io/", "quay.io/"), "(there are docker.io, ghcr.io)");
        refused(&PLAIN.replace("micro/app", "Micro/App"), "without a tag");
        for (line, expected) in [
            ("schedule = \"0 2 * *\"", "it has 4"),
            ("schedule = \"0 0 31 2 *\"", "never comes"),
            ("time_zone = \"Europe/Berlin\"", "no use without a schedule"),
            ("schedule = \"@daily\"\ntime_zone = \"Berlin\"", "is not a time zone"),
            ("tag_as = []", "is empty"),
            ("tag_as = [\"{tags}\"]", "which is not known"),
            ("tag_as = [\"-{tag}\"]", "makes no tag"),
            ("platforms = [\"amd64\"]", "a platform is"),
            ("keep = 3", "is about dated tags"),
            ("trimmed_as = \"{tag}-slim\"", "no use without `platforms`"),
            ("platforms = [\"linux/amd64\"]\ntrimmed_as = \"{tag}-{date}\"", "nothing would remove"),
            ("same_day = \"later\"", "\"suffix\" or \"refuse\""),
        ] {
            refused(&format!("{PLAIN}{line}\n"), expected);
        }
        refused(&format!("{}follow_deletions = true\n", PLAIN.replace("micro/", "ghcr.io/")), "only in its own repositories");
    }

    #[test]
    fn tags_that_would_meet_are_refused_within_a_mirror_and_between_two() {
        let two = PLAIN.replace("[\"latest\"]", "[\"latest\", \"beta\"]");
        refused(&format!("{two}tag_as = [\"{{date}}\"]\n"), "both \"latest\" and \"beta\"");
        let many = PLAIN.replace("[\"latest\"]", "[{ glob = \"*\" }]");
        refused(&format!("{many}tag_as = [\"{{tag}}\", \"fixed\"]\n"), "one tag of all that `tags` selects");
        assert!(load(&format!("{two}tag_as = [\"{{digest:12}}\"]\n")).is_ok());
        let slim = PLAIN.replace("[\"latest\"]", "[\"a\", \"a-slim\"]");
        refused(
            &format!("{slim}platforms = [\"linux/amd64\"]\ntrimmed_as = \"{{tag}}-slim\"\n"),
            "\"a-slim\" is made of both \"a\" and \"a-slim\"",
        );
        let fixed = format!("{two}platforms = [\"linux/amd64\"]\ntrimmed_as = \"slim\"\n");
        assert!(load(&fixed).unwrap_err().to_string().contains("both \"latest\" and \"beta\""));
        refused(&PLAIN.replace("micro/app", "ghcr.io"), "is an upstream and no repository");
        let other = PLAIN.replace("\"m\"", "\"n\"").replace("team/app", "team/other");
        refused(&format!("{PLAIN}[[mirror]]\n{other}"), "writes micro/app:latest too");
        refused(&format!("{PLAIN}[[mirror]]\n{}", PLAIN.replace("micro", "mini")), "also the name of the mirror of line 6");
        assert!(load(&format!("{PLAIN}[[mirror]]\n{other}tag_as = [\"other-{{tag}}\"]\n")).is_ok());
    }
}
