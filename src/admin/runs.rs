//! Jobs of any kind.

use http::{Response, StatusCode};
use jobs::{JobId, Record, Submitted};
use serde_json::json;
use server::Body;

use crate::answer::{Refusal, json};
use crate::service::Admin;
use crate::view::{Summary, whole};

impl Admin {
    pub(crate) async fn jobs(&self) -> Result<Response<Body>, Refusal> {
        let open = self.parts().jobs.open().await?;
        let shown: Vec<Summary> = open.iter().map(Summary::new).collect();
        json(StatusCode::OK, &json!({ "jobs": shown }))
    }

    pub(crate) async fn job(&self, id: JobId) -> Result<Response<Body>, Refusal> {
        json(StatusCode::OK, &whole(&self.record(id).await?))
    }

    pub(crate) async fn cancel(&self, id: JobId) -> Result<Response<Body>, Refusal> {
        let record = self.parts().jobs.cancel(id, "operator").await?;
        json(StatusCode::ACCEPTED, &whole(&record))
    }

    pub(crate) async fn retry(&self, id: JobId) -> Result<Response<Body>, Refusal> {
        match self.parts().jobs.retry(id, "operator").await? {
            Submitted::New(id) => json(StatusCode::ACCEPTED, &json!({ "id": id, "new": true })),
            Submitted::Open(id) => json(StatusCode::OK, &json!({ "id": id, "new": false })),
            Submitted::Past => Err(Refusal::Conflict("a later one was submitted".to_owned())),
        }
    }

    pub(crate) async fn record(&self, id: JobId) -> Result<Record, Refusal> {
        let record = self.parts().jobs.job(id).await?;
        record.ok_or_else(|| Refusal::Unknown(format!("there is no job {id}, or it is no longer in the history")))
    }
}
