//! A page of documentation as its readers use it: fenced blocks under headings, and links.

use std::path::{Path, PathBuf};

/// A fenced block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The headings that it stands under, the outermost first, without the page's title.
    pub(crate) headings: Vec<String>,
    /// What follows the fence: `sh`, `toml`, `json`, `text`.
    pub(crate) language: String,
    /// What is between the fences.
    pub(crate) text: String,
    /// The line of its first fence, counted from one.
    pub(crate) line: usize,
}

impl Block {
    /// The file of a client that this block is to be written to: a first line such as `# /etc/docker/file`.
    pub(crate) fn file(&self) -> Option<&str> {
        self.text.lines().next()?.strip_prefix("# ").filter(|path| path.starts_with('/'))
    }

    /// Is it under this heading?
    pub(crate) fn is_under(&self, heading: &str) -> bool {
        self.headings.iter().any(|above| above == heading)
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a page, by its path from the root of the repository.
pub(crate) fn page(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every fenced block of a page.
///
/// # Panics
///
/// When a fence is not closed, or says no language.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let (mut headings, mut found, mut open) = (Vec::new(), Vec::new(), None::<Block>);
    for (index, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => {
                assert!(!language.is_empty(), "line {}: a block without a language", index + 1);
                let headings = headings.clone();
                open = Some(Block { headings, language: language.to_owned(), text: String::new(), line: index + 1 });
            }
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {
                let depth = line.bytes().take_while(|byte| *byte == b'#').count();
                if depth > 1 {
                    headings.truncate(depth - 2);
                    headings.push(line[depth..].trim().to_owned());
                }
            }
        }
    }
    assert!(open.is_none(), "the block of line {} is not closed", open.map_or(0, |block| block.line));
    found
}

/// The targets of a page's links that are files of the repository.
fn links(path: &str) -> Vec<PathBuf> {
    let text = page(path);
    let folder = root().join(path).parent().unwrap().to_owned();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    local.map(|target| folder.join(target.split('#').next().unwrap())).collect()
}

/// The pages that a user reads.
pub(crate) const PAGES: [&str; 19] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/access.md",
    "docs/acme.md",
    "docs/admin-api.md",
    "docs/air-gap.md",
    "docs/audit.md",
    "docs/clients.md",
    "docs/config.md",
    "docs/hooks.md",
    "docs/limits.md",
    "docs/mirror.md",
    "docs/oidc.md",
    "docs/operations.md",
    "docs/promotion.md",
    "docs/pull-through.md",
    "docs/registry.md",
    "docs/tls.md",
];

#[test]
fn every_link_leads_to_a_file() {
    let dead: Vec<_> = PAGES
        .iter()
        .flat_map(|path| links(path))
        .filter(|target| !target.exists())
        .map(|target| target.display().to_string())
        .collect();
    assert!(dead.is_empty(), "there is no {}", dead.join(", "));
}

#[test]
fn blocks_know_their_language_heading_and_file() {
    let page = "# T\n```sh\na\n```\n## B\n### C\n```toml\n# /etc/x\nk = 1\n```\n## D\n```text\n# not a heading\n```\n";
    let found = blocks(page);
    assert_eq!(found.iter().map(|block| block.line).collect::<Vec<_>>(), [2, 7, 12]);
    assert_eq!(found[0].headings, Vec::<String>::new());
    assert_eq!(found[1].headings, ["B", "C"]);
    assert_eq!((found[1].language.as_str(), found[1].file()), ("toml", Some("/etc/x")));
    assert_eq!((found[2].headings.as_slice(), found[2].file()), (["D".to_owned()].as_slice(), None));
}
