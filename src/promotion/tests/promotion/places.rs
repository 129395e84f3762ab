//! Places other than kustomizations.

use roadstead_promotion::{Application, Container, Edit, Helm, Image, Write};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn image() -> Image {
    Image { tag: "v2".parse().unwrap(), digest: DIGEST.parse().unwrap() }
}

fn apply(edit: &Edit, file: &str) -> Result<String, String> {
    let edited = edit.apply(file.as_bytes(), &image()).map_err(|refusal| refusal.to_string())?;
    assert_eq!(edit.apply(&edited.bytes, &image()).unwrap().bytes, edited.bytes);
    Ok(String::from_utf8(edited.bytes).unwrap())
}

fn path(text: &str) -> Vec<String> {
    text.split('.').map(str::to_owned).collect()
}

#[test]
fn values_of_a_chart_are_set_where_they_are() {
    let file = "image:\n  repository: a/b # c\n  tag: \"1.0\"\n  digest:\nimageTag: x\n";
    let parts = |name: Option<&str>, digest: Option<&str>, write| {
        let name = name.map(|name| (path("image.repository"), name.to_owned()));
        Edit::Helm(Helm::Parts { name, tag: path("image.tag"), digest: digest.map(path), write })
    };
    let after = apply(&parts(Some("h/b"), Some("image.digest"), Write::TagAndDigest), file).unwrap();
    assert_eq!(after, format!("image:\n  repository: h/b # c\n  tag: \"v2\"\n  digest: {DIGEST}\nimageTag: x\n"));
    let after = apply(&parts(None, None, Write::TagAndDigest), file).unwrap();
    assert_eq!(after, format!("image:\n  repository: a/b # c\n  tag: \"v2@{DIGEST}\"\n  digest:\nimageTag: x\n"));
    let missing = Edit::Helm(Helm::Parts { name: None, tag: path("image.version"), digest: None, write: Write::Tag });
    assert_eq!(apply(&missing, file).unwrap_err(), "line 2: image.version is not here; write it, or another path");
    let whole = Edit::Helm(Helm::Whole { path: path("image"), name: None, write: Write::Tag });
    assert_eq!(apply(&whole, "image: host:5000/x:v1\n").unwrap(), "image: host:5000/x:v2\n");
    assert!(apply(&whole, file).unwrap_err().contains("image is no text"));
}

#[test]
fn a_container_is_found_among_the_documents_of_a_file() {
    let edit = |container: &str| {
        Edit::Container(Container {
            kind: "Deployment".to_owned(),
            name: "task-api".to_owned(),
            container: container.to_owned(),
            new_name: None,
            write: Write::Tag,
        })
    };
    let file = "apiVersion: v1\nkind: Service\nmetadata: {name: task-api}\n---\nkind: Deployment\nmetadata:\n  name: task-api\nspec:\n  template:\n    spec:\n      containers:\n        - name: api\n          image: registry.local:5000/task-api:old # bot\n        - name: proxy\n          image: envoy\n";
    let after = apply(&edit("api"), file).unwrap();
    assert_eq!(after, file.replace("task-api:old", "task-api:v2"));
    let after = apply(&edit("proxy"), file).unwrap();
    assert_eq!(after, file.replace("image: envoy", "image: envoy:v2"));
    assert!(apply(&edit("other"), file).unwrap_err().contains("no container other"));
    assert!(apply(&edit("api"), &format!("{file}---\n{file}")).unwrap_err().contains("twice"));
}

#[test]
fn an_application_names_the_old_image_too() {
    let edit = Edit::Application(Application {
        name: None,
        image: "10.0.0.1:5000/a".to_owned(),
        new_name: None,
        write: Write::TagAndDigest,
    });
    let head = "kind: Application\nmetadata:\n  name: x\nspec:\n  source:\n    path: a\n    kustomize:\n      namePrefix: p-\n";
    let new = format!("\"10.0.0.1:5000/a=10.0.0.1:5000/a:v2@{DIGEST}\"");
    let after = apply(&edit, &format!("{head}      images:\n        - b=c:v1\n        - 10.0.0.1:5000/a:v1\n")).unwrap();
    assert_eq!(after, format!("{head}      images:\n        - b=c:v1\n        - {new}\n"));
    let after = apply(&edit, &format!("{head}      images: [b=c:v1]\n")).unwrap();
    assert_eq!(after, format!("{head}      images: [b=c:v1, {new}]\n"));
    let after = apply(&edit, head).unwrap();
    assert_eq!(after, format!("{head}      images:\n      - {new}\n"));
    assert!(apply(&edit, "kind: Application\nmetadata: {name: x}\nspec: {sources: []}\n").unwrap_err().contains("no source"));
    assert!(apply(&edit, "kind: Service\n").unwrap_err().contains("0 Applications"));
}

#[test]
fn an_empty_place_gets_no_name_of_nothing_and_a_number_no_second_meaning() {
    let whole =
        |name: Option<&str>| Edit::Helm(Helm::Whole { path: path("image"), name: name.map(str::to_owned), write: Write::Tag });
    for file in ["image:\n", "image: \"\"\n", "image: null\n", "image: ~\n"] {
        assert!(apply(&whole(None), file).unwrap_err().contains("image is empty"), "{file}");
        assert!(apply(&whole(Some("h/x")), file).unwrap().contains("h/x:v2"), "{file}");
    }
    let container = Edit::Container(Container {
        kind: "Pod".to_owned(),
        name: "x".to_owned(),
        container: "c".to_owned(),
        new_name: None,
        write: Write::Tag,
    });
    let pod = "kind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - name: c\n    image: null\n";
    assert!(apply(&container, pod).unwrap_err().contains("image is empty"));
    let parts = Edit::Helm(Helm::Parts { name: None, tag: path("tag"), digest: None, write: Write::Tag });
    let number = Image { tag: "1.10".parse().unwrap(), digest: DIGEST.parse().unwrap() };
    assert_eq!(parts.apply(b"tag: 1.10\n", &number).unwrap().bytes, b"tag: \"1.10\"\n");
}

#[test]
fn a_large_file_of_odd_pairs_is_read_in_a_moment() {
    let file = format!("é: 1\nx: [{}]\nimage: a:b\n", "? a : [b], ".repeat(40_000));
    let whole = Edit::Helm(Helm::Whole { path: path("image"), name: None, write: Write::Tag });
    assert!(apply(&whole, &file).unwrap().ends_with("image: a:v2\n"));
}
