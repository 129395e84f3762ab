//! G10: memory for downloads that nobody reads.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::client::{Client, Sink};
use crate::goal::Bound::AtMost;
use crate::goal::Criterion;
use crate::machine::Processors;
use crate::peers::Role;
use crate::samples::{Column, Outcome, Samples, column};
use crate::seed::Set;
use crate::server::Kind;
use crate::stage::Stage;
use crate::stats::float;

const CONNECTIONS: u32 = 300;
/// Each round starts every server anew; memory is not noisy.
const ROUNDS: usize = 3;
const COLUMNS: [Column; 2] = [column("each", "anonymous KB each"), column("all", "anonymous MB in all")];

/// Three hundred clients ask for the large blob and read nothing.
pub(crate) fn downloads(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut samples = Samples::default();
    for _ in 0..count.min(ROUNDS) {
        for kind in stage.present(&Kind::ALL) {
            let server = stage.start_in(kind, Role::Registry, &stage.data(kind, Set::Content)?, Processors::Pinned)?;
            Processors::Pinned.enter()?;
            // What the first download costs for good is not the connections'.
            Client::connect(server.port)?.download(&stage.paths.large, Sink::Discard)?;
            server.settle()?;
            let before = server.memory()?.anonymous;
            let mut held = Vec::new();
            for _ in 0..CONNECTIONS {
                held.push(Client::connect(server.port)?.stall(&stage.paths.large)?);
            }
            let mut after = before;
            loop {
                thread::sleep(Duration::from_millis(500));
                let found = server.memory()?.anonymous;
                if found <= after {
                    break;
                }
                after = found;
            }
            let grown = float(after.saturating_sub(before));
            samples.push(kind, "each", grown / f64::from(CONNECTIONS) / 1e3);
            samples.push(kind, "all", grown / 1e6);
        }
    }
    let title = "300 downloads of 100 MiB that nobody reads, what they add to the server's memory:";
    outcome.add("stalled downloads", &samples, samples.table(title, &COLUMNS, ("each", "memory")));
    let ours = samples.of(Kind::Roadstead, "each").to_vec();
    outcome.criteria = vec![
        Criterion::must("G10", "anonymous memory of a stalled download", AtMost(32.0), ours).stretch(AtMost(16.0)).unit("KB"),
    ];
    Ok(outcome)
}
