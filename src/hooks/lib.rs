//! Webhooks: out, for those who listen to this registry, and in, from forges.
