//! Ports for servers that cannot choose one themselves.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Ports that were given away, so that two servers that start at the same time do not get one.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody has, with room above it: `SeaweedFS` takes the one 10,000 higher as well. Both are below those that the system
/// gives to connections, of which one may be taken between our look and the server's.
pub(crate) fn port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let low = 10_000 + port % 12_000;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if is_free(low) && is_free(low + 10_000) && !given.contains(&(low + 10_000)) && given.insert(low) {
            given.insert(low + 10_000);
            return low;
        }
    }
}
