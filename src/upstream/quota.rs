//! What a registry says of its quota: `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 76;w=21600`.

use std::time::Duration;

use http::HeaderMap;

/// What a registry lets us have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Manifests that may be pulled in one window.
    pub limit: u64,
    /// How many of them are left.
    pub remaining: u64,
    /// How long a window is.
    pub window: Duration,
    /// When a new window begins, from the moment of the answer on, if it said so.
    pub reset: Option<Duration>,
}

/// Windows are taken to be this long where a registry does not say.
const UNSAID: Duration = Duration::from_hours(1);
/// Longer windows are not believed.
const LONGEST: Duration = Duration::from_hours(24);

impl Quota {
    /// Reads the headers of an answer; `None` if they say nothing of a quota.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let (limit, said) = entry(headers, "ratelimit-limit")?;
        let (remaining, also_said) = entry(headers, "ratelimit-remaining")?;
        let window = said.or(also_said).map_or(UNSAID, Duration::from_secs).clamp(Duration::from_secs(1), LONGEST);
        let reset = entry(headers, "ratelimit-reset").map(|(seconds, _)| Duration::from_secs(seconds).min(window));
        (limit > 0).then_some(Self { limit, remaining: remaining.min(limit), window, reset })
    }
}

/// The first number of a header, and its window in seconds.
fn entry(headers: &HeaderMap, name: &str) -> Option<(u64, Option<u64>)> {
    let text = headers.get(name)?.to_str().ok()?;
    let mut parts = text.split(',').next()?.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")).and_then(|seconds| seconds.trim().parse().ok());
    Some((number, window))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn read(entries: &[(&'static str, &str)]) -> Option<Quota> {
        let entries = entries.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        Quota::read(&entries.collect())
    }

    fn quota(limit: u64, remaining: u64, seconds: u64) -> Quota {
        Quota { limit, remaining, window: Duration::from_secs(seconds), reset: None }
    }

    #[test]
    fn the_headers_of_docker_hub() {
        let read = read(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")]);
        assert_eq!(read, Some(quota(100, 76, 21600)));
    }

    #[test]
    fn headers_of_others_and_nonsense() {
        let plain = read(&[
            ("ratelimit-limit", "100, 100;w=60;burst=5"),
            ("ratelimit-remaining", " 7 ; w=60"),
            ("ratelimit-reset", "30"),
        ]);
        assert_eq!(plain, Some(Quota { reset: Some(Duration::from_secs(30)), ..quota(100, 7, 60) }));
        assert_eq!(read(&[("ratelimit-limit", "10"), ("ratelimit-remaining", "99")]), Some(quota(10, 10, 3600)));
        assert_eq!(read(&[("ratelimit-limit", "10;w=0"), ("ratelimit-remaining", "1")]), Some(quota(10, 1, 1)));
        for (limit, remaining) in [("", "1"), ("0", "0"), ("many", "1"), ("-1", "1"), ("10", "few"), (";w=1", "1")] {
            assert_eq!(read(&[("ratelimit-limit", limit), ("ratelimit-remaining", remaining)]), None, "{limit} {remaining}");
        }
        assert_eq!(read(&[("ratelimit-limit", "10")]), None);
    }

    proptest! {
        #[test]
        fn no_header_makes_an_impossible_quota(limit in "[0-9;w=, ]{0,30}", remaining in "[0-9;w=, ]{0,30}", reset in "[0-9;]{0,24}") {
            if let Some(quota) = read(&[("ratelimit-limit", &limit), ("ratelimit-remaining", &remaining), ("ratelimit-reset", &reset)]) {
                prop_assert!(quota.remaining <= quota.limit && !quota.window.is_zero());
                prop_assert!(quota.window <= LONGEST && quota.reset.is_none_or(|reset| reset <= quota.window));
            }
        }
    }
}
