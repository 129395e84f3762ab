//! Following a job while it runs.

/// The record of a job, each time that it has changed: [`Watch::next`].
pub struct Watch {}

impl Watch {
    /// The record as it is now, then each time that it is another one, and at last as it ended; `None` after that, and at once if no job is
    /// open there. It may be running anywhere. Several changes may come as one.
    pub async fn next(&mut self) -> Option<Result<Record, Error>>;
}
