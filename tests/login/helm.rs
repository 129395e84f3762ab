//! helm keeps charts in a registry.

use std::process::Output;

use crate::stage::{Stage, Way};
use crate::story::{Client, TAG, Words, all, follow};
use crate::support::process::output;

#[test]
fn helm_logs_in() {
    follow(&Way::stages(), &Words::PLAIN, Helm);
}

/// helm is told the authority with each command. A repository is a folder and the chart's name, its tag the chart's version.
struct Helm<'stage>(&'stage Stage);

impl Helm<'_> {
    fn ca(&self) -> String {
        self.0.authority.display().to_string()
    }
}

impl Client for Helm<'_> {
    fn login(&self, name: &str, password: &str) -> Output {
        let login = ["registry", "login", &self.0.host(), "--ca-file", &self.ca(), "--username", name, "--password", password];
        output(self.0.client("helm").args(login))
    }

    fn logout(&self) {
        output(self.0.client("helm").args(["registry", "logout", &self.0.host()]));
    }

    fn push(&self, repository: &str, tag: &str) -> Output {
        let (folder, chart) = repository.rsplit_once('/').expect("a repository in a folder");
        self.0.write("chart/Chart.yaml", &format!("apiVersion: v2\nname: {chart}\nversion: {tag}\n"));
        self.0.write("chart/templates/note.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: note\n");
        let (package, url) = (format!("{chart}-{tag}.tgz"), format!("oci://{}", self.0.name(folder)));
        all([
            self.0.client("helm").args(["package", "chart"]),
            self.0.client("helm").args(["push", &package, &url, "--ca-file", &self.ca()]),
        ])
    }

    fn pull(&self, repository: &str) -> Output {
        let url = format!("oci://{}", self.0.name(repository));
        std::fs::create_dir_all(self.0.path("pulled")).expect("a directory can be made");
        output(self.0.client("helm").args(["pull", &url, "--version", TAG, "--ca-file", &self.ca(), "--destination", "pulled"]))
    }
}
