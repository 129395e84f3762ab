//! Why a token of another issuer is not taken.

/// Why a token is not taken. Only the log is told which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum Refusal {
    /// It is longer than any that is honest.
    TooLarge,
    /// It is no signed token.
    Malformed,
    /// It is encrypted, or asks for what is not known.
    Unsupported,
    /// Its issuer is none of ours.
    Issuer,
    /// It is signed in a way that is not allowed.
    Algorithm,
    /// The keys of its issuer cannot be had.
    Unreachable,
    /// Its issuer has no such key.
    Key,
    /// Its signature is wrong.
    Signature,
    /// A claim that must be there is not, or is not what it should be.
    Claims,
    /// It is for somebody else.
    Audience,
    /// It is over.
    Expired,
    /// Its time has not come.
    Early,
    /// The name in it is none.
    Subject,
}

impl Refusal {
    /// In words, for the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "the token is too large",
            Self::Malformed => "the token is no signed JWT",
            Self::Unsupported => "the token is encrypted, or has a critical header that is not known",
            Self::Issuer => "the issuer of the token is none of those that are configured",
            Self::Algorithm => "the token is signed by an algorithm that is not allowed",
            Self::Unreachable => "the keys of the token's issuer cannot be had",
            Self::Key => "the token's issuer has no such key",
            Self::Signature => "the signature of the token is wrong",
            Self::Claims => "the token lacks exp, or has a time that is none",
            Self::Audience => "the token is for another audience",
            Self::Expired => "the token is over",
            Self::Early => "the time of the token has not come: compare the clocks",
            Self::Subject => "the token has no subject, or one that cannot be a name",
        }
    }

    /// Was it somebody's guess? What its issuer has signed is none, and nobody is to blame for an issuer that is down.
    pub(crate) const fn is_guess(self) -> bool {
        !matches!(self, Self::Unreachable | Self::Audience | Self::Expired | Self::Early | Self::Claims | Self::Subject)
    }
}
