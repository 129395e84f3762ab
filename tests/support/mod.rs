//! What the tests that drive real programs share: processes that end with the test, the server under test, and images made by hand.

pub(crate) mod layout;
pub(crate) mod process;
pub(crate) mod server;
