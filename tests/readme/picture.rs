//! The README's picture names only what there is: clients with an example, endpoints that answer, rooms of the workspace.

use crate::document::{Block, blocks, page, root};
use crate::stage::Stage;

/// The endpoints that the picture names; `/v2/` is the whole API.
const ENDPOINTS: [&str; 5] = ["/v2/", "/livez", "/readyz", "/metrics", "/api/v1/"];

/// The picture.
fn picture() -> Block {
    let mut found = blocks(&page("README.md")).into_iter().filter(|block| block.is_under("How a request flows"));
    let picture = found.next().expect("the README has a picture");
    assert!(found.next().is_none(), "there are two pictures");
    picture
}

/// The clients in its first line.
pub(crate) fn clients() -> Vec<String> {
    picture().text.lines().next().unwrap().split_whitespace().map(str::to_owned).collect()
}

/// The words in brackets.
fn rooms(picture: &str) -> Vec<String> {
    picture.split('[').skip(1).map(|rest| rest.split(']').next().unwrap().to_owned()).collect()
}

#[test]
fn every_room_of_the_picture_is_one() {
    let rooms = rooms(&picture().text);
    assert_eq!(rooms.len(), 7, "{rooms:?}");
    for room in rooms {
        let manifests = [root().join("src").join(&room), root().join(&room)].map(|folder| folder.join("Cargo.toml"));
        let found = manifests.iter().find_map(|path| std::fs::read_to_string(path).ok());
        let manifest = found.unwrap_or_else(|| panic!("there is no room {room}"));
        assert!(manifest.contains(&format!("name = \"roadstead-{room}\"")), "{room}: {manifest}");
    }
}

#[test]
fn every_room_of_the_architecture_is_one() {
    let text = page("ARCHITECTURE.md");
    for member in workspace_members() {
        assert!(text.contains(&format!("`{member}`")), "ARCHITECTURE.md does not know {member}");
    }
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for folder in rows.filter(|folder| !folder.contains('<')) {
        assert!(root().join(folder).exists(), "there is no {folder}");
    }
}

#[test]
fn every_endpoint_of_the_picture_answers() {
    let picture = picture().text;
    let named: Vec<&str> = picture.split_whitespace().filter(|word| word.starts_with('/')).collect();
    assert_eq!(named, ENDPOINTS);
    let blocks = blocks(&page("README.md"));
    let stage = Stage::new(&blocks[0], "");
    for endpoint in named {
        // Operators' endpoints want the token.
        let status = if endpoint == "/api/v1/" { 401 } else { 200 };
        assert_eq!(stage.ask(endpoint).0, status, "{endpoint}");
    }
}

#[test]
fn every_metric_is_explained_and_every_explained_one_exists() {
    let rooms = ["metrics.rs", "metrics/identity.rs", "metrics/jobs.rs", "metrics/mirrors.rs", "metrics/promotions.rs"];
    let code: String = rooms.iter().map(|file| page(&format!("src/telemetry/{file}"))).collect();
    let registered = |call: &str| -> Vec<String> {
        code.split(call).skip(1).map(|rest| format!("roadstead_{}", rest.split('"').next().unwrap())).collect()
    };
    let metrics = [registered(".register(\""), registered(".register_with_unit(\"")].concat();
    assert!(metrics.len() > 10, "{metrics:?}");
    let operations = page("docs/operations.md");
    let rows: Vec<&str> = operations.lines().filter_map(|line| line.strip_prefix("| `roadstead_")).collect();
    let explained: Vec<String> = rows.iter().map(|row| format!("roadstead_{}", row.split('`').next().unwrap())).collect();
    for metric in &metrics {
        assert!(explained.iter().any(|name| name.starts_with(metric)), "docs/operations.md does not explain {metric}");
    }
    for name in &explained {
        assert!(metrics.iter().any(|metric| name.starts_with(metric)), "there is no {name}");
    }
}

fn workspace_members() -> Vec<String> {
    let manifest: toml::Table = page("Cargo.toml").parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}
