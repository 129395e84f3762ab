//! What is asked of every client, whatever the way in which somebody logs in.

use std::process::{Command, Output};

use crate::stage::{OWNER, Stage, Way};
use crate::support::process::output;

/// The tag of what is pushed: charts take nothing shorter.
pub(crate) const TAG: &str = "1.0.0";

/// A client, with an image to push at hand.
pub(crate) trait Client {
    /// Remembers a name and a password. Where a client does not try them itself, it looks at `base/app` with them.
    fn login(&self, name: &str, password: &str) -> Output;
    /// Forgets them.
    fn logout(&self);
    /// Pushes the image as a repository with the tag.
    fn push(&self, repository: &str, tag: &str) -> Output;
    /// Pulls a repository with the tag, of which nothing is there yet.
    fn pull(&self, repository: &str) -> Output;
}

/// How a client tells its user what the server said: one of these is in its words.
pub(crate) struct Words {
    /// The password is wrong.
    pub(crate) wrong: &'static [&'static str],
    /// He may not push there.
    pub(crate) denied: &'static [&'static str],
    /// There is no such repository, for him.
    pub(crate) hidden: &'static [&'static str],
    /// Nobody has logged in.
    pub(crate) unknown: &'static [&'static str],
    /// For a client that asks for nothing without a login where a password is all that is taken, not even for what is public.
    pub(crate) without_tokens: Option<&'static [&'static str]>,
}

impl Words {
    /// What the server says, passed on as it is.
    pub(crate) const PLAIN: Self = Self {
        wrong: &["unauthorized"],
        denied: &["denied"],
        hidden: &["not known", "not found"],
        // Where only passwords are taken, oras and helm look for one of their own before they ask.
        unknown: &["unauthorized", "basic credential not found"],
        without_tokens: None,
    };
}

/// Follows a client through all ways.
pub(crate) fn follow<'stage, C: Client>(stages: &'stage [(Way, Stage)], words: &Words, client: impl Fn(&'stage Stage) -> C) {
    for (way, stage) in stages {
        println!("--- {way:?}");
        one(stage, &client(stage), words, words.without_tokens.filter(|_| *way == Way::Password));
    }
}

fn one(stage: &Stage, client: &dyn Client, words: &Words, without_login: Option<&[&str]>) {
    let pull_of_public = |what: &str| match without_login {
        None => went_well(what, &client.pull("public/app")),
        Some(words) => refused(what, &client.pull("public/app"), words),
    };
    went_well("the owner logs in", &client.login(OWNER.0, OWNER.1));
    for repository in ["public/app", "base/app", "secret/app"] {
        went_well("the owner fills it", &client.push(repository, TAG));
    }
    client.logout();

    pull_of_public("a pull of what is public, without a login");
    refused("what is not public, without a login", &client.pull("base/app"), words.unknown);
    let (name, password) = &stage.login;
    refused("a wrong password", &client.login(name, "wrong"), words.wrong);
    client.logout();

    went_well("the right password", &client.login(name, password));
    went_well("a push", &client.push("team/app", TAG));
    assert_eq!(stage.status_of("team/app", TAG), 200);
    went_well("a pull of what was pushed", &client.pull("team/app"));
    went_well("a pull", &client.pull("base/app"));
    refused("a push to where only pulls are allowed", &client.push("base/app", "2.0.0"), words.denied);
    assert_eq!(stage.status_of("base/app", "2.0.0"), 404);
    refused("a pull of what one may not see", &client.pull("secret/app"), words.hidden);
    refused("a pull of what is not there", &client.pull("secret/nothing"), words.hidden);
    client.logout();

    refused("a pull after the logout", &client.pull("team/app"), words.unknown);
    pull_of_public("a pull of what is public, after the logout");
}

pub(crate) fn went_well(what: &str, output: &Output) {
    assert!(output.status.success(), "{what}: {}\n{}", output.status, said(output));
}

pub(crate) fn refused(what: &str, output: &Output, words: &[&str]) {
    let said = said(output);
    assert!(!output.status.success(), "{what} was not refused:\n{said}");
    println!("{what}: {}", said.trim());
    let lower = said.to_lowercase();
    assert!(words.iter().any(|word| lower.contains(word)), "{what}: none of {words:?} is in\n{said}");
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// Runs one after another, as long as all goes well; the last output is the output.
pub(crate) fn all<const N: usize>(commands: [&mut Command; N]) -> Output {
    let mut last = None;
    for command in commands {
        let output = output(command);
        let is_over = !output.status.success();
        last = Some(output);
        if is_over {
            break;
        }
    }
    last.expect("there is a command")
}
