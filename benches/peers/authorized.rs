//! Small requests of somebody who shows a token, to a server with rules, beside the same server without.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::client::{Client, request_with};
use crate::goal::Bound::AtMost;
use crate::goal::Criterion;
use crate::load::Work;
use crate::machine::Processors;
use crate::peers::Role;
use crate::samples::{Column, Outcome, Samples, column};
use crate::seed::Set;
use crate::server::{Kind, Server};
use crate::stage::{Stage, rounds};
use crate::stats::float;

const SERVERS: [Kind; 2] = [Kind::Roadstead, Kind::Guarded];
const CONNECTIONS: usize = 64;
const COLUMNS: [Column; 5] = [
    column("rate", "req/s"),
    column("cpu", "CPU-s / 10k"),
    column("p50", "p50 ms"),
    column("p99", "p99 ms"),
    column("anonymous", "anonymous MB"),
];
/// The account `bench` with the password `bench`, as the file of accounts and a client have it.
const ACCOUNT: &str = "bench:$2y$04$zFhuwYSPc9AqJrEWr5x11.F3E6z7A.iFAJD0EFALEyyuTIiBkfBla\n";
const PASSWORD: &str = "Authorization: Basic YmVuY2g6YmVuY2g=\r\n";
/// Rules as a team has them, and the one that matters is the last one.
const RULES: &str = r#"
[[access]]
who = ["anonymous"]
may = ["pull"]
repositories = ["docker.io/**", "quay.io/**"]

[[access]]
who = ["robot:ci"]
may = ["pull", "push"]
repositories = ["micro/**", "web/**"]

[[access]]
who = ["oidc:forgejo:repo:micro/*", "group:builders"]
may = ["pull", "push", "delete"]
repositories = ["micro/*"]

[[access]]
who = ["user:bench"]
may = ["pull", "push"]
repositories = ["bench/**"]
"#;

/// What stands in the configuration of a server with rules. Its file of accounts is written to `run`.
pub(crate) fn rules(run: &Path) -> Result<String> {
    let accounts = run.join("htpasswd");
    fs::write(&accounts, ACCOUNT)?;
    Ok(format!("[auth]\nhtpasswd_file = \"{}\"\n{RULES}", accounts.display()))
}

/// A line with a token of the server's own making.
fn token(server: &Server) -> Result<String> {
    let mut client = Client::connect(server.port)?;
    let answer = client.fetch_with("/token?scope=repository:bench/content:pull", PASSWORD)?;
    ensure!(answer.status == 200, "no token: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    let answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let token = answer["token"].as_str().context("an answer without a token")?;
    Ok(format!("Authorization: Bearer {token}\r\n"))
}

/// The same requests to both, with a token where one is asked for.
fn measure(stage: &Stage, count: usize, paths: &[String]) -> Result<Samples> {
    let role = |kind| if kind == Kind::Guarded { Role::Guarded } else { Role::Registry };
    let servers = stage.field_as(&SERVERS, role, Set::Content, Processors::Pinned)?;
    for server in servers.iter().filter(|server| server.kind == Kind::Guarded) {
        let status = Client::connect(server.port)?.ask("GET", &paths[0], "", &[])?.status;
        ensure!(status == 401, "without a token the server with rules answers {status}");
    }
    rounds(&servers, count, |server, samples| {
        let shown = if server.kind == Kind::Guarded { token(server)? } else { String::new() };
        let requests = paths.iter().map(|path| request_with("GET", server.port, path, &shown)).collect();
        let work = Work { port: server.port, requests, connections: CONNECTIONS, threads: 1, copies: true, bodiless: false };
        let counted = stage.load(server, &work, samples)?;
        let requests = float(counted.requests);
        samples.push(server.kind, "rate", requests / counted.seconds);
        samples.push(server.kind, "cpu", counted.cpu.as_secs_f64() / requests * 10_000.0);
        samples.push(server.kind, "p50", counted.latencies.percentile(50).as_secs_f64() * 1000.0);
        samples.push(server.kind, "p99", counted.latencies.percentile(99).as_secs_f64() * 1000.0);
        Ok(())
    })
}

/// G3 and G5 once more, with rules.
pub(crate) fn small(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let tag = [stage.paths.tag.clone()];
    for (what, paths) in [("GET manifest by tag", tag.as_slice()), ("GET 4 KiB blobs, 512 distinct", &stage.paths.small)] {
        let samples = measure(stage, count, paths)?;
        let title = format!("{what}, pinned, without rules, and with rules and a token in each request:");
        outcome.add(what, &samples, samples.table(title, &COLUMNS, ("cpu", "CPU")));
        let ratio = samples.ratio(Kind::Guarded, Kind::Roadstead, "cpu");
        outcome.criteria.push(Criterion::must("rules", format!("CPU with rules ÷ without, {what}"), AtMost(1.3), ratio));
    }
    Ok(outcome)
}
