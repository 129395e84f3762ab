//! Commits of real repositories.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use roadstead_promotion::{Cache, EntryKind, File, Login, Program, Remote, Scope, of_commit, of_tip};
use telemetry::SystemClock;

use crate::files::{deployment, names, shown};

/// A bare repository with files in it.
pub(crate) struct Bare(tempfile::TempDir);

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Bare {
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Self {
        let bare = Self(tempfile::tempdir().unwrap());
        git(bare.0.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "repo.git"]);
        git(bare.0.path(), &["clone", "--quiet", "repo.git", "work"]);
        bare.commit(files);
        bare
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.0.path().join("repo.git").display())
    }

    fn work(&self) -> std::path::PathBuf {
        self.0.path().join("work")
    }

    fn commit(&self, files: &[(&str, &[u8])]) {
        for (path, bytes) in files {
            let path = self.work().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        git(&self.work(), &["add", "--all"]);
        git(&self.work(), &["-c", "user.name=h", "-c", "user.email=h@h", "commit", "--quiet", "-m", "x"]);
        git(&self.work(), &["push", "--quiet", "origin", "HEAD:main"]);
    }

    async fn cache(&self) -> Cache {
        let search = std::env::var_os("PATH").unwrap();
        let clock = Arc::new(SystemClock::default());
        let program = Program::new("git".into(), search, Duration::from_mins(1), clock);
        let remote = Remote::new(&self.url(), "main", Login::Nobody).unwrap();
        Cache::new(program, self.0.path().join("cache"), remote).await.unwrap()
    }
}

#[tokio::test]
async fn all_that_a_commit_has_is_listed_and_many_files_are_read_at_once() {
    let large = vec![b'x'; (1 << 20) + 1];
    let odd = "a \"b\"\té\n.yaml";
    let bare =
        Bare::new(&[("a/run", b"#!"), ("a/empty", b""), (odd, b"odd\n\n"), ("large.yaml", &large), ("z.bin", &[0, 10, 255])]);
    std::os::unix::fs::symlink("run", bare.work().join("a/link")).unwrap();
    git(&bare.work(), &["update-index", "--chmod=+x", "a/run"]);
    fs::set_permissions(bare.work().join("a/run"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let commit = "0123456789012345678901234567890123456789";
    git(&bare.work(), &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
    fs::create_dir(bare.work().join("sub")).unwrap();
    bare.commit(&[]);
    let cache = bare.cache().await;
    let tip = cache.fetch().await.unwrap();
    let entries = cache.list(&tip).await.unwrap().unwrap();
    let kinds: Vec<(&str, EntryKind, u64)> = entries.iter().map(|entry| (entry.path.as_str(), entry.kind, entry.size)).collect();
    let expected = [
        (odd, EntryKind::File, 5),
        ("a/empty", EntryKind::File, 0),
        ("a/link", EntryKind::Link, 3),
        ("a/run", EntryKind::Program, 2),
        ("large.yaml", EntryKind::File, (1 << 20) + 1),
        ("sub", EntryKind::Submodule, 0),
        ("z.bin", EntryKind::File, 3),
    ];
    assert_eq!(kinds, expected);
    let all: Vec<_> = entries.iter().collect();
    let files = cache.read_many(&all, 64 << 20).await.unwrap();
    let bytes = |text: &[u8]| Some(text.to_vec());
    assert_eq!(files, [bytes(b"odd\n\n"), bytes(b""), None, bytes(b"#!"), None, None, bytes(&[0, 10, 255])]);
    assert_eq!(cache.read_many(&all, 6).await.unwrap()[6], None, "there is a limit for all together");
    assert_eq!(cache.read_many(&[], 6).await.unwrap(), Vec::<Option<Vec<u8>>>::new());
}

#[tokio::test]
async fn more_than_one_answer_of_git_can_hold_is_read_in_several() {
    let files: Vec<(String, Vec<u8>)> =
        (0..20).map(|number| (format!("{number:02}.yaml"), vec![b'0' + number; 1 << 20])).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let cache = Bare::new(&files);
    let cache = (cache.cache().await, cache);
    let tip = cache.0.fetch().await.unwrap();
    let entries = cache.0.list(&tip).await.unwrap().unwrap();
    let read = cache.0.read_many(&entries.iter().collect::<Vec<_>>(), 64 << 20).await.unwrap();
    assert!(read.iter().zip(&files).all(|(read, (_, bytes))| read.as_deref() == Some(bytes)));
}

#[tokio::test]
async fn a_tip_is_looked_at_whole_and_by_folder() {
    let manifest = deployment("x", "registry.example.org/micro/app:v1");
    let large = [b"a: '".as_slice(), &vec![b'x'; 1 << 20], b"'\n"].concat();
    let bare = Bare::new(&[
        ("base/kustomization.yaml", b"resources: [x.yaml]\n"),
        ("base/x.yaml", manifest.as_bytes()),
        ("k/kustomization.yaml", b"resources: [../base, none.yaml]\n"),
        ("other/large.yaml", &large),
        ("other/broken.yaml", b"a: [\n"),
    ]);
    let cache = bare.cache().await;
    let tip = cache.fetch().await.unwrap();
    let k = of_tip(&cache, &tip, &Scope::Folder("k".to_owned()), &names()).await.unwrap();
    let missing = "k/kustomization.yaml:1: resources names none.yaml, and there is no k/none.yaml in the repository";
    assert_eq!(shown(&k), [missing]);
    assert_eq!((k.kustomizations, k.manifests, k.wanted.len()), (2, 1, 1));
    let all = of_tip(&cache, &tip, &Scope::All, &names()).await.unwrap();
    let shown = shown(&all);
    assert!(
        matches!(&shown[..], [one, two, three] if one == missing && two.starts_with("other/broken.yaml:1: is not YAML")
            && three == "other/large.yaml: is too large to be looked at"),
        "{shown:#?}"
    );
}

#[tokio::test]
async fn a_commit_into_a_folder_that_would_not_build_is_told_before_it_is_made() {
    let manifest = deployment("x", "app:v1");
    let (good, bad) = ("resources: [x.yaml]\nimages:\n- name: app\n  newTag: v1\n", "resources: [none.yaml]\n");
    let bare = Bare::new(&[
        ("k/kustomization.yaml", good.as_bytes()),
        ("k/x.yaml", manifest.as_bytes()),
        ("bad/kustomization.yaml", bad.as_bytes()),
        ("odd/kustomization.yaml", b"resources: [../k]\nimages: [{name: app}, {name: app}]\n"),
        ("chart/values.yaml", b"image: {tag: v1}\n"),
        ("chart/broken.yaml", b"a: [\n"),
    ]);
    let cache = bare.cache().await;
    let tip = cache.fetch().await.unwrap();
    let of = async |files: &[(&str, &str)]| {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            bytes: text.as_bytes().to_vec(),
            is_program: false,
            version: None,
        };
        let files: Vec<File> = files.iter().map(file).collect();
        let mut found = Vec::new();
        for file in &files {
            found.extend(of_commit(&cache, &tip, &files, &file.path).await.unwrap());
        }
        found.first().map(ToString::to_string)
    };
    assert_eq!(of(&[("k/kustomization.yaml", &good.replace("v1", "v2"))]).await, None);
    let number = of(&[("k/kustomization.yaml", &good.replace("v1", "20260216"))]).await.unwrap();
    assert!(number.starts_with("k/kustomization.yaml:4: newTag is a number"), "{number}");
    let missing = of(&[("k/kustomization.yaml", good), ("bad/kustomization.yaml", bad)]).await.unwrap();
    assert!(missing.starts_with("bad/kustomization.yaml:1: resources names none.yaml"), "{missing}");
    assert_eq!(of(&[("bad/kustomization.yaml", bad), ("bad/none.yaml", &manifest)]).await, None, "it comes with the commit");
    assert_eq!(
        of(&[("odd/kustomization.yaml", "resources: [../k]\nimages: [{name: app}, {name: app}]\n")]).await,
        None,
        "it builds"
    );
    assert_eq!(of(&[("chart/values.yaml", "image: {tag: v2}\n")]).await, None, "the other file is not its business");
    let inside = of(&[("k/x.yaml", "kind: Deployment\n")]).await.unwrap();
    assert!(inside.starts_with("k/x.yaml:1: is no object"), "{inside}");
}
