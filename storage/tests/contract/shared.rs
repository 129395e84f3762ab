//! Two servers on one bucket.

use std::time::Duration;

use oci::{Algorithm, Hasher};
use roadstead_storage::{Error, Location, OpenError, Provider, Store};
use secrecy::ExposeSecret;

use crate::suite::{digest, name, now, owner, read, tag};
use crate::{Place, open, open_in};

pub(crate) async fn two_servers_share_a_bucket(place: Place<'_>) {
    let location = Location::Bucket(Box::new(place.bucket("shared")));
    let stores = (open(&location).await, open(&location).await);
    an_upload_goes_on_at_another_server(&stores).await;
    of_two_that_go_on_at_the_same_time_one_is_told(&stores).await;
    a_session_that_another_server_saved_as_it_was_goes_on(&stores).await;
    what_one_deletes_the_other_does_not_serve_for_long(&stores).await;
    no_move_of_a_tag_is_lost_between_servers(&stores).await;
    a_bucket_that_cannot_be_used_is_explained(place).await;
}

async fn an_upload_goes_on_at_another_server((one, two): &(Store, Store)) {
    let repository = name("a");
    // A short tail in the record, one in an object of its own, whole parts, and both.
    for size in [100_usize, 100_000, 8 << 20, 21_000_000] {
        let bytes: Vec<u8> = (0..size).map(|number| number.to_le_bytes()[1] ^ size.to_le_bytes()[0]).collect();
        let id = one.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        for (number, chunk) in bytes.chunks(size / 3 + 1).enumerate() {
            let store = if number % 2 == 0 { one } else { two };
            let mut upload = store.upload(&repository, id).await.unwrap().unwrap();
            assert_eq!(upload.size(), (number * (size / 3 + 1)) as u64);
            upload.append(chunk).await.unwrap();
            upload.save().await.unwrap();
        }
        assert_eq!(two.upload_size(&repository, id).await.unwrap(), Some(size as u64));
        let expected = Hasher::digest(Algorithm::Sha256, &bytes);
        let upload = two.upload(&repository, id).await.unwrap().unwrap();
        upload.finish(&expected, owner(&repository)).await.unwrap();
        assert_eq!(read(one, &expected, 0, size as u64).await, bytes);
        assert!(one.is_member(&repository, &expected).await.unwrap());
        assert!(one.upload(&repository, id).await.unwrap().is_none());
        assert_eq!(one.upload_size(&repository, id).await.unwrap(), None);
    }
    assert_eq!((one.open_uploads(), two.open_uploads()), (0, 0));
}

async fn of_two_that_go_on_at_the_same_time_one_is_told((one, two): &(Store, Store)) {
    let repository = name("a");
    let id = one.start_upload(&repository, Algorithm::Sha256).await.unwrap();
    let mut first = one.upload(&repository, id).await.unwrap().unwrap();
    let mut second = two.upload(&repository, id).await.unwrap().unwrap();
    first.append(b"first").await.unwrap();
    second.append(b"second one").await.unwrap();
    first.save().await.unwrap();
    assert!(matches!(second.save().await, Err(Error::Contended { .. })));
    for store in [two, one] {
        let upload = store.upload(&repository, id).await.unwrap().unwrap();
        assert_eq!(upload.size(), 5);
    }
    let upload = two.upload(&repository, id).await.unwrap().unwrap();
    upload.finish(&digest(b"first"), owner(&repository)).await.unwrap();
}

async fn a_session_that_another_server_saved_as_it_was_goes_on((one, two): &(Store, Store)) {
    let repository = name("a");
    // A record has its second in it: of some rounds most have both saves in one.
    for _ in 0..5 {
        let id = one.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        two.upload(&repository, id).await.unwrap().unwrap().save().await.unwrap();
        let mut upload = one.upload(&repository, id).await.unwrap().unwrap();
        upload.append(b"more").await.unwrap();
        assert_eq!(upload.save().await.unwrap(), 4);
        two.upload(&repository, id).await.unwrap().unwrap().cancel().await.unwrap();
        assert!(one.upload(&repository, id).await.unwrap().is_none());
    }
}

async fn what_one_deletes_the_other_does_not_serve_for_long((one, two): &(Store, Store)) {
    let (repository, blob) = (name("b"), digest(b"first"));
    one.add_member(&blob, owner(&repository)).await.unwrap();
    one.set_tag(&repository, &tag("latest"), &blob, now()).await.unwrap();
    assert!(two.is_member(&repository, &blob).await.unwrap());
    assert!(two.tag(&repository, &tag("latest")).await.unwrap().is_some());
    assert!(one.remove_member(&repository, &blob).await.unwrap());
    assert!(one.remove_tag(&repository, &tag("latest"), None).await.unwrap());
    // A tag is looked up each time; a right may be remembered for some seconds.
    assert!(two.tag(&repository, &tag("latest")).await.unwrap().is_none());
    assert!(!two.remove_member(&repository, &blob).await.unwrap());
    let mut rounds = 0;
    while two.is_member(&repository, &blob).await.unwrap() {
        rounds += 1;
        assert!(rounds < 100, "a right that was taken away is remembered without end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn no_move_of_a_tag_is_lost_between_servers((one, two): &(Store, Store)) {
    let repository = name("c");
    let moves = (0..20_u8).map(|number| {
        let (store, repository) = (if number % 2 == 0 { one.clone() } else { two.clone() }, repository.clone());
        tokio::spawn(async move { store.set_tag(&repository, &tag("latest"), &digest(&[number]), now()).await })
    });
    let moves: Vec<_> = moves.collect();
    for moved in moves {
        moved.await.unwrap().unwrap();
    }
    assert_eq!(one.tag(&repository, &tag("latest")).await.unwrap().unwrap().sequence, 20);
}

async fn a_bucket_that_cannot_be_used_is_explained(place: Place<'_>) {
    let mut nobody = place.bucket("x");
    nobody.endpoint = Some("http://127.0.0.1:9".to_owned());
    let mut wrong = place.bucket("x");
    match place.provider {
        Provider::S3 | Provider::Azure => wrong.access_key = Some("SOMEBODYELSE".to_owned()),
        // Without TLS nobody is asked who we are there.
        Provider::Gcs => "not-there".clone_into(&mut wrong.name),
    }
    for wrong in [wrong, nobody] {
        let secret = wrong.secret_key.clone();
        let refused = open_in(&Location::Bucket(Box::new(wrong))).await.err().unwrap();
        assert!(matches!(refused, OpenError::Unusable { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("storage.endpoint"), "{text}");
        assert!(secret.is_none_or(|secret| !text.contains(secret.expose_secret())), "{text}");
    }
}
