//! `roadstead hook`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::Where;
use super::table::{moment, segment, shown, table, text};
use super::{Output, print};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List who is told of what happens here, what waits for them, and what was given up
    List,
    /// Show the last attempts for one of them, and what was given up
    Show {
        /// The hook's name in the configuration
        name: String,
    },
    /// Send again what was given up
    Redeliver {
        /// The hook's name in the configuration
        name: String,
        /// The id of the delivery; without it, all that was given up
        id: Option<String>,
    },
}

/// Does it, and answers how the process should end.
pub(super) async fn run(command: Command, server: &Where, output: Output) -> anyhow::Result<ExitCode> {
    let remote = server.connect()?;
    match command {
        Command::List => Ok(print(&shown(output, &remote.get("hooks").await?, list))),
        Command::Show { name } => {
            let answer = remote.get(&format!("hooks/{}", segment(&name))).await?;
            Ok(print(&shown(output, &answer, show)))
        }
        Command::Redeliver { name, id } => {
            let ids = if let Some(id) = id {
                vec![id]
            } else {
                let answer = remote.get(&format!("hooks/{}", segment(&name))).await?;
                let dead = answer["dead"].as_array().into_iter().flatten();
                dead.filter_map(|dead| dead["id"].as_str().map(str::to_owned)).collect()
            };
            for id in &ids {
                remote.post(&format!("hooks/{}/dead/{}/redeliver", segment(&name), segment(id)), &Value::Null).await?;
            }
            let answer = json!({ "hook": name, "redelivered": ids });
            Ok(print(&shown(output, &answer, |_| format!("{} sent again\n", ids.len()))))
        }
    }
}

fn list(answer: &Value) -> String {
    let hooks = answer["hooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if hooks.is_empty() {
        return "no hooks: the configuration has no [[hook]]\n".to_owned();
    }
    let row = |hook: &Value| {
        let last = &hook["attempts"][0];
        let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        [
            text(hook, "name").to_owned(),
            text(hook, "to").to_owned(),
            text(hook, "dialect").to_owned(),
            hook["waiting"].to_string(),
            hook["given_up"].to_string(),
            or(text(last, "outcome")),
            or(moment(text(last, "at"))),
            text(last, "reason").to_owned(),
        ]
    };
    let rows: Vec<_> = hooks.iter().map(row).collect();
    table(["NAME", "TO", "DIALECT", "WAITING", "GIVEN UP", "LAST", "AT", "WHY"], &rows)
}

fn show(hook: &Value) -> String {
    let mut out =
        format!("{}: {} ({}), {} waiting\n", text(hook, "name"), text(hook, "to"), text(hook, "dialect"), hook["waiting"]);
    let attempt = |attempt: &Value| {
        [
            moment(text(attempt, "at")).to_owned(),
            format!("{}:{}", text(attempt, "repository"), text(attempt, "tag")),
            text(attempt, "outcome").to_owned(),
            attempt["status"].as_u64().map_or_else(|| "-".to_owned(), |status| status.to_string()),
            format!("{} ms", attempt["duration_ms"]),
            text(attempt, "id").to_owned(),
            text(attempt, "reason").to_owned(),
        ]
    };
    let rows: Vec<_> = hook["attempts"].as_array().into_iter().flatten().map(attempt).collect();
    if rows.is_empty() {
        out.push_str("nothing was sent yet\n");
    } else {
        out.push_str(&table(["AT", "TAG", "OUTCOME", "STATUS", "TOOK", "ID", "WHY"], &rows));
    }
    for dead in hook["dead"].as_array().into_iter().flatten() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "given up {}: {} ({} attempts)", text(dead, "id"), text(dead, "reason"), dead["attempts"]);
    }
    out
}
