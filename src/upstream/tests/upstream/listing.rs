use oci::{Discover, Error, Page, ReferrersList, Tag, media_type};
use serde_json::json;
use testing::Fault;

use crate::{name, setup};

fn page(limit: usize, last: Option<&str>) -> Page {
    Page { limit: Some(limit), last: last.map(str::to_owned) }
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

#[tokio::test]
async fn tags_come_whole_and_in_pages() {
    let setup = setup();
    for tag in ["b", "a", "d", "c", "e"] {
        setup.fake.put_image("library/nginx", tag);
    }
    let all = setup.upstream.tags(&name(), &Page::default()).await.unwrap();
    assert_eq!((all.entries, all.next), (["a", "b", "c", "d", "e"].map(tag).to_vec(), None));

    let mut last = None;
    let mut seen = Vec::new();
    loop {
        let listing = setup.upstream.tags(&name(), &page(2, last.as_deref())).await.unwrap();
        assert!(listing.entries.len() <= 2);
        seen.extend(listing.entries);
        last = listing.next;
        if last.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"].map(tag));
    let none = setup.upstream.tags(&name(), &page(0, None)).await.unwrap();
    assert_eq!((none.entries.len(), none.next), (0, None));
}

#[tokio::test]
async fn a_page_cut_by_the_upstream_says_how_to_go_on() {
    let setup = setup();
    for tag in ["a", "b", "c"] {
        setup.fake.put_image("library/nginx", tag);
    }
    setup.fake.tag_page(2);
    let first = setup.upstream.tags(&name(), &Page::default()).await.unwrap();
    assert_eq!((first.entries.as_slice(), first.next.as_deref()), (["a", "b"].map(tag).as_slice(), Some("b")));
    let rest = setup.upstream.tags(&name(), &Page { limit: None, last: first.next }).await.unwrap();
    assert_eq!((rest.entries, rest.next), (vec![tag("c")], None));
}

#[tokio::test]
async fn a_registry_without_pages_is_cut_here() {
    let setup = setup();
    setup.fake.fault("/tags/list", Fault::Body(r#"{"name":"x","tags":["c","a","-bad","b","a"]}"#.to_owned()));
    let first = setup.upstream.tags(&name(), &page(2, None)).await.unwrap();
    assert_eq!((first.entries.as_slice(), first.next.as_deref()), (["a", "b"].map(tag).as_slice(), Some("b")));
    let rest = setup.upstream.tags(&name(), &page(2, Some("b"))).await.unwrap();
    assert_eq!((rest.entries, rest.next), (vec![tag("c")], None));
}

#[tokio::test]
async fn null_is_no_tags_and_an_unknown_repository_is_an_error() {
    let setup = setup();
    let error = setup.upstream.tags(&name(), &Page::default()).await.unwrap_err();
    assert!(matches!(error, Error::NameUnknown { .. }), "{error}");
    setup.fake.fault_times("/tags/list", 1, Fault::Body(r#"{"name":"x","tags":null}"#.to_owned()));
    assert!(setup.upstream.tags(&name(), &Page::default()).await.unwrap().entries.is_empty());
    setup.fake.fault_times("/tags/list", 1, Fault::Body("<html>".to_owned()));
    let error = setup.upstream.tags(&name(), &Page::default()).await.unwrap_err();
    assert!(matches!(error, Error::Upstream { .. }), "{error}");
}

#[tokio::test]
async fn referrers_come_from_the_api_filtered_and_in_order() {
    let setup = setup();
    let image = setup.fake.put_image("library/nginx", "latest");
    let mut signatures = vec![
        setup.fake.put_artifact("library/nginx", &image.digest, "application/x.signature"),
        setup.fake.put_artifact("library/nginx", &image.digest, "application/x.sbom"),
    ];
    let signature = signatures[0].clone();
    signatures.sort();
    let all = setup.upstream.referrers(&name(), &image.digest, &ReferrersList::default()).await.unwrap();
    assert_eq!(all.entries.iter().map(|entry| entry.digest.clone()).collect::<Vec<_>>(), signatures);
    let query = ReferrersList { artifact_type: Some("application/x.signature".to_owned()), page: Page::default() };
    let some = setup.upstream.referrers(&name(), &image.digest, &query).await.unwrap();
    assert_eq!(some.entries.iter().map(|entry| &entry.digest).collect::<Vec<_>>(), [&signature]);
    assert_eq!(setup.fake.count("GET", "/manifests/"), 0);
}

#[tokio::test]
async fn without_the_api_the_fallback_tag_is_read_and_filtered_here() {
    let setup = setup();
    setup.fake.referrers(false);
    let image = setup.fake.put_image("library/nginx", "latest");
    let entry = |digit: &str, artifact_type: &str| json!({ "mediaType": media_type::OCI_MANIFEST, "digest": format!("sha256:{}", digit.repeat(64)), "size": 2, "artifactType": artifact_type });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": [entry("b", "application/x.sbom"), entry("a", "application/x.signature"), { "digest": "nonsense" }],
    });
    let tag = Tag::referrers_fallback(&image.digest);
    setup.fake.put_manifest("library/nginx", Some(tag.as_str()), media_type::OCI_INDEX, index.to_string());
    let all = setup.upstream.referrers(&name(), &image.digest, &ReferrersList::default()).await.unwrap();
    assert_eq!(all.entries.len(), 2);
    assert!(all.entries[0].digest < all.entries[1].digest);
    let query = ReferrersList { artifact_type: Some("application/x.sbom".to_owned()), page: Page::default() };
    let some = setup.upstream.referrers(&name(), &image.digest, &query).await.unwrap();
    assert_eq!(some.entries.len(), 1);
}

#[tokio::test]
async fn no_referrers_at_all_is_an_empty_listing() {
    let setup = setup();
    let image = setup.fake.put_image("library/nginx", "latest");
    for referrers in [true, false] {
        setup.fake.referrers(referrers);
        let listing = setup.upstream.referrers(&name(), &image.digest, &ReferrersList::default()).await.unwrap();
        assert!(listing.entries.is_empty() && listing.next.is_none());
    }
    // A page of a forge in place of the API.
    setup.fake.fault("/referrers/", Fault::Body("<html>".to_owned()));
    let listing = setup.upstream.referrers(&name(), &image.digest, &ReferrersList::default()).await.unwrap();
    assert!(listing.entries.is_empty());
    setup.fake.respond_with(503);
    assert!(setup.upstream.referrers(&name(), &image.digest, &ReferrersList::default()).await.is_err());
}
