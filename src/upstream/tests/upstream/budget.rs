use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use oci::{Discover, Error, Page, Pull, Push, Reference};
use roadstead_upstream::Quota;
use telemetry::Clock;
use testing::{Fault, ManualClock};

use crate::{Setup, name, read, setup, setup_with, source, tag};

const WINDOW: Duration = Duration::from_hours(6);

/// An upstream with a quota, and so many images, which are its tags.
fn limited(limit: u64, images: usize) -> (Setup, Vec<Reference>) {
    let setup = setup_with(testing::FakeUpstream::start(), |config| config.requests_per_second = 100_000);
    setup.fake.quota(limit, WINDOW, Arc::<ManualClock>::clone(&setup.clock));
    let tags: Vec<String> = (0..images).map(|number| format!("v{number}")).collect();
    for tag in &tags {
        setup.fake.put_image("library/nginx", tag);
    }
    (setup, tags.iter().map(|text| tag(text)).collect())
}

fn retry_after<T>(answer: Result<T, Error>) -> u64 {
    match answer {
        Err(Error::TooManyRequests { retry_after: Some(seconds), .. }) => seconds,
        Err(other) => unreachable!("{other}"),
        Ok(_) => unreachable!("it was not refused"),
    }
}

#[tokio::test]
async fn background_work_stops_at_the_reserve_without_asking_and_people_go_on() {
    let (setup, tags) = limited(10, 11);
    let background = setup.upstream.in_background();
    assert_eq!(setup.upstream.quota(), None);
    for tag in &tags[..5] {
        background.manifest(&name(), tag).await.unwrap();
    }
    let quota = Quota { limit: 10, remaining: 5, window: WINDOW, reset: None };
    assert_eq!(setup.upstream.quota(), Some(quota));
    setup.fake.clear_requests();
    let refused = background.manifest(&name(), &tags[5]).await;
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("r.example is kept for people")), "{refused:?}");
    assert_eq!(retry_after(refused), 30 * 60);
    assert_eq!(retry_after(background.resolve(&name(), &tags[5]).await), 30 * 60);
    assert_eq!(retry_after(background.tags(&name(), &Page::default()).await), 30 * 60);
    assert!(setup.fake.requests().is_empty());
    for tag in &tags[5..10] {
        setup.upstream.manifest(&name(), tag).await.unwrap();
    }
    assert_eq!(setup.fake.quota_remaining(), 0);
    // Only the registry itself refuses a person.
    assert!(matches!(setup.upstream.manifest(&name(), &tags[10]).await, Err(Error::TooManyRequests { retry_after: None, .. })));
    let text = setup.metrics.encode();
    for line in [
        r#"roadstead_upstream_quota_limit{upstream="r.example"} 10"#,
        r#"roadstead_upstream_quota_remaining{upstream="r.example"} 0"#,
        r#"roadstead_upstream_background_refused_total{upstream="r.example"} 3"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[tokio::test]
async fn what_a_manifest_was_paid_for_is_fetched_at_the_reserve_too() {
    let (setup, tags) = limited(10, 1);
    let digest = setup.fake.put_blob("library/nginx", "content");
    let other = setup.fake.put_blob("elsewhere", "other");
    let background = setup.upstream.in_background();
    for _ in 0..5 {
        background.manifest(&name(), &tags[0]).await.unwrap();
    }
    retry_after(background.manifest(&name(), &tags[0]).await);
    assert_eq!(background.stat_blob(&name(), &digest).await.unwrap().size, Some(7));
    let blob = background.blob(&name(), &digest).await.unwrap();
    assert_eq!(read(source(&blob).as_ref(), 0, None).await.unwrap(), b"content");
    assert!(background.has_manifest(&name(), &digest).await.is_ok_and(|held| !held));
    let from = oci::RepositoryName::parse("elsewhere").unwrap();
    assert!(background.mount_blob(&name(), &other, Some(&from)).await.unwrap());
}

#[tokio::test]
async fn a_new_window_lets_background_work_go_on() {
    let (setup, tags) = limited(10, 10);
    let background = setup.upstream.in_background();
    for tag in &tags[..5] {
        background.manifest(&name(), tag).await.unwrap();
    }
    // Whoever comes back when he is told to looks again, which costs nothing, until there is more.
    let mut looks = 0;
    let began = setup.clock.monotonic().as_secs();
    loop {
        match background.manifest(&name(), &tags[5]).await {
            Ok(_) => break,
            refused => setup.clock.advance(Duration::from_secs(retry_after(refused))),
        }
        looks += 1;
        assert!(looks < 20 && setup.fake.quota_remaining() >= 5);
    }
    assert_eq!(setup.clock.monotonic().as_secs() - began, WINDOW.as_secs());
    assert_eq!(setup.fake.quota_remaining(), 9);
}

#[tokio::test]
async fn a_look_goes_before_the_first_manifest_and_when_what_is_known_is_old_but_not_for_people() {
    let (setup, tags) = limited(100, 3);
    let background = setup.upstream.in_background();
    let count = || (setup.fake.count("HEAD", "/manifests/"), setup.fake.count("GET", "/manifests/"));
    setup.upstream.manifest(&name(), &tags[0]).await.unwrap();
    assert_eq!(count(), (0, 1));
    background.manifest(&name(), &tags[0]).await.unwrap();
    assert_eq!(count(), (0, 2));
    setup.clock.advance(Duration::from_mins(30));
    background.manifest(&name(), &tags[1]).await.unwrap();
    background.manifest(&name(), &tags[2]).await.unwrap();
    assert_eq!(count(), (1, 4));
    // What others have used meanwhile is seen before more is taken.
    for _ in 0..60 {
        setup.upstream.manifest(&name(), &tags[0]).await.unwrap();
    }
    setup.clock.advance(Duration::from_mins(30));
    setup.fake.clear_requests();
    retry_after(background.manifest(&name(), &tags[1]).await);
    assert_eq!(count(), (1, 0));
}

#[tokio::test]
async fn an_upstream_without_a_quota_is_looked_at_once() {
    let setup = setup();
    setup.fake.put_image("library/nginx", "latest");
    let background = setup.upstream.in_background();
    for _ in 0..3 {
        background.manifest(&name(), &tag("latest")).await.unwrap();
    }
    assert_eq!((setup.fake.count("HEAD", "/manifests/"), setup.fake.count("GET", "/manifests/")), (1, 3));
    assert_eq!(setup.upstream.quota(), None);
}

#[tokio::test]
async fn a_quota_is_known_until_a_manifest_comes_without_one() {
    let (setup, tags) = limited(10, 2);
    let background = setup.upstream.in_background();
    for _ in 0..5 {
        setup.upstream.manifest(&name(), &tags[0]).await.unwrap();
    }
    setup.upstream.tags(&name(), &Page::default()).await.unwrap();
    setup.fake.fault_times("/manifests/", 1, Fault::WithoutHeader("ratelimit-limit"));
    setup.upstream.resolve(&name(), &tags[0]).await.unwrap();
    retry_after(background.manifest(&name(), &tags[1]).await);
    setup.fake.fault_times("/manifests/", 1, Fault::WithoutHeader("ratelimit-limit"));
    setup.upstream.manifest(&name(), &tags[0]).await.unwrap();
    assert_eq!(setup.upstream.quota(), None);
    assert!(!setup.metrics.encode().contains("upstream_quota_remaining{"));
    background.manifest(&name(), &tags[1]).await.unwrap();
}

#[tokio::test]
async fn all_at_once_take_no_more_than_what_is_above_the_reserve() {
    let (setup, tags) = limited(20, 40);
    let background = setup.upstream.in_background();
    background.resolve(&name(), &tags[0]).await.unwrap();
    setup.fake.fault("/manifests/", Fault::Delay(Duration::from_millis(50)));
    let name = name();
    let answers = join_all(tags.iter().map(|tag| background.manifest(&name, tag))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    assert_eq!(setup.fake.quota_remaining(), 10);
}

#[tokio::test]
async fn background_work_takes_its_turn_and_people_do_not_wait() {
    let setup = setup_with(testing::FakeUpstream::start(), |config| config.requests_per_second = 2);
    setup.fake.put_image("library/nginx", "latest");
    let work = tokio::spawn({
        let background = setup.upstream.in_background();
        async move {
            let (name, tag) = (name(), tag("latest"));
            join_all((0..6).map(|_| background.resolve(&name, &tag))).await
        }
    });
    let heads = || setup.fake.count("HEAD", "/manifests/");
    for expected in [2, 3, 4, 5, 6] {
        while heads() < expected || (expected < 6 && setup.clock.sleepers() < 6 - expected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(heads(), expected);
        setup.clock.advance(Duration::from_millis(500));
    }
    assert!(work.await.unwrap().iter().all(Result::is_ok));
    for _ in 0..20 {
        setup.upstream.manifest(&name(), &tag("latest")).await.unwrap();
    }
    assert_eq!(setup.clock.sleepers(), 0);
}

#[tokio::test]
async fn an_upstream_that_limits_us_is_left_alone_by_all_and_longest_by_background_work() {
    let setup = setup();
    setup.fake.put_image("library/nginx", "latest");
    let digest = setup.fake.put_blob("library/nginx", "content");
    let background = setup.upstream.in_background();
    setup.fake.fault_times("", 1, Fault::TooManyRequests { retry_after: Some("100".to_owned()) });
    assert_eq!(retry_after(background.resolve(&name(), &tag("latest")).await), 100);
    setup.clock.advance(Duration::from_secs(40));
    assert_eq!(retry_after(setup.upstream.resolve(&name(), &tag("latest")).await), 60);
    assert_eq!(retry_after(setup.upstream.stat_blob(&name(), &digest).await), 60);
    assert!((60..=66).contains(&retry_after(background.blob(&name(), &digest).await)));
    assert_eq!(setup.fake.requests().len(), 1);
    // Out of quota for manifests is not out of blobs.
    setup.upstream.blob(&name(), &digest).await.unwrap();
    setup.clock.advance(Duration::from_mins(1));
    background.resolve(&name(), &tag("latest")).await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_is_overloaded_and_says_for_how_long_is_left_alone_by_background_work() {
    let setup = setup();
    setup.fake.put_image("library/nginx", "latest");
    let background = setup.upstream.in_background();
    setup.fake.fault_times("", 1, Fault::Status(503));
    background.resolve(&name(), &tag("latest")).await.unwrap_err();
    background.resolve(&name(), &tag("latest")).await.unwrap();
    setup.fake.fault_times("", 1, Fault::Unavailable { retry_after: "50".to_owned() });
    assert!(matches!(background.resolve(&name(), &tag("latest")).await, Err(Error::Upstream { .. })));
    assert!((50..=55).contains(&retry_after(background.resolve(&name(), &tag("latest")).await)));
    setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
    setup.clock.advance(Duration::from_secs(50));
    background.resolve(&name(), &tag("latest")).await.unwrap();
}

#[tokio::test]
async fn five_hundred_images_come_in_several_windows_while_a_person_pulls() {
    let (setup, tags) = limited(100, 500);
    let background = setup.upstream.in_background();
    let (mut mirrored, mut pulled) = (0, 0);
    let began = setup.clock.monotonic().as_secs();
    while mirrored < tags.len() {
        // A person, as often as the work behind until his 45 of the window are had: less than the half that is kept for people.
        if pulled < 45 * (1 + (setup.clock.monotonic().as_secs() - began) / WINDOW.as_secs()) {
            setup.upstream.manifest(&name(), &tags[usize::try_from(pulled).unwrap() % tags.len()]).await.unwrap();
            pulled += 1;
        }
        match background.manifest(&name(), &tags[mirrored]).await {
            Ok(_) => mirrored += 1,
            refused => setup.clock.advance(Duration::from_secs(retry_after(refused))),
        }
    }
    let windows = (setup.clock.monotonic().as_secs() - began).div_ceil(WINDOW.as_secs());
    assert!((10..=20).contains(&windows), "{windows} windows for {mirrored} images beside {pulled} of a person");
}
