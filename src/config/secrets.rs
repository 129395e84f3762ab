//! Secrets, from a file or the environment. Their text never leaves in an error.

use secrecy::SecretString;

use super::reader::Section;

/// The secret that the file `in_file` names, or the variable `in_variable`.
pub(super) fn either(section: &mut Section<'_, '_>, in_file: &'static str, in_variable: &'static str) -> Option<SecretString> {
    let from_file = file(section, in_file);
    let document = section.document();
    let from_variable = section.optional(in_variable, |value| {
        let secret = document
            .variable(value.text()?)
            .ok_or("names no variable of the environment; set it to the secret before the start".to_owned())?;
        made(secret, "names a variable that")
    });
    if section.given(in_file).is_some() && section.given(in_variable).is_some() {
        section.wrong(in_variable, format!("stands beside {in_file}; keep one of the two"));
    }
    from_file.or(from_variable)
}

/// The secret that is all of a file, but for one end of a line.
pub(super) fn file(section: &mut Section<'_, '_>, key: &'static str) -> Option<SecretString> {
    let document = section.document();
    section.optional(key, |value| {
        let bytes = document
            .file(value.text()?.as_ref())
            .map_err(|error| format!("cannot be read: {error}; name a file that holds nothing but the secret"))?;
        let text =
            String::from_utf8(bytes).map_err(|_| "names a file that is not UTF-8 text; write the secret as text".to_owned())?;
        made(text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line)), "names a file that")
    })
}

fn made(text: &str, source: &str) -> Result<SecretString, String> {
    if text.is_empty() {
        return Err(format!("{source} is empty; write the secret there"));
    }
    Ok(SecretString::from(text))
}
