//! Input: the values of `WWW-Authenticate`, one a line.

use upstream::challenge::{Challenge, pick};

pub(crate) fn target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let values: Vec<&str> = text.lines().collect();
    let picked = pick(values.iter().copied());
    if let Some(Challenge::Bearer { realm, service }) = &picked {
        assert!(values.iter().any(|value| holds_in_order(value, realm)), "the realm {realm:?} was sent");
        let service_was_sent = |service| values.iter().any(|value| holds_in_order(value, service));
        assert!(service.as_deref().is_none_or(service_was_sent), "the service {service:?} was sent");
        assert_eq!(pick([written(realm, service.as_deref()).as_str()]), picked, "what was understood can be said again");
    }
    // The first Bearer wins, whatever follows; and a Basic changes nothing for a Bearer.
    let known = Challenge::Bearer { realm: "https://a/t".to_owned(), service: None };
    let first = [r#"Bearer realm="https://a/t""#];
    assert_eq!(pick(first.into_iter().chain(values.iter().copied())), Some(known));
    let with_basic = pick(values.iter().copied().chain(["Basic realm=x"]));
    assert_eq!(with_basic, Some(picked.unwrap_or(Challenge::Basic)));
}

/// A header that says this.
fn written(realm: &str, service: Option<&str>) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let service = service.map(|service| format!(r#",service="{}""#, quoted(service))).unwrap_or_default();
    format!(r#"Bearer realm="{}"{service}"#, quoted(realm))
}

/// Are the letters of `part` in `whole`, in their order?
fn holds_in_order(whole: &str, part: &str) -> bool {
    let mut letters = whole.chars();
    part.chars().all(|wanted| letters.any(|letter| letter == wanted))
}
