//! What storage can say went wrong. The caller, who knows what the content means, names it for clients.

/// A failure of the store. Absence is not one: look-ups return `Option`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is stored is not what was written.
    #[error("the object {key} is corrupt: {reason}")]
    Corrupt {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tag that stays where it is.
    #[error("the tag {tag} of {name} is immutable")]
    Immutable {
        /// The repository.
        name: String,
        /// The tag.
        tag: String,
    },
    /// A pointer kept changing under us.
    #[error("the object {key} is being changed by too many writers at once")]
    Contended {
        /// Its key.
        key: String,
    },
    /// The backend failed.
    #[error("the store failed on {key}")]
    Backend {
        /// The key that was worked on.
        key: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// A file of the store or of the scratch folder failed.
    #[error("a file of the store failed ({what})")]
    File {
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn backend(key: &object_store::path::Path, source: object_store::Error) -> Self {
        Self::Backend { key: key.to_string(), source }
    }

    /// For `map_err` around file work.
    pub(crate) fn file(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { what, source }
    }
}
