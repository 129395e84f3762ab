//! `roadstead promotion`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Remote, Where};
use super::table::{moment, segment, shown, table, text};
use super::{FAILED, Output, print};

/// How often it is asked how far a promotion is.
const ASK: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the promotions of the server, and what each wrote last
    List,
    /// Show a promotion with all that became of what arrived
    Show {
        /// The promotion's name in the configuration
        name: String,
    },
    /// Promote now: the latest of the tags that are wanted, or the one that is named, though something later may stand in Git
    Run {
        /// The promotion's name in the configuration
        name: String,
        /// This tag
        #[arg(long)]
        tag: Option<String>,
        /// Write nothing, and show how the file would change
        #[arg(long)]
        dry_run: bool,
        /// Do not wait until it stands in Git
        #[arg(long)]
        detach: bool,
    },
    /// Show how the file would change if it were promoted now
    Diff {
        /// The promotion's name in the configuration
        name: String,
        /// This tag
        #[arg(long)]
        tag: Option<String>,
    },
    /// Check that what is configured can work: the file is there, the entry is found, and some manifest has the image
    Check {
        /// The promotion's name in the configuration; without it, all
        name: Option<String>,
    },
    /// Write nothing more until it is released
    Hold {
        /// The promotion's name in the configuration
        name: String,
        /// Why, for others
        #[arg(long)]
        why: Option<String>,
    },
    /// Go on: what stands in Git may be replaced again
    Release {
        /// The promotion's name in the configuration
        name: String,
        /// Do not refuse this digest any more, and change nothing else
        #[arg(long)]
        digest: Option<String>,
    },
    /// Let the image with this digest pass
    Approve {
        /// The promotion's name in the configuration
        name: String,
        /// The digest, as `show` has it
        digest: String,
    },
    /// Write the image again that stood there before, refuse the one that stands there, and hold the promotion
    Rollback {
        /// The promotion's name in the configuration
        name: String,
        /// To this one of the earlier images
        #[arg(long)]
        digest: Option<String>,
        /// Do not wait until it stands in Git
        #[arg(long)]
        detach: bool,
    },
}

/// Does it, and answers how the process should end.
pub(super) async fn run(command: Command, server: &Where, output: Output) -> anyhow::Result<ExitCode> {
    let remote = server.connect()?;
    let operate =
        async |name: &str, verb: &str, body: Value| remote.post(&format!("promotions/{}/{verb}", segment(name)), &body).await;
    let answer = match &command {
        Command::List => return Ok(print(&shown(output, &remote.get("promotions").await?, list))),
        Command::Show { name } => {
            let answer = remote.get(&format!("promotions/{}", segment(name))).await?;
            return Ok(print(&shown(output, &answer, show)));
        }
        Command::Diff { name, tag } | Command::Run { name, tag, dry_run: true, .. } => {
            let tag = tag.as_deref().map(|tag| format!("?tag={}", segment(tag))).unwrap_or_default();
            let answer = remote.get(&format!("promotions/{}/diff{tag}", segment(name))).await?;
            return Ok(print(&shown(output, &answer, diff)));
        }
        Command::Check { name } => return check(&remote, name.as_deref(), output).await,
        Command::Run { name, tag, detach, .. } => {
            let asked = operate(name, "run", json!({ "tag": tag })).await?;
            return follow(&remote, asked, *detach, output).await;
        }
        Command::Rollback { name, digest, detach } => {
            let asked = operate(name, "rollback", json!({ "digest": digest })).await?;
            return follow(&remote, asked, *detach, output).await;
        }
        Command::Hold { name, why } => operate(name, "hold", json!({ "why": why })).await?,
        Command::Release { name, digest } => operate(name, "release", json!({ "digest": digest })).await?,
        Command::Approve { name, digest } => operate(name, "approve", json!({ "digest": digest })).await?,
    };
    Ok(print(&shown(output, &answer, show)))
}

/// Looks at the places of promotions. The process fails if something is wrong with one.
async fn check(remote: &Remote, name: Option<&str>, output: Output) -> anyhow::Result<ExitCode> {
    let names: Vec<String> = if let Some(name) = name {
        vec![name.to_owned()]
    } else {
        let all = remote.get("promotions").await?;
        let all = all["promotions"].as_array().into_iter().flatten();
        all.map(|promotion| text(promotion, "name").to_owned()).collect()
    };
    let mut checks = Vec::new();
    for name in &names {
        // One that cannot be looked at keeps none of the others from it.
        let looked = remote.get(&format!("promotions/{}/check", segment(name))).await;
        checks.push(looked.unwrap_or_else(|error| json!({ "promotion": name, "error": format!("{error:#}") })));
    }
    let is_fine = checks.iter().all(|check| check["findings"].as_array().is_some_and(Vec::is_empty));
    let code = print(&shown(output, &json!({ "checks": checks }), checked));
    Ok(if is_fine { code } else { ExitCode::from(FAILED) })
}

fn checked(answer: &Value) -> String {
    let mut out = String::new();
    for check in answer["checks"].as_array().into_iter().flatten() {
        if let Some(error) = check["error"].as_str() {
            let _ = writeln!(out, "{}: cannot be looked at: {error}", text(check, "promotion"));
            continue;
        }
        let commit = text(check, "commit");
        let findings = check["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{}: {} at {}, {} kustomizations and {} other files looked at",
            text(check, "promotion"),
            if findings.is_empty() { "ok" } else { "wrong" },
            commit.get(..10).unwrap_or(commit),
            check["kustomizations"],
            check["manifests"],
        );
        for finding in findings {
            let line = finding["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
            let path = Some(text(finding, "path")).filter(|path| !path.is_empty()).unwrap_or(".");
            let _ = writeln!(out, "  {path}{line}: {}", text(finding, "what"));
        }
        if let Some(more) = check["more"].as_u64().filter(|more| *more > 0) {
            let _ = writeln!(out, "  and {more} more");
        }
    }
    out
}

/// Waits until a promotion is written, or is not going to be. The process fails with it.
async fn follow(remote: &Remote, asked: Value, detach: bool, output: Output) -> anyhow::Result<ExitCode> {
    let (name, number) = (text(&asked, "promotion").to_owned(), &asked["number"]);
    if detach {
        return Ok(print(&shown(output, &asked, |_| format!("{name}/{number}\n"))));
    }
    let mut told = String::new();
    loop {
        let answer = remote.get(&format!("promotions/{}", segment(&name))).await?;
        let found = answer["promotions"].as_array().into_iter().flatten().find(|promotion| promotion["number"] == *number);
        let Some(promotion) = found else { anyhow::bail!("the server knows nothing of {name}/{number} any more") };
        let (phase, why) = (text(promotion, "phase"), text(promotion, "why"));
        let is_open = matches!(phase, "waiting" | "committing");
        if !is_open {
            let code = print(&shown(output, promotion, line));
            let is_there = !matches!(phase, "failed" | "refused" | "held" | "superseded" | "degraded" | "rejected");
            return Ok(if is_there { code } else { ExitCode::from(FAILED) });
        }
        if phase == "waiting" && !answer["hold"].is_null() && promotion["rollback"] != json!(true) {
            super::complain(&format!("{name} is held: {}", text(&answer["hold"], "why")));
            return Ok(ExitCode::from(FAILED));
        }
        if !why.is_empty() && why != told && output == Output::Text {
            super::complain(&format!("{name}/{number}: {why}"));
            why.clone_into(&mut told);
        }
        tokio::time::sleep(ASK).await;
    }
}

fn short(digest: &str) -> String {
    digest.get(..19).unwrap_or(digest).to_owned()
}

fn or(text: &str, other: &str) -> String {
    if text.is_empty() { other.to_owned() } else { text.to_owned() }
}

fn list(answer: &Value) -> String {
    let promotions = answer["promotions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if promotions.is_empty() {
        return "no promotions: the configuration has no [[promotion]]\n".to_owned();
    }
    let row = |rule: &Value| {
        let (written, last) = (&rule["written"], &rule["last"]);
        let state = if rule["hold"].is_null() { or(text(last, "phase"), "-") } else { "held".to_owned() };
        let why = if rule["hold"].is_null() { text(last, "why") } else { text(&rule["hold"], "why") };
        let commit = text(written, "commit");
        [
            text(rule, "name").to_owned(),
            text(rule, "repository").to_owned(),
            or(text(written, "tag"), "-"),
            or(&short(text(written, "digest")), "-"),
            or(commit.get(..10).unwrap_or(commit), "-"),
            state,
            or(moment(text(last, "changed")), "never"),
            why.to_owned(),
        ]
    };
    let rows: Vec<_> = promotions.iter().map(row).collect();
    table(["NAME", "REPOSITORY", "TAG", "DIGEST", "COMMIT", "STATE", "CHANGED", "WHY"], &rows)
}

fn show(rule: &Value) -> String {
    let list = |key: &str| rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let mut out = format!(
        "{}: {} ({}) into {} of {} ({})\n",
        text(rule, "name"),
        text(rule, "repository"),
        list("tags"),
        text(rule, "path"),
        text(rule, "git"),
        text(rule, "branch"),
    );
    if !rule["hold"].is_null() {
        let hold = &rule["hold"];
        let _ = writeln!(out, "held by {} since {}: {}", text(hold, "by"), moment(text(hold, "at")), text(hold, "why"));
    }
    for refused in rule["refused"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "refuses {}: {}", text(refused, "digest"), text(refused, "why"));
    }
    let row = |promotion: &Value| {
        let commit = text(promotion, "commit");
        [
            promotion["number"].to_string(),
            text(promotion, "tag").to_owned(),
            text(promotion, "digest").to_owned(),
            text(promotion, "phase").to_owned(),
            moment(text(promotion, "pushed")).to_owned(),
            or(moment(text(promotion, "committed")), "-"),
            or(commit.get(..10).unwrap_or(commit), "-"),
            text(promotion, "by").to_owned(),
            text(promotion, "why").to_owned(),
        ]
    };
    let rows: Vec<_> = rule["promotions"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        out.push_str("nothing has arrived yet\n");
    } else {
        out.push_str(&table(["NUMBER", "TAG", "DIGEST", "STATE", "PUSHED", "COMMITTED", "COMMIT", "BY", "WHY"], &rows));
    }
    out
}

/// One promotion that has ended.
fn line(promotion: &Value) -> String {
    let (commit, why) = (text(promotion, "commit"), text(promotion, "why"));
    let mut out = format!("{} {} {}", text(promotion, "name"), text(promotion, "tag"), text(promotion, "phase"));
    if !commit.is_empty() {
        let _ = write!(out, " in {commit}");
    }
    if !why.is_empty() {
        let _ = write!(out, ": {why}");
    }
    out.push('\n');
    out
}

fn diff(plan: &Value) -> String {
    let image = &plan["image"];
    let what = if image.is_null() { String::new() } else { format!("{} {} ", text(image, "tag"), text(image, "digest")) };
    format!("# {what}{}\n{}", text(plan, "says"), text(plan, "diff"))
}
