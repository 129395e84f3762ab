//! `kubectl kustomize` renders the files that were edited.

use std::fs;
use std::path::Path;
use std::process::Command;

use promotion::{Edit, Image, Kustomization, Write};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use crate::buckets::tool;
use crate::forge::{DIGEST, LIMITS, OVERLAY, deployment};
use crate::styles::{file, quoted, styles};

/// Files of other styles that are rendered. Each takes a tenth of a second.
const FILES: usize = 60;

/// What kustomize makes of a folder.
fn build(folder: &Path) -> String {
    let output = Command::new(tool("kubectl")).arg("kustomize").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn images(rendered: &str) -> Vec<&str> {
    let values = rendered.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("image: "));
    values.map(|value| value.trim_matches(['"', '\''])).collect()
}

pub(crate) fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (base, overlay) = (folder.path().join("k8s/base"), folder.path().join("k8s/overlays/prod"));
    fs::create_dir_all(&base).unwrap();
    fs::create_dir_all(&overlay).unwrap();
    fs::write(base.join("kustomization.yaml"), "resources: [tinybird.yaml, analytics.yaml]\n").unwrap();
    fs::write(base.join("tinybird.yaml"), deployment("tinybird", "tinybirdco/tinybird-local:latest")).unwrap();
    fs::write(base.join("analytics.yaml"), deployment("analytics", "ghost/traffic-analytics:latest")).unwrap();
    fs::write(overlay.join("resource-limits.yaml"), LIMITS).unwrap();
    fs::write(overlay.join("kustomization.yaml"), OVERLAY).unwrap();
    folder
}

fn image(tag: &str) -> Image {
    Image { tag: oci::Tag::parse(tag).unwrap(), digest: oci::Digest::parse(DIGEST).unwrap() }
}

#[test]
fn the_first_pipelines_overlay_still_builds_after_a_hundred_promotions() {
    let folder = repository();
    let overlay = folder.path().join("k8s/overlays/prod");
    let path = overlay.join("kustomization.yaml");
    let edit =
        Edit::Kustomization(Kustomization { image: "ghost/traffic-analytics".to_owned(), new_name: None, write: Write::Tag });
    let mut size = None;
    for number in 0..100 {
        let before = fs::read_to_string(&path).unwrap();
        let edited = edit.apply(before.as_bytes(), &image(&format!("main-{number:07}"))).unwrap();
        fs::write(&path, &edited.bytes).unwrap();
        let after = String::from_utf8(edited.bytes).unwrap();
        assert_eq!(before.lines().zip(after.lines()).filter(|(old, new)| old != new).count(), 1);
        assert_eq!(*size.get_or_insert(after.len()), after.len());
    }
    let rendered = build(&overlay);
    assert_eq!(images(&rendered), ["ghost/traffic-analytics:main-0000099", "tinybirdco/tinybird-local:latest"]);
    assert!(rendered.contains("memory: 2Gi"), "the patch is there: {rendered}");
}

/// The pipeline's way: the same overlay does not build any more after its first promotion.
#[test]
fn the_script_that_this_replaces_breaks_the_overlay() {
    let folder = repository();
    let path = folder.path().join("k8s/overlays/prod/kustomization.yaml");
    assert!(Command::new("sed").args(["-i", "/^images:/,/^[a-z]/d"]).arg(&path).status().unwrap().success());
    let rest = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{rest}images:\n  - name: ghost/traffic-analytics\n    newTag: main-abc1234\n")).unwrap();
    let output = Command::new(tool("kubectl")).arg("kustomize").arg(path.parent().unwrap()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("already registered id"), "{errors}");
}

#[test]
fn kustomize_means_by_every_file_what_we_mean() {
    let mut runner = TestRunner::new(Config::default());
    let (mut written, mut rendered) = (0, 0);
    while written < FILES {
        let mut style = styles().new_tree(&mut runner).unwrap().current();
        // kustomize reads no byte order mark, and knows fewer fields than YAML has.
        (style.mark, style.head, style.tail) = (false, "kind: Kustomization\n", "\n# end\n");
        let write = [Write::Tag, Write::Digest, Write::TagAndDigest, Write::TagAtDigest][written % 4];
        let (tag, before) = (["v2", "20260216", "1.10", "0e1"][written % 4], file(&style, &quoted("v1", style.quote)));
        let new_name = (written % 3 == 0).then(|| "10.0.0.1:5000/micro/x".to_owned());
        let edit = Edit::Kustomization(Kustomization { image: "ghost/x".to_owned(), new_name: new_name.clone(), write });
        written += 1;
        let Ok(edited) = edit.apply(before.as_bytes(), &image(tag)) else { continue };
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = edited.bytes;
        bytes.extend_from_slice(b"\nresources: [x.yaml]\n");
        fs::write(folder.path().join("kustomization.yaml"), &bytes).unwrap();
        fs::write(folder.path().join("x.yaml"), deployment("x", "ghost/x:latest")).unwrap();
        let name = new_name.as_deref().unwrap_or("ghost/x");
        let meant = match write {
            Write::Tag => format!("{name}:{tag}"),
            Write::Digest => format!("{name}@{DIGEST}"),
            Write::TagAndDigest | Write::TagAtDigest => format!("{name}:{tag}@{DIGEST}"),
        };
        let built = build(folder.path());
        assert_eq!(images(&built), [meant], "{}", String::from_utf8_lossy(&bytes));
        rendered += 1;
    }
    assert!(rendered * 2 > FILES, "most files are accepted: {rendered} of {FILES}");
}
