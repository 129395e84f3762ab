//! `roadstead mirror`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::{Remote, Where};
use super::follow::Follow;
use super::table::{moment, segment, shown, table, text};
use super::{FAILED, Output, print};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the mirrors of the server, when they run next, and how their last run went
    List,
    /// Run a mirror now, and follow it to its end
    Run {
        /// The mirror's name in the configuration
        name: String,
        /// Change nothing, and say what would be copied
        #[arg(long)]
        dry_run: bool,
        /// Do not wait for the end: print the run's id alone
        #[arg(long)]
        detach: bool,
    },
    /// List the runs of a mirror, the latest first
    History {
        /// The mirror's name in the configuration
        name: String,
        /// At most so many
        #[arg(short, long, default_value_t = 20)]
        number: usize,
    },
    /// Show what a run did for every tag, or follow one that has not ended
    Show {
        /// The run's id
        run: String,
    },
    /// End a run that has not ended
    Cancel {
        /// The run's id
        run: String,
    },
    /// Do a run again that failed or was cancelled: only what it left
    Retry {
        /// The run's id
        run: String,
    },
}

/// Does it, and answers how the process should end.
pub(super) async fn run(command: Command, server: &Where, output: Output) -> anyhow::Result<ExitCode> {
    let remote = server.connect()?;
    match command {
        Command::List => {
            let answer = remote.get("mirrors").await?;
            Ok(print(&shown(output, &answer, list)))
        }
        Command::Run { name, dry_run, detach } => {
            let asked = remote.post(&format!("mirrors/{}/runs", segment(&name)), &json!({ "dry_run": dry_run })).await?;
            if asked["new"] == json!(false) {
                super::complain("a run of this mirror has not ended; this is it");
            }
            let id = text(&asked, "id");
            if detach {
                return Ok(print(&shown(output, &asked, |_| format!("{id}\n"))));
            }
            if output == Output::Text {
                super::complain(&format!("run {id}"));
            }
            follow(&remote, id, output).await
        }
        Command::History { name, number } => {
            let answer = remote.get(&format!("mirrors/{}/runs?n={number}", segment(&name))).await?;
            Ok(print(&shown(output, &answer, history)))
        }
        Command::Show { run } => {
            let answer = remote.get(&format!("jobs/{}", segment(&run))).await?;
            if output == Output::Text && answer["ended"].is_null() {
                return follow(&remote, &run, output).await;
            }
            Ok(print(&shown(output, &answer, report)))
        }
        Command::Cancel { run } => {
            let answer = remote.post(&format!("jobs/{}/cancel", segment(&run)), &Value::Null).await?;
            Ok(print(&shown(output, &answer, |answer| format!("{} {}\n", text(answer, "id"), text(answer, "state")))))
        }
        Command::Retry { run } => {
            let answer = remote.post(&format!("jobs/{}/retry", segment(&run)), &Value::Null).await?;
            if answer["new"] == json!(false) {
                super::complain("another run of this mirror has not ended; this is it");
            }
            follow(&remote, text(&answer, "id"), output).await
        }
    }
}

/// Follows a run to its end. The process fails with it.
async fn follow(remote: &Remote, id: &str, output: Output) -> anyhow::Result<ExitCode> {
    let mut follow = Follow::new(output);
    remote.lines(&format!("jobs/{}/events", segment(id)), |record| follow.seen(record)).await?;
    let Some(last) = follow.last() else { anyhow::bail!("the server said nothing of the run {id}") };
    let code = print(&shown(output, &last, report));
    match last["state"].as_str() {
        Some("done") => Ok(code),
        Some("failed" | "cancelled") => Ok(ExitCode::from(FAILED)),
        _ => anyhow::bail!(
            "the server went away before the run {id} had ended; it goes on by itself, see `roadstead mirror show {id}`"
        ),
    }
}

fn list(answer: &Value) -> String {
    let mirrors = answer["mirrors"].as_array().map(Vec::as_slice).unwrap_or_default();
    if mirrors.is_empty() {
        return "no mirrors: the configuration has no [[mirror]]\n".to_owned();
    }
    let row = |mirror: &Value| {
        let state = if mirror["open"].is_null() { text(&mirror["last"], "state") } else { text(&mirror["open"], "state") };
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        [
            text(mirror, "name").to_owned(),
            text(mirror, "from").to_owned(),
            text(mirror, "to").to_owned(),
            or(text(mirror, "schedule"), "by hand"),
            or(moment(text(mirror, "next_run")), "-"),
            or(moment(text(mirror, "last_success")), "never"),
            or(state, "-"),
        ]
    };
    let rows: Vec<_> = mirrors.iter().map(row).collect();
    table(["NAME", "FROM", "TO", "SCHEDULE", "NEXT RUN", "LAST SUCCESS", "LAST RUN"], &rows)
}

fn history(answer: &Value) -> String {
    let runs = answer["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    if runs.is_empty() {
        return "no runs yet\n".to_owned();
    }
    let row = |run: &Value| {
        let totals = &run["totals"];
        let count = |key: &str| totals[key].as_u64().unwrap_or_default().to_string();
        let dry = if run["dry_run"] == json!(true) { " (dry)" } else { "" };
        [
            text(run, "id").to_owned(),
            format!("{}{dry}", text(run, "state")),
            moment(run["started"].as_str().unwrap_or_else(|| text(run, "created"))).to_owned(),
            run["duration_ms"].as_u64().map_or_else(|| "-".to_owned(), duration),
            count("copied"),
            count("unchanged"),
            count("failed"),
            bytes(totals["bytes_copied"].as_u64().unwrap_or_default()),
            text(run, "reason").to_owned(),
        ]
    };
    let rows: Vec<_> = runs.iter().map(row).collect();
    table(["RUN", "STATE", "STARTED", "TOOK", "COPIED", "UNCHANGED", "FAILED", "BYTES", "REASON"], &rows)
}

/// What a run did for every tag.
fn report(record: &Value) -> String {
    let empty = serde_json::Map::new();
    let tags = record["report"]["tags"].as_object().unwrap_or(&empty);
    let row = |(name, tag): (&String, &Value)| {
        let targets: Vec<&str> = tag["targets"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let digest = text(tag, "digest");
        [
            name.clone(),
            text(tag, "outcome").replace('_', " "),
            digest.get(..19).unwrap_or(digest).to_owned(),
            targets.join(", "),
            bytes(tag["bytes_copied"].as_u64().unwrap_or_default()),
            bytes(tag["bytes_skipped"].as_u64().unwrap_or_default()),
            duration(tag["duration_ms"].as_u64().unwrap_or_default()),
            text(tag, "error").to_owned(),
        ]
    };
    let rows: Vec<_> = tags.iter().map(row).collect();
    let mut out = if rows.is_empty() {
        String::new()
    } else {
        table(["TAG", "OUTCOME", "DIGEST", "SET", "COPIED", "SKIPPED", "TOOK", "ERROR"], &rows)
    };
    let totals = &record["totals"];
    let count = |key: &str| totals[key].as_u64().unwrap_or_default();
    let _ = writeln!(
        out,
        "run {} of {}: {}, {} copied, {} unchanged, {} failed, {} moved",
        text(record, "id"),
        text(record, "key"),
        text(record, "state"),
        count("copied"),
        count("unchanged"),
        count("failed"),
        bytes(count("bytes_copied")),
    );
    if let Some(reason) = record["reason"].as_str() {
        let _ = writeln!(out, "{reason}");
    }
    out
}

pub(super) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

fn duration(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_every_tag_and_its_error() {
        let record = json!({
            "id": "1", "key": "nightly", "state": "failed", "reason": "1 copied, 0 unchanged, 1 failed",
            "totals": { "copied": 1, "unchanged": 0, "failed": 1, "bytes_copied": 2048 },
            "report": { "tags": {
                "beta": { "outcome": "failed", "error": "gone", "duration_ms": 5 },
                "latest": { "outcome": "copied", "digest": "sha256:0123456789abcdef", "targets": ["latest", "latest-20260101"],
                    "bytes_copied": 2048, "duration_ms": 1500 },
            } },
        });
        let text = report(&record);
        assert!(text.contains("beta    failed"), "{text}");
        assert!(text.contains("latest, latest-20260101  2.00 KiB"), "{text}");
        assert!(text.ends_with(
            "run 1 of nightly: failed, 1 copied, 0 unchanged, 1 failed, 2.00 KiB moved\n1 copied, 0 unchanged, 1 failed\n"
        ));
    }
}
