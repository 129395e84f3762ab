//! What an issuer says in a token whose signature is right. [RFC 7519, 4]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::oidc::provider::Provider;
use crate::oidc::refusal::Refusal;
use crate::principal::Principal;

/// Characters of a name of somebody.
const LONGEST_SUBJECT: usize = 512;
/// Claims that are kept, groups, and texts of one claim.
const MOST_CLAIMS: usize = 64;
const MOST_GROUPS: usize = 128;
const MOST_TEXTS: usize = 32;
/// Bytes of the name of a claim, of one text, and of everything that is kept: our own token has all of it in a header.
const LONGEST_NAME: usize = 128;
const LONGEST_TEXT: usize = 1024;
const LARGEST: usize = 6 * 1024;
/// What is no property of who asks, but of the token.
const OF_THE_TOKEN: [&str; 8] = ["exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash"];

/// Somebody of whom an issuer has said who it is.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(crate) principal: Arc<Principal>,
    /// The last second of the token, since 1970.
    pub(crate) expires: u64,
    /// Bytes that it takes here, about.
    pub(crate) size: usize,
}

impl Verified {
    /// Who it is, with groups and claims.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// When the token is over, in seconds since 1970.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.expires
    }
}

/// Looks at the claims of a token at this second since 1970.
pub(crate) fn judge(claims: &Value, provider: &Provider, now: u64) -> Result<Verified, Refusal> {
    if claims["iss"].as_str() != Some(provider.issuer.as_str()) {
        return Err(Refusal::Issuer);
    }
    let leeway = provider.leeway.as_secs();
    let expires = time(&claims["exp"])?.ok_or(Refusal::Claims)?;
    if expires.saturating_add(leeway) <= now {
        return Err(Refusal::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(&claims[name])?.is_some_and(|from| from > now.saturating_add(leeway)) {
            return Err(Refusal::Early);
        }
    }
    if !is_for(&claims["aud"], &provider.audiences) {
        return Err(Refusal::Audience);
    }
    // Required even where another claim is the name. [`OpenID` Connect Core 1.0, 2]
    name(&claims["sub"])?;
    let subject = name(at(claims, &provider.subject).unwrap_or(&Value::Null))?;
    let mut room = LARGEST;
    let (groups, all_groups) = groups(at(claims, &provider.groups), &mut room);
    let (told, all_claims) = flattened(claims, &mut room);
    if !(all_groups && all_claims) {
        tracing::warn!(provider = provider.name, subject, "the token says more than is kept: the rest is left out");
    }
    let size = 256 + (LARGEST - room) + subject.len();
    let principal = Principal::known(&format!("oidc:{}", provider.name), &subject).in_groups(groups).with_claims(told);
    Ok(Verified { principal: Arc::new(principal), expires, size })
}

/// Seconds since 1970, which may have a fraction. [RFC 7519, 2: `NumericDate`]
fn time(value: &Value) -> Result<Option<u64>, Refusal> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is out of range becomes its end")]
    let whole = |seconds: f64| (seconds.is_finite() && seconds >= 0.0).then_some(seconds as u64);
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(whole)).map(Some).ok_or(Refusal::Claims),
        _ => Err(Refusal::Claims),
    }
}

fn is_for(audience: &Value, ours: &[String]) -> bool {
    let is_ours = |value: &Value| value.as_str().is_some_and(|text| ours.iter().any(|name| name == text));
    match audience {
        Value::Array(all) => all.iter().any(is_ours),
        one => is_ours(one),
    }
}

/// A name that can stand in a rule, in a log and on a page.
fn name(value: &Value) -> Result<String, Refusal> {
    let text = text(value).ok_or(Refusal::Subject)?;
    let is_name = !text.is_empty() && text.len() <= LONGEST_SUBJECT && !text.chars().any(is_hidden);
    if is_name { Ok(text) } else { Err(Refusal::Subject) }
}

/// What ends a line, or changes how others are shown.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The claim at a path with dots. Names may have dots too: `kubernetes.io.namespace` is `namespace` in `kubernetes.io`.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let object = value.as_object()?;
    let below = |(dot, _)| object.get(&path[..dot]).and_then(|inner| at(inner, &path[dot + 1..]));
    object.get(path).or_else(|| path.match_indices('.').find_map(below))
}

/// The groups, and whether they are all of them.
fn groups(value: Option<&Value>, room: &mut usize) -> (Vec<String>, bool) {
    let all = match value {
        Some(Value::Array(all)) => all.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let mut groups = Vec::new();
    for group in all.iter().filter_map(Value::as_str) {
        if groups.len() == MOST_GROUPS || !takes(room, group) {
            return (groups, false);
        }
        if !group.is_empty() && !group.chars().any(is_hidden) {
            groups.push(group.to_owned());
        }
    }
    (groups, true)
}

fn takes(room: &mut usize, text: &str) -> bool {
    // With quotes and a comma.
    let size = text.len() + 3;
    let fits = text.len() <= LONGEST_TEXT && size <= *room;
    *room -= if fits { size } else { 0 };
    fits
}

/// All claims by their names with dots, and whether they are all of them.
fn flattened(claims: &Value, room: &mut usize) -> (BTreeMap<String, Vec<String>>, bool) {
    let mut found = BTreeMap::new();
    if let Some(object) = claims.as_object() {
        flatten(object, "", &mut found);
    }
    let mut kept = BTreeMap::new();
    let mut is_all = true;
    for (name, texts) in found.into_iter().filter_map(|(name, texts)| Some((name, texts?))) {
        let is_short = name.len() <= LONGEST_NAME && texts.len() <= MOST_TEXTS;
        if kept.len() < MOST_CLAIMS && is_short && takes(room, &name) && texts.iter().all(|text| takes(room, text)) {
            kept.insert(name, texts);
        } else {
            is_all = false;
        }
    }
    (kept, is_all)
}

/// A name that two claims would have is nobody's: `None`.
fn flatten(object: &Map<String, Value>, before: &str, found: &mut BTreeMap<String, Option<Vec<String>>>) {
    for (key, value) in object {
        if before.is_empty() && OF_THE_TOKEN.contains(&key.as_str()) {
            continue;
        }
        let name = format!("{before}{key}");
        let texts: Vec<String> = match value {
            Value::Object(inner) => {
                flatten(inner, &format!("{name}."), found);
                continue;
            }
            Value::Array(all) => all.iter().filter_map(text).collect(),
            one => text(one).into_iter().collect(),
        };
        if !texts.is_empty() {
            found.entry(name).and_modify(|known| *known = None).or_insert(Some(texts));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn provider() -> Provider {
        Provider::new("git", "https://git.example.org", vec!["registry".to_owned(), "other".to_owned()])
    }

    /// Good claims with these in their place; null removes one.
    fn claims(changed: &Value) -> Value {
        let mut claims =
            json!({ "iss": "https://git.example.org", "aud": "registry", "sub": "job", "exp": NOW + 300, "iat": NOW });
        for (name, value) in changed.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    fn judged(changed: &Value) -> Result<Verified, Refusal> {
        judge(&claims(changed), &provider(), NOW)
    }

    #[test]
    fn times_are_kept_to_within_the_leeway() {
        for (changed, expected) in [
            (json!({ "exp": NOW + 1 }), None),
            (json!({ "exp": NOW - 59 }), None),
            (json!({ "exp": NOW - 60 }), Some(Refusal::Expired)),
            (json!({ "exp": 0 }), Some(Refusal::Expired)),
            (json!({ "exp": 1_800_000_000.5 }), None),
            (json!({ "exp": 1_799_999_940.9 }), Some(Refusal::Expired)),
            (json!({ "exp": u64::MAX }), None),
            (json!({ "exp": null }), Some(Refusal::Claims)),
            (json!({ "exp": "1900000000" }), Some(Refusal::Claims)),
            (json!({ "exp": -1 }), Some(Refusal::Claims)),
            (json!({ "nbf": NOW + 60 }), None),
            (json!({ "nbf": NOW + 61 }), Some(Refusal::Early)),
            (json!({ "nbf": "x" }), Some(Refusal::Claims)),
            (json!({ "iat": NOW + 61 }), Some(Refusal::Early)),
            (json!({ "iat": null }), None),
        ] {
            assert_eq!(judged(&changed).err(), expected, "{changed}");
        }
    }

    #[test]
    fn an_audience_of_ours_must_be_there_to_the_letter() {
        for (audience, is_ours) in [
            (json!("registry"), true),
            (json!(["x", "other"]), true),
            (json!("Registry"), false),
            (json!("registry "), false),
            (json!(["x", ["registry"]]), false),
            (json!({ "registry": true }), false),
            (json!([]), false),
            (json!(null), false),
        ] {
            assert_eq!(judged(&json!({ "aud": audience })).is_ok(), is_ours, "{audience}");
        }
    }

    #[test]
    fn a_name_that_can_be_taken_for_another_is_refused() {
        for subject in
            [json!("a\nb"), json!("a\u{0}"), json!("\u{202e}a"), json!(""), json!(null), json!(["a"]), json!("a".repeat(513))]
        {
            assert_eq!(judged(&json!({ "sub": subject })).err(), Some(Refusal::Subject), "{subject}");
        }
        let named = judged(&json!({ "sub": "repo:org/app:ref:refs/heads/main" })).unwrap();
        assert_eq!(named.principal().name(), "oidc:git:repo:org/app:ref:refs/heads/main");
        let by_number = Provider { subject: "user.id".to_owned(), ..provider() };
        let named = judge(&claims(&json!({ "user": { "id": 42 } })), &by_number, NOW).unwrap();
        assert_eq!(named.principal().name(), "oidc:git:42");
        assert_eq!(judge(&claims(&json!({})), &by_number, NOW).err(), Some(Refusal::Subject));
        let without_sub = claims(&json!({ "user": { "id": 42 }, "sub": null }));
        assert_eq!(judge(&without_sub, &by_number, NOW).err(), Some(Refusal::Subject));
    }

    #[test]
    fn groups_are_a_text_or_a_list_at_any_depth() {
        let nested = Provider { groups: "realm_access.roles".to_owned(), ..provider() };
        let told = claims(&json!({ "realm_access": { "roles": ["dev", 7, "a\nb", "ops"] }, "groups": "one" }));
        assert_eq!(judge(&told, &nested, NOW).unwrap().principal().groups(), ["dev", "ops"]);
        assert_eq!(judge(&told, &provider(), NOW).unwrap().principal().groups(), ["one"]);
        assert!(judged(&json!({ "groups": { "a": 1 } })).unwrap().principal().groups().is_empty());
    }

    #[test]
    fn claims_are_flat_and_bounded() {
        let judged = judged(&json!({
            "kubernetes.io": { "namespace": "ci", "pod": { "name": "p", "uid": 7 } },
            "ok": true, "amr": ["pwd", "otp"], "nothing": null, "objects": [{}], "twice.a": "1", "twice": { "a": "2" },
        }))
        .unwrap();
        let who = judged.principal();
        assert_eq!(who.claim("kubernetes.io.namespace"), ["ci"]);
        assert_eq!(who.claim("kubernetes.io.pod.uid"), ["7"]);
        assert_eq!((who.claim("ok"), who.claim("amr").len()), (["true".to_owned()].as_slice(), 2));
        for name in ["nothing", "objects", "exp", "twice.a"] {
            assert!(who.claim(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_token_that_says_too_much_is_cut_and_taken() {
        let mut many = json!({ "groups": (0..1000).map(|group| format!("g{group}")).collect::<Vec<_>>() });
        for claim in 0..300 {
            many[format!("c{claim:03}")] = json!("v".repeat(100));
        }
        many["a"] = json!("v".repeat(LONGEST_TEXT + 1));
        let judged = judged(&many).unwrap();
        assert_eq!(judged.principal().groups().len(), MOST_GROUPS);
        assert!(judged.principal().claim("a").is_empty() && judged.principal().claim("aud") == ["registry"]);
        assert!(serde_json::to_vec(judged.principal()).unwrap().len() < 2 * LARGEST);
    }

    proptest! {
        #[test]
        fn no_claims_make_it_panic(name in "[a-z.]{0,12}", path in "[a-z.]{0,12}", text in "\\PC{0,40}", number in any::<f64>()) {
            let provider = Provider { subject: path.clone(), groups: path, ..provider() };
            for value in [json!(text), json!(number), json!([text, number]), json!({ &name: { &text: number } })] {
                let _ = judge(&claims(&json!({ &name: value, "exp": number })), &provider, NOW).is_ok();
                let _ = judge(&claims(&json!({ &name: value })), &provider, NOW).is_ok();
            }
        }
    }
}
