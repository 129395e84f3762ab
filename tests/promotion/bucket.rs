//! Servers that share a bucket share their promotions: each happens once, whoever was pushed to and whoever is gone.

use std::fs;

use crate::buckets;
use crate::forge::{Bare, FILE};
use crate::server::{Server, rule};

#[test]
fn servers_on_one_bucket_promote_each_push_once_also_of_one_that_is_gone() {
    let store = buckets::seaweedfs();
    let secret = store.folder.path().join("secret");
    fs::write(&secret, buckets::KEY.1).unwrap();
    let storage = format!(
        "url = \"s3://{}/servers\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\naccess_key = \"{}\"\nsecret_key_file = \"{}\"",
        buckets::BUCKET,
        store.endpoint,
        buckets::KEY.0,
        secret.display(),
    );
    let bare = Bare::new();
    let settings = rule("prod", "micro/app", "[{ glob = \"*\" }]", &bare.url(), "ghost/traffic-analytics", "limit = 1000");
    let mut servers = [Server::start_on(&storage, &settings), Server::start_on(&storage, &settings)];
    let mut tags = Vec::new();
    for turn in 0..6 {
        let tag = format!("v{turn}");
        servers[turn % 2].push("micro/app", &tag, &[&tag]);
        // The other one tells it too.
        servers[(turn + 1) % 2].reaches("prod", &tag, &["committed"]);
        tags.push(tag);
    }
    // One dies right after its answer; what it wrote down is found by the other.
    servers[0].push("micro/app", "last", &["last"]);
    servers[0].kill();
    servers[1].reaches_within(std::time::Duration::from_mins(3), "prod", "last", &["committed"]);
    tags.push("last".to_owned());
    let log = bare.log();
    for tag in &tags {
        assert_eq!(log.iter().filter(|subject| subject.contains(&format!("to {tag} "))).count(), 1, "{tag}: {log:?}");
    }
    assert_eq!(log.len(), tags.len() + 1, "{log:?}");
    assert!(bare.is_linear() && bare.file(FILE).contains("newTag: last"));
}
