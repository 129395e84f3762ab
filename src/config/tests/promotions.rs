//! `[[promotion]]` and `[git]`.

use std::time::Duration;

use promotion::{Edit, Helm, Order, Write};

use super::{errors, parse};
use crate::config::Promotion;

const PLAIN: &str = "[[promotion]]\nname = \"p\"\nrepository = \"micro/app\"\ntags = [\"latest\"]\n\
git = { url = \"https://git.example.org/a.git\" }\nedit = { kustomization = \"k8s\", image = \"app\" }\n";

fn promotion(text: &str) -> Promotion {
    parse(text).promotions.remove(0)
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let found = errors(text);
    assert!(found.len() == 1 && found[0].contains(expected), "no `{expected}` in {found:#?}");
}

#[test]
fn what_is_not_said_has_its_default() {
    let promotion = promotion(PLAIN);
    assert_eq!((promotion.remote.branch(), promotion.rule.order), ("main", Order::Push));
    assert_eq!((promotion.rule.path.as_str(), promotion.rule.edit.write()), ("k8s", Write::TagAndDigest));
    assert_eq!(promotion.rule.breaker, Some((60, Duration::from_mins(10))));
    assert!(promotion.rule.gate.after.is_none() && promotion.rule.gate.window.is_none() && promotion.rule.message.skip_ci);
    let git = parse(PLAIN).git;
    assert_eq!((git.time_limit, git.batch), (Duration::from_mins(1), Duration::from_millis(200)));
}

#[test]
fn versions_are_in_the_order_of_versions() {
    let by_version = PLAIN.replace("[\"latest\"]", "[{ semver = \"*\" }]");
    assert_eq!(promotion(&by_version).rule.order, Order::Version);
    assert_eq!(promotion(&format!("{by_version}order = \"push\"\n")).rule.order, Order::Push);
}

#[test]
fn values_of_a_chart_are_paths() {
    let helm = |edit: &str| {
        let text = PLAIN.replace("kustomization = \"k8s\", image = \"app\"", &format!("helm = \"v.yaml\", {edit}"));
        promotion(&text).rule.edit
    };
    let Edit::Helm(Helm::Parts { name, tag, digest, .. }) = helm("name = \"a.b\", new_name = \"x\", tag = \"a.t\"") else {
        panic!()
    };
    assert_eq!((name, tag, digest), (Some((vec!["a".into(), "b".into()], "x".into())), vec!["a".into(), "t".into()], None));
    assert!(matches!(helm("value = \"image\""), Edit::Helm(Helm::Whole { .. })));
}

#[test]
fn what_is_missing_is_told_at_once() {
    let found = errors("[[promotion]]\n").join("\n");
    for key in ["name", "repository", "tags", "git.url", "edit.kustomization"] {
        assert!(found.contains(&format!("promotion.{key}: is missing")), "{key}\n{found}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (old, new, expected) in [
        ("\"p\"", "\"P p\"", "is not a name"),
        ("[\"latest\"]", "[]", "selects nothing"),
        ("image = \"app\"", "image = \"app\", write = \"tag\"", "writes \"latest\" each time"),
        ("image = \"app\"", "image = \"app\", write = \"both\"", "\"tag+digest\""),
        ("image = \"app\"", "image = \"app\", container = \"c\"", "no use with `kustomization`"),
        (", image = \"app\"", "", "promotion.edit.image: is missing"),
        ("\"k8s\"", "\"../k8s\"", "is no path within the repository"),
        ("kustomization = \"k8s\", image = \"app\"", "helm = \"v.yaml\"", "promotion.edit.tag: is missing"),
        (
            "kustomization = \"k8s\", image = \"app\"",
            "manifest = \"d.yaml\", object = \"o\"",
            "promotion.edit.container: is missing",
        ),
        ("kustomization = \"k8s\"", "kustomization = \"k8s\", helm = \"v.yaml\"", "two promotions for two files"),
        ("https://git.example.org/a.git", "https://me:hunter2@git.example.org/a.git", "has a name or a password in it"),
        ("git.example.org/a.git\"", "git.example.org/a.git\", branch = \"a b\"", "cannot be the name of a branch"),
        ("git.example.org/a.git\"", "git.example.org/a.git\", username = \"bot\"", "no use without a token"),
        ("https://git.example.org/a.git\"", "ssh://git@h/a\", key_file = \"/etc/roadstead/k\"", "known_hosts_file: is missing"),
        ("https://git.example.org/a.git\"", "ssh://git@h/a\"", "lets nobody in"),
        ("git.example.org/a.git\"", "git.example.org/a.git\", token_file = \"/run/secrets/none\"", "cannot be read"),
    ] {
        assert!(PLAIN.contains(old), "{old}");
        refused(&PLAIN.replace(old, new), expected);
    }
    for (line, expected) in [
        ("order = \"newest\"", "\"push\", \"version\""),
        ("message = \"{colour}\"", "which is not known; there are {promotion}"),
        ("soak = \"1h\"", "no use without `after`"),
        ("after = \"dev\"", "is no promotion; there is no other"),
        ("after = \"p\"", "goes in a circle"),
        ("hours = { days = \"moon\" }", "no list of days"),
        ("hours = { from = \"9\" }", "no time of the day"),
        ("hours = { from = \"17:00\", to = \"09:00\" }", "is not after `from`"),
        ("hours = { time_zone = \"Berlin\" }", "is not a time zone"),
        ("limit = 0", "limit: is 0"),
    ] {
        refused(&format!("{PLAIN}{line}\n"), expected);
    }
    refused("[git]\nname = \"a <b>\"\n", "which git takes in no name");
    refused("[git]\nbatch = \"1h\"\n", "longer than five minutes");
}

#[test]
fn two_promotions_share_neither_a_name_nor_a_place() {
    let other = PLAIN.replace("\"p\"", "\"q\"");
    refused(
        &(PLAIN.to_owned() + PLAIN).replacen("image = \"app\"", "image = \"x\"", 1),
        "also the name of the promotion of line 1",
    );
    refused(&(PLAIN.to_owned() + &other), "is the place that the promotion of line 1 writes");
    assert!(parse(&(PLAIN.to_owned() + &other.replace("k8s", "k9s"))).promotions.len() == 2);
    let elsewhere = other.replace("k8s", "k9s").replace("a.git\"", "a.git\", token_file = \"/run/secrets/git\"");
    refused(&(PLAIN.to_owned() + &elsewhere), "with another login");
    let stage = other.replace("k8s", "k9s").replace("micro/app", "micro/other") + "after = \"p\"\n";
    refused(&(PLAIN.to_owned() + &stage), "promotes micro/app, not micro/other");
}

#[test]
fn a_token_is_in_no_output() {
    let config = parse(&PLAIN.replace("a.git\"", "a.git\", token_file = \"/run/secrets/git\""));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn commits_over_an_api_cannot_be_signed() {
    let url = "git = { url = \"https://git.example.org/micro/a.git\", token_file = \"/run/secrets/git\" }";
    let over = PLAIN.replace(
        "git = { url = \"https://git.example.org/a.git\" }",
        &format!("{url}\nover = \"api\"\nforge = {{ kind = \"gitea\" }}"),
    );
    assert!(promotion(&over).over_api);
    refused(&format!("{over}[git]\nsigning_key_file = \"/etc/roadstead/key\"\n"), "cannot sign commits");
}
