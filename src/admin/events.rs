//! A job as it changes: one line of JSON for each change, until it has ended.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use jobs::{JobId, Watch};
use server::{Body, BoxError};

use crate::answer::Refusal;
use crate::service::Admin;
use crate::view::whole;

/// An empty line is sent after so long without a change, so that nobody takes the connection for dead.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

impl Admin {
    pub(crate) async fn events(&self, id: JobId) -> Result<Response<Body>, Refusal> {
        let record = self.record(id).await?;
        let mut response = if record.state.is_ended() {
            Response::new(Body::full(line(&record)))
        } else {
            let watch = self.parts().jobs.watch(&record.kind, &record.key);
            Response::new(Body::stream(Box::pin(self.lines(id, watch)), None))
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// The lines of a job that was open a moment ago.
    fn lines(&self, id: JobId, watch: Watch) -> impl futures_util::Stream<Item = Result<Bytes, BoxError>> + Send + use<> {
        let admin = self.clone();
        stream::unfold(Some(watch), move |watch| {
            let admin = admin.clone();
            async move {
                let mut watch = watch?;
                tokio::select! {
                    next = watch.next() => match next {
                        Some(Ok(record)) if record.id == id => {
                            let ended = record.state.is_ended();
                            Some((Ok(line(&record)), (!ended).then_some(watch)))
                        }
                        Some(Err(error)) => Some((Err(error.into()), None)),
                        // It has ended, and perhaps another one is open.
                        Some(Ok(_)) | None => {
                            let record = admin.record(id).await.ok()?;
                            Some((Ok(line(&record)), None))
                        }
                    },
                    () = admin.parts().stop.cancelled() => None,
                    () = admin.parts().clock.sleep(SIGN_OF_LIFE) => Some((Ok(Bytes::from_static(b"\n")), Some(watch))),
                }
            }
        })
    }
}

fn line(record: &jobs::Record) -> Bytes {
    let mut text = whole(record).to_string();
    text.push('\n');
    Bytes::from(text)
}
