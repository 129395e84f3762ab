//! The command line: `serve`, `check`, `version`; and what acts on a running server.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 64 bad config. What was asked for goes to standard output, errors to standard error.

mod access;
mod bundle;
mod certs;
mod client;
mod follow;
mod hook;
mod mirror;
mod promotion;
mod table;
mod token;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigErrors, Flag, Location, Upstream};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const BAD_CONFIG: u8 = 64;

/// An OCI registry and pull-through mirror for one cluster.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version = telemetry::build::VERSION, after_help = "Exit codes: 0 done, 1 failed, 2 usage, 64 bad config.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to stop: a registry on 127.0.0.1:5000 with its content in ./data, unless a file says otherwise
    Serve {
        #[command(flatten)]
        file: ConfigFile,
        /// Listen here rather than where the file says, such as 127.0.0.1:5001
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<String>,
    },
    /// Report every error of a configuration at once, or what it would serve; start nothing
    Check {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Run mirrors of a running server, and see how they went
    Mirror {
        #[command(subcommand)]
        command: mirror::Command,
        #[command(flatten)]
        server: client::Where,
        #[command(flatten)]
        output: OutputOption,
    },
    /// See what became of tags that go into Git, and hold, approve or take them back
    Promotion {
        #[command(subcommand)]
        command: promotion::Command,
        #[command(flatten)]
        server: client::Where,
        #[command(flatten)]
        output: OutputOption,
    },
    /// See how those fare who are told of what happens here, and send again what was given up
    Hook {
        #[command(subcommand)]
        command: hook::Command,
        #[command(flatten)]
        server: client::Where,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Make tokens for robots, programs that log in; list and revoke them
    Token {
        #[command(subcommand)]
        command: token::Command,
        #[command(flatten)]
        server: client::Where,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Ask the rules of a configuration
    Access {
        #[command(subcommand)]
        command: access::Command,
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Make certificates to begin with
    Certs {
        #[command(subcommand)]
        command: certs::Command,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Write images with their signatures into one file that can be carried over an air gap
    Export {
        #[command(flatten)]
        export: bundle::ExportOptions,
        #[command(flatten)]
        server: client::Where,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Read images from such a file, or from any OCI image layout
    Import {
        #[command(flatten)]
        import: bundle::ImportOptions,
        #[command(flatten)]
        server: client::Where,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Say which version this is
    Version,
}

#[derive(Debug, clap::Args)]
struct OutputOption {
    /// How what is asked for is printed
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

/// How what is asked for is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The TOML file to read; the defaults hold without one
    #[arg(long, value_name = "FILE", env = "ROADSTEAD_CONFIG", global = true)]
    config: Option<PathBuf>,
}

/// Does what `args` say, the program's name first, and answers how the process should end.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and `--version` come this way too, to standard output.
            let written = error.print();
            let code = if error.use_stderr() { USAGE } else { u8::from(written.is_err()) };
            return ExitCode::from(code);
        }
    };
    match arguments.command {
        Command::Serve { file, listen } => serve(file.config.as_deref(), listen).await,
        Command::Check { file } => check(file.config.as_deref()),
        Command::Version => print(&version()),
        Command::Mirror { command, server, output } => ended(Box::pin(mirror::run(command, &server, output.output)).await),
        Command::Promotion { command, server, output } => ended(Box::pin(promotion::run(command, &server, output.output)).await),
        Command::Hook { command, server, output } => ended(Box::pin(hook::run(command, &server, output.output)).await),
        Command::Token { command, server, output } => ended(Box::pin(token::run(command, &server, output.output)).await),
        Command::Access { command, file, output } => ended(access::run(command, &file, output.output)),
        Command::Certs { command, output } => ended(certs::run(command, output.output)),
        Command::Export { export, server, output } => ended(Box::pin(bundle::export(export, &server, output.output)).await),
        Command::Import { import, server, output } => ended(Box::pin(bundle::import(import, &server, output.output)).await),
    }
}

/// How the process ends after a command that may have failed. A bad configuration has its own code.
fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
                return refuse(errors);
            }
            complain(&format!("roadstead: {}", telemetry::chain(error.as_ref())));
            ExitCode::from(FAILED)
        }
    }
}

async fn serve(path: Option<&Path>, listen: Option<String>) -> ExitCode {
    let flags: Vec<Flag> = listen.map(|value| Flag { name: "--listen", key: "server.listen", value }).into_iter().collect();
    let file = path.map(Path::to_owned);
    let source = Box::new(move || Config::load_marked(file.as_deref(), environment(), &flags));
    let (config, mark) = source();
    let config = match config {
        Ok(config) => config,
        Err(errors) => return refuse(&errors),
    };
    match Box::pin(crate::app::serve(config, source, mark)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("roadstead: {}", telemetry::chain(error.as_ref())));
            ExitCode::from(FAILED)
        }
    }
}

fn check(path: Option<&Path>) -> ExitCode {
    match Config::load(path, environment()) {
        Ok(config) => {
            if let Err(error) = crate::app::rehearse(&config) {
                complain(&format!("roadstead: {}", telemetry::chain(error.as_ref())));
                return ExitCode::from(BAD_CONFIG);
            }
            let file = path.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
            print(&format!("{file}: ok\n{}", summary(&config)))
        }
        Err(errors) => refuse(&errors),
    }
}

fn refuse(errors: &ConfigErrors) -> ExitCode {
    complain(&errors.to_string());
    ExitCode::from(BAD_CONFIG)
}

/// The environment as text. A variable that is none is only of interest if it is meant for us: then it is kept, to be refused.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        match value.into_string() {
            Ok(value) => Some((name, value)),
            Err(value) if name.starts_with("ROADSTEAD_") => Some((name, value.to_string_lossy().into_owned())),
            Err(_) => None,
        }
    })
}

fn version() -> String {
    let info = telemetry::build::info();
    let mut text = format!("roadstead {}", info.version);
    if let Some(revision) = info.revision {
        text = format!("{text} ({revision})");
    }
    format!("{text} {}\n", info.profile)
}

/// Whom a configuration lets in.
fn admission(config: &Config) -> String {
    let Some(rules) = &config.access else { return "everybody, for everything".to_owned() };
    let counted = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    format!(
        "by {}, {}, {}",
        counted(rules.len(), "rule", "rules"),
        counted(config.auth.accounts.len(), "account", "accounts"),
        counted(config.auth.issuers.len(), "issuer", "issuers")
    )
}

/// What a configuration would serve, a line each.
fn summary(config: &Config) -> String {
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    let storage = match &config.storage.location {
        Location::Memory => "memory, gone when the process ends".to_owned(),
        Location::Folder(path) => format!("the folder {}", path.display()),
        Location::Bucket(bucket) => format!("the bucket {bucket}"),
    };
    let mut text = format!("listens on   {scheme}://{}\n", config.server.listen);
    if let Some(url) = &config.server.external_url {
        text.push_str(&line("is called", url.as_str()));
    }
    text.push_str(&line("keeps in", &storage));
    for upstream in &config.upstreams {
        text.push_str(&line("pulls from", &describe(upstream)));
    }
    if config.upstreams.is_empty() {
        text.push_str(&line("pulls from", "no upstream"));
    }
    text.push_str(&line("lets in", &admission(config)));
    for promotion in &config.promotions {
        let tags: Vec<String> = promotion.rule.tags.iter().map(ToString::to_string).collect();
        let rule = &promotion.rule;
        let what = format!("{}: {} ({}) into {} of {}", rule.name, rule.repository, tags.join(", "), rule.path, promotion.remote);
        text.push_str(&line("promotes", &what));
    }
    for mirror in &config.mirrors {
        let when = mirror.schedule.as_ref().map_or_else(|| "when told to".to_owned(), ::mirror::Schedule::describe);
        let to = mirror.registry.as_ref().map_or_else(|| mirror.to.to_string(), |host| format!("{host}/{}", mirror.to));
        text.push_str(&line("mirrors", &format!("{}: {}/{} to {to}, {when}", mirror.name, mirror.upstream, mirror.from)));
    }
    text
}

fn line(what: &str, value: &str) -> String {
    format!("{what:<12} {value}\n")
}

fn describe(upstream: &Upstream) -> String {
    let mut text = format!("{} at {}, as /v2/{}/…", upstream.host, upstream.url, upstream.name);
    if upstream.default {
        let patterns: Vec<String> = upstream.root.iter().map(ToString::to_string).collect();
        // Writing to a string cannot fail.
        let _ = write!(text, " and at the root for {}", patterns.join(", "));
    }
    if let Some(credentials) = &upstream.credentials {
        let _ = write!(text, ", logged in as {}", credentials.username);
    }
    text
}

/// Writes what was asked for; a reader that has gone is a failure, without a word for there is nobody to read it.
fn print(text: &str) -> ExitCode {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

/// Writes to standard error. If that is closed there is nowhere left to say so.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::CommandFactory;
    use secrecy::SecretString;

    use crate::config::{Credentials, RootPattern};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn listening_elsewhere_is_an_option_of_serve_alone() {
        let serve = Arguments::try_parse_from(["roadstead", "serve", "--config", "r.toml", "--listen", "127.0.0.1:1"]).unwrap();
        let Command::Serve { file, listen } = serve.command else { panic!("{serve:?}") };
        assert_eq!(file.config, Some(PathBuf::from("r.toml")));
        assert_eq!(listen.as_deref(), Some("127.0.0.1:1"));
        assert!(Arguments::try_parse_from(["roadstead", "check", "--listen", "127.0.0.1:1"]).is_err());
        assert!(Arguments::try_parse_from(["roadstead"]).is_err());
    }

    #[test]
    fn the_summary_says_what_is_served_and_no_secret() {
        let mut config = Config::default();
        config.upstreams[0].credentials =
            Some(Credentials { username: "team".to_owned(), password: SecretString::from("hunter2") });
        config.upstreams[0].root.push(RootPattern::parse("grafana/*").unwrap());
        assert_eq!(
            summary(&config),
            "listens on   http://127.0.0.1:5000\n\
             keeps in     the folder ./data\n\
             pulls from   docker.io at https://registry-1.docker.io/, as /v2/docker.io/… and at the root for library/**, grafana/*, \
             logged in as team\n\
             lets in      everybody, for everything\n"
        );
        config.upstreams.clear();
        assert!(summary(&config).contains("\npulls from   no upstream\n"));
        config.access = Some(Vec::new());
        assert!(summary(&config).ends_with("lets in      by 0 rules, 0 accounts, 0 issuers\n"));
    }

    #[test]
    fn the_version_is_that_of_the_package() {
        assert!(version().starts_with(concat!("roadstead ", env!("CARGO_PKG_VERSION"))));
    }
}
