//! What is counted of durable work.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{Histograms, Metrics};

/// How a run of a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOutcome {
    /// The job is done.
    Done,
    /// The job was given up.
    Failed,
    /// The job was ended because somebody asked for that.
    Cancelled,
    /// The job goes on later.
    Waiting,
    /// Somebody else took the job over, or could have.
    Lost,
    /// The process stopped, and the run did not end in time.
    Left,
}

impl JobOutcome {
    /// As it is called in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Waiting => "waiting",
            Self::Lost => "lost",
            Self::Left => "left",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Run {
    kind: &'static str,
    outcome: &'static str,
}

pub(super) struct Jobs {
    running: Family<Kind, Gauge>,
    runs: Family<Run, Counter>,
    duration: Histograms<Kind>,
    lost: Family<Kind, Counter>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            running: Family::default(),
            runs: Family::default(),
            duration: Family::new_with_constructor(job_histogram),
            lost: Family::default(),
        }
    }
}

impl Jobs {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("jobs_running", "Jobs that are being done here", self.running.clone());
        registry.register("job_runs", "Runs of jobs that ended here", self.runs.clone());
        let help = "From the begin of a job's run to its end";
        registry.register_with_unit("job_run_duration", help, Unit::Seconds, self.duration.clone());
        let help = "Runs that were dropped because the lease of their job was lost";
        registry.register("job_leases_lost", help, self.lost.clone());
    }
}

impl Metrics {
    /// A run of a job began. Every call is followed by one of [`Metrics::job_stopped`]. `kind` comes from the code.
    pub fn job_started(&self, kind: &'static str) {
        self.0.jobs.running.get_or_create(&Kind { kind }).inc();
    }

    /// A run of a job is over, whatever became of it.
    pub fn job_stopped(&self, kind: &'static str) {
        self.0.jobs.running.get_or_create(&Kind { kind }).dec();
    }

    /// A run of a job ended after this time. One that ended with its process is not counted.
    pub fn job_ended(&self, kind: &'static str, outcome: JobOutcome, duration: Duration) {
        self.0.jobs.runs.get_or_create(&Run { kind, outcome: outcome.label() }).inc();
        self.0.jobs.duration.get_or_create(&Kind { kind }).observe(duration.as_secs_f64());
        if outcome == JobOutcome::Lost {
            self.0.jobs.lost.get_or_create(&Kind { kind }).inc();
        }
    }
}

/// From a delivery to a mirror that waits for a quota.
fn job_histogram() -> Histogram {
    Histogram::new([0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_running_until_it_stops_and_its_outcome_is_counted() {
        let metrics = Metrics::new();
        metrics.job_started("mirror");
        metrics.job_started("mirror");
        metrics.job_stopped("mirror");
        metrics.job_ended("mirror", JobOutcome::Done, Duration::from_secs(2));
        metrics.job_ended("mirror", JobOutcome::Lost, Duration::from_secs(2));
        let text = metrics.encode();
        for line in [
            r#"roadstead_jobs_running{kind="mirror"} 1"#,
            r#"roadstead_job_runs_total{kind="mirror",outcome="done"} 1"#,
            r#"roadstead_job_runs_total{kind="mirror",outcome="lost"} 1"#,
            r#"roadstead_job_run_duration_seconds_count{kind="mirror"} 2"#,
            r#"roadstead_job_leases_lost_total{kind="mirror"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
    }
}
