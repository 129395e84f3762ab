use super::load;

#[test]
fn the_budget_of_an_upstream_is_a_share_and_a_rate() {
    let budget = |rest: &str| {
        let config = load(&format!("[[upstream]]\nhost = \"docker.io\"\n{rest}"), &[], &[]);
        config.map(|config| (config.upstreams[0].reserve, config.upstreams[0].requests_per_second))
    };
    assert_eq!(budget("").unwrap(), (50, 20));
    assert_eq!(budget("reserve = \"0%\"\nrequests_per_second = 1").unwrap(), (0, 1));
    assert_eq!(budget("reserve = \"99 %\"\nrequests_per_second = 1000").unwrap(), (99, 1000));
    for (wrong, part) in [
        ("reserve = 50", "is 50 without its unit; write a whole number of percent in quotes, such as \"50%\""),
        ("reserve = 0.5", "is a number; write a whole number of percent"),
        ("reserve = \"half\"", "\"half\" is not a share; write"),
        ("reserve = \"-1%\"", "\"-1%\" is not a share; write"),
        ("reserve = \"100%\"", "leaves nothing to background work; write a share from \"0%\" to \"99%\""),
        ("reserve = \"99999999999999999999%\"", "leaves nothing"),
        ("requests_per_second = 0", "is 0, which would let nothing through"),
        ("requests_per_second = 4294967296", "is too large; write a smaller number"),
        ("requests_per_second = \"often\"", "is a text; write a whole number"),
    ] {
        let error = budget(wrong).unwrap_err().to_string();
        assert!(error.starts_with("r.toml:3: upstream.") && error.contains(part), "{wrong}: {error}");
    }
}
