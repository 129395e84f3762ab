//! Repositories elsewhere: real ones, reached in every way that git has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use promotion::{
    Branch, Cache, Edit, Image, Intent, Kustomization, LandError, Login, Outcome, Program, Remote, Signature, Write,
};
use telemetry::{Clock, SystemClock};

pub(crate) const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
pub(crate) const FILE: &str = "k8s/overlays/prod/kustomization.yaml";

/// The overlay of the first pipeline, before a script cut it in two.
pub(crate) const OVERLAY: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: tinybird

bases:
  - ../../base

images:
  - name: tinybirdco/tinybird-local
    newTag: latest
  - name: ghost/traffic-analytics
    newTag: latest  # by the build

patchesStrategicMerge:
  - resource-limits.yaml
";

/// The patch that it names.
pub(crate) const LIMITS: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: tinybird
spec:
  template:
    spec:
      containers:
        - name: main
          resources: {limits: {memory: 2Gi}}
";

pub(crate) fn deployment(name: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n  template:\n    spec:\n      containers:\n        - name: main\n          image: {image}\n"
    )
}

/// A bare repository with the overlay in it, and what that is built of.
pub(crate) struct Bare {
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").output();
    let output = output.unwrap_or_else(|error| panic!("git is missing: run tests/tools/install ({error})"));
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Bare {
    pub(crate) fn new() -> Self {
        let bare = Self { folder: tempfile::tempdir().unwrap() };
        git(bare.folder.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "repo.git"]);
        let (tinybird, analytics) = (
            deployment("tinybird", "tinybirdco/tinybird-local:latest"),
            deployment("analytics", "ghost/traffic-analytics:latest"),
        );
        let files = [
            (FILE, OVERLAY),
            ("k8s/base/kustomization.yaml", "resources: [tinybird.yaml, analytics.yaml]\n"),
            ("k8s/base/tinybird.yaml", &tinybird),
            ("k8s/base/analytics.yaml", &analytics),
            ("k8s/overlays/prod/resource-limits.yaml", LIMITS),
        ];
        bare.human("first", &files);
        bare
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("repo.git")
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.path(), arguments)
    }

    /// Somebody commits these files, with a clone of his own; again where others were faster.
    pub(crate) fn human(&self, message: &str, files: &[(&str, &str)]) {
        for _ in 0..100 {
            let clone = tempfile::tempdir().unwrap();
            git(clone.path(), &["clone", "--quiet", &self.url(), "."]);
            for (path, text) in files {
                let path = clone.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            git(clone.path(), &["add", "--all"]);
            git(clone.path(), &["-c", "user.name=human", "-c", "user.email=h@h", "commit", "--quiet", "-m", message]);
            let push =
                Command::new("git").args(["push", "--quiet", "origin", "HEAD:main"]).current_dir(clone.path()).output().unwrap();
            if push.status.success() {
                return;
            }
        }
        panic!("the human never got a commit in");
    }

    /// Another overlay, of the same base.
    pub(crate) fn overlay(&self, name: &str) {
        let folder = format!("k8s/overlays/{name}");
        self.human(
            name,
            &[(&format!("{folder}/kustomization.yaml"), OVERLAY), (&format!("{folder}/resource-limits.yaml"), LIMITS)],
        );
    }

    pub(crate) fn file(&self, path: &str) -> String {
        self.git(&["show", &format!("main:{path}")])
    }

    /// Subjects of all commits, the first one first.
    pub(crate) fn log(&self) -> Vec<String> {
        self.git(&["log", "--reverse", "--format=%s", "main"]).lines().map(str::to_owned).collect()
    }

    pub(crate) fn is_linear(&self) -> bool {
        self.git(&["log", "--format=%P", "main"]).lines().all(|parents| parents.split(' ').count() == 1)
    }
}

/// One server that promotes into a repository.
pub(crate) struct Promoter {
    pub(crate) branch: Branch,
    /// Signs the commits.
    pub(crate) key: Option<PathBuf>,
    _folder: tempfile::TempDir,
}

impl Promoter {
    pub(crate) async fn new(url: &str, login: Login, program: &Path, limit: Duration) -> Self {
        let remote = Remote::new(url, "main", login).unwrap();
        Self::of(remote, program, limit).await
    }

    pub(crate) async fn of(remote: Remote, program: &Path, limit: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let search = std::env::var_os("PATH").unwrap();
        let program = Program::new(program.to_owned(), search, limit, Arc::clone(&clock));
        let cache = Cache::new(program, folder.path().join("cache"), remote).await.unwrap();
        Self { branch: Branch::new(cache, clock, jobs::Random::from_system()), key: None, _folder: folder }
    }

    /// Where the branch is.
    pub(crate) async fn ask(&self) -> Option<promotion::Commit> {
        let promotion::Backing::Git(cache) = self.branch.backing() else { panic!("it is git") };
        cache.ask().await.unwrap()
    }

    pub(crate) async fn plain(url: &str) -> Self {
        Self::new(url, Login::Nobody, Path::new("git"), Duration::from_secs(30)).await
    }

    pub(crate) async fn promote(&self, intents: &[Intent]) -> Result<Vec<Outcome>, LandError> {
        let by = || Signature {
            name: "roadstead".to_owned(),
            email: "roadstead@localhost".to_owned(),
            at: 1_771_200_000,
            key: self.key.clone(),
        };
        let message = |changed: &[promotion::Changed<'_>]| {
            let tags: Vec<&str> = changed.iter().filter_map(|change| change.after.tag.as_deref()).collect();
            format!("promote {}\n", tags.join(" "))
        };
        self.branch.land(intents, message, by).await
    }
}

pub(crate) fn intent(image: &str, tag: &str) -> Intent {
    Intent {
        path: "k8s/overlays/prod".to_owned(),
        edit: Edit::Kustomization(Kustomization { image: image.to_owned(), new_name: None, write: Write::Tag }),
        image: Image { tag: oci::Tag::parse(tag).unwrap(), digest: oci::Digest::parse(DIGEST).unwrap() },
        over: None,
        is_validated: false,
    }
}
