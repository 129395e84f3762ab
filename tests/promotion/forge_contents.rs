//! The part of the small forge that reads files and makes commits, over a real bare repository.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

type Answer = Option<(u16, String)>;

/// What git says, or nothing if it fails.
fn git(folder: &Path, arguments: &[&str], input: &[u8], environment: &[(&str, &str)]) -> Option<String> {
    use std::io::Write as _;
    let mut command = Command::new("git");
    command.args(arguments).current_dir(folder).envs(environment.iter().copied());
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn tip(folder: &Path, branch: &str) -> Option<String> {
    git(folder, &["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")], b"", &[])
}

fn refused(status: u16, message: &str) -> (u16, String) {
    (status, json!({ "message": message }).to_string())
}

/// A tree on that of `parent` with these blobs, which keep the modes that they have unless one is given.
fn tree(folder: &Path, parent: &str, files: &[(String, String)], mode: Option<&str>) -> String {
    let index = tempfile::tempdir().unwrap();
    let path = index.path().join("index").display().to_string();
    let own = [("GIT_INDEX_FILE", path.as_str())];
    git(folder, &["read-tree", parent], b"", &own).unwrap();
    for (path, blob) in files {
        let there = git(folder, &["ls-tree", parent, "--", path], b"", &[]).unwrap_or_default();
        let mode = mode.or(there.split(' ').next().filter(|mode| !mode.is_empty())).unwrap_or("100644");
        git(folder, &["update-index", "--add", "--cacheinfo", &format!("{mode},{blob},{path}")], b"", &own).unwrap();
    }
    git(folder, &["write-tree"], b"", &own).unwrap()
}

fn commit(folder: &Path, parent: &str, tree: &str, message: &str, who: (&str, &str)) -> String {
    let (name, email) = who;
    let own =
        [("GIT_AUTHOR_NAME", name), ("GIT_AUTHOR_EMAIL", email), ("GIT_COMMITTER_NAME", name), ("GIT_COMMITTER_EMAIL", email)];
    git(folder, &["commit-tree", tree, "-p", parent, "-m", message], b"", &own).unwrap()
}

fn blob(folder: &Path, base64: &str) -> String {
    git(folder, &["hash-object", "-w", "--stdin"], &STANDARD.decode(base64).unwrap(), &[]).unwrap()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// Moves a branch; `false` if somebody else was faster.
fn moved(folder: &Path, branch: &str, to: &str, from: Option<&str>) -> bool {
    let reference = format!("refs/heads/{branch}");
    let arguments: Vec<&str> = ["update-ref", &reference, to].into_iter().chain(from).collect();
    git(folder, &arguments, b"", &[]).is_some()
}

/// Somebody changes the place that a promotion writes, at once.
pub(crate) fn meddle(folder: &Path) {
    let parent = tip(folder, "main").unwrap();
    let path = crate::forge::FILE;
    let there = git(folder, &["show", &format!("{parent}:{path}")], b"", &[]).unwrap() + "\n";
    let mine = there.replace("newTag: v1", "newTag: mine");
    assert_ne!(mine, there);
    let files = [(path.to_owned(), blob(folder, &STANDARD.encode(mine)))];
    let made = commit(folder, &parent, &tree(folder, &parent, &files, None), "mine", ("h", "h@h"));
    assert!(moved(folder, "main", &made, Some(&parent)));
}

/// The answer to a request below the repository, if it is of this part.
pub(crate) fn answer(kind: &str, method: &str, rest: &str, query: &str, body: &Value, folder: &Path) -> Answer {
    let decoded = rest.replace("%2F", "/");
    match (kind, method) {
        (_, "GET") => read(kind, &decoded, query, folder),
        ("gitea" | "old gitea", "POST") if rest == "contents" => Some(gitea(body, folder, kind != "gitea")),
        ("gitlab", "POST") if rest == "repository/commits" => Some(gitlab(body, folder)),
        ("github", "POST" | "PATCH") => github(method, rest, body, folder),
        _ => None,
    }
}

fn read(kind: &str, path: &str, query: &str, folder: &Path) -> Answer {
    if let Some(branch) = path.strip_prefix("branches/").or_else(|| path.strip_prefix("repository/branches/")) {
        return match tip(folder, branch) {
            Some(tip) => Some((200, json!({ "name": branch, "commit": { "id": tip } }).to_string())),
            None => Some(refused(404, "no such branch")),
        };
    }
    if let Some(branch) = path.strip_prefix("git/ref/heads/") {
        return match tip(folder, branch) {
            Some(tip) => Some((200, json!({ "object": { "sha": tip } }).to_string())),
            None => Some(refused(404, "no such reference")),
        };
    }
    if path == "commits" || path == "repository/commits" {
        let all = git(folder, &["log", "--format=%H", "-50", "main"], b"", &[])?;
        let shown = |name: &str| {
            let text = git(folder, &["log", "-1", "--format=%B", name], b"", &[]).unwrap();
            json!({ "sha": name, "id": name, "message": text, "commit": { "message": text } })
        };
        let all: Vec<Value> = all.lines().map(shown).collect();
        return Some((200, json!(all).to_string()));
    }
    if let Some(tree) = path.strip_prefix("git/trees/") {
        let listed = git(folder, &["ls-tree", tree], b"", &[])?;
        let entry = |line: &str| {
            let (about, path) = line.split_once('\t').unwrap();
            let [mode, kind, sha] = about.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            json!({ "path": path, "mode": mode, "type": kind, "sha": sha })
        };
        return Some((200, json!({ "tree": listed.lines().map(entry).collect::<Vec<_>>(), "truncated": false }).to_string()));
    }
    if let Some(blob) = path.strip_prefix("git/blobs/") {
        return Some((200, json!({ "content": content_of(folder, blob), "encoding": "base64", "sha": blob }).to_string()));
    }
    // GitHub follows links there, and tells no mode.
    let file = path.strip_prefix("contents/").filter(|_| kind != "github").or_else(|| path.strip_prefix("repository/files/"))?;
    let at = query.strip_prefix("ref=")?;
    let entry = git(folder, &["ls-tree", at, "--", file], b"", &[]).unwrap_or_default();
    let Some((about, _)) = entry.split_once('\t') else { return Some(refused(404, "no such file")) };
    let [mode, _, sha] = about.split(' ').collect::<Vec<_>>()[..] else { return Some(refused(500, "ls-tree")) };
    let content = content_of(folder, sha);
    let last = git(folder, &["log", "-1", "--format=%H", at, "--", file], b"", &[])?;
    let kind_of = if mode == "120000" { "symlink" } else { "file" };
    let mut shown = json!({ "content": content, "encoding": "base64", "sha": sha, "last_commit_id": last });
    if kind != "gitlab" {
        shown["type"] = json!(kind_of);
    }
    Some((200, shown.to_string()))
}

/// The bytes of a blob; GitHub breaks the lines.
fn content_of(folder: &Path, blob: &str) -> String {
    let bytes = Command::new("git").args(["cat-file", "blob", blob]).current_dir(folder).output().unwrap().stdout;
    STANDARD.encode(&bytes).as_bytes().chunks(60).map(|line| String::from_utf8_lossy(line) + "\n").collect()
}

fn gitea(body: &Value, folder: &Path, is_old: bool) -> (u16, String) {
    let branch = text(body, "branch");
    let Some(parent) = tip(folder, branch) else { return refused(404, "no such branch") };
    let mut files = Vec::new();
    for file in body["files"].as_array().unwrap() {
        let path = text(file, "path");
        let there = git(folder, &["rev-parse", "--verify", "--quiet", &format!("{parent}:{path}")], b"", &[]);
        if there.as_deref() != Some(text(file, "sha")) {
            return refused(422, "sha does not match");
        }
        files.push((path.to_owned(), blob(folder, text(file, "content"))));
    }
    let who = (text(&body["author"], "name"), text(&body["author"], "email"));
    let made = commit(folder, &parent, &tree(folder, &parent, &files, None), text(body, "message"), who);
    let (target, from) = match body["new_branch"].as_str() {
        // Before 1.26 it knows no force.
        Some(new) if tip(folder, new).is_some() && (is_old || body["force_push"] != true) => {
            return refused(422, "the branch exists");
        }
        Some(new) => (new, None),
        None => (branch, Some(parent.as_str())),
    };
    if moved(folder, target, &made, from) {
        (201, json!({ "commit": { "sha": made } }).to_string())
    } else {
        refused(409, "moved")
    }
}

fn gitlab(body: &Value, folder: &Path) -> (u16, String) {
    let start = body["start_branch"].as_str().unwrap_or_else(|| text(body, "branch"));
    let Some(parent) = tip(folder, start) else { return refused(404, "no such branch") };
    let mut files = Vec::new();
    for action in body["actions"].as_array().unwrap() {
        let path = text(action, "file_path");
        let last = git(folder, &["log", "-1", "--format=%H", &parent, "--", path], b"", &[]);
        if last.as_deref() != Some(text(action, "last_commit_id")) {
            return refused(400, "You are attempting to update a file that has changed since you started editing it.");
        }
        files.push((path.to_owned(), blob(folder, text(action, "content"))));
    }
    let who = (text(body, "author_name"), text(body, "author_email"));
    let made = commit(folder, &parent, &tree(folder, &parent, &files, None), text(body, "commit_message"), who);
    let from = (body["force"] != true).then_some(parent.as_str());
    if moved(folder, text(body, "branch"), &made, from) {
        (201, json!({ "id": made }).to_string())
    } else {
        refused(400, "moved")
    }
}

fn github(method: &str, rest: &str, body: &Value, folder: &Path) -> Answer {
    let shown = |sha: &str| Some((201, json!({ "sha": sha }).to_string()));
    match (method, rest) {
        ("POST", "git/blobs") => shown(&blob(folder, text(body, "content"))),
        ("POST", "git/trees") => {
            let entries = body["tree"].as_array().unwrap().iter();
            let files: Vec<_> = entries.map(|entry| (text(entry, "path").to_owned(), text(entry, "sha").to_owned())).collect();
            shown(&tree(folder, text(body, "base_tree"), &files, body["tree"][0]["mode"].as_str()))
        }
        ("POST", "git/commits") => {
            let who = (text(&body["author"], "name"), text(&body["author"], "email"));
            let parent = body["parents"][0].as_str().unwrap();
            shown(&commit(folder, parent, text(body, "tree"), text(body, "message"), who))
        }
        ("POST", "git/refs") => {
            let branch = text(body, "ref").strip_prefix("refs/heads/")?.to_owned();
            if tip(folder, &branch).is_some() {
                return Some(refused(422, "Reference already exists"));
            }
            moved(folder, &branch, text(body, "sha"), None).then(|| shown(text(body, "sha")))?
        }
        ("PATCH", path) => {
            let branch = path.strip_prefix("git/refs/heads/")?;
            let Some(now) = tip(folder, branch) else { return Some(refused(422, "Reference does not exist")) };
            let sha = text(body, "sha");
            let is_forward = git(folder, &["merge-base", "--is-ancestor", &now, sha], b"", &[]).is_some();
            if !is_forward && body["force"] != true {
                return Some(refused(422, "Update is not a fast forward"));
            }
            if moved(folder, branch, sha, Some(&now)) { shown(sha) } else { Some(refused(422, "moved")) }
        }
        _ => None,
    }
}
