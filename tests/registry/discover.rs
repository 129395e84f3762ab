//! Listing tags, repositories and referrers.

use oci::media_type;
use serde_json::{Value, json};

use crate::harness::{TestServer, refusal, refused, sha256, text};

async fn listing(server: &TestServer, path: &str, key: &str) -> (Vec<String>, String) {
    let response = server.get(path).await;
    assert_eq!(response.status(), 200, "{path}");
    let link = text(&response, "link");
    let body: Value = response.json().await.unwrap();
    (serde_json::from_value(body[key].clone()).unwrap(), link)
}

#[tokio::test]
async fn tags_are_listed_in_byte_order_and_pages() {
    for server in TestServer::start_both().await {
        let digest = server.push_image("team/app", "b", "layer").await;
        let body = server.get(&format!("/v2/team/app/manifests/{digest}")).await.bytes().await.unwrap();
        for tag in ["a", "C", "v10", "v9"] {
            let path = format!("/v2/team/app/manifests/{tag}");
            assert_eq!(server.put_manifest(&path, media_type::OCI_MANIFEST, body.clone()).await.status(), 201);
        }
        let list = |query: &'static str| listing(&server, query, "tags");
        assert_eq!(list("/v2/team/app/tags/list").await.0, ["C", "a", "b", "v10", "v9"]);
        let (page, link) = list("/v2/team/app/tags/list?n=2").await;
        assert_eq!(
            (page, link.as_str()),
            (vec!["C".to_owned(), "a".to_owned()], "</v2/team/app/tags/list?n=2&last=a>; rel=\"next\"")
        );
        let (page, link) = list("/v2/team/app/tags/list?n=3&last=aa").await;
        assert_eq!((page.len(), link.as_str()), (3, ""));
        assert_eq!(list("/v2/team/app/tags/list?n=0").await, (vec![], String::new()));
        assert_eq!(list("/v2/team/app/tags/list?last=zzz").await.0, Vec::<String>::new());
        assert_eq!(refusal(server.get("/v2/team/app/tags/list?n=x").await).await, refused(400, "SIZE_INVALID"));
        assert_eq!(refusal(server.get("/v2/team/tags/list").await).await, refused(404, "NAME_UNKNOWN"));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_known_repository_without_tags_lists_none() {
    for server in TestServer::start_both().await {
        server.push_image("a", "v1", "layer").await;
        assert_eq!(server.delete("/v2/a/manifests/v1").await.status(), 202);
        let response = server.get("/v2/a/tags/list").await;
        assert_eq!(response.text().await.unwrap(), r#"{"name":"a","tags":[]}"#);
        server.stop().await;
    }
}

#[tokio::test]
async fn repositories_are_listed_in_pages() {
    for server in TestServer::start_both().await {
        for name in ["b", "a/b", "a", "a-b"] {
            server.push_blob(name, "x").await;
        }
        assert_eq!(listing(&server, "/v2/_catalog", "repositories").await.0, ["a", "a-b", "a/b", "b"]);
        let (page, link) = listing(&server, "/v2/_catalog?n=3", "repositories").await;
        assert_eq!((page.len(), link.as_str()), (3, "</v2/_catalog?n=3&last=a/b>; rel=\"next\""));
        assert_eq!(listing(&server, "/v2/_catalog?n=3&last=a/b", "repositories").await.0, ["b"]);
        server.stop().await;
    }
}

fn artifact(subject: &str, artifact_type: &str, empty: &str) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 },
        "layers": [],
        "subject": { "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 3 },
        "annotations": { "org.example.kind": artifact_type },
    })
    .to_string()
}

#[tokio::test]
async fn referrers_are_listed_filtered_paged_and_taken_out_again() {
    for server in TestServer::start_both().await {
        let empty = server.push_blob("a", "{}").await.to_string();
        let subject = sha256(b"a subject that is not here").to_string();
        let mut pushed = Vec::new();
        for kind in ["x/signature", "x/sbom", "x/sbom+json"] {
            let body = artifact(&subject, kind, &empty);
            let path = format!("/v2/a/manifests/{}", sha256(body.as_bytes()));
            let response = server.put_manifest(&path, media_type::OCI_MANIFEST, body.clone()).await;
            assert_eq!((response.status().as_u16(), text(&response, "oci-subject")), (201, subject.clone()));
            pushed.push(sha256(body.as_bytes()).to_string());
        }
        let path = format!("/v2/a/referrers/{subject}");
        let response = server.get(&path).await;
        assert_eq!(text(&response, "content-type"), media_type::OCI_INDEX);
        let index: Value = response.json().await.unwrap();
        assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(media_type::OCI_INDEX)));
        let entries = index["manifests"].as_array().unwrap();
        assert_eq!(entries.len(), 3);
        let signature = entries.iter().find(|entry| entry["digest"] == pushed[0]).unwrap();
        assert_eq!(signature["artifactType"], "x/signature");
        assert_eq!(signature["annotations"]["org.example.kind"], "x/signature");
        assert_eq!(signature["mediaType"], media_type::OCI_MANIFEST);

        let filtered = server.get(&format!("{path}?artifactType=x/sbom%2Bjson")).await;
        assert_eq!(text(&filtered, "oci-filters-applied"), "artifactType");
        let index: Value = filtered.json().await.unwrap();
        assert_eq!((index["manifests"].as_array().unwrap().len(), &index["manifests"][0]["digest"]), (1, &json!(pushed[2])));

        let page = server.get(&format!("{path}?n=2&artifactType=")).await;
        let link = text(&page, "link");
        let next = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
        let rest: Value = server.get(&next).await.json().await.unwrap();
        assert_eq!(rest["manifests"].as_array().unwrap().len(), 1);

        assert_eq!(server.delete(&format!("/v2/a/manifests/{}", pushed[0])).await.status(), 202);
        let index: Value = server.get(&path).await.json().await.unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
        server.stop().await;
    }
}

#[tokio::test]
async fn an_unknown_subject_has_no_referrers_and_a_bad_one_is_refused() {
    for server in TestServer::start_both().await {
        let response = server.get(&format!("/v2/nowhere/referrers/{}", sha256(b"x"))).await;
        let index: Value = response.json().await.unwrap();
        assert_eq!(index["manifests"], json!([]));
        assert_eq!(refusal(server.get("/v2/nowhere/referrers/sha256:bad").await).await, refused(400, "DIGEST_INVALID"));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_page_of_referrers_is_bounded_in_bytes() {
    for server in TestServer::start_both().await {
        let empty = server.push_blob("a", "{}").await.to_string();
        let subject = sha256(b"subject").to_string();
        for number in 0..5 {
            let mut body: Value = serde_json::from_str(&artifact(&subject, &format!("x/{number}"), &empty)).unwrap();
            body["annotations"]["filler"] = json!("x".repeat(1_500_000));
            let pushed =
                server.put_manifest(&format!("/v2/a/manifests/t{number}"), media_type::OCI_MANIFEST, body.to_string()).await;
            assert_eq!(pushed.status(), 201);
        }
        let mut path = format!("/v2/a/referrers/{subject}");
        let (mut seen, mut pages) = (0, 0);
        loop {
            let response = server.get(&path).await;
            let link = text(&response, "link");
            let index: Value = response.json().await.unwrap();
            seen += index["manifests"].as_array().unwrap().len();
            pages += 1;
            if link.is_empty() {
                break;
            }
            path = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
        }
        assert_eq!((seen, pages), (5, 3));
        server.stop().await;
    }
}
