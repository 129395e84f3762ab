//! Time: a year of Sundays, the days on which clocks change, leap days, clocks that jump, servers that slept.

use std::time::Duration;

use serde_json::Value;
use testing::FakeUpstream;

use crate::stage::{Stage, docker_hub};

fn settings(upstream: &FakeUpstream, schedule: &str) -> String {
    docker_hub(upstream)
        + &format!(
            "[[mirror]]\nname = \"m\"\nfrom = \"docker.io/team/app\"\nto = \"micro/app\"\ntags = [\"latest\"]\n\
             tag_as = [\"{{tag}}\", \"{{date}}\"]\nalways = true\n{schedule}\n"
        )
}

async fn stage(schedule: &str) -> (FakeUpstream, Stage) {
    let upstream = FakeUpstream::start();
    upstream.put_image("team/app", "latest");
    let stage = Stage::new(&settings(&upstream, schedule)).await;
    (upstream, stage)
}

fn by_schedule(runs: &[Value]) -> usize {
    runs.iter().filter(|run| run["by"] == "schedule").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_sundays() {
    let (_upstream, stage) = stage("schedule = \"0 2 * * 0\"").await;
    let mut sunday: jiff::Timestamp = "2026-01-04T02:00:00Z".parse().unwrap();
    for count in 1..=52 {
        stage.until(&sunday.to_string()).await;
        let run = stage.ended("m", count).await;
        assert_eq!(run["state"], "done", "{run}");
        sunday += jiff::SignedDuration::from_hours(7 * 24);
    }
    stage.until("2026-12-31T23:00:00Z").await;
    assert_eq!(by_schedule(&stage.runs("m").await), 52);
    let dated: Vec<String> = stage.tags("micro/app").await.into_iter().filter(|tag| tag != "latest").collect();
    assert_eq!(dated.len(), 52);
    assert_eq!((dated[0].as_str(), dated[51].as_str()), ("20260104", "20261227"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nights_on_which_clocks_change_have_one_run_each() {
    let (_upstream, stage) = stage("schedule = \"30 2 * * *\"\ntime_zone = \"Europe/Berlin\"").await;
    let mut count = 0;
    for (noon, next, what) in [
        ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", "the hour that is left out"),
        ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z", "the hour that comes twice"),
    ] {
        // All the nights before are made up for once.
        stage.leap(noon);
        count += 1;
        assert_eq!(stage.ended("m", count).await["state"], "done");
        stage.until(next).await;
        count += 1;
        assert_eq!(stage.ended("m", count).await["state"], "done", "{what}");
        assert_eq!(by_schedule(&stage.runs("m").await), count, "{what}");
    }
    assert!(stage.tags("micro/app").await.contains(&"20261025".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_day_of_a_tag_is_that_of_the_time_zone() {
    let (_upstream, stage) = stage("schedule = \"30 0 * * *\"\ntime_zone = \"Asia/Tokyo\"").await;
    stage.until("2026-01-01T15:30:00Z").await;
    stage.ended("m", 1).await;
    assert_eq!(stage.tags("micro/app").await, ["20260102", "latest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_day_comes_every_four_years() {
    let (_upstream, stage) = stage("schedule = \"0 0 29 2 *\"").await;
    stage.leap("2028-02-28T23:00:00Z");
    stage.until("2028-02-28T23:59:00Z").await;
    assert_eq!(stage.tags("micro/app").await, [""; 0]);
    stage.until("2028-02-29T00:00:00Z").await;
    stage.ended("m", 1).await;
    assert_eq!(stage.tags("micro/app").await, ["20280229", "latest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_slept_for_a_month_makes_up_for_it_once() {
    let (_upstream, mut stage) = stage("schedule = \"0 2 * * 0\"").await;
    stage.until("2026-01-04T02:00:00Z").await;
    stage.ended("m", 1).await;
    stage.asleep(Duration::from_hours(24 * 31)).await;
    // It is Wednesday, the 4th of February: what is copied now is of today.
    stage.ended("m", 2).await;
    stage.until("2026-02-07T00:00:00Z").await;
    assert_eq!(by_schedule(&stage.runs("m").await), 2);
    assert_eq!(stage.tags("micro/app").await, ["20260104", "20260204", "latest"]);
    stage.until("2026-02-08T02:00:00Z").await;
    stage.ended("m", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_makes_no_run_twice_and_misses_none() {
    let (_upstream, stage) = stage("schedule = \"0 2 * * 0\"").await;
    stage.until("2026-01-04T02:00:00Z").await;
    stage.ended("m", 1).await;
    // Back by a week, and the same Sunday comes again.
    stage.clock.jump(-7 * 24 * 3600);
    stage.until("2026-01-04T03:00:00Z").await;
    assert_eq!(by_schedule(&stage.runs("m").await), 1);
    // On by half a year at once: one run.
    stage.clock.jump(26 * 7 * 24 * 3600);
    stage.ended("m", 2).await;
    stage.until("2026-07-05T03:00:00Z").await;
    assert_eq!(by_schedule(&stage.runs("m").await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_mirror_waits_for_its_first_time_and_jitter_comes_on_top() {
    let (_upstream, stage) = stage("schedule = \"0 2 * * 0\"\njitter = \"6h\"").await;
    stage.until("2026-01-04T02:00:30Z").await;
    let open = stage.wait("the run", async || stage.runs("m").await.first().cloned()).await;
    let due: jiff::Timestamp = open["due"].as_str().unwrap().parse().unwrap();
    let first: jiff::Timestamp = "2026-01-04T02:00:00Z".parse().unwrap();
    let late = due.duration_since(first);
    assert!(late >= jiff::SignedDuration::ZERO && late < jiff::SignedDuration::from_hours(6), "{late}");
    stage.until(&due.to_string()).await;
    let run = stage.ended("m", 1).await;
    assert!(run["started"].as_str().unwrap() >= open["due"].as_str().unwrap());
}
