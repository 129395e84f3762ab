//! Which endpoints are sound, and what they want.

use oci::{RepositoryName, Tag};

use super::*;

fn endpoint(url: &str) -> Endpoint {
    Endpoint::new("argo", Url::parse(url).unwrap(), Dialect::Harbor)
}

fn event(repository: &str, tag: Option<&str>) -> Event {
    Event {
        id: "1".to_owned(),
        action: Action::Push,
        repository: RepositoryName::parse(repository).unwrap(),
        tag: tag.map(|tag| Tag::parse(tag).unwrap()),
        digest: None,
        media_type: None,
        size: None,
        at: 0,
        actor: None,
        from: None,
        source_address: None,
        user_agent: None,
    }
}

fn refusal(endpoint: Endpoint) -> String {
    Bound::new(endpoint).err().unwrap().to_string()
}

#[test]
fn globs_choose_repositories_and_tags() {
    let mut some = endpoint("https://hooks.example.org");
    assert!(some.wants(&event("a/b", None)));
    some.repositories = Globs::new(["micro/*", "docker.io/**"]).unwrap();
    for (name, wanted) in [("micro/a", true), ("micro/a/b", false), ("docker.io/library/nginx", true), ("other", false)] {
        assert_eq!(some.wants(&event(name, None)), wanted, "{name}");
    }
    some.tags = Globs::new(["v*"]).unwrap();
    for (tag, wanted) in [(Some("v1"), true), (Some("latest"), false), (None, false)] {
        assert_eq!(some.wants(&event("micro/a", tag)), wanted, "{tag:?}");
    }
    some.actions = vec![Action::Delete];
    assert!(!some.wants(&event("micro/a", Some("v1"))));
    assert!(Globs::new(["["]).unwrap_err().to_string().contains("\"[\" is not a glob"));
}

#[test]
fn what_cannot_be_an_endpoint_is_refused_with_its_reason() {
    for name in ["", "Argo", "a/b", ".a", &"a".repeat(41)] {
        let named = Endpoint { name: name.to_owned(), ..endpoint("https://hooks.example.org") };
        assert!(refusal(named).contains("cannot be the name"), "{name}");
    }
    for url in ["ftp://hooks.example.org", "https://user@hooks.example.org", "https://:word@hooks.example.org"] {
        assert!(refusal(endpoint(url)).contains("neither user name nor password"), "{url}");
    }
    assert!(refusal(Endpoint { timeout: Duration::ZERO, ..endpoint("https://hooks.example.org") }).contains("timeout"));
    assert!(refusal(Endpoint { dialect: Dialect::FluxHmac, ..endpoint("https://hooks.example.org") }).contains("secret"));
    assert!(refusal(Endpoint { secret: Some("".into()), ..endpoint("https://hooks.example.org") }).contains("secret"));
    let broken = Endpoint { authorization: Some("top\nsecret".into()), ..endpoint("https://hooks.example.org") };
    let refusal = refusal(broken);
    assert!(refusal.contains("authorization") && !refusal.contains("secret"), "{refusal}");
}

#[test]
fn local_addresses_are_refused_unless_they_are_meant() {
    let local = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd12::1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "[2002:a00:1::1]",
        "0x7f000001",
    ];
    for host in local {
        let url = format!("http://{host}:8080/hook");
        assert!(matches!(Bound::new(endpoint(&url)), Err(EndpointError::Address { .. })), "{host}");
        assert!(Bound::new(Endpoint { allow_local: true, ..endpoint(&url) }).is_ok(), "{host}");
    }
    for host in ["169.254.169.254", "0.0.0.0", "[fe80::1]", "100.100.100.200"] {
        let url = format!("http://{host}/latest/meta-data");
        for allow_local in [true, false] {
            let bound = Bound::new(Endpoint { allow_local, ..endpoint(&url) });
            assert!(matches!(bound, Err(EndpointError::Address { .. })), "{host}");
        }
    }
    assert!(Bound::new(endpoint("http://8.8.8.8/hook")).is_ok());
}

#[test]
fn no_secret_is_in_the_text_of_an_endpoint() {
    let secret = Endpoint {
        secret: Some("hidden-1".into()),
        authorization: Some("Bearer hidden-2".into()),
        ..endpoint("https://hooks.example.org/hook?secret=hidden-3")
    };
    assert!(!format!("{secret:?}").contains("hidden"));
    let bound = Bound::new(secret).unwrap();
    let payload = Payload { content_type: "application/json", body: "{}".into() };
    assert!(!format!("{:?}", bound.headers(&event("a", None), &payload)).contains("hidden"));
    for betrayal in ["sent: hidden-1", "Authorization: Bearer hidden-2", "?secret=hidden-3"] {
        assert!(bound.betrays(betrayal), "{betrayal}");
    }
    assert!(!bound.betrays("no such type"));
}
