//! What an image runs on. [image-spec, Image Index, `platform`]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and a processor, as an index says them of its images.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system, as Go calls it.
    #[serde(default)]
    pub os: String,
    /// The processor, as Go calls it.
    #[serde(default)]
    pub architecture: String,
    /// The variant of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the operating system; only Windows has one.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

/// Why a text names no platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a platform is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm/v7")]
pub struct PlatformError;

impl Platform {
    /// Is `offered` what is wanted? A variant or version that is not wanted may be any; `arm64` and `amd64` have a first variant
    /// (`v8`, `v1`) that is seldom written.
    #[must_use]
    pub fn takes(&self, offered: &Self) -> bool {
        let first = |platform: &Self| match (platform.architecture.as_str(), platform.variant.as_deref()) {
            ("arm64", None) => Some("v8".to_owned()),
            ("amd64", None) => Some("v1".to_owned()),
            (_, variant) => variant.map(str::to_owned),
        };
        self.os == offered.os
            && self.architecture == offered.architecture
            && (self.variant.is_none() || first(self) == first(offered))
            && (self.os_version.is_none() || self.os_version == offered.os_version)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let mut parts = text.split('/');
        let mut part = || parts.next().filter(|part| is_word(part)).map(str::to_owned);
        let (Some(os), Some(architecture)) = (part(), part()) else { return Err(PlatformError) };
        let variant = match parts.next() {
            None => None,
            Some(variant) if is_word(variant) && parts.next().is_none() => Some(variant.to_owned()),
            Some(_) => return Err(PlatformError),
        };
        Ok(Self { os, architecture, variant, os_version: None })
    }
}

fn is_word(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_are_read_as_they_are_written() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(platform(text).to_string(), text);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/", "linux/arm/v7/x", "linux/a b", "all"] {
            assert_eq!(text.parse::<Platform>(), Err(PlatformError), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_asked_for_may_be_any_and_first_variants_need_no_name() {
        assert!(platform("linux/arm").takes(&platform("linux/arm/v7")));
        assert!(!platform("linux/arm/v6").takes(&platform("linux/arm/v7")));
        assert!(platform("linux/arm64/v8").takes(&platform("linux/arm64")));
        assert!(platform("linux/amd64/v1").takes(&platform("linux/amd64")));
        assert!(!platform("linux/amd64/v3").takes(&platform("linux/amd64")));
        assert!(!platform("linux/amd64").takes(&platform("windows/amd64")));
    }
}
