//! One fetch for all who want the same thing.

use std::hash::Hash;
use std::sync::Arc;

use oci::Error;
use tokio::sync::watch;

use crate::sharing::{Entered, Sharing};

type Outcome<T> = Option<Result<T, Arc<Error>>>;

/// Fetches that are under way, by what they fetch.
pub(crate) struct Flights<K, T>(Sharing<K, watch::Receiver<Outcome<T>>>);

/// The side of a flight that fetches. Dropped without a landing, it fails the flight.
pub(crate) struct Pilot<K: Hash + Eq, T> {
    /// Dropped first: whoever sees that the flight has ended must not find it any more.
    _entered: Entered<K, watch::Receiver<Outcome<T>>>,
    outcome: watch::Sender<Outcome<T>>,
}

/// The side of a flight that waits.
pub(crate) struct Passenger<T>(watch::Receiver<Outcome<T>>);

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    pub(crate) fn new() -> Self {
        Self(Sharing::new())
    }

    /// Joins the flight for `key`; the first one to come is also given the pilot's side, and must see to it that it lands.
    pub(crate) fn board(&self, key: &K) -> (Passenger<T>, Option<Pilot<K, T>>) {
        let (outcome, first) = self.0.enter(key, || {
            let (sender, receiver) = watch::channel(None);
            (receiver, sender)
        });
        (Passenger(outcome), first.map(|(entered, outcome)| Pilot { _entered: entered, outcome }))
    }
}

impl<K: Hash + Eq, T> Pilot<K, T> {
    /// Gives everyone the outcome. The flight stays open to joiners until the pilot is dropped.
    pub(crate) fn land(&self, outcome: Result<T, Error>) {
        self.outcome.send_replace(Some(outcome.map_err(Arc::new)));
    }
}

impl<T: Clone> Passenger<T> {
    /// The outcome.
    pub(crate) async fn arrive(mut self) -> Result<T, Error> {
        let outcome = self.0.wait_for(Option::is_some).await;
        match outcome.as_deref() {
            Ok(Some(Ok(value))) => Ok(value.clone()),
            Ok(Some(Err(error))) => Err(copy(error)),
            Ok(None) | Err(_) => Err(Error::internal("waiting for an upstream", "the fetch was abandoned")),
        }
    }
}

/// An error for one more client, its causes as text.
pub(crate) fn copy(error: &Error) -> Error {
    match error {
        Error::BlobUnknown { digest } => Error::BlobUnknown { digest: digest.clone() },
        Error::ManifestUnknown { reference } => Error::ManifestUnknown { reference: reference.clone() },
        Error::NameUnknown { name } => Error::NameUnknown { name: name.clone() },
        Error::TooManyRequests { reason, retry_after } => {
            Error::TooManyRequests { reason: reason.clone(), retry_after: *retry_after }
        }
        Error::Upstream { upstream, reason } => Error::Upstream { upstream: upstream.clone(), reason: reason.clone() },
        Error::TooLarge { limit } => Error::TooLarge { limit: *limit },
        Error::Unavailable { reason, .. } => {
            Error::Unavailable { reason: reason.clone(), source: Some(telemetry::chain(error).into()) }
        }
        Error::ManifestInvalid { reason } => Error::ManifestInvalid { reason: reason.clone() },
        other => Error::internal("fetching from an upstream", telemetry::chain(other)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_passengers_arrive_with_one_pilot() {
        let flights = Flights::<u8, u8>::new();
        let (first, pilot) = flights.board(&1);
        let (second, none) = flights.board(&1);
        assert!(none.is_none());
        let pilot = pilot.unwrap();
        pilot.land(Ok(7));
        let (late, none) = flights.board(&1);
        assert!(none.is_none());
        for passenger in [first, second, late] {
            assert_eq!(passenger.arrive().await.unwrap(), 7);
        }
        drop(pilot);
        assert!(flights.board(&1).1.is_some());
    }

    #[tokio::test]
    async fn an_abandoned_flight_fails() {
        let flights = Flights::<u8, u8>::new();
        let (passenger, pilot) = flights.board(&1);
        drop(pilot);
        assert!(passenger.arrive().await.is_err());
    }
}
