//! Tags, as mirrors and promotions choose them.

use std::cell::Cell;

use oci::Selector;
use toml::de::DeValue;

use super::reader::Section;
use super::value::{self, Value};

/// `"latest"`, or `{ glob = "1.*" }`, `{ regex = … }`, `{ semver = … }`, each with `newest = 5`.
pub(super) fn selector(value: &Value<'_>) -> Result<Selector, String> {
    const ADVICE: &str = "write a tag, or { glob = \"1.*\" }, { regex = \"…\" } or { semver = \">=1.2\" }";
    let &Value::Toml(DeValue::Table(table)) = value else {
        return Selector::exact(value.text()?).map_err(|error| format!("{error}; {ADVICE}"));
    };
    let mut selector = None;
    let mut newest = None;
    for (key, value) in table {
        let value = Value::Toml(value.get_ref());
        let made = match key.get_ref().as_ref() {
            "glob" => Selector::glob(value.text()?),
            "regex" => Selector::regex(value.text()?),
            "semver" => Selector::semver(value.text()?),
            "newest" => {
                newest = Some(value::count(&value).map_err(|text| format!("newest {text}"))?);
                continue;
            }
            other => {
                return Err(format!("has {:?}, which is not known here; {ADVICE}", other.chars().take(40).collect::<String>()));
            }
        };
        if selector.replace(made.map_err(|error| error.to_string())?).is_some() {
            return Err(format!("is two selectors in one; {ADVICE}, each by itself"));
        }
    }
    let selector = selector.ok_or_else(|| format!("selects nothing; {ADVICE}"))?;
    Ok(match newest {
        Some(count) => selector.newest(count),
        None => selector,
    })
}

/// A list of which every element is right.
pub(super) fn list<T>(
    section: &mut Section<'_, '_>,
    key: &'static str,
    parse: impl Fn(&Value<'_>) -> Result<T, String>,
) -> Option<Vec<T>> {
    let wrong = Cell::new(false);
    let parsed = section.list(key, |value| parse(value).inspect_err(|_| wrong.set(true)));
    parsed.filter(|_| !wrong.get())
}
