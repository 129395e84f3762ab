//! Every route, for everybody.

use std::sync::Arc;

use auth::{Htpasswd, Memory, Oidc, Parts, Pattern, Policy, Rule, Signer, TOKEN_LIFETIME, Who};
use http::Method;
use secrecy::ExposeSecret;
use telemetry::{Clock, SystemClock};

use super::*;
use crate::route::Source;

/// Those who ask, and what the rules of [`guard`] give each of them in `team/app`.
const EVERYBODY: [(&str, &[Verb]); 9] = [
    ("anonymous", &[]),
    ("user:stranger", &[]),
    ("user:puller", &[Verb::Pull]),
    ("user:pusher", &[Verb::Pull, Verb::Push]),
    ("robot:blind", &[Verb::Push]),
    ("user:deleter", &[Verb::Pull, Verb::Delete]),
    ("user:owner", &[Verb::Pull, Verb::Push, Verb::Delete]),
    ("user:admin", &[Verb::Admin]),
    ("user:neighbour", &[]),
];

/// What somebody is answered who does not get what he asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Passes,
    Unauthorized,
    Denied,
    NotFound,
}

async fn guard() -> Guard {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let records = Arc::new(Memory::default());
    let rule = |who: &str, may: &[Verb], place: &str| Rule {
        place: "here".to_owned(),
        who: vec![Who::parse(who).unwrap()],
        claims: [].into(),
        may: may.to_vec(),
        repositories: vec![Pattern::parse(place).unwrap()],
    };
    let mut rules: Vec<Rule> =
        EVERYBODY.iter().filter(|(_, may)| !may.is_empty()).map(|(who, may)| rule(who, may, "team/app")).collect();
    rules.push(rule("cert:owner", &[Verb::Pull, Verb::Push, Verb::Delete], "team/app"));
    rules.push(rule("user:neighbour", &[Verb::Pull, Verb::Push, Verb::Delete], "other/**"));
    let auth = Auth::new(Parts {
        policy: Policy::new(rules),
        accounts: Htpasswd::default(),
        oidc: Oidc::none(Arc::clone(&clock)),
        signer: Signer::new(Arc::clone(&records) as _, Arc::clone(&clock)).await.unwrap(),
        records,
        service: "roadstead".to_owned(),
        token_lifetime: TOKEN_LIFETIME,
        clock,
    });
    Guard::new(Rules { auth, has_tokens: true, public_metrics: false })
}

fn caller(guard: &Guard, who: &str) -> Caller {
    let auth = &guard.rules().unwrap().auth;
    match who.split_once(':') {
        None => Caller::known(auth.anonymous(), false, None),
        Some((kind, name)) => Caller::known(auth.identity_of(Principal::known(kind, name)), true, None),
    }
}

/// The route after this one. A new route has no place in this chain, and this does not compile until it has one.
fn after(route: &Route) -> Option<Route> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let id = "01931d2a-0000-4000-8000-000000000000";
    let parse = |method: Method, path: &str| {
        Some(Route::parse(&method, path.split('?').next().unwrap(), path.split_once('?').map(|(_, query)| query)).unwrap())
    };
    match route {
        Route::Live => parse(Method::GET, "/readyz"),
        Route::Ready => parse(Method::GET, "/metrics"),
        Route::Metrics => parse(Method::GET, "/token"),
        Route::Token { .. } => parse(Method::GET, "/v2/"),
        Route::Version => parse(Method::GET, "/v2/_catalog"),
        Route::Catalog { .. } => parse(Method::GET, "/v2/team/app/tags/list"),
        Route::Tags { .. } => parse(Method::GET, &format!("/v2/team/app/referrers/{digest}")),
        Route::Referrers { .. } => parse(Method::GET, "/v2/team/app/manifests/v1"),
        Route::PullManifest { .. } => parse(Method::PUT, "/v2/team/app/manifests/v1"),
        Route::PushManifest { .. } => parse(Method::DELETE, "/v2/team/app/manifests/v1"),
        Route::DeleteManifest { .. } => parse(Method::GET, &format!("/v2/team/app/blobs/{digest}")),
        Route::PullBlob { .. } => parse(Method::DELETE, &format!("/v2/team/app/blobs/{digest}")),
        Route::DeleteBlob { .. } => parse(Method::POST, "/v2/team/app/blobs/uploads/"),
        Route::StartUpload { .. } => parse(Method::POST, &format!("/v2/team/app/blobs/uploads/?digest={digest}")),
        Route::PushBlob { .. } => parse(Method::POST, &format!("/v2/team/app/blobs/uploads/?mount={digest}&from=secret/x")),
        Route::MountBlob { .. } => parse(Method::GET, &format!("/v2/team/app/blobs/uploads/{id}")),
        Route::UploadStatus { .. } => parse(Method::PATCH, &format!("/v2/team/app/blobs/uploads/{id}")),
        Route::AppendUpload { .. } => parse(Method::PUT, &format!("/v2/team/app/blobs/uploads/{id}?digest={digest}")),
        Route::FinishUpload { .. } => parse(Method::DELETE, &format!("/v2/team/app/blobs/uploads/{id}")),
        Route::CancelUpload { .. } => None,
    }
}

/// What a route needs, said here once more and in other words than by the guard: by its method and path as clients know them.
fn expected(route: &Route, who: &str, may: &[Verb]) -> Answer {
    let known = who != "anonymous";
    let verb = match route.label() {
        "live" | "ready" | "token" => return Answer::Passes,
        "metrics" if may.contains(&Verb::Admin) => return Answer::Passes,
        "metrics" => return if known { Answer::Denied } else { Answer::Unauthorized },
        // Whoever is known may list, and sees what he may pull: perhaps nothing.
        "version" | "catalog" => return if known { Answer::Passes } else { Answer::Unauthorized },
        "tags" | "referrers" | "pull_manifest" | "pull_blob" => Verb::Pull,
        "delete_manifest" | "delete_blob" => Verb::Delete,
        _ => Verb::Push,
    };
    match (may.contains(&verb), known, may.contains(&Verb::Pull)) {
        (true, ..) => Answer::Passes,
        (false, false, _) => Answer::Unauthorized,
        (false, true, true) => Answer::Denied,
        (false, true, false) => Answer::NotFound,
    }
}

fn answer(checked: Result<(), Denial>) -> Answer {
    match checked {
        Ok(()) => Answer::Passes,
        Err(Denial::Challenge { .. }) => Answer::Unauthorized,
        Err(Denial::Error(Error::Denied { .. })) => Answer::Denied,
        Err(Denial::Error(Error::NameUnknown { .. })) => Answer::NotFound,
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_route_answers_everybody_as_the_rules_say() {
    let guard = guard().await;
    let (mut route, mut count) = (Some(Route::Live), 0);
    while let Some(this) = route {
        for (who, may) in EVERYBODY {
            let told = answer(guard.check(&this, &caller(&guard, who)));
            assert_eq!(told, expected(&this, who, may), "{} by {who}", this.label());
        }
        count += 1;
        route = after(&this);
    }
    assert_eq!(count, 20, "a route is left out of the chain");
}

#[tokio::test]
async fn a_token_lets_nobody_do_more_than_he_has_fetched_it_for() {
    let guard = guard().await;
    let auth = guard.rules().unwrap().auth.clone();
    let owner = auth.identity_of(Principal::known("cert", "owner"));
    for (scope, passes) in
        [("repository:team/app:pull", ["tags"].as_slice()), ("repository:team/app:delete", &["delete_manifest"])]
    {
        let request = auth::TokenRequest { scopes: auth::Scope::parse_all([scope]).unwrap(), is_offline: false };
        let made = auth.grant(&owner, &request).unwrap();
        let shown = format!("Bearer {}", made.token.expose_secret());
        let granted = auth.identify(Some(shown.as_bytes()), address_of(None)).await.unwrap();
        for label in ["tags", "push_manifest", "delete_manifest"] {
            let mut route = Some(Route::Live);
            while route.as_ref().is_some_and(|route| route.label() != label) {
                route = route.as_ref().and_then(after);
            }
            let checked = guard.check(&route.unwrap(), &Caller::known(granted.clone(), true, None));
            match checked {
                Ok(()) => assert!(passes.contains(&label), "{scope} {label}"),
                Err(Denial::Challenge { error, scope: Some(wanted) }) => {
                    assert!(!passes.contains(&label) && error == Some("insufficient_scope"), "{scope} {label}");
                    assert!(wanted.starts_with("repository:team/app:"), "{wanted}");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn without_rules_everybody_passes() {
    let guard = Guard::open();
    let source = Source { name: RepositoryName::parse("a").unwrap(), namespace: None, asked: None, hosted: false };
    let route = Route::PullManifest { source, reference: oci::Reference::parse("v1").unwrap(), head: false };
    assert!(guard.check(&route, &Caller::anybody(None)).is_ok());
}

#[tokio::test]
async fn what_cannot_be_ended_is_not_renewed_without_being_shown() {
    let guard = guard().await;
    let auth = &guard.rules().unwrap().auth;
    let request = auth::TokenRequest { scopes: Vec::new(), is_offline: true };
    let made = auth.grant(&auth.identity_of(Principal::known("cert", "spiffe://x/y")), &request).unwrap();
    assert!(made.refresh_token.is_none());
    let made = auth.grant(&auth.anonymous(), &request).unwrap();
    assert!(made.refresh_token.is_none());
}
