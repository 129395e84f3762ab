//! The guard: the one place through which every route passes. Who asks, and may they?

use oci::{Error, RepositoryName};

use crate::route::Route;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read content or listings.
    Pull,
    /// Add content.
    Push,
    /// Remove content.
    Delete,
    /// List all repositories.
    Catalog,
}

/// What is asked: an action, on a repository where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access<'route> {
    /// The action.
    pub action: Action,
    /// The repository, under the name by which it is stored.
    pub repository: Option<&'route RepositoryName>,
}

/// Decides about requests. Until access rules exist everyone may do everything; the root refuses to listen beyond loopback.
#[derive(Clone, Debug, Default)]
pub struct Guard;

impl Guard {
    /// Lets a route pass, or says why not.
    pub(crate) fn check(&self, route: &Route) -> Result<(), Error> {
        accesses(route).iter().flatten().try_for_each(|access| self.decide(access))
    }

    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "where the access rules will be asked")]
    fn decide(&self, _: &Access<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// All that a route wants. Exhaustive, so that no route can be without.
pub(crate) fn accesses(route: &Route) -> [Option<Access<'_>>; 2] {
    match route {
        Route::Live | Route::Ready | Route::Metrics | Route::Version => [None, None],
        Route::Catalog { .. } => [Some(Access { action: Action::Catalog, repository: None }), None],
        Route::Tags { source, .. }
        | Route::Referrers { source, .. }
        | Route::PullManifest { source, .. }
        | Route::PullBlob { source, .. } => [on(Action::Pull, &source.name), None],
        Route::PushManifest { name, .. }
        | Route::StartUpload { name, .. }
        | Route::PushBlob { name, .. }
        | Route::UploadStatus { name, .. }
        | Route::AppendUpload { name, .. }
        | Route::FinishUpload { name, .. }
        | Route::CancelUpload { name, .. } => [on(Action::Push, name), None],
        // A mount gives content of one repository to another, so it is a pull as well.
        Route::MountBlob { name, from, .. } => [on(Action::Push, name), from.as_ref().and_then(|from| on(Action::Pull, from))],
        Route::DeleteManifest { name, .. } | Route::DeleteBlob { name, .. } => [on(Action::Delete, name), None],
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form in which it is listed")]
fn on(action: Action, name: &RepositoryName) -> Option<Access<'_>> {
    Some(Access { action, repository: Some(name) })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_mount_wants_push_and_pull() {
        let query = format!("mount=sha256:{}&from=b", "a".repeat(64));
        let route = Route::parse(&Method::POST, "/v2/a/blobs/uploads/", Some(&query)).unwrap();
        let wanted: Vec<_> = accesses(&route)
            .into_iter()
            .flatten()
            .map(|access| (access.action, access.repository.unwrap().to_string()))
            .collect();
        assert_eq!(wanted, [(Action::Push, "a".to_owned()), (Action::Pull, "b".to_owned())]);
    }
}
