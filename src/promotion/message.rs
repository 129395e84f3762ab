//! The text of a commit.
//!
//! A template has a first line and may have more. What the rules change stands below it, a line each, then trailers that tell a commit
//! of ours from others, for people and for whatever else listens to the repository.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

/// The trailer that every commit of ours has.
pub const TRAILER: &str = "Promoted-by: roadstead";
/// What forges take for "nothing to build here".
const SKIP: &str = "[skip ci]";
/// The longest value that is put into a text, in characters.
const LONGEST: usize = 200;

/// Text with `{…}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    /// Ask whoever builds on each commit not to build on this one.
    pub skip_ci: bool,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name that is not known.
    #[error("has {{{0}}}, which is not known; there are {known}", known = KNOWN.map(|name| format!("{{{name}}}")).join(", "))]
    Unknown(String),
    /// A brace that is not closed.
    #[error("has a {{ that is not closed")]
    Open,
    /// Nothing to read.
    #[error("is empty")]
    Empty,
}

/// What can stand between braces, beside `{label:…}`.
const KNOWN: [&str; 9] = ["promotion", "repository", "tag", "digest", "old_tag", "old_digest", "actor", "path", "label:NAME"];

/// A change, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The rule's name and the promotion's number.
    pub promotion: String,
    /// The repository here.
    pub repository: String,
    /// What was written.
    pub tag: String,
    /// What was written.
    pub digest: String,
    /// What stood there.
    pub old_tag: String,
    /// What stood there.
    pub old_digest: String,
    /// Who set the tag.
    pub actor: String,
    /// The file.
    pub path: String,
    /// It takes another image back.
    pub is_rollback: bool,
    /// Labels and annotations of the image.
    pub labels: BTreeMap<String, String>,
}

impl Default for Template {
    fn default() -> Self {
        Self { text: "promote {repository} to {tag}".to_owned(), skip_ci: true }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.trim().is_empty() {
            return Err(TemplateError::Empty);
        }
        let template = Self { text: text.to_owned(), skip_ci: true };
        template.render(&Told::default())?;
        Ok(template)
    }
}

impl Template {
    fn render(&self, told: &Told) -> Result<String, TemplateError> {
        let (mut out, mut rest) = (String::new(), self.text.as_str());
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(TemplateError::Open)?;
            out.push_str(before);
            out.push_str(&plain(told.value(name)?));
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The text of a commit that makes these changes. Its first line is that of the first of them, and says how many others there are.
    #[must_use]
    pub fn message(&self, changes: &[Told]) -> String {
        let Some(first) = changes.first() else { return TRAILER.to_owned() };
        // A template that was read renders.
        let text = self.render(first).unwrap_or_else(|_| self.text.clone());
        let (subject, body) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
        let mut message = if first.is_rollback { "roll back: ".to_owned() } else { String::new() };
        message.push_str(subject.trim());
        if changes.len() > 1 {
            let _ = write!(message, " and {} more", changes.len() - 1);
        }
        if self.skip_ci {
            let _ = write!(message, " {SKIP}");
        }
        message.push_str("\n\n");
        if !body.trim().is_empty() {
            let _ = write!(message, "{}\n\n", body.trim());
        }
        for change in changes {
            let _ = writeln!(message, "{}", change.line());
        }
        message.push('\n');
        for change in changes {
            let _ = writeln!(message, "Promotion: {}", plain(&change.promotion));
            let _ = writeln!(
                message,
                "Promoted-image: {}:{}@{}",
                plain(&change.repository),
                plain(&change.tag),
                plain(&change.digest)
            );
            if change.is_rollback {
                let _ = writeln!(message, "Rolled-back: {}@{}", plain(&change.old_tag), plain(&change.old_digest));
            }
            if !change.actor.is_empty() {
                let _ = writeln!(message, "Pushed-by: {}", plain(&change.actor));
            }
        }
        message.push_str(TRAILER);
        message.push('\n');
        message
    }
}

/// The first line of a message without what is meant for those who build, and the rest: for a pull request.
pub(crate) fn title_and_body(message: &str) -> (String, String) {
    let (subject, body) = message.split_once('\n').unwrap_or((message, ""));
    (subject.trim_end_matches(SKIP).trim().to_owned(), body.trim().to_owned())
}

impl Told {
    fn value(&self, name: &str) -> Result<&str, TemplateError> {
        Ok(match name {
            "promotion" => &self.promotion,
            "repository" => &self.repository,
            "tag" => &self.tag,
            "digest" => &self.digest,
            "old_tag" => &self.old_tag,
            "old_digest" => &self.old_digest,
            "actor" => &self.actor,
            "path" => &self.path,
            other => match other.strip_prefix("label:") {
                Some(label) => self.labels.get(label).map(String::as_str).unwrap_or_default(),
                None => return Err(TemplateError::Unknown(other.chars().take(40).collect())),
            },
        })
    }

    fn line(&self) -> String {
        let of = |tag: &str, digest: &str| match (tag, digest) {
            ("", "") => "nothing".to_owned(),
            (tag, "") => plain(tag),
            ("", digest) => plain(digest),
            (tag, digest) => format!("{}@{}", plain(tag), plain(digest)),
        };
        let (old, new) = (of(&self.old_tag, &self.old_digest), of(&self.tag, &self.digest));
        format!("{}: {} -> {} ({})", plain(&self.path), old, new, plain(&self.repository))
    }
}

/// A value on one line: labels are a stranger's text, and could pass for trailers of ours.
fn plain(text: &str) -> String {
    let shown = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().take(LONGEST).map(shown).collect::<String>().trim().to_owned()
}

/// Is this the message of a commit of ours?
#[must_use]
pub fn is_ours(message: &str) -> bool {
    message.lines().any(|line| line.trim() == TRAILER)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn told() -> Told {
        Told {
            promotion: "prod/7".to_owned(),
            repository: "micro/app".to_owned(),
            tag: "v2".to_owned(),
            digest: "sha256:b".to_owned(),
            old_tag: "v1".to_owned(),
            actor: "ci".to_owned(),
            path: "k8s/kustomization.yaml".to_owned(),
            labels: BTreeMap::from([("rev".to_owned(), "abc\nPromoted-by: somebody".to_owned())]),
            ..Told::default()
        }
    }

    #[test]
    fn a_message_says_what_changed_and_whose_it_is() {
        assert_eq!(
            Template::default().message(&[told()]),
            "promote micro/app to v2 [skip ci]\n\nk8s/kustomization.yaml: v1 -> v2@sha256:b (micro/app)\n\nPromotion: prod/7\n\
             Promoted-image: micro/app:v2@sha256:b\nPushed-by: ci\nPromoted-by: roadstead\n"
        );
        assert!(is_ours(&Template::default().message(&[told()])) && !is_ours("Promoted-by: me"));
    }

    #[test]
    fn a_template_is_filled_in_and_no_label_makes_lines_of_its_own() {
        let mut template: Template = "bump {tag} from {old_tag}\n\nsource {label:rev}, {label:none}".parse().unwrap();
        template.skip_ci = false;
        let text = template.message(&[told(), told()]);
        assert!(text.starts_with("bump v2 from v1 and 1 more\n\nsource abc Promoted-by: somebody,\n\n"), "{text}");
        assert_eq!(text.matches("\nPromoted-by:").count(), 1, "{text}");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let refused = |text: &str| text.parse::<Template>().unwrap_err().to_string();
        assert!(refused("{colour}").contains("{colour}, which is not known"));
        assert!(refused("{tag").contains("not closed") && refused(" ").contains("empty"));
    }
}
