//! Hashing as the bytes arrive, with a state that can be stored and taken up again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::digest::Digest as _;
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Sha256, Sha512};

use crate::digest::{Algorithm, Digest};

/// A running hash of one algorithm.
#[derive(Clone)]
pub struct Hasher(Inner);

#[derive(Clone)]
enum Inner {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// A running hash at rest: what an upload session stores so that it can go on after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashState {
    algorithm: String,
    state: String,
}

impl Hasher {
    /// An empty hash.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => Inner::Sha256(Sha256::new()),
            Algorithm::Sha512 => Inner::Sha512(Sha512::new()),
        })
    }

    /// The digest of `bytes` in one call.
    #[must_use]
    pub fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Self::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Inner::Sha256(_) => Algorithm::Sha256,
            Inner::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Inner::Sha256(hasher) => hasher.update(bytes),
            Inner::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            Inner::Sha256(hasher) => Digest::from_output(Algorithm::Sha256, &hasher.finalize()),
            Inner::Sha512(hasher) => Digest::from_output(Algorithm::Sha512, &hasher.finalize()),
        }
    }

    /// The state for [`Hasher::resume`].
    #[must_use]
    pub fn state(&self) -> HashState {
        let state = match &self.0 {
            Inner::Sha256(hasher) => STANDARD.encode(hasher.serialize()),
            Inner::Sha512(hasher) => STANDARD.encode(hasher.serialize()),
        };
        HashState { algorithm: self.algorithm().as_str().to_owned(), state }
    }

    /// Goes on from a stored state; `None` if the state is not one that [`Hasher::state`] made.
    #[must_use]
    pub fn resume(state: &HashState) -> Option<Self> {
        let bytes = STANDARD.decode(&state.state).ok()?;
        let inner = match state.algorithm.parse().ok()? {
            Algorithm::Sha256 => Inner::Sha256(Sha256::deserialize(bytes.as_slice().try_into().ok()?).ok()?),
            Algorithm::Sha512 => Inner::Sha512(Sha512::deserialize(bytes.as_slice().try_into().ok()?).ok()?),
        };
        Some(Self(inner))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_empty_configuration_has_its_well_known_digest() {
        let digest = Hasher::digest(Algorithm::Sha256, b"{}");
        assert_eq!(digest.hex(), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }

    #[test]
    fn a_foreign_state_is_refused() {
        let mut state = Hasher::new(Algorithm::Sha256).state();
        state.state.truncate(8);
        assert!(Hasher::resume(&state).is_none());
    }

    proptest! {
        #[test]
        fn any_chunking_with_stored_states_gives_the_same_digest(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8), wide in any::<bool>()) {
            let algorithm = if wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let mut hasher = Hasher::new(algorithm);
            for chunk in &chunks {
                hasher = Hasher::resume(&hasher.state()).unwrap();
                hasher.update(chunk);
            }
            prop_assert_eq!(hasher.finish(), Hasher::digest(algorithm, &chunks.concat()));
        }
    }
}
