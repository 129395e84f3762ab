//! Connections that are cut in the middle of a write.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};
use oci::Algorithm;
use roadstead_storage::{Location, Provider, Store, Transport};

use crate::gcs::Gcs;
use crate::suite::{digest, name, now, owner, tag};
use crate::{Place, client, open_over};

/// A way out that cuts writes on a condition.
#[derive(Clone, Debug)]
struct Cutting<S> {
    way: S,
    cuts: Arc<AtomicU32>,
    kind: HttpErrorKind,
    /// The write has been done, and only its answer is lost.
    done: bool,
}

#[async_trait]
impl<S: HttpService> HttpService for Cutting<S> {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let guarded = request.headers().contains_key("x-goog-if-generation-match");
        let cut = || self.cuts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |cuts| cuts.checked_sub(1)).is_ok();
        if !guarded || !cut() {
            return self.way.call(request).await;
        }
        if self.done {
            self.way.call(request).await?;
        }
        Err(HttpError::new(self.kind, io::Error::from(io::ErrorKind::ConnectionReset)))
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_neither_lost_nor_done_twice() {
    let server = Gcs::start();
    // After a request that was not answered cleanly the client sends again by itself, after the others it does not.
    for kind in [HttpErrorKind::Request, HttpErrorKind::Interrupted] {
        for done in [true, false] {
            let cuts = Arc::new(AtomicU32::new(0));
            let way = Cutting { way: client(&server.endpoint), cuts: Arc::clone(&cuts), kind, done };
            let place = Place { provider: Provider::Gcs, endpoint: &server.endpoint };
            let location = Location::Bucket(Box::new(place.bucket(&format!("{kind:?}-{done}"))));
            let store = open_over(&location, Some(Transport::new(way))).await.unwrap();
            writes_go_on(&store, &cuts).await;
        }
    }
}

async fn writes_go_on(store: &Store, cuts: &AtomicU32) {
    let (repository, latest) = (name("a"), tag("latest"));
    for number in 1..=3_u8 {
        cuts.store(1, Ordering::Relaxed);
        store.set_tag(&repository, &latest, &digest(&[number]), now()).await.unwrap();
        assert_eq!(cuts.load(Ordering::Relaxed), 0);
        let record = store.tag(&repository, &latest).await.unwrap().unwrap();
        assert_eq!((record.digest, record.sequence), (digest(&[number]), u64::from(number)));
    }
    cuts.store(1, Ordering::Relaxed);
    let id = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
    for part in [b"one ", b"two "] {
        let mut upload = store.upload(&repository, id).await.unwrap().unwrap();
        upload.append(part).await.unwrap();
        cuts.store(1, Ordering::Relaxed);
        upload.save().await.unwrap();
        assert_eq!(cuts.load(Ordering::Relaxed), 0);
    }
    let upload = store.upload(&repository, id).await.unwrap().unwrap();
    upload.finish(&digest(b"one two "), owner(&repository)).await.unwrap();
    assert!(store.trouble().borrow().is_none());
}
