//! A remote registry as seen by us.
