use std::sync::Arc;
use std::time::Duration;

use oci::{Error, Pull};
use roadstead_upstream::{Config, ConfigError, Upstream};
use telemetry::Metrics;
use testing::{FakeUpstream, Fault, ManualClock};
use url::Url;

use crate::{name, setup, setup_with, tag, with_short_idle};

async fn reason(setup: &crate::Setup) -> String {
    match setup.upstream.resolve(&name(), &tag("latest")).await {
        Err(Error::Upstream { upstream, reason }) => {
            assert_eq!(upstream, "r.example");
            reason
        }
        other => format!("not an error of the upstream: {other:?}"),
    }
}

#[tokio::test]
async fn too_many_requests_are_told_with_the_time_to_come_back() {
    for (header, expected) in
        [(None, None), (Some("120"), Some(120)), (Some("Thu, 01 Jan 2026 00:01:30 GMT"), Some(90)), (Some("soon"), None)]
    {
        let setup = setup();
        let retry_after = header.map(str::to_owned);
        setup.fake.fault_times("", 1, Fault::TooManyRequests { retry_after });
        let error = setup.upstream.resolve(&name(), &tag("latest")).await.unwrap_err();
        let Error::TooManyRequests { retry_after, reason } = error else { unreachable!("{error}") };
        assert_eq!(retry_after, expected);
        assert!(reason.contains("r.example"));
    }
}

#[tokio::test]
async fn errors_of_the_server_are_errors_of_the_upstream_and_are_not_repeated() {
    let setup = setup();
    for status in [400, 418, 500, 502, 503, 504] {
        setup.fake.clear_requests();
        setup.fake.clear_faults();
        setup.fake.respond_with(status);
        assert!(reason(&setup).await.contains(&status.to_string()));
        assert_eq!(setup.fake.requests().len(), 1);
    }
}

#[tokio::test]
async fn the_reason_says_how_the_upstream_could_not_be_reached() {
    let setup_gone = setup();
    setup_gone.fake.down(true);
    let text = reason(&setup_gone).await;
    assert!(text.contains("broke off") || text.contains("cannot connect"), "{text}");
    setup_gone.fake.down(false);
    setup_gone.fake.put_image("library/nginx", "latest");
    setup_gone.upstream.resolve(&name(), &tag("latest")).await.unwrap();

    let silent = setup_with(FakeUpstream::start(), with_short_idle);
    silent.fake.fault("", Fault::Delay(Duration::from_secs(5)));
    assert!(reason(&silent).await.contains("idle timeout"));

    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = setup_with(FakeUpstream::start(), |config| config.url = Url::parse(&format!("http://{unused}")).unwrap());
    let text = reason(&refused).await;
    assert!(text.contains("cannot connect") && text.contains("refused"), "{text}");

    let nameless = setup_with(FakeUpstream::start(), |config| config.url = Url::parse("http://nothing.invalid").unwrap());
    assert!(reason(&nameless).await.contains("cannot be resolved"));

    let distrusted = setup_with(FakeUpstream::start_tls(), |_config| {});
    let text = reason(&distrusted).await;
    assert!(text.contains("TLS") && text.contains("UnknownIssuer"), "{text}");
}

#[tokio::test]
async fn redirects_in_circles_and_to_forbidden_places_are_refused() {
    for (location, expected) in [
        ("/v2/library/nginx/manifests/latest", "redirects"),
        ("http://169.254.169.254/latest/meta-data", "may not be reached"),
        ("http://[fe80::1]/", "may not be reached"),
        ("file:///etc/passwd", "may not be reached"),
        ("http://", "Location"),
    ] {
        let setup = setup();
        setup.fake.fault("", Fault::Redirect { location: location.to_owned() });
        let text = reason(&setup).await;
        assert!(text.contains(expected), "{location}: {text}");
        assert!(setup.fake.requests().len() <= 6);
    }
}

#[tokio::test]
async fn every_request_is_counted_with_its_status() {
    let setup = setup();
    setup.fake.put_image("library/nginx", "latest");
    setup.upstream.manifest(&name(), &tag("latest")).await.unwrap();
    setup.fake.down(true);
    setup.upstream.resolve(&name(), &tag("latest")).await.unwrap_err();
    let text = setup.metrics.encode();
    for label in [r#"upstream="r.example""#, r#"method="GET""#, r#"method="HEAD""#, r#"="200""#, r#"="error""#] {
        assert!(text.contains(label), "{label} in {text}");
    }
}

#[test]
fn a_config_that_cannot_work_is_refused() {
    let new = |config: Config| Upstream::new(config, Arc::new(ManualClock::new()), Metrics::new()).map(|_| ());
    let url = |text: &str| Url::parse(text).unwrap();
    assert!(matches!(new(Config::new("x", url("ftp://x"))), Err(ConfigError::Url { .. })));
    let mut config = Config::new("x", url("https://x"));
    config.ca = Some("/absent/ca.pem".into());
    let error = new(config).unwrap_err().to_string();
    assert!(error.contains("/absent/ca.pem"), "{error}");
}
