//! Are the images here that a repository deploys?

use std::collections::BTreeMap;

use oci::{Digest, Error, RepositoryName, Tag};

use crate::content::Content;
use crate::validate::{Finding, Wanted};

/// Asks for each image that is wanted, once. What is not here, or not whole, is a finding where it is named.
///
/// The error of what is held, if it cannot be looked at.
pub async fn missing(content: &dyn Content, wanted: &[Wanted]) -> Result<Vec<Finding>, Error> {
    let (mut findings, mut known) = (Vec::new(), BTreeMap::new());
    for image in wanted {
        let reference = reference(image);
        let why = match known.get(&reference) {
            Some(why) => why,
            None => known.entry(reference.clone()).or_insert(why(content, image, &reference).await?),
        };
        if let Some(what) = why.clone() {
            findings.push(Finding { path: image.path.clone(), line: Some(image.line), what, is_fatal: false });
        }
    }
    Ok(findings)
}

/// The image, as Kubernetes would ask for it.
fn reference(image: &Wanted) -> String {
    let Wanted { host, repository, tag, digest, .. } = image;
    match (tag, digest) {
        (_, Some(digest)) => format!("{host}/{repository}@{digest}"),
        (Some(tag), None) => format!("{host}/{repository}:{tag}"),
        (None, None) => format!("{host}/{repository}:latest"),
    }
}

/// Why it could not be pulled; `None` if it could.
async fn why(content: &dyn Content, image: &Wanted, reference: &str) -> Result<Option<String>, Error> {
    let Ok(repository) = RepositoryName::parse(&image.repository) else {
        return Ok(Some(format!("{reference} is no name that a repository can have")));
    };
    let digest = if let Some(digest) = &image.digest {
        let Ok(digest) = Digest::parse(digest) else {
            return Ok(Some(format!("{digest:?} is no digest that an image can have")));
        };
        digest
    } else {
        let tag = image.tag.as_deref().unwrap_or("latest");
        let Ok(tag) = Tag::parse(tag) else { return Ok(Some(format!("{tag:?} is no tag that an image can have"))) };
        let Some(arrival) = content.tagged(&repository, &tag).await? else { return Ok(Some(format!("{reference} is not here"))) };
        arrival.digest
    };
    let found = content.look(&repository, &digest, &[]).await?;
    if let Some(no_image) = found.no_image {
        return Ok(Some(format!("{reference} {no_image}")));
    }
    Ok(found.missing.first().map(|missing| format!("{reference} is not here whole: {missing} is missing")))
}
