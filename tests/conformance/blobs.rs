//! Blobs: every way to push one, by both algorithms; mounts, ranges, and what is refused.

use crate::exchange::{ALGORITHMS, Answer, OCTETS, Registry, content, digest};

const UPLOADS: &str = "/v2/team/app/blobs/uploads/";

#[test]
fn a_blob_is_pushed_by_one_request() {
    check(|registry, content, digest| registry.send("POST", &format!("{UPLOADS}?digest={digest}"), &[OCTETS], Some(content)));
}

#[test]
fn a_blob_is_pushed_by_an_upload_and_its_end() {
    check(|registry, content, digest| {
        let start = registry.ask("POST", UPLOADS);
        registry.send("PUT", &start.expect(202).ending(digest), &[OCTETS], Some(content))
    });
}

#[test]
fn a_blob_is_pushed_as_a_stream() {
    check(|registry, content, digest| {
        let start = registry.ask("POST", UPLOADS);
        let headers = [OCTETS, "Transfer-Encoding: chunked"];
        let patch = registry.send("PATCH", &start.expect(202).location(), &headers, Some(content));
        registry.ask("PUT", &patch.expect(202).ending(digest))
    });
}

#[test]
fn a_blob_is_pushed_in_chunks() {
    check(|registry, content, digest| {
        let last = chunks(registry, content, content.len());
        registry.ask("PUT", &last.ending(digest))
    });
}

#[test]
fn a_blob_is_pushed_in_chunks_with_the_last_at_the_end() {
    check(|registry, content, digest| {
        let last = chunks(registry, content, 2048);
        let headers = [OCTETS, &format!("Content-Range: 2048-{}", content.len() - 1)];
        registry.send("PUT", &last.ending(digest), &headers, Some(&content[2048..]))
    });
}

#[test]
fn a_chunk_out_of_order_is_refused_and_the_upload_lives_on() {
    check(|registry, content, digest| {
        let start = registry.ask("POST", UPLOADS);
        let ahead = [OCTETS, "Content-Range: 1024-2047"];
        registry.send("PATCH", &start.expect(202).location(), &ahead, Some(&content[1024..2048])).expect(416);
        let first = [OCTETS, "Content-Range: 0-1023"];
        let second = registry.send("PATCH", &start.location(), &first, Some(&content[..1024]));
        let end = format!("Content-Range: 2048-{}", content.len() - 1);
        let refused = second.expect(202).ending(digest);
        registry.send("PUT", &refused, &[OCTETS, &end], Some(&content[2048..])).expect(416);
        registry.ask("GET", &refused).expect(204).expect_header("Range", "0-1023");
        let status = registry.ask("GET", &second.location());
        status.expect(204).expect_header("Range", "0-1023");
        let rest = [OCTETS, &format!("Content-Range: 1024-{}", content.len() - 1)];
        let patch = registry.send("PATCH", &status.location(), &rest, Some(&content[1024..]));
        registry.ask("PUT", &patch.expect(202).ending(digest))
    });
}

#[test]
fn a_blob_that_is_not_its_digest_is_refused() {
    let registry = Registry::new();
    for algorithm in ALGORITHMS {
        let wrong = digest(algorithm, b"something else");
        let content = content("bad", 512);
        registry.send("POST", &format!("{UPLOADS}?digest={wrong}"), &[OCTETS], Some(&content)).expect(400);
        let start = registry.ask("POST", UPLOADS);
        registry.send("PUT", &start.expect(202).ending(&wrong), &[OCTETS], Some(&content)).expect(400);
        let start = registry.ask("POST", UPLOADS);
        let patch = registry.send("PATCH", &start.expect(202).location(), &[OCTETS], Some(&content));
        registry.ask("PUT", &patch.expect(202).ending(&wrong)).expect(400);
        registry.ask("HEAD", &blob("app", &wrong)).expect(404);
        registry.ask("GET", &blob("app", &digest(algorithm, &content))).expect(404);
    }
}

#[test]
fn an_empty_blob_and_an_empty_document_are_blobs() {
    let registry = Registry::new();
    for body in ["", "{}"] {
        let digest = registry.push_blob("team/app", body.as_bytes());
        let length = body.len().to_string();
        registry.ask("HEAD", &blob("app", &digest)).expect(200).expect_header("Content-Length", &length);
        let answer = registry.ask("GET", &blob("app", &digest));
        answer.expect(200).expect_header("Content-Length", &length).expect_body(body.as_bytes());
        registry.delete(&blob("app", &digest));
    }
}

#[test]
fn an_upload_is_cancelled() {
    let registry = Registry::new();
    let start = registry.ask("POST", UPLOADS);
    registry.ask("DELETE", &start.expect(202).location()).expect(204);
    registry.ask("GET", &start.location()).expect(404);
}

#[test]
fn a_blob_is_mounted_from_where_it_is() {
    let registry = Registry::new();
    for (seed, from) in [("named", "&from=team/base"), ("anonymous", "")] {
        let content = content(seed, 512);
        let digest = registry.push_blob("team/base", &content);
        let mount = registry.ask("POST", &format!("{UPLOADS}?mount={digest}{from}"));
        registry.ask("GET", &mount.expect(201).location()).expect(200).expect_body(&content);
        registry.delete(&blob("base", &digest));
        registry.ask("HEAD", &blob("app", &digest)).expect(200);
        registry.delete(&blob("app", &digest));
    }
}

#[test]
fn a_mount_of_what_is_nowhere_becomes_an_upload() {
    let registry = Registry::new();
    let content = content("nowhere", 512);
    let digest = digest("sha256", &content);
    let start = registry.ask("POST", &format!("{UPLOADS}?mount={digest}&from=team/base"));
    registry.send("PUT", &start.expect(202).ending(&digest), &[OCTETS], Some(&content)).expect(201);
}

#[test]
fn a_range_of_a_blob_is_served() {
    let registry = Registry::new();
    let content = content("range", 2048);
    let path = blob("app", &registry.push_blob("team/app", &content));
    for (range, from, to) in [("500-1499", 500, 1499), ("500-", 500, 2047), ("-500", 1548, 2047), ("2000-5000", 2000, 2047)] {
        let answer = registry.send("GET", &path, &[&format!("Range: bytes={range}")], None);
        answer.expect(206).expect_header("Content-Range", &format!("bytes {from}-{to}/2048"));
        answer.expect_header("Content-Length", &(to - from + 1).to_string()).expect_body(&content[from..=to]);
    }
    for range in ["500-0", "5000-10000"] {
        registry.send("GET", &path, &[&format!("Range: bytes={range}")], None).expect(416);
    }
}

/// Pushes a blob in some way, by both algorithms, and follows it to its end.
fn check(push: impl Fn(&Registry, &[u8], &str) -> Answer) {
    let registry = Registry::new();
    for algorithm in ALGORITHMS {
        let content = content(algorithm, 3067);
        let digest = digest(algorithm, &content);
        let path = blob("app", &digest);
        registry.ask("GET", &path).expect(404);
        let pushed = push(&registry, &content, &digest);
        pushed.expect(201).expect_header("Docker-Content-Digest", &digest);
        registry.ask("GET", &pushed.location()).expect(200).expect_body(&content);
        let head = registry.ask("HEAD", &path);
        head.expect(200).expect_header("Docker-Content-Digest", &digest).expect_header("Content-Length", "3067");
        registry.ask("GET", &path).expect(200).expect_header("Docker-Content-Digest", &digest).expect_body(&content);
        registry.delete(&path);
    }
}

/// Uploads chunks of 1024 bytes up to a length, and returns the last answer.
fn chunks(registry: &Registry, content: &[u8], to: usize) -> Answer {
    let start = registry.ask("POST", UPLOADS);
    start.expect(202);
    (0..to).step_by(1024).fold(start, |before, from| {
        let end = (from + 1024).min(to);
        let headers = [OCTETS, &format!("Content-Range: {from}-{}", end - 1)];
        let answer = registry.send("PATCH", &before.location(), &headers, Some(&content[from..end]));
        answer.expect(202).expect_header("Range", &format!("0-{}", end - 1));
        answer
    })
}

fn blob(repository: &str, digest: &str) -> String {
    format!("/v2/team/{repository}/blobs/{digest}")
}
