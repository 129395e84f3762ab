use testing::ManualClock;

use super::*;

const WINDOW: Duration = Duration::from_hours(6);

fn budget(reserve: u8, per_second: u32) -> (Budget, ManualClock) {
    (Budget::new("r.example".to_owned(), reserve, per_second, Metrics::new()), ManualClock::new())
}

fn quota(remaining: u64) -> Quota {
    Quota { limit: 100, remaining, window: WINDOW, reset: None }
}

/// The seconds after which one of this cost may come back, or `None` if it may go on at once.
async fn refused(budget: &Budget, clock: &ManualClock, caller: Caller, cost: Cost) -> Option<u64> {
    match budget.admit(caller, cost, clock).await {
        Ok(_) => None,
        Err(Refusal::TooMany { retry_after }) => retry_after,
        Err(Refusal::Reserved { retry_after }) => Some(retry_after),
        Err(other) => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_left_above_the_reserve_is_for_everyone_and_the_rest_for_people() {
    for (reserve, remaining, is_refused) in
        [(50, 51, false), (50, 50, true), (0, 1, false), (0, 0, true), (99, 100, false), (99, 99, true)]
    {
        let (budget, clock) = budget(reserve, 1000);
        budget.learn(quota(remaining), clock.monotonic());
        for cost in [Cost::Manifest, Cost::Look] {
            assert_eq!(
                refused(&budget, &clock, Caller::Background, cost).await.is_some(),
                is_refused,
                "{reserve} {remaining} {cost:?}"
            );
        }
        for cost in [Cost::Bytes, Cost::Other] {
            assert_eq!(refused(&budget, &clock, Caller::Background, cost).await, None, "{cost:?}");
        }
        for cost in [Cost::Manifest, Cost::Look, Cost::Bytes, Cost::Other] {
            assert_eq!(refused(&budget, &clock, Caller::Person, cost).await, None, "{cost:?}");
        }
    }
}

#[tokio::test]
async fn manifests_under_way_count_although_no_answer_has_counted_them_yet() {
    let (budget, clock) = budget(50, 1000);
    budget.learn(quota(53), clock.monotonic());
    let first = budget.admit(Caller::Background, Cost::Manifest, &clock).await.unwrap();
    let second = budget.admit(Caller::Person, Cost::Manifest, &clock).await.unwrap();
    assert!(first.is_some() && second.is_some());
    let third = budget.admit(Caller::Background, Cost::Manifest, &clock).await.unwrap();
    assert!(refused(&budget, &clock, Caller::Background, Cost::Manifest).await.is_some());
    drop(third);
    assert_eq!(refused(&budget, &clock, Caller::Background, Cost::Manifest).await, None);
}

#[tokio::test]
async fn at_the_reserve_a_free_look_goes_on_now_and_then_and_everything_in_the_next_window() {
    let (budget, clock) = budget(50, 1000);
    assert!(budget.wants_look(clock.monotonic()));
    budget.learn(quota(50), clock.monotonic());
    assert!(!budget.wants_look(clock.monotonic()));
    assert_eq!(refused(&budget, &clock, Caller::Background, Cost::Look).await, Some(30 * 60));
    clock.advance(OLD);
    assert!(budget.wants_look(clock.monotonic()));
    assert_eq!(refused(&budget, &clock, Caller::Background, Cost::Look).await, None);
    // A manifest would cost something: it waits for what the look says, or for the window's end.
    assert_eq!(refused(&budget, &clock, Caller::Background, Cost::Manifest).await, Some(WINDOW.saturating_sub(OLD).as_secs()));
    budget.learn(quota(50), clock.monotonic());
    assert_eq!(refused(&budget, &clock, Caller::Background, Cost::Look).await, Some(30 * 60));
    clock.advance(WINDOW.saturating_sub(OLD));
    assert_eq!(refused(&budget, &clock, Caller::Background, Cost::Manifest).await, None);
    // The window was longer than it looked: the next answer says so.
    budget.learn(quota(49), clock.monotonic());
    assert!(refused(&budget, &clock, Caller::Background, Cost::Manifest).await.is_some());
    budget.learn(quota(100), clock.monotonic());
    assert_eq!(refused(&budget, &clock, Caller::Background, Cost::Manifest).await, None);
}

#[tokio::test]
async fn a_registry_that_says_when_its_window_ends_is_believed() {
    let (budget, clock) = budget(50, 1000);
    budget.learn(Quota { reset: Some(Duration::from_secs(100)), ..quota(10) }, clock.monotonic());
    assert_eq!(refused(&budget, &clock, Caller::Background, Cost::Manifest).await, Some(100));
    clock.advance(Duration::from_secs(100));
    assert_eq!(refused(&budget, &clock, Caller::Background, Cost::Manifest).await, None);
}

#[tokio::test]
async fn who_is_told_to_wait_waits_and_background_work_a_little_longer_each_time_differently() {
    let (budget, clock) = budget(50, 1000);
    budget.limited(Cost::Look, Some(600), &clock);
    let mut told = Vec::new();
    for _ in 0..20 {
        assert_eq!(refused(&budget, &clock, Caller::Person, Cost::Manifest).await, Some(600));
        told.push(refused(&budget, &clock, Caller::Background, Cost::Other).await.unwrap());
    }
    assert!(told.iter().all(|seconds| (600..=660).contains(seconds)), "{told:?}");
    told.sort_unstable();
    told.dedup();
    assert!(told.len() > 10, "{told:?}");
    // A shorter wait does not take back a longer one, and none is longer than an hour.
    budget.limited(Cost::Look, Some(1), &clock);
    clock.advance(Duration::from_secs(599));
    assert_eq!(refused(&budget, &clock, Caller::Person, Cost::Look).await, Some(1));
    clock.advance(Duration::from_secs(1));
    assert_eq!(refused(&budget, &clock, Caller::Person, Cost::Look).await, None);
    budget.limited(Cost::Look, Some(u64::MAX), &clock);
    assert_eq!(refused(&budget, &clock, Caller::Person, Cost::Look).await, Some(3600));
    clock.advance(LONGEST);
    budget.limited(Cost::Look, None, &clock);
    assert_eq!(refused(&budget, &clock, Caller::Person, Cost::Look).await, Some(30));
}

#[tokio::test]
async fn the_bytes_of_blobs_do_not_wait_for_people_and_make_nobody_wait() {
    let (budget, clock) = budget(50, 1000);
    budget.limited(Cost::Bytes, Some(60), &clock);
    assert_eq!(refused(&budget, &clock, Caller::Person, Cost::Manifest).await, None);
    assert!(refused(&budget, &clock, Caller::Background, Cost::Manifest).await.is_some());
    budget.limited(Cost::Manifest, Some(60), &clock);
    assert_eq!(refused(&budget, &clock, Caller::Person, Cost::Bytes).await, None);
    assert_eq!(refused(&budget, &clock, Caller::Person, Cost::Other).await, Some(60));
}

#[test]
fn the_bucket_gives_a_burst_and_then_turns_at_its_rate() {
    let (second, tenth) = (Duration::from_secs(1), Duration::from_millis(100));
    let mut bucket = Bucket::new(10);
    for turn in 0..10 {
        assert_eq!(bucket.turn(second), Duration::ZERO, "{turn}");
    }
    for turn in 1..=5 {
        assert_eq!(bucket.turn(second), tenth * turn);
    }
    // After a pause there is a burst again, and no more than one.
    let later = second * 10;
    let waits: Vec<Duration> = (0..11).map(|_| bucket.turn(later)).collect();
    assert!(waits[..10].iter().all(Duration::is_zero) && waits[10] == tenth, "{waits:?}");
    // The slowest bucket still has a turn.
    assert_eq!(Bucket::new(1).turn(second), Duration::ZERO);
}

#[test]
fn people_take_turns_but_leave_no_debt() {
    let second = Duration::from_secs(1);
    let mut bucket = Bucket::new(10);
    for _ in 0..1000 {
        bucket.take(second);
    }
    assert_eq!(bucket.turn(second), Duration::from_millis(100));
}
