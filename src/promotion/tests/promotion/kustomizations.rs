//! The `images:` of kustomizations as people write them.

use roadstead_promotion::{Edit, Image, Kustomization, Refusal, Values, Write};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn image(tag: &str) -> Image {
    Image { tag: tag.parse().unwrap(), digest: DIGEST.parse().unwrap() }
}

fn place(write: Write) -> Edit {
    Edit::Kustomization(Kustomization { image: "ghost/x".to_owned(), new_name: None, write })
}

fn apply(edit: &Edit, file: &str, tag: &str) -> Result<String, Refusal> {
    let edited = edit.apply(file.as_bytes(), &image(tag))?;
    // Done twice it is done once.
    assert_eq!(edit.apply(&edited.bytes, &image(tag))?.bytes, edited.bytes);
    assert_eq!(edited.before, edit.read(file.as_bytes())?);
    Ok(String::from_utf8(edited.bytes).unwrap())
}

#[track_caller]
fn becomes(file: &str, after: &str) {
    assert_eq!(apply(&place(Write::Tag), file, "v2").as_deref(), Ok(after));
}

#[track_caller]
fn refused(file: &str, line: Option<usize>, why: &str) {
    let refusal = apply(&place(Write::Tag), file, "v2").unwrap_err();
    assert_eq!(refusal.line, line, "{refusal}");
    assert!(refusal.why.contains(why), "{refusal}");
}

#[test]
fn a_name_that_stays_is_left_as_it_is_written() {
    for name in ["127.0.0.1:5000/ghost/x", "10.0.0.1/x", "'a/b'", "registry.example.org/x"] {
        becomes(
            &format!("images:\n- name: ghost/x\n  newName: {name}\n  newTag: v1\n"),
            &format!("images:\n- name: ghost/x\n  newName: {name}\n  newTag: v2\n"),
        );
    }
}

#[test]
fn one_value_changes_and_no_other_byte() {
    becomes("images:\n- name: ghost/x\n  newTag: v1\n", "images:\n- name: ghost/x\n  newTag: v2\n");
    becomes("images:\n- newTag: \"v1\" # now\n  name: 'ghost/x'", "images:\n- newTag: \"v2\" # now\n  name: 'ghost/x'");
    becomes("images: [{name: ghost/x, newTag: 'v1'}]\n", "images: [{name: ghost/x, newTag: 'v2'}]\n");
    becomes(
        "\u{feff}images:\r\n  -   name: ghost/x\r\n      newTag: v1\r\n",
        "\u{feff}images:\r\n  -   name: ghost/x\r\n      newTag: v2\r\n",
    );
    becomes(
        "# é\n%YAML 1.1\n---\n'images':\n  - { name: \"ghost/x\",\n      newTag: v1 } # é\n",
        "# é\n%YAML 1.1\n---\n'images':\n  - { name: \"ghost/x\",\n      newTag: v2 } # é\n",
    );
    becomes("images:\n- name: ghost/x\n  newTag: # none yet\n", "images:\n- name: ghost/x\n  newTag: v2 # none yet\n");
    becomes("images:\n- name: ghost/x\n  newTag: ~\n", "images:\n- name: ghost/x\n  newTag: v2\n");
    // A value that readers take for something else is written anew, though it is the same text.
    let edited = apply(&place(Write::Tag), "images:\n- name: ghost/x\n  newTag: 1.10\n", "1.10");
    assert_eq!(edited.as_deref(), Ok("images:\n- name: ghost/x\n  newTag: \"1.10\"\n"));
}

#[test]
fn what_is_missing_is_added_in_the_style_of_its_neighbours() {
    becomes("images:\n- name: ghost/x # c\nx: y\n", "images:\n- name: ghost/x # c\n  newTag: v2\nx: y\n");
    becomes("images:\n  - newName: a\n    name: ghost/x", "images:\n  - newName: a\n    newTag: v2\n    name: ghost/x");
    becomes("images: [{name: ghost/x}]\n", "images: [{name: ghost/x, newTag: v2}]\n");
    becomes(
        "images:\n-  name: a\n   newTag: 'v1' # c\n# end\n",
        "images:\n-  name: a\n   newTag: 'v1' # c\n-  name: ghost/x\n   newTag: 'v2'\n# end\n",
    );
    becomes("images: []\n", "images: [{name: ghost/x, newTag: v2}]\n");
    becomes("images: [{name: a}]", "images: [{name: a}, {name: ghost/x, newTag: v2}]");
    becomes(
        "resources:\n  - a\nimages: # all\nx: y\n",
        "resources:\n  - a\nimages: # all\n  - name: ghost/x\n    newTag: v2\nx: y\n",
    );
    becomes("resources:\r\n- a\r\n# end", "resources:\r\n- a\r\n# end\r\nimages:\r\n- name: ghost/x\r\n  newTag: v2");
    becomes("a: |\n  text\n", "a: |\n  text\nimages:\n- name: ghost/x\n  newTag: v2\n");
    becomes("{resources: [a]}\n", "{resources: [a], images: [{name: ghost/x, newTag: v2}]}\n");
}

#[test]
fn each_way_of_writing_takes_away_what_would_contradict_it() {
    let file = "images:\n- name: ghost/x\n  newTag: v1\n  digest: sha256:00 # old\n- name: b\n";
    let with = |write, after: &str| assert_eq!(apply(&place(write), file, "v2").as_deref(), Ok(after));
    with(Write::Tag, "images:\n- name: ghost/x\n  newTag: v2\n- name: b\n");
    with(Write::Digest, &format!("images:\n- name: ghost/x\n  digest: {DIGEST} # old\n- name: b\n"));
    with(Write::TagAndDigest, &format!("images:\n- name: ghost/x\n  newTag: v2\n  digest: {DIGEST} # old\n- name: b\n"));
    with(Write::TagAtDigest, &format!("images:\n- name: ghost/x\n  newTag: v2@{DIGEST}\n- name: b\n"));
    let flow = "images: [{name: ghost/x, newTag: v1, digest: 'sha256:00'}]";
    assert_eq!(apply(&place(Write::Tag), flow, "v2").as_deref(), Ok("images: [{name: ghost/x, newTag: v2}]"));
    let both = apply(&place(Write::TagAndDigest), "images:\n- name: ghost/x\n", "v2").unwrap();
    assert_eq!(both, format!("images:\n- name: ghost/x\n  newTag: v2\n  digest: {DIGEST}\n"));
}

#[test]
fn a_new_name_is_written_beside_the_old_one() {
    let edit = Edit::Kustomization(Kustomization {
        image: "ghost/x".to_owned(),
        new_name: Some("10.0.0.1:5000/micro/x".to_owned()),
        write: Write::Tag,
    });
    let after = apply(&edit, "images:\n- name: ghost/x\n  newTag: v1\n", "20260216").unwrap();
    assert_eq!(after, "images:\n- name: ghost/x\n  newName: \"10.0.0.1:5000/micro/x\"\n  newTag: \"20260216\"\n");
    let values = edit.read(after.as_bytes()).unwrap();
    let name = Some("10.0.0.1:5000/micro/x".to_owned());
    assert_eq!(values, Values { name, tag: Some("20260216".to_owned()), digest: None });
}

#[test]
fn what_cannot_be_edited_safely_is_refused_with_its_line() {
    refused("images:\n- name: ghost/x\n  newTag: v1\nimages: []\n", Some(4), "images is here twice");
    refused("images:\n- name: ghost/x\n  newTag: v1\n- name: ghost/x\n", Some(4), "here twice");
    refused("images:\n- name: ghost/x\n  newTag: v1\n  newTag: v1\n", Some(4), "newTag is here twice");
    refused("images:\n- name: ghost/x\n  newTag: &t v1\nx: *t\n", Some(3), "anchor");
    refused("x: &t v1\nimages:\n- name: ghost/x\n  newTag: *t\n", Some(4), "alias");
    refused("x: &i\n- name: ghost/x\nimages: *i\n", Some(3), "alias");
    refused("b: &b {newTag: v1}\nimages:\n- name: ghost/x\n  <<: *b\n", Some(4), "merged");
    refused("images:\n- name: ghost/x\n  newTag: |\n    v1\n", Some(4), "block");
    refused("images:\n- name: ghost/x\n  newTag: 'v1\n    v2'\n", Some(3), "several lines");
    refused("images:\n- name: ghost/x\n  newTag: \"{{ .tag }}\"\n", Some(3), "template");
    refused("images:\n- name: ghost/x\n  newTag: v1\n  tagSuffix: -x\n", Some(2), "tagSuffix");
    refused("images: {}\n", Some(1), "no list");
    refused("images:\n- ghost/x\n", Some(2), "no map");
    refused("images: []\n---\nimages: []\n", Some(3), "more than one document");
    refused("", None, "empty");
    refused("- a\n", Some(1), "no map");
    refused("a: [\n", Some(2), "not YAML");
    refused("resources: []\n...\n", Some(1), "...");
    let edit = place(Write::Tag);
    assert_eq!(edit.apply(b"a: b\nc: \xff\n", &image("v1")).unwrap_err().line, Some(2));
    assert!(edit.apply(&vec![b' '; 2 << 20], &image("v1")).unwrap_err().why.contains("longer"));
}

#[test]
fn a_file_has_its_size_after_a_hundred_promotions() {
    let file = "# prod\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: tinybird\nbases:\n  - ../../base\n\nimages:\n  - name: ghost/x\n    newTag: main-0000000  # by the bot\n\npatchesStrategicMerge:\n  - resource-limits.yaml\n";
    let mut now = file.to_owned();
    for number in 0..100 {
        let before = now.clone();
        now = apply(&place(Write::Tag), &now, &format!("main-{number:07}")).unwrap();
        assert_eq!(now.len(), file.len());
        assert!(before.lines().zip(now.lines()).filter(|(before, now)| before != now).count() <= 1);
    }
    assert!(now.contains("newTag: main-0000099  # by the bot\n"));
}
