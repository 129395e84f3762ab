//! `[storage]`: a folder, memory, or a bucket with the way to it.

use ::storage::{Location, Provider};
use secrecy::SecretString;

use super::reader::Section;
use super::{Storage, value};

/// Keys that mean nothing without a bucket.
const OF_BUCKETS: [&str; 6] = ["endpoint", "region", "access_key", "secret_key_file", "ca", "single_server"];

pub(super) fn storage(mut section: Section<'_, '_>) -> Storage {
    let default = Storage::default();
    let mut location = section.value("url", default.location, value::location);
    let upload_lifetime = section.value("upload_lifetime", default.upload_lifetime, value::limit);
    let endpoint = section.optional("endpoint", value::registry_url);
    let region = section.optional("region", |value| value.text().map(str::to_owned));
    let access_key = section.optional("access_key", |value| value.text().map(str::to_owned));
    let secret_key = secret_key(&mut section);
    let ca = section.optional("ca", value::path);
    let single_server = section.optional("single_server", value::boolean);
    if let Some(path) = &ca
        && let Err(error) = section.document().file(path)
    {
        section.wrong("ca", format!("{} cannot be read: {error}; check the path and its permissions", path.display()));
    }
    let Location::Bucket(bucket) = &mut location else {
        for key in OF_BUCKETS.into_iter().filter(|key| section.given(key).is_some()) {
            section.wrong(key, "is of no use without a bucket; write storage.url = \"s3://BUCKET\", or remove it".to_owned());
        }
        section.finish();
        return Storage { location, upload_lifetime, ca };
    };
    if section.given("region").is_some() && bucket.provider != Provider::S3 {
        section.wrong("region", "is a setting of s3: alone; remove it".to_owned());
    }
    let id = section.given("access_key");
    if bucket.provider == Provider::Gcs {
        if id.is_some() {
            section.wrong("access_key", "is not what gs: asks for; name the key file with secret_key_file".to_owned());
        }
    } else if id.is_some() && section.given("secret_key_file").is_none() {
        section.missing("secret_key_file", id, "is missing; name the file of the secret that belongs to access_key");
    } else if id.is_none() && bucket.provider == Provider::S3 {
        let place = section.given("secret_key_file");
        if place.is_some() {
            section.missing("access_key", place, "is missing; write the id of the key");
        }
    }
    bucket.endpoint = endpoint.map(|url| url.as_str().trim_end_matches('/').to_owned());
    bucket.region = region;
    bucket.access_key = access_key;
    bucket.secret_key = secret_key;
    bucket.single_server = single_server.unwrap_or(false);
    section.finish();
    Storage { location, upload_lifetime, ca }
}

/// A secret from a file, whose text never leaves in an error.
fn secret_key(section: &mut Section<'_, '_>) -> Option<SecretString> {
    let document = section.document();
    section.optional("secret_key_file", |value| {
        let bytes = document
            .file(value.text()?.as_ref())
            .map_err(|error| format!("cannot be read: {error}; name a file that holds nothing but the secret"))?;
        let text = String::from_utf8(bytes).map_err(|_| "names a file that is not UTF-8 text".to_owned())?;
        let text = text.trim();
        if text.is_empty() { Err("names a file that is empty".to_owned()) } else { Ok(SecretString::from(text)) }
    })
}
