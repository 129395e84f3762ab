//! A real Gitea, with the `GitOps` repository in it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::buckets::{port, tool};
use crate::forge::{Bare, FILE};
use crate::server::until;

/// The server, which ends with its test, and an account that may do everything.
pub(crate) struct Gitea {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) url: String,
    pub(crate) token: String,
    process: Child,
    client: Client,
}

impl Gitea {
    /// Starts it with the repository `team/infra`, which has the files of [`Bare`].
    pub(crate) fn start() -> Self {
        let (folder, program, port) = (tempfile::tempdir().unwrap(), fs::canonicalize(tool("gitea")).unwrap(), port());
        let url = format!("http://127.0.0.1:{port}");
        let settings = format!(
            "APP_NAME = forge\nRUN_MODE = prod\nRUN_USER = root\nI_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true\nWORK_PATH = {0}\n\
             [server]\nHTTP_ADDR = 127.0.0.1\nHTTP_PORT = {port}\nROOT_URL = {url}/\nDISABLE_SSH = true\nOFFLINE_MODE = true\n\
             STATIC_ROOT_PATH = {1}\n[database]\nDB_TYPE = sqlite3\nPATH = {0}/gitea.db\n[security]\nINSTALL_LOCK = true\n\
             [webhook]\nALLOWED_HOST_LIST = loopback\n[cron]\nENABLED = false\n[log]\nLEVEL = Warn\n",
            folder.path().display(),
            program.with_file_name("static").display(),
        );
        let configuration = folder.path().join("app.ini");
        fs::write(&configuration, settings).unwrap();
        let gitea = || {
            let mut command = Command::new(&program);
            command.arg("--config").arg(&configuration).current_dir(folder.path()).env("HOME", folder.path());
            command.env("GIT_CONFIG_NOSYSTEM", "1").stdin(Stdio::null());
            command
        };
        let told = |arguments: &[&str]| {
            let output = gitea().args(arguments).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "gitea {arguments:?}: {text}");
            text
        };
        told(&["migrate"]);
        let user = ["admin", "user", "create", "--username", "team", "--password", "t-e-a-m-1", "--email", "team@example.org"];
        let rights = ["--admin", "--must-change-password=false", "--access-token", "--access-token-scopes", "all"];
        let said = told(&[user.as_slice(), &rights].concat());
        let token = said.rsplit("created... ").next().unwrap().trim().to_owned();
        assert_eq!(token.len(), 40, "{said}");
        let log = fs::File::create(folder.path().join("gitea.log")).unwrap();
        let process = gitea().arg("web").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let builder = Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap());
        let client = builder.no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let gitea = Self { folder, url, token, process, client };
        until("gitea listens", || gitea.client.get(format!("{}/api/v1/version", gitea.url)).send().ok());
        gitea.fill();
        gitea
    }

    fn fill(&self) {
        let made = json!({ "name": "infra", "default_branch": "main", "private": true });
        self.ask("POST", "user/repos", &made, 201);
        let bare = Bare::new();
        let url = self.url.replace("//", &format!("//team:{}@", self.token));
        bare.git(&["push", "--quiet", &format!("{url}/team/infra.git"), "main:main"]);
    }

    /// What its API answers, which must have this status.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let mut answered = self.once(method, path, body);
        // On a machine with much to do it panics now and then while it reads what was pushed a moment ago; asked again it is well.
        for _ in 0..20 {
            if method != "GET" || answered.0 != 500 || !answered.1.contains("PANIC") {
                break;
            }
            std::thread::sleep(Duration::from_millis(250));
            answered = self.once(method, path, body);
        }
        let (found, text) = answered;
        assert_eq!(found, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn once(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}/api/v1/{path}", self.url));
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.header("authorization", format!("token {}", self.token)).send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    }

    /// The same below the repository.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", &format!("repos/team/infra{path}"), &Value::Null, 200)
    }

    pub(crate) fn tell(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        self.ask(method, &format!("repos/team/infra{path}"), body, status)
    }

    pub(crate) fn clone_url(&self) -> String {
        format!("{}/team/infra.git", self.url)
    }

    /// `git` and `forge` of a promotion, with a token that may be another one.
    pub(crate) fn section(&self, folder: &std::path::Path, token: &str) -> String {
        let file = folder.join("gitea-token");
        fs::write(&file, token).unwrap();
        let (url, file) = (self.clone_url(), file.display());
        format!("git = {{ url = \"{url}\", token_file = \"{file}\" }}\nforge = {{ kind = \"gitea\" }}\n")
    }

    pub(crate) fn tip(&self) -> String {
        self.get("/branches/main")["commit"]["id"].as_str().unwrap().to_owned()
    }

    /// Subjects of all commits, the first one first.
    pub(crate) fn log(&self) -> Vec<String> {
        let commits = self.get("/commits?sha=main&limit=50&stat=false&files=false&verification=false");
        let subject = |commit: &Value| commit["commit"]["message"].as_str().unwrap().lines().next().unwrap().to_owned();
        commits.as_array().unwrap().iter().rev().map(subject).collect()
    }

    /// The overlay at a branch.
    pub(crate) fn overlay(&self, branch: &str) -> String {
        let path = format!("repos/team/infra/raw/{FILE}?ref={branch}");
        let answer = self.client.get(format!("{}/api/v1/{path}", self.url));
        let answer = answer.header("authorization", format!("token {}", self.token)).send().unwrap();
        answer.text().unwrap()
    }

    /// Somebody writes a file in the browser.
    pub(crate) fn human(&self, path: &str, text: &str) {
        use base64::Engine as _;
        let content = base64::engine::general_purpose::STANDARD.encode(text);
        let place = format!("/contents/{path}");
        let sha = self.client.get(format!("{}/api/v1/repos/team/infra{place}?ref=main", self.url));
        let there = sha.header("authorization", format!("token {}", self.token)).send().unwrap();
        let there: Value = there.json().unwrap();
        let (method, status) = if there["sha"].is_string() { ("PUT", 200) } else { ("POST", 201) };
        let mut body = json!({ "content": content, "branch": "main", "message": format!("human: {path}") });
        if there["sha"].is_string() {
            body["sha"] = there["sha"].clone();
        }
        self.tell(method, &place, &body, status);
    }
}

impl Drop for Gitea {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("gitea.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of gitea's log:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"));
        }
    }
}
