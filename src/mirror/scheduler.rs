//! Submits the runs of mirrors when they are due.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jobs::{Jobs, NewJob, Submitted};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::memory::Memory;
use crate::run::millis;
use crate::settings::Mirror;
use crate::work::{Input, KIND, Mirrors};

/// How long the scheduler sleeps at most, so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

impl Mirrors {
    /// Submits every run that is due, until `stop`. Several servers may do so for the same mirrors: each time of a schedule makes one
    /// run. Times that were missed, however many, are made up for by one.
    pub async fn schedule(&self, jobs: &Jobs, stop: CancellationToken) {
        loop {
            let now = self.clock().now();
            let mut next = now + LONGEST_SLEEP;
            for mirror in self.all() {
                match self.submit_due(jobs, mirror, now).await {
                    Ok(()) => {
                        let due = mirror.schedule.as_ref().and_then(|schedule| schedule.next_after(now));
                        next = due.map_or(next, |due| next.min(due));
                    }
                    Err(error) => tracing::error!(mirror = mirror.name, %error, "a run could not be submitted; trying again"),
                }
            }
            let pause = next.duration_since(now).unwrap_or_default().clamp(Duration::from_millis(100), LONGEST_SLEEP);
            tokio::select! {
                () = self.clock().sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Submits the run of a mirror whose time has come, if it was not submitted before.
    async fn submit_due(&self, jobs: &Jobs, mirror: &Mirror, now: SystemTime) -> Result<(), String> {
        let memory = self.known(&mirror.name, now).await?;
        let last_success = UNIX_EPOCH + Duration::from_millis(memory.last_success.unwrap_or(memory.since));
        self.metrics().mirror_succeeded(&mirror.name, last_success);
        let Some(schedule) = &mirror.schedule else { return Ok(()) };
        let Some(last) = schedule.last_until(now) else { return Ok(()) };
        let period = schedule.next_after(last).and_then(|next| next.duration_since(last).ok()).unwrap_or_default();
        self.metrics().mirror_scheduled(&mirror.name, period);
        let stamp = millis(last);
        if stamp <= memory.since {
            return Ok(());
        }
        let due = last + jitter(mirror, stamp);
        let input = json!(Input { dry_run: false });
        let job = NewJob {
            kind: KIND.to_owned(),
            key: mirror.name.clone(),
            input,
            due,
            stamp: Some(stamp),
            by: Some("schedule".to_owned()),
        };
        match jobs.submit(job).await.map_err(|error| telemetry::chain(&error))? {
            Submitted::New(id) => tracing::info!(mirror = mirror.name, run = %id, "a run is due"),
            // It is asked for again until the one that is open has ended.
            Submitted::Open(_) | Submitted::Past => {}
        }
        Ok(())
    }

    /// The memory of a mirror, in which it now stands since when it is known. Its first run is the next one of its schedule, not the
    /// last one.
    async fn known(&self, mirror: &str, now: SystemTime) -> Result<Memory, String> {
        let failed = |error: crate::MemoryError| telemetry::chain(&error);
        if let Some(memory) = self.memories().of(mirror).await.map_err(failed)?
            && (1..=far(now)).contains(&memory.since)
        {
            return Ok(memory);
        }
        let mut known = Memory::default();
        let noted = |memory: &mut Memory| {
            // A clock that was far ahead must not silence the schedule until then.
            if !(1..=far(now)).contains(&memory.since) {
                memory.since = millis(now);
            }
            known = memory.clone();
        };
        self.memories().update(mirror, noted).await.map_err(failed)?;
        Ok(known)
    }
}

/// No clock of another server is so far ahead, in milliseconds since 1970.
fn far(now: SystemTime) -> u64 {
    millis(now + Duration::from_hours(24))
}

/// How much later than its time a run begins: the same whichever server submits it.
fn jitter(mirror: &Mirror, stamp: u64) -> Duration {
    let range = u64::try_from(mirror.jitter.as_millis()).unwrap_or(u64::MAX);
    if range == 0 {
        return Duration::ZERO;
    }
    // FNV-1a: the same in every version of this program.
    let mut mixed = 0xcbf2_9ce4_8422_2325_u64;
    for byte in mirror.name.bytes().chain(stamp.to_le_bytes()) {
        mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    Duration::from_millis((mixed >> 16) % range)
}
