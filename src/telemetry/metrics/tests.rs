use std::time::Duration;

use super::*;

const MOMENT: Duration = Duration::from_millis(3);

fn assert_line(metrics: &Metrics, line: &str) {
    let text = metrics.encode();
    assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
}

#[test]
fn a_request_is_counted_by_route_method_and_status_and_its_duration_by_route() {
    let metrics = Metrics::new();
    metrics.request("blob", "GET", 200, MOMENT);
    metrics.request("blob", "GET", 200, MOMENT);
    assert_line(&metrics, r#"roadstead_http_requests_total{route="blob",method="GET",status="200"} 2"#);
    assert_line(&metrics, r#"roadstead_http_request_duration_seconds_count{route="blob"} 2"#);
    assert_line(&metrics, r#"roadstead_http_request_duration_seconds_bucket{le="0.0025",route="blob"} 0"#);
    assert_line(&metrics, r#"roadstead_http_request_duration_seconds_bucket{le="0.005",route="blob"} 2"#);
}

#[test]
fn a_client_cannot_grow_the_set_of_methods() {
    let metrics = Metrics::new();
    for method in ["BREW", "WHEN", "get"] {
        metrics.request("blob", method, 405, MOMENT);
    }
    assert_line(&metrics, r#"roadstead_http_requests_total{route="blob",method="other",status="405"} 3"#);
}

#[test]
fn bytes_and_connections_of_the_server_are_counted() {
    let metrics = Metrics::new();
    metrics.received(7);
    metrics.sent(1 << 40);
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed();
    assert_line(&metrics, "roadstead_http_received_bytes_total 7");
    assert_line(&metrics, "roadstead_http_sent_bytes_total 1099511627776");
    assert_line(&metrics, "roadstead_connections 1");
}

#[test]
fn what_the_cache_had_is_counted_by_kind() {
    let metrics = Metrics::new();
    metrics.cache("docker.io", CacheKind::Tag, CacheResult::Revalidated);
    metrics.cache("docker.io", CacheKind::Blob, CacheResult::Hit);
    assert_line(&metrics, r#"roadstead_cache_requests_total{upstream="docker.io",kind="tag",result="revalidated"} 1"#);
    assert_line(&metrics, r#"roadstead_cache_requests_total{upstream="docker.io",kind="blob",result="hit"} 1"#);
}

#[test]
fn a_fill_is_running_until_it_ends_and_its_bytes_count_either_way() {
    let metrics = Metrics::new();
    metrics.fill_started("docker.io");
    metrics.fill_started("docker.io");
    metrics.fill_resumed("docker.io");
    metrics.fill_ended("docker.io", FillOutcome::Failed, 5);
    assert_line(&metrics, r#"roadstead_fills_running{upstream="docker.io"} 1"#);
    metrics.fill_ended("docker.io", FillOutcome::Kept, 10);
    assert_line(&metrics, r#"roadstead_fills_running{upstream="docker.io"} 0"#);
    assert_line(&metrics, r#"roadstead_fills_total{upstream="docker.io",outcome="failed"} 1"#);
    assert_line(&metrics, r#"roadstead_fills_total{upstream="docker.io",outcome="kept"} 1"#);
    assert_line(&metrics, r#"roadstead_fill_received_bytes_total{upstream="docker.io"} 15"#);
    assert_line(&metrics, r#"roadstead_fills_resumed_total{upstream="docker.io"} 1"#);
}

#[test]
fn calls_to_upstreams_and_the_store_are_timed_and_failures_counted() {
    let metrics = Metrics::new();
    metrics.upstream_call("ghcr.io", "GET", "429", MOMENT);
    metrics.store_call("put", true, MOMENT);
    metrics.store_call("put", false, MOMENT);
    assert_line(&metrics, r#"roadstead_upstream_requests_total{upstream="ghcr.io",method="GET",outcome="429"} 1"#);
    assert_line(&metrics, r#"roadstead_upstream_request_duration_seconds_count{upstream="ghcr.io"} 1"#);
    assert_line(&metrics, r#"roadstead_store_operation_duration_seconds_count{operation="put"} 2"#);
    assert_line(&metrics, r#"roadstead_store_errors_total{operation="put"} 1"#);
}

#[test]
fn a_quota_is_shown_as_it_was_last_said_and_not_at_all_without_one() {
    let metrics = Metrics::new();
    metrics.upstream_quota("docker.io", Some((100, 76)));
    metrics.upstream_quota("docker.io", Some((100, 75)));
    metrics.background_refused("docker.io");
    assert_line(&metrics, r#"roadstead_upstream_quota_limit{upstream="docker.io"} 100"#);
    assert_line(&metrics, r#"roadstead_upstream_quota_remaining{upstream="docker.io"} 75"#);
    assert_line(&metrics, r#"roadstead_upstream_background_refused_total{upstream="docker.io"} 1"#);
    metrics.upstream_quota("docker.io", None);
    assert!(!metrics.encode().contains("quota_limit{"));
}

#[test]
fn the_text_names_the_build_and_ends_as_openmetrics_does() {
    let text = Metrics::new().encode();
    assert!(text.contains(&format!("roadstead_build_info{{version=\"{}\"", build::VERSION)), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_label_value_with_quotes_and_line_ends_is_escaped() {
    let metrics = Metrics::new();
    metrics.fill_resumed("a\"b\\c\nd");
    assert_line(&metrics, r#"roadstead_fills_resumed_total{upstream="a\"b\\c\nd"} 1"#);
}

#[test]
fn a_clone_counts_into_the_same_numbers_and_a_new_value_into_its_own() {
    let metrics = Metrics::new();
    metrics.clone().received(1);
    Metrics::new().received(1);
    assert_line(&metrics, "roadstead_http_received_bytes_total 1");
}

#[test]
fn every_metric_has_help_and_a_unit_where_it_measures() {
    let text = Metrics::new().encode();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|rest| rest.split(' ').next());
    for name in names {
        assert!(name.starts_with("roadstead_"), "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert!(!name.contains("duration") || name.ends_with("_seconds"), "{name}");
    }
}
