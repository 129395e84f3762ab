//! `WWW-Authenticate`: what an upstream wants to see. [RFC 9110, WWW-Authenticate; RFC 6750, section 3]

use std::iter::Peekable;
use std::str::Chars;

/// A way to authenticate that we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A token of this realm.
    Bearer { realm: String, service: Option<String> },
    /// Name and password.
    Basic,
}

/// The best of all challenges in these header values: Bearer before Basic, the first of each kind.
///
/// Takes what servers really send: several challenges in one header or one in each, parameters without quotes or with spaces
/// around `=`, unknown schemes between known ones.
pub fn pick<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for scheme in values.into_iter().flat_map(schemes) {
        if scheme.name.eq_ignore_ascii_case("bearer") {
            let service = scheme.parameter("service");
            if let Some(realm) = scheme.parameter("realm") {
                return Some(Challenge::Bearer { realm, service });
            }
        } else if scheme.name.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

struct Scheme {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Scheme {
    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }
}

/// Every scheme of one header value. A word followed by `=` is a parameter of the scheme before it, any other word is a scheme.
fn schemes(text: &str) -> Vec<Scheme> {
    let mut found: Vec<Scheme> = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        skip(&mut rest, |next| next.is_whitespace() || next == ',');
        if rest.peek().is_none() {
            return found;
        }
        let word = take(&mut rest, |next| !next.is_whitespace() && !matches!(next, ',' | '=' | '"'));
        if word.is_empty() {
            // A stray `=` or quote: step over it.
            rest.next();
            continue;
        }
        skip(&mut rest, char::is_whitespace);
        if rest.next_if_eq(&'=').is_none() {
            found.push(Scheme { name: word, parameters: Vec::new() });
            continue;
        }
        skip(&mut rest, char::is_whitespace);
        let value = value(&mut rest);
        if let Some(scheme) = found.last_mut() {
            scheme.parameters.push((word, value));
        }
    }
}

fn value(rest: &mut Peekable<Chars<'_>>) -> String {
    if rest.next_if_eq(&'"').is_none() {
        return take(rest, |next| !next.is_whitespace() && next != ',');
    }
    let mut value = String::new();
    while let Some(next) = rest.next() {
        match next {
            '"' => break,
            '\\' => value.extend(rest.next()),
            other => value.push(other),
        }
    }
    value
}

fn skip(rest: &mut Peekable<Chars<'_>>, matches: impl Fn(char) -> bool) {
    while rest.next_if(|next| matches(*next)).is_some() {}
}

fn take(rest: &mut Peekable<Chars<'_>>, matches: impl Fn(char) -> bool) -> String {
    let mut taken = String::new();
    while let Some(next) = rest.next_if(|next| matches(*next)) {
        taken.push(next);
    }
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "compared with what pick gives")]
    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
    }

    #[test]
    fn the_challenge_of_docker_hub() {
        let header =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        assert_eq!(pick([header]), bearer("https://auth.docker.io/token", Some("registry.docker.io")));
    }

    #[test]
    fn bearer_goes_before_basic_wherever_it_stands() {
        let expected = bearer("https://a/t", None);
        assert_eq!(pick([r#"Basic realm="x""#, r#"bearer realm="https://a/t""#]), expected);
        assert_eq!(pick([r#"Basic realm="a, Bearer realm=b", charset="UTF-8", Bearer realm="https://a/t""#]), expected);
        assert_eq!(pick(["Negotiate, NTLM abc==, BEARER Realm = https://a/t , Basic realm=x"]), expected);
    }

    #[test]
    fn quotes_may_hold_commas_and_escapes() {
        assert_eq!(pick([r#"Bearer service="a\"b,c\\", realm="r""#]), bearer("r", Some(r#"a"b,c\"#)));
    }

    #[test]
    fn what_we_do_not_know_is_no_challenge() {
        for header in ["", "Negotiate", "Bearer", r#"Bearer scope="x""#, r#"="", "," "#] {
            assert_eq!(pick([header]), None, "{header:?}");
        }
        assert_eq!(pick(["Basic"]), Some(Challenge::Basic));
        assert_eq!(pick([r#"Bearer realm="open"#]), bearer("open", None));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}", quoted in "[ ,=\"\\\\a-cBr]{0,60}") {
            let _ = pick([text.as_str(), quoted.as_str()]);
        }

        #[test]
        fn any_quoted_value_comes_back(realm in "\\PC{1,40}") {
            let escaped = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!(r#"Digest nonce="x", Bearer realm="{escaped}", Basic realm="y""#);
            prop_assert_eq!(pick([header.as_str()]), bearer(&realm, None));
        }
    }
}
