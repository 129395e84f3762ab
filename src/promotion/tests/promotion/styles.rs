//! Kustomizations in any style that people write. The tests that render them include this file too.

use std::fmt::Write as _;

use proptest::prelude::*;

/// How a file is written.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(crate) struct Style {
    pub(crate) mark: bool,
    carriage_returns: bool,
    final_newline: bool,
    pub(crate) head: &'static str,
    indent: usize,
    gap: usize,
    is_flow: bool,
    /// Of our value: plain, ', ".
    pub(crate) quote: &'static str,
    /// Of the keys.
    key_quote: &'static str,
    /// Comment behind our value.
    comment: &'static str,
    tag_first: bool,
    between: &'static str,
    before: usize,
    behind: usize,
    pub(crate) tail: &'static str,
}

pub(crate) fn styles() -> impl Strategy<Value = Style> {
    let head = prop::sample::select(vec![
        "",
        "# é ünï — 漢字\n",
        "---\n",
        "%YAML 1.1\n---\n",
        "kind: Kustomization\n",
        "a: |\n  text: x\n\n",
        "a: >-\n  folded\n  text\nb: 'two\n  lines'\n",
        "x: &a {b: c}\ny: *a\n",
        "\n\n",
    ]);
    let tail = prop::sample::select(vec![
        "",
        "# end\n",
        "patches:\n  - path: x.yaml\n",
        "\n\n",
        "z: |+\n  kept\n\n",
        "labels: [{pairs: {a: b}}]\n",
        "t: \"\\u00e9 # no comment\" # one\n",
    ]);
    let quote = || prop::sample::select(vec!["", "'", "\""]);
    let comment = prop::sample::select(vec!["", " # c", "   # newTag: v9", " # é"]);
    let between = prop::sample::select(vec!["", "# between\n", "\n"]);
    let flags = prop::array::uniform5(any::<bool>());
    let counts = (0..4_usize, 1..4_usize, 0..3_usize, 0..3_usize);
    (flags, counts, (head, tail, quote(), quote(), comment, between)).prop_map(|(flags, counts, texts)| {
        let [mark, carriage_returns, final_newline, is_flow, tag_first] = flags;
        let (indent, gap, before, behind) = counts;
        let (head, tail, quote, key_quote, comment, between) = texts;
        Style {
            mark,
            carriage_returns,
            final_newline,
            head,
            indent,
            gap,
            is_flow,
            quote,
            key_quote,
            comment,
            tag_first,
            between,
            before,
            behind,
            tail,
        }
    })
}

/// The file with this written as our value.
pub(crate) fn file(style: &Style, value: &str) -> String {
    let key = |key: &str| format!("{0}{key}{0}", style.key_quote);
    let mut text = style.head.to_owned();
    let ours = [format!("{}: ghost/x", key("name")), format!("{}: {value}", key("newTag"))];
    let [first, second] = if style.tag_first { [&ours[1], &ours[0]] } else { [&ours[0], &ours[1]] };
    let other = |number: usize| (format!("{}: other/{number}", key("name")), format!("{}: \"1.{number}\"", key("newTag")));
    let numbers = 0..style.before + style.behind;
    if style.is_flow {
        let mut items: Vec<String> = numbers.map(other).map(|(name, tag)| format!("{{{name}, {tag}}}")).collect();
        items.insert(style.before, format!("{{{first}, {second}}}"));
        writeln!(text, "{}: [{}]{}", key("images"), items.join(", "), style.comment).unwrap();
    } else {
        let (dash, inner) = (" ".repeat(style.indent), " ".repeat(style.indent + 1 + style.gap));
        let gap = " ".repeat(style.gap);
        writeln!(text, "{}:", key("images")).unwrap();
        for number in 0..=numbers.end {
            let (one, two) = if number == style.before { (first.clone(), second.clone()) } else { other(number) };
            write!(text, "{dash}-{gap}{one}{0}\n{1}{inner}{two}{0}\n", style.comment, style.between).unwrap();
        }
    }
    text.push_str(style.tail);
    if !style.final_newline {
        while text.ends_with('\n') {
            text.pop();
        }
    }
    let text = if style.carriage_returns { text.replace('\n', "\r\n") } else { text };
    format!("{}{text}", if style.mark { "\u{feff}" } else { "" })
}

pub(crate) fn quoted(text: &str, quote: &str) -> String {
    format!("{quote}{text}{quote}")
}
