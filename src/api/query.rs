//! The query of a URL: decoding what comes in, encoding what goes into a `Link`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What may stand unencoded in a query's value.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

/// The pairs of a query, decoded, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query. `+` is a plus sign, since digests and media types hold it and forms do not come here.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a key; an empty one counts as absent.
    pub(crate) fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, value)| name == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// All values of a key that are not empty.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, value)| name == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// `?key=value&…` of the pairs that have a value.
pub(crate) fn encode(pairs: &[(&str, Option<&str>)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        if let Some(value) = value {
            text.push(if text.is_empty() { '?' } else { '&' });
            text.push_str(key);
            text.push('=');
            text.extend(utf8_percent_encode(value, VALUE));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_repeated_keys_kept() {
        let query = Query::parse(Some("digest=sha256%3Aab&tag=a&tag=b&&x&artifactType=a/b+json&bad=%zz"));
        assert_eq!(query.first("digest"), Some("sha256:ab"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.first("x"), None);
        assert_eq!(query.first("artifactType"), Some("a/b+json"));
        assert_eq!(query.first("bad"), Some("%zz"));
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let text = encode(&[("n", Some("2")), ("x", None), ("artifactType", Some("a/b+json; c&d"))]);
        assert_eq!(text, "?n=2&artifactType=a/b%2Bjson%3B%20c%26d");
        assert_eq!(Query::parse(Some(&text[1..])).first("artifactType"), Some("a/b+json; c&d"));
    }
}
