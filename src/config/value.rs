//! What one value may be: text, times, sizes, addresses. Each parser answers what is wrong and what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use oci::Platform;
use toml::de::DeValue;
use tracing::level_filters::LevelFilter;
use url::{Host, Url};

use super::{Format, Location};

/// A value as it was given.
pub(super) enum Value<'v> {
    /// In the file, with its type.
    Toml(&'v DeValue<'v>),
    /// In the environment or on the command line, where everything is text.
    Word(&'v str),
}

impl Value<'_> {
    /// What it is, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Word(_) | Self::Toml(DeValue::String(_)) => "a text",
            Self::Toml(DeValue::Integer(_)) => "an integer",
            Self::Toml(DeValue::Float(_)) => "a number",
            Self::Toml(DeValue::Boolean(_)) => "a boolean",
            Self::Toml(DeValue::Datetime(_)) => "a date",
            Self::Toml(DeValue::Array(_)) => "a list",
            Self::Toml(DeValue::Table(_)) => "a table",
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Result<&str, String> {
        let text = match self {
            Self::Word(text) => text,
            Self::Toml(DeValue::String(text)) => text.as_ref(),
            Self::Toml(_) => return Err(format!("is {}; write a text in quotes", self.kind())),
        };
        if text.is_empty() {
            return Err("is empty; write a value, or leave it out for the default".to_owned());
        }
        Ok(text)
    }

    /// A whole number that is not negative; `None` if it is not even a number.
    fn integer(&self) -> Option<Result<u64, String>> {
        let parsed = match self {
            Self::Toml(DeValue::Integer(value)) => u64::from_str_radix(value.as_str(), value.radix()),
            Self::Toml(DeValue::String(text)) if is_digits(text) => text.parse(),
            Self::Word(text) if is_digits(text) => text.parse(),
            _ => return None,
        };
        Some(parsed.map_err(|_| format!("is not between 0 and {}; write a number in this range", u64::MAX)))
    }
}

pub(super) fn boolean(value: &Value<'_>) -> Result<bool, String> {
    match value {
        Value::Toml(DeValue::Boolean(value)) => Ok(*value),
        Value::Word("true") => Ok(true),
        Value::Word("false") => Ok(false),
        _ => Err(format!("is {}; write true or false, without quotes", value.kind())),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// How many of something; at least one.
pub(super) fn count(value: &Value<'_>) -> Result<usize, String> {
    match value.integer() {
        Some(number) => match usize::try_from(number?) {
            Ok(0) => Err("is 0, which would let nothing through; write at least 1".to_owned()),
            Ok(number) => Ok(number),
            Err(_) => Err("is too large; write a smaller number".to_owned()),
        },
        None => Err(format!("is {}; write a whole number such as 10000", value.kind())),
    }
}

/// How often in a second; at least once.
pub(super) fn rate(value: &Value<'_>) -> Result<u32, String> {
    let number = count(value)?;
    u32::try_from(number).map_err(|_| "is too large; write a smaller number".to_owned())
}

/// A part of something in whole percent, but not all of it.
pub(super) fn share(value: &Value<'_>) -> Result<u8, String> {
    const ADVICE: &str = "write a whole number of percent in quotes, such as \"50%\"";
    if let Some(number) = value.integer() {
        return Err(format!("is {} without its unit; {ADVICE}", number?));
    }
    let text = match value {
        Value::Toml(DeValue::String(_)) | Value::Word(_) => value.text()?,
        Value::Toml(_) => return Err(format!("is {}; {ADVICE}", value.kind())),
    };
    let number = text.strip_suffix('%').map(str::trim_end).filter(|number| is_digits(number));
    match number.map(str::parse::<u64>) {
        Some(Ok(percent @ 0..=99)) => u8::try_from(percent).map_err(|_| format!("{text:?} is not a share; {ADVICE}")),
        Some(_) => Err(format!("{text:?} leaves nothing to background work; write a share from \"0%\" to \"99%\"")),
        None => Err(format!("{text:?} is not a share; {ADVICE}")),
    }
}

/// A time: a whole number and its unit.
pub(super) fn duration(value: &Value<'_>) -> Result<Duration, String> {
    const ADVICE: &str = "write a whole number and its unit (ms, s, m, h, d), such as \"30s\" or \"24h\"";
    if let Some(number) = value.integer() {
        return Err(format!("is {} without a unit; {ADVICE}", number?));
    }
    let text = value.text()?;
    let (number, unit) = split_unit(text);
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{text:?} is not a time; {ADVICE}")),
    };
    let milliseconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    // A century is as good as forever, and a sum with the present time must not overflow.
    match milliseconds {
        Some(milliseconds) if milliseconds <= 36_500 * 86_400_000 => Ok(Duration::from_millis(milliseconds)),
        Some(_) => Err(format!("{text:?} is longer than a century; write a shorter time")),
        None => Err(format!("{text:?} is not a time; {ADVICE}")),
    }
}

/// A time that is not zero.
pub(super) fn limit(value: &Value<'_>) -> Result<Duration, String> {
    match duration(value)? {
        Duration::ZERO => Err("is zero, so that everything would be late; write a longer time".to_owned()),
        duration => Ok(duration),
    }
}

/// A number of bytes, at least one.
pub(super) fn size(value: &Value<'_>) -> Result<u64, String> {
    const ADVICE: &str =
        "write a whole number of bytes, or one with its unit (kB, MB, GB, TB, KiB, MiB, GiB, TiB), such as \"8MiB\"";
    let bytes = if let Some(number) = value.integer() {
        Some(number?)
    } else if matches!(value, Value::Toml(DeValue::String(_)) | Value::Word(_)) {
        let text = value.text()?;
        let (number, unit) = split_unit(text);
        let scale: u64 = match unit {
            "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(format!("{text:?} is not a size; {ADVICE}")),
        };
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale))
    } else {
        return Err(format!("is {}; {ADVICE}", value.kind()));
    };
    match bytes {
        Some(0) => Err("is 0, which would let nothing through; write a larger size".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("is not a size that can be counted; {ADVICE}")),
    }
}

/// The largest manifest: what the specification asks for, or more.
pub(super) fn manifest_size(value: &Value<'_>) -> Result<u64, String> {
    match size(value)? {
        bytes if bytes < 4 << 20 => {
            Err("is less than the 4 MiB that a registry has to accept; write \"4MiB\" or more".to_owned())
        }
        bytes => Ok(bytes),
    }
}

/// Digits, and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()))
}

/// An address and a port to listen on.
pub(super) fn listen(value: &Value<'_>) -> Result<SocketAddr, String> {
    let text = value.text()?;
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(format!("{text:?} has no port; write \"{}\"", SocketAddr::new(address, 5000)));
    }
    if let Some(port) = text.strip_prefix(':').filter(|port| is_digits(port)) {
        return Err(format!("{text:?} has no address; write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for all of them"));
    }
    if let Some(port) = text.strip_prefix("localhost:").filter(|port| is_digits(port)) {
        return Err(format!("{text:?} is a name; write the address, \"127.0.0.1:{port}\""));
    }
    Err(format!("{text:?} is not an address and a port; write one such as \"127.0.0.1:5000\" or \"[::1]:5000\""))
}

/// What something is called in commands, logs and metrics.
pub(super) fn name(value: &Value<'_>) -> Result<String, String> {
    let text = value.text()?;
    let fine = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') && text.len() <= 60;
    if fine && !text.starts_with('-') {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a name; write at most 60 lower-case letters, digits and dashes"))
}

pub(super) fn platform(value: &Value<'_>) -> Result<Platform, String> {
    let text = value.text()?;
    text.parse().map_err(|error| format!("{text:?} is not one: {error}"))
}

pub(super) fn path(value: &Value<'_>) -> Result<PathBuf, String> {
    value.text().map(PathBuf::from)
}

/// Where a registry is: scheme, host and port. The value is not repeated in errors, for it can hold a password.
pub(super) fn registry_url(value: &Value<'_>) -> Result<Url, String> {
    const ADVICE: &str = "write one such as \"https://registry.example.org\"";
    let url = Url::parse(value.text()?).map_err(|error| format!("is not a URL ({error}); {ADVICE}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("is neither http: nor https:; {ADVICE}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; leave it out of the URL, which is shown in logs".to_owned());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(
            "has more than scheme, host and port; leave out what follows: a registry is at the root of its host".to_owned()
        );
    }
    Ok(url)
}

/// `host` or `host:port` as it stands in an image's name; answered in lower case.
pub(super) fn host(value: &Value<'_>) -> Result<String, String> {
    const ADVICE: &str = "write only the host, or host:port, such as \"registry.example.org\" or \"10.0.0.1:5000\"";
    let text = value.text()?.to_ascii_lowercase();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text.as_str(), None),
    };
    if text.contains("//") || text.contains('/') || text.contains('@') {
        return Err(format!("is more than a host; {ADVICE}"));
    }
    if port.is_some_and(|port| !is_digits(port) || !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(format!("{text:?} has a port that is not between 1 and 65535; {ADVICE}"));
    }
    // The parser accepts odd spellings, such as 0x7f.1 or punycode in clear; a host here is compared as text.
    match Host::parse(host) {
        Ok(parsed) if parsed.to_string() == host => Ok(text),
        _ => Err(format!("{text:?} is not a host; {ADVICE}")),
    }
}

pub(super) fn location(value: &Value<'_>) -> Result<Location, String> {
    const ADVICE: &str = "write \"file:PATH\", \"s3://BUCKET\", \"gs://BUCKET\", \"az://CONTAINER\" or \"memory:\"";
    let text = value.text()?;
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(format!("{text:?} has no scheme; write \"file:{text}\" for a folder, or \"memory:\""));
    };
    match scheme {
        "memory" if rest.is_empty() => Ok(Location::Memory),
        "memory" => Err("memory: has no path; write \"memory:\" alone".to_owned()),
        "file" => folder(rest),
        "s3" | "gs" | "az" => text
            .parse()
            .map_err(|_| format!("does not name a bucket; write \"{scheme}://BUCKET\", or \"{scheme}://BUCKET/PREFIX\"")),
        // Such a value may hold a key of a cloud: it is not repeated.
        _ => Err(format!("has a scheme that is not known; {ADVICE}")),
    }
}

/// The path of a `file:` URL, taken as it is written: `%20` is three letters.
fn folder(rest: &str) -> Result<Location, String> {
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Err("names another host; write \"file:PATH\", or \"file:///PATH\" from the root".to_owned()),
        None => rest,
    };
    if path.is_empty() {
        return Err("has no path; write one such as \"file:./data\"".to_owned());
    }
    Ok(Location::Folder(PathBuf::from(path)))
}

pub(super) fn format(value: &Value<'_>) -> Result<Format, String> {
    match value.text()? {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        other => Err(format!("{other:?} is not a format; write \"text\" or \"json\"")),
    }
}

/// A level, or levels by target. What the log itself would read as a target without a level is refused: it is a typing error.
pub(super) fn level(value: &Value<'_>) -> Result<String, String> {
    let text = value.text()?;
    for directive in text.split(',') {
        // A directive with a span and its fields has a grammar of its own, which the log checks.
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim();
        if !directive.contains('[') && (level.is_empty() || is_digits(level) || level.parse::<LevelFilter>().is_err()) {
            return Err(format!(
                "{directive:?} has no level; write off, error, warn, info, debug or trace, or \"info,TARGET=debug\""
            ));
        }
    }
    Ok(text.to_owned())
}
