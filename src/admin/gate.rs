//! Who may ask what here: whoever has the token of the server's file, and those to whom the rules give it.

use std::net::{IpAddr, Ipv4Addr};

use auth::{Failure, Identity, Principal, Verb};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use promotion::Rule;
use server::Peer;
use telemetry::AuditEntry;

use crate::answer::Refusal;
use crate::route::Route;
use crate::service::Admin;

/// Whoever has the token of the server's file.
const OPERATOR: &str = "operator";

/// Somebody who asks.
pub(crate) struct Operator {
    /// As what he does is told of.
    pub(crate) name: String,
    /// Where he asks from.
    from: Option<String>,
    /// `None` for whoever has the token of the file: he may do everything.
    identity: Option<Identity>,
}

/// What a route wants of him.
enum Wanted<'route> {
    /// The verb `admin`.
    Admin,
    /// Nothing: he sees what he may.
    Own,
    /// The verb `promote` for the repository of this promotion, or `admin`.
    Promotion(&'route str),
}

impl Operator {
    /// May he see and run promotions of this rule?
    pub(crate) fn may_promote(&self, rule: &Rule) -> bool {
        let may = |identity: &Identity| identity.may(Verb::Admin, None) || identity.may(Verb::Promote, Some(&rule.repository));
        self.identity.as_ref().is_none_or(may)
    }
}

impl Admin {
    /// Makes out who asks.
    pub(crate) async fn operator(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Operator, Refusal> {
        let shown = headers.get(AUTHORIZATION);
        let from = peer.map(|peer| peer.addr().ip().to_string());
        if self.parts().token.is(shown.and_then(|value| value.to_str().ok())) {
            return Ok(Operator { name: OPERATOR.to_owned(), from, identity: None });
        }
        let Some(auth) = &self.parts().auth else { return Err(Refusal::Unauthorized) };
        let identity = match (shown, peer.and_then(Peer::certificate)) {
            (None, Some(name)) => auth.identity_of(Principal::known("cert", name)),
            (None, None) => return Err(Refusal::Unauthorized),
            (Some(shown), _) => {
                let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.addr().ip());
                auth.identify(Some(shown.as_bytes()), address).await.map_err(|failure| match failure {
                    Failure::Wait(wait) => Refusal::Wait(wait),
                    Failure::Wrong(reason) => {
                        tracing::warn!(peer = peer.map(Peer::as_str), reason, "credentials were refused");
                        Refusal::Unauthorized
                    }
                })?
            }
        };
        // A token that clients fetch for a pull is for that alone.
        if identity.principal().is_anonymous() || identity.has_token() {
            return Err(Refusal::Unauthorized);
        }
        Ok(Operator { name: identity.principal().name().to_owned(), from, identity: Some(identity) })
    }

    /// Writes down what an operator has done.
    pub(crate) fn note(&self, operator: &Operator, event: &'static str, what: String) {
        self.write_down(&AuditEntry {
            event,
            outcome: "done",
            principal: Some(operator.name.clone()),
            from: operator.from.clone(),
            what: Some(what),
            ..AuditEntry::default()
        });
    }

    /// Writes down who was not let in.
    pub(crate) fn note_refusal(&self, refusal: &Refusal, path: &str, peer: Option<&Peer>) {
        let event = match refusal {
            Refusal::Unauthorized | Refusal::Wait(_) => "login",
            Refusal::Denied(_) => "access",
            _ => return,
        };
        self.write_down(&AuditEntry {
            event,
            outcome: "refused",
            from: peer.map(|peer| peer.addr().ip().to_string()),
            what: Some(path.chars().take(200).collect()),
            ..AuditEntry::default()
        });
    }

    fn write_down(&self, entry: &AuditEntry) {
        self.parts().audit.record(self.parts().clock.now(), entry);
    }

    /// Lets a route pass, or says why not.
    pub(crate) fn check_route(&self, route: &Route, operator: &Operator) -> Result<(), Refusal> {
        let Some(identity) = &operator.identity else { return Ok(()) };
        match wanted(route) {
            Wanted::Own => Ok(()),
            Wanted::Admin if identity.may(Verb::Admin, None) => Ok(()),
            Wanted::Admin => Err(Refusal::Denied(format!("{} may not do this: it wants the verb admin", operator.name))),
            Wanted::Promotion(name) => {
                let rule = self.parts().promotions.all().find(|rule| rule.name == name);
                // Whether there is one that he may not see is not told.
                let may = rule.is_some_and(|rule| operator.may_promote(rule));
                if may { Ok(()) } else { Err(Refusal::Unknown(format!("there is no promotion called {name:?}"))) }
            }
        }
    }
}

/// Exhaustive, so that no route can be without.
fn wanted(route: &Route) -> Wanted<'_> {
    match route {
        Route::Promotions => Wanted::Own,
        Route::Promotion(name) | Route::Diff(name, _) | Route::Check(name) | Route::Operate(name, _) => Wanted::Promotion(name),
        Route::Mirrors
        | Route::Mirror(_)
        | Route::Runs(..)
        | Route::Run(_)
        | Route::Hooks
        | Route::Hook(_)
        | Route::Redeliver(..)
        | Route::Jobs
        | Route::Job(_)
        | Route::Events(_)
        | Route::Cancel(_)
        | Route::Retry(_)
        | Route::Robots
        | Route::MakeRobot(_)
        | Route::RemoveRobot(..) => Wanted::Admin,
    }
}
