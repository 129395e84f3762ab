//! Running the conformance suite's program and reading its verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::process::{Place, output};

/// Every switch that the suite has for interfaces and data.
const SWITCHES: [&str; 31] = [
    "API_PING",
    "API_PULL",
    "API_PUSH",
    "API_REFERRER",
    "API_BLOBS_ATOMIC",
    "API_BLOBS_DELETE",
    "API_BLOBS_DIGEST_HEADER",
    "API_BLOBS_MOUNT_ANONYMOUS",
    "API_BLOBS_UPLOAD_CANCEL",
    "API_MANIFESTS_ATOMIC",
    "API_MANIFESTS_DELETE",
    "API_MANIFESTS_DIGEST_HEADER",
    "API_MANIFESTS_TAG_PARAM",
    "API_TAGS_ATOMIC",
    "API_TAGS_DELETE",
    "API_TAGS_LIST",
    "DATA_IMAGE",
    "DATA_INDEX",
    "DATA_INDEX_LIST",
    "DATA_SPARSE",
    "DATA_ARTIFACT",
    "DATA_ARTIFACT_LIST",
    "DATA_SUBJECT",
    "DATA_SUBJECT_MISSING",
    "DATA_SUBJECT_LIST",
    "DATA_DATA_FIELD",
    "DATA_NONDISTRIBUTABLE",
    "DATA_CUSTOM_FIELDS",
    "DATA_NO_LAYERS",
    "DATA_EMPTY_BLOB",
    "DATA_SHA512",
];

/// A run of the suite to be.
pub(crate) struct Suite {
    settings: BTreeMap<String, String>,
    results: PathBuf,
}

impl Suite {
    /// A run with everything on, against a server without TLS.
    pub(crate) fn new(registry: &str, results: &Path) -> Self {
        std::fs::create_dir_all(results).expect("the directory can be made");
        let on = SWITCHES.iter().map(|switch| (format!("OCI_{switch}"), "true".to_owned())).collect();
        Self { settings: on, results: results.to_owned() }
            .with("OCI_REGISTRY", registry)
            .with("OCI_TLS", "disabled")
            .with("OCI_VERSION", "dev")
            .with("OCI_REPO1", "conformance/one")
            .with("OCI_REPO2", "conformance/two")
            .with("OCI_LOG", "error")
            .with("OCI_RESULTS_DIR", &results.display().to_string())
    }

    /// Sets a variable of the program's environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Turns switches off.
    pub(crate) fn without(self, switches: &[&str]) -> Self {
        switches.iter().fold(self, |suite, switch| suite.with(&format!("OCI_{switch}"), "false"))
    }

    /// Runs the program to its end.
    pub(crate) fn run(self) -> Verdict {
        let program = std::env::var_os("ROADSTEAD_CONFORMANCE").map(PathBuf::from);
        let program = program.expect("ROADSTEAD_CONFORMANCE is the path of the suite's program");
        let mut command = Place::default().program(&program);
        command.current_dir(&self.results).envs(&self.settings);
        let output = output(&mut command);
        let [summary, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        // Without pushes the suite stops with an error of its own after its summary, and leaves no report.
        let report = std::fs::read_to_string(self.results.join("junit.xml")).ok();
        Verdict { summary, report, stderr }
    }
}

/// What the suite found.
pub(crate) struct Verdict {
    summary: String,
    report: Option<String>,
    /// What it printed as it went.
    pub(crate) stderr: String,
}

impl Verdict {
    /// Expects no failure, no error and no skip, and at least so many passes.
    pub(crate) fn expect_clean(&self, what: &str, enough: usize) {
        let [passed, failed, errors, skipped, off] = ["Pass", "FAIL", "Error", "Skip", "Disabled"].map(|name| self.count(name));
        let counts = format!("{passed} passed, {failed} failed, {errors} errors, {skipped} skipped, {off} off");
        println!("conformance, {what}: {counts}");
        assert!(failed + errors + skipped == 0, "{counts}\n{}", self.troubles());
        assert!(passed >= enough, "only {counts}");
    }

    /// Expects that the suite has sent something, as its report has it.
    pub(crate) fn expect_sent(&self, header: &str) {
        let report = self.report.as_ref().expect("there is a report");
        assert!(report.contains(header), "{header} was not sent");
    }

    /// A line of the summary, as in `Pass..........:    12`.
    fn count(&self, status: &str) -> usize {
        let (_, counts) = self.summary.split_once("OCI Conformance Result:").unwrap_or_else(|| panic!("{}", self.stderr));
        let line = counts.lines().find(|line| line.trim_start().starts_with(&format!("{status}.")));
        let count = line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse().ok());
        count.expect("the summary counts every status")
    }

    /// The first cases that did not pass, with what was wrong and, when there is a report, the end of their log.
    fn troubles(&self) -> String {
        let Some(report) = &self.report else {
            return self.summary.lines().filter(|line| !line.ends_with(": Pass")).take(200).collect::<Vec<_>>().join("\n");
        };
        let cases = report.split("<testcase ").skip(1);
        let troubled = cases.filter(|case| !matches!(attribute(case, "status"), Some("passed")));
        troubled.take(40).map(describe).collect()
    }
}

fn describe(case: &str) -> String {
    let name = attribute(case, "name").unwrap_or_default();
    let status = attribute(case, "status").unwrap_or_default();
    let wrong = element(case, "system-out");
    let log = element(case, "system-err");
    let lines: Vec<_> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(30)..].join("\n    ");
    format!("{status}: {name}\n  {wrong}\n    {tail}\n")
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

fn element(case: &str, name: &str) -> String {
    let text = case.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once("</")).map_or("", |(text, _)| text);
    let marks = [("&#xA;", "\n"), ("&#x9;", "\t"), ("&#34;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    marks.iter().fold(text.to_owned(), |text, (mark, sign)| text.replace(mark, sign))
}
