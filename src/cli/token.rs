//! `roadstead token`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Where;
use super::table::{moment, segment, shown, table, text};
use super::{Output, complain, print};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a token for a robot, a program that logs in; it is printed once and known to nobody after that
    Create {
        /// The robot's name: rules call it `robot:NAME`
        name: String,
        /// How long it is taken: 12h, 90d
        #[arg(long, value_name = "TIME", value_parser = span, default_value = "90d", conflicts_with = "forever")]
        expires: Duration,
        /// It is taken until it is revoked
        #[arg(long)]
        forever: bool,
        /// A group that the robot belongs to when it shows this token: rules call it `group:NAME`; may be repeated
        #[arg(long = "group", value_name = "NAME")]
        groups: Vec<String>,
    },
    /// List robots and their tokens
    List,
    /// End a token at once, and what clients have fetched with it
    Revoke {
        /// The robot's name
        name: String,
        /// The token's id; without it, all tokens of the robot
        id: Option<String>,
    },
}

/// A whole number and its unit.
fn span(text: &str) -> Result<Duration, String> {
    let advice = || format!("{text:?} is not a time; write a whole number and its unit (m, h, d), such as 90d");
    let unit = text.chars().last().ok_or_else(advice)?;
    let number: u64 = text.get(..text.len() - unit.len_utf8()).and_then(|number| number.parse().ok()).ok_or_else(advice)?;
    let minutes = match unit {
        'm' => 1,
        'h' => 60,
        'd' => 24 * 60,
        _ => return Err(advice()),
    };
    let seconds = number.checked_mul(minutes * 60).filter(|seconds| *seconds > 0).ok_or_else(advice)?;
    Ok(Duration::from_secs(seconds))
}

/// Does it, and answers how the process should end.
pub(super) async fn run(command: Command, server: &Where, output: Output) -> anyhow::Result<ExitCode> {
    let remote = server.connect()?;
    match command {
        Command::Create { name, expires, forever, groups } => {
            let mut asked = json!({ "groups": groups });
            if !forever {
                asked["expires_in"] = json!(expires.as_secs());
            }
            let answer = remote.post(&format!("robots/{}/tokens", segment(&name)), &asked).await?;
            if output == Output::Text {
                complain(&said_of(&answer));
            }
            Ok(print(&shown(output, &answer, |answer| format!("{}\n", text(answer, "token")))))
        }
        Command::List => Ok(print(&shown(output, &remote.get("robots").await?, list))),
        Command::Revoke { name, id } => {
            let token = id.map(|id| format!("/tokens/{}", segment(&id))).unwrap_or_default();
            let answer = remote.delete(&format!("robots/{}{token}", segment(&name))).await?;
            Ok(print(&shown(output, &answer, |answer| {
                format!("{}: {} revoked\n", text(answer, "name"), text(answer, "revoked"))
            })))
        }
    }
}

/// What is said of a token beside the token, which stands alone on standard output so that it can be piped on.
fn said_of(answer: &Value) -> String {
    let until = match answer["expires"].as_str() {
        Some(at) => format!("taken until {}", moment(at)),
        None => "taken until it is revoked".to_owned(),
    };
    let (name, id) = (text(answer, "name"), text(answer, "id"));
    format!("robot:{name}, token {id}, {until}; log in with any user name and this as the password")
}

fn list(answer: &Value) -> String {
    let mut rows = Vec::new();
    for robot in answer["robots"].as_array().into_iter().flatten() {
        for token in robot["tokens"].as_array().into_iter().flatten() {
            let groups: Vec<&str> = token["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            rows.push([
                text(robot, "name").to_owned(),
                text(token, "id").to_owned(),
                moment(text(token, "made")).to_owned(),
                token["expires"].as_str().map_or_else(|| "never".to_owned(), |at| moment(at).to_owned()),
                text(token, "by").to_owned(),
                or(&groups.join(",")),
            ]);
        }
    }
    if rows.is_empty() {
        return "no robots: make one with `roadstead token create NAME`\n".to_owned();
    }
    table(["ROBOT", "TOKEN", "MADE", "EXPIRES", "BY", "GROUPS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(span("90d"), Ok(Duration::from_hours(90 * 24)));
        assert_eq!((span("2h"), span("5m")), (Ok(Duration::from_hours(2)), Ok(Duration::from_mins(5))));
        for text in ["", "5", "0d", "-1d", "1y", "1é", "99999999999999999999d"] {
            assert!(span(text).is_err(), "{text}");
        }
    }
}
