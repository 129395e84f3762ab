//! Who orders, and how often: one replica at a time, and less often after each failure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::kept;
use super::records::{Record, Shelf};
use super::settings::Settings;
use super::wire::LONGEST_RETRY;

/// A replica orders for so long at most; another one takes over after it. Longer than an order may take.
pub(super) const LEASE: Duration = Duration::from_mins(5);
/// Let's Encrypt takes five failed attempts for a name in an hour; one is left to whoever tries by hand.
const MOST_IN_AN_HOUR: usize = 4;
const HOUR: u64 = 3600;
/// After the first failure, and four times as long after each other one.
const FIRST: Duration = Duration::from_mins(1);
/// The longest wait after an order that failed.
const LONGEST: Duration = Duration::from_hours(6);
/// The longest wait where no order was placed, as for a server that is down.
const LONGEST_WITHOUT_ORDER: Duration = Duration::from_mins(15);
/// Where the server is busy and does not say for how long.
const RATE_LIMITED: Duration = Duration::from_hours(1);

/// What the replicas know of their attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Attempts {
    /// Until when a replica is at it, in seconds since 1970; over where it is past.
    held: u64,
    /// Which attempt that is.
    number: u64,
    /// When orders were begun without a certificate at their end; those of the last hour count.
    begun: Vec<u64>,
    /// How many attempts have failed since the last that did not.
    failures: u32,
    /// No attempt before, in seconds since 1970.
    not_before: u64,
    /// What was wrong with the last one.
    trouble: String,
}

impl Record for Attempts {
    const WITHOUT: &'static str = "attempts are counted anew";
}

/// What became of the wish to order.
pub(crate) enum Turn {
    /// It is ours.
    Ours(Lease),
    /// Another replica orders, until then at most.
    Another,
    /// The last attempt failed; there is none for so long.
    Wait {
        /// How long.
        left: Duration,
        /// What was wrong.
        trouble: String,
    },
}

/// The right to order, until its time is over.
pub(crate) struct Lease {
    key: String,
    number: u64,
    /// How many attempts have failed before.
    pub(crate) failures: u32,
}

/// Takes the right to order, if nobody has it and it is time.
pub(crate) async fn take(records: &Shelf, settings: &Settings) -> Result<Turn, Error> {
    let domains = settings.domains.join(" ");
    let key = format!("order-{}", kept::mark(&[&settings.directory, &domains]));
    let found = records.read::<Attempts>(&key).await?;
    let (mut attempts, version) = found.map_or((Attempts::default(), None), |(old, at)| (old, Some(at)));
    let now = records.now();
    // A lease from far ahead is one of a clock that was wrong.
    if attempts.held > now && attempts.held <= now + LEASE.as_secs() {
        return Ok(Turn::Another);
    }
    attempts.begun.retain(|begun| begun + HOUR > now && *begun <= now);
    let full = attempts.begun.len() >= MOST_IN_AN_HOUR;
    let free = if full { attempts.begun[attempts.begun.len() - MOST_IN_AN_HOUR] + HOUR } else { 0 };
    // Nobody is told to wait longer, unless by a clock that was wrong.
    let told = Some(attempts.not_before).filter(|until| *until <= now + 2 * LONGEST_RETRY.as_secs());
    let not_before = told.unwrap_or_default().max(free);
    if not_before > now {
        return Ok(Turn::Wait { left: Duration::from_secs(not_before - now), trouble: attempts.trouble });
    }
    attempts.held = now + LEASE.as_secs();
    attempts.number += 1;
    attempts.begun.push(now);
    let (number, failures) = (attempts.number, attempts.failures);
    let ours = records.swap(&key, &attempts, version).await?;
    Ok(if ours { Turn::Ours(Lease { key, number, failures }) } else { Turn::Another })
}

impl Lease {
    /// There is a certificate: nothing is counted any more.
    pub(crate) async fn succeed(self, records: &Shelf) -> Result<(), Error> {
        let number = self.number;
        let change = |attempts: &mut Attempts| {
            if attempts.number == number {
                *attempts = Attempts { number, ..Attempts::default() };
            }
        };
        records.change(&self.key, change).await.map(|_| ())
    }

    /// There is none, because of `error`; `ordered` if an order was placed. Returns how long there is no other attempt.
    pub(crate) async fn fail(self, records: &Shelf, error: &Error, ordered: bool) -> Result<Duration, Error> {
        let wait = wait(self.failures, error, ordered).mul_f64(1.0 + rand::random::<f64>() / 4.0);
        let (number, now, trouble) = (self.number, records.now(), error.to_string());
        let change = |attempts: &mut Attempts| {
            if attempts.number != number {
                return;
            }
            attempts.held = 0;
            attempts.failures = attempts.failures.saturating_add(1);
            attempts.not_before = now + wait.as_secs();
            attempts.trouble.clone_from(&trouble);
            if !ordered {
                attempts.begun.pop();
            }
        };
        records.change(&self.key, change).await.map(|_| wait)
    }
}

/// How long after a failure that so many came before.
fn wait(failures: u32, error: &Error, ordered: bool) -> Duration {
    let longest = if ordered { LONGEST } else { LONGEST_WITHOUT_ORDER };
    let wait = FIRST.saturating_mul(4_u32.saturating_pow(failures)).min(longest);
    match error {
        Error::RateLimited { retry, .. } => wait.max(retry.unwrap_or(RATE_LIMITED)),
        _ => wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow() -> Error {
        Error::Slow { limit: Duration::ZERO }
    }

    #[test]
    fn each_failure_makes_the_next_attempt_later_up_to_a_limit() {
        let waits: Vec<u64> = (0..7).map(|failures| wait(failures, &slow(), true).as_secs()).collect();
        assert_eq!(waits, [60, 240, 960, 3840, 15360, 21600, 21600]);
        assert_eq!(wait(u32::MAX, &slow(), false), LONGEST_WITHOUT_ORDER);
    }

    #[test]
    fn a_server_that_says_when_is_believed_and_one_that_does_not_has_an_hour() {
        let limited = |retry| Error::RateLimited { what: "an order", detail: String::new(), retry };
        assert_eq!(wait(0, &limited(Some(Duration::from_hours(30))), true), Duration::from_hours(30));
        assert_eq!(wait(0, &limited(None), true), RATE_LIMITED);
        // But never sooner than it would be tried otherwise.
        assert_eq!(wait(2, &limited(Some(Duration::from_secs(1))), true), Duration::from_mins(16));
    }
}
