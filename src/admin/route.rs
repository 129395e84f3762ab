//! What a path means.

use std::borrow::Cow;

use http::Method;
use jobs::JobId;
use percent_encoding::percent_decode_str;

use crate::answer::Refusal;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET /api/v1/mirrors`.
    Mirrors,
    /// `GET /api/v1/mirrors/NAME`.
    Mirror(String),
    /// `GET /api/v1/mirrors/NAME/runs?n=`: those that ended, the latest first.
    Runs(String, usize),
    /// `POST /api/v1/mirrors/NAME/runs`: run it now.
    Run(String),
    /// `GET /api/v1/promotions`.
    Promotions,
    /// `GET /api/v1/promotions/NAME`: the rule and its promotions, the latest first.
    Promotion(String),
    /// `GET /api/v1/promotions/NAME/diff?tag=`: what would be promoted, and how the file would change.
    Diff(String, Option<String>),
    /// `GET /api/v1/promotions/NAME/check`: whether what is configured can work.
    Check(String),
    /// `POST /api/v1/promotions/NAME/VERB`: run, hold, release, approve, rollback.
    Operate(String, Verb),
    /// `GET /api/v1/hooks`: who is told of what happens here.
    Hooks,
    /// `GET /api/v1/hooks/NAME`: with what was given up.
    Hook(String),
    /// `POST /api/v1/hooks/NAME/dead/ID/redeliver`.
    Redeliver(String, String),
    /// `GET /api/v1/jobs`: those that have not ended.
    Jobs,
    /// `GET /api/v1/jobs/ID`.
    Job(JobId),
    /// `GET /api/v1/jobs/ID/events`: the job each time that it changes, a line each.
    Events(JobId),
    /// `POST /api/v1/jobs/ID/cancel`.
    Cancel(JobId),
    /// `POST /api/v1/jobs/ID/retry`.
    Retry(JobId),
    /// `GET /api/v1/robots`: with their tokens, of which the secret part is not known any more.
    Robots,
    /// `POST /api/v1/robots/NAME/tokens`: a new token.
    MakeRobot(String),
    /// `DELETE /api/v1/robots/NAME`, `DELETE /api/v1/robots/NAME/tokens/ID`.
    RemoveRobot(String, Option<String>),
}

/// What is done with a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Run,
    Hold,
    Release,
    Approve,
    Rollback,
}

impl Verb {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "run" => Self::Run,
            "hold" => Self::Hold,
            "release" => Self::Release,
            "approve" => Self::Approve,
            "rollback" => Self::Rollback,
            _ => return None,
        })
    }
}

/// Runs of a listing, unless it says how many.
const RUNS: usize = 20;
/// More are not kept.
const MOST_RUNS: usize = 1000;

impl Route {
    pub(crate) fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let nothing = || Refusal::Unknown(format!("there is nothing at {}", path.chars().take(200).collect::<String>()));
        let rest = path.strip_prefix("/api/v1/").ok_or_else(nothing)?;
        let segments = rest.trim_end_matches('/').split('/').map(|segment| percent_decode_str(segment).decode_utf8());
        let segments: Vec<Cow<'_, str>> = segments.collect::<Result<_, _>>().map_err(|_| nothing())?;
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let get =
            |route| if matches!(*method, Method::GET | Method::HEAD) { Ok(route) } else { Err(Refusal::Method("GET, HEAD")) };
        let post = |route| if *method == Method::POST { Ok(route) } else { Err(Refusal::Method("POST")) };
        let delete = |route| if *method == Method::DELETE { Ok(route) } else { Err(Refusal::Method("DELETE")) };
        match segments.as_slice() {
            ["mirrors"] => get(Self::Mirrors),
            ["mirrors", name] => get(Self::Mirror((*name).to_owned())),
            ["mirrors", name, "runs"] if *method == Method::POST => Ok(Self::Run((*name).to_owned())),
            ["mirrors", name, "runs"] => match *method {
                Method::GET | Method::HEAD => Ok(Self::Runs((*name).to_owned(), count(query)?)),
                _ => Err(Refusal::Method("GET, HEAD, POST")),
            },
            ["promotions"] => get(Self::Promotions),
            ["promotions", name] => get(Self::Promotion((*name).to_owned())),
            ["promotions", name, "diff"] => get(Self::Diff((*name).to_owned(), value(query, "tag"))),
            ["promotions", name, "check"] => get(Self::Check((*name).to_owned())),
            ["promotions", name, verb] => {
                let verb = Verb::parse(verb).ok_or_else(nothing)?;
                post(Self::Operate((*name).to_owned(), verb))
            }
            ["hooks"] => get(Self::Hooks),
            ["hooks", name] => get(Self::Hook((*name).to_owned())),
            ["hooks", name, "dead", id, "redeliver"] => post(Self::Redeliver((*name).to_owned(), (*id).to_owned())),
            ["robots"] => get(Self::Robots),
            ["robots", name] => delete(Self::RemoveRobot((*name).to_owned(), None)),
            ["robots", name, "tokens"] => post(Self::MakeRobot((*name).to_owned())),
            ["robots", name, "tokens", id] => delete(Self::RemoveRobot((*name).to_owned(), Some((*id).to_owned()))),
            ["jobs"] => get(Self::Jobs),
            ["jobs", id] => get(Self::Job(job(id)?)),
            ["jobs", id, "events"] => get(Self::Events(job(id)?)),
            ["jobs", id, "cancel"] => post(Self::Cancel(job(id)?)),
            ["jobs", id, "retry"] => post(Self::Retry(job(id)?)),
            _ => Err(nothing()),
        }
    }

    /// Its name in logs and metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Mirrors => "admin_mirrors",
            Self::Mirror(_) => "admin_mirror",
            Self::Runs(..) => "admin_mirror_runs",
            Self::Run(_) => "admin_mirror_run",
            Self::Promotions => "admin_promotions",
            Self::Promotion(_) => "admin_promotion",
            Self::Diff(..) => "admin_promotion_diff",
            Self::Check(_) => "admin_promotion_check",
            Self::Operate(..) => "admin_promotion_operate",
            Self::Hooks => "admin_hooks",
            Self::Hook(_) => "admin_hook",
            Self::Redeliver(..) => "admin_hook_redeliver",
            Self::Jobs => "admin_jobs",
            Self::Job(_) => "admin_job",
            Self::Events(_) => "admin_job_events",
            Self::Cancel(_) => "admin_job_cancel",
            Self::Retry(_) => "admin_job_retry",
            Self::Robots => "admin_robots",
            Self::MakeRobot(_) => "admin_robot_token",
            Self::RemoveRobot(..) => "admin_robot_remove",
        }
    }
}

fn job(text: &str) -> Result<JobId, Refusal> {
    text.parse().map_err(|_| Refusal::Unknown(format!("{:?} is not the id of a job", text.chars().take(80).collect::<String>())))
}

/// The last value of a key of the query.
fn value(query: Option<&str>, wanted: &str) -> Option<String> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let (_, text) = pairs.rfind(|(key, _)| *key == wanted)?;
    Some(percent_decode_str(text).decode_utf8_lossy().into_owned())
}

fn count(query: Option<&str>) -> Result<usize, Refusal> {
    match value(query, "n") {
        None => Ok(RUNS),
        Some(text) => {
            let count: usize = text.parse().map_err(|_| Refusal::Invalid("n is not a number".to_owned()))?;
            Ok(count.min(MOST_RUNS))
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parse(method: &str, path: &str) -> Result<Route, Refusal> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        Route::parse(&method.parse().unwrap(), path, query)
    }

    #[test]
    fn every_route_is_found_by_its_method_and_path() {
        let name = "nightly".to_owned();
        assert_eq!(parse("GET", "/api/v1/mirrors"), Ok(Route::Mirrors));
        assert_eq!(parse("GET", "/api/v1/mirrors/nightly/"), Ok(Route::Mirror(name.clone())));
        assert_eq!(parse("GET", "/api/v1/mirrors/nightly/runs"), Ok(Route::Runs(name.clone(), 20)));
        assert_eq!(parse("GET", "/api/v1/mirrors/nightly/runs?n=5&x=1"), Ok(Route::Runs(name.clone(), 5)));
        assert_eq!(parse("POST", "/api/v1/mirrors/nightly/runs"), Ok(Route::Run(name)));
        let name = "prod".to_owned();
        assert_eq!(parse("GET", "/api/v1/promotions/prod/diff?tag=v1%2B"), Ok(Route::Diff(name.clone(), Some("v1+".to_owned()))));
        assert_eq!(parse("POST", "/api/v1/promotions/prod/rollback"), Ok(Route::Operate(name, Verb::Rollback)));
        let id = "01931d2a-0000-7000-8000-000000000000";
        assert_eq!(parse("POST", &format!("/api/v1/jobs/{id}/cancel")), Ok(Route::Cancel(id.parse().unwrap())));
    }

    #[test]
    fn what_is_not_there_or_not_so_is_told_apart() {
        assert!(matches!(parse("GET", "/api/v1/nothing"), Err(Refusal::Unknown(_))));
        assert!(matches!(parse("POST", "/api/v1/promotions/x/explode"), Err(Refusal::Unknown(_))));
        assert_eq!(parse("GET", "/api/v1/promotions/x/hold"), Err(Refusal::Method("POST")));
        assert!(matches!(parse("GET", "/api/v2/mirrors"), Err(Refusal::Unknown(_))));
        assert!(matches!(parse("GET", "/api/v1/jobs/x"), Err(Refusal::Unknown(_))));
        assert_eq!(parse("DELETE", "/api/v1/mirrors"), Err(Refusal::Method("GET, HEAD")));
        assert_eq!(parse("PUT", "/api/v1/mirrors/x/runs"), Err(Refusal::Method("GET, HEAD, POST")));
        assert!(matches!(parse("GET", "/api/v1/mirrors/x/runs?n=-1"), Err(Refusal::Invalid(_))));
    }
}
