//! Git, as this server uses it: the program `git` over a bare repository of ours, with no work tree.
//!
//! Why the program: it speaks every transport with every kind of key, and pushes. Why no work tree: nothing of a stranger's
//! repository becomes a file here, so that no link and no name in it matters, and nothing has to be checked out.
//!
//! Whether a push has landed is never read from what git says, which differs from server to server: the tip of the remote is asked,
//! and if our commit is in it the push has landed, whatever was answered.

mod cache;
mod process;
mod remote;

pub(crate) use cache::LARGEST_OF_MANY;
pub use cache::{Cache, Commit, Entry, EntryKind, File, Pushed, Signature, Tip};
pub use process::{GitError, Program};
pub use remote::{Login, Remote, RemoteError};
