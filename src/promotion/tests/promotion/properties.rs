//! Files in any style that people write: one value changes, or the file is refused.

use proptest::prelude::*;
use roadstead_promotion::{Edit, Image, Kustomization, Write};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// How a file is written.
#[derive(Clone, Debug)]
struct Style {
    mark: bool,
    carriage_returns: bool,
    final_newline: bool,
    head: &'static str,
    indent: usize,
    gap: usize,
    is_flow: bool,
    /// Of our value: plain, ', ".
    quote: &'static str,
    /// Of the keys.
    key_quote: &'static str,
    /// Comment behind our value.
    comment: &'static str,
    tag_first: bool,
    between: &'static str,
    before: usize,
    behind: usize,
    tail: &'static str,
}

fn styles() -> impl Strategy<Value = Style> {
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
fn file(style: &Style, value: &str) -> String {
    let key = |key: &str| format!("{0}{key}{0}", style.key_quote);
    let mut text = style.head.to_owned();
    let ours = [format!("{}: ghost/x", key("name")), format!("{}: {value}", key("newTag"))];
    let [first, second] = if style.tag_first { [&ours[1], &ours[0]] } else { [&ours[0], &ours[1]] };
    let other = |number: usize| (format!("{}: other/{number}", key("name")), format!("{}: \"1.{number}\"", key("newTag")));
    let numbers = 0..style.before + style.behind;
    if style.is_flow {
        let mut items: Vec<String> = numbers.map(other).map(|(name, tag)| format!("{{{name}, {tag}}}")).collect();
        items.insert(style.before, format!("{{{first}, {second}}}"));
        text.push_str(&format!("{}: [{}]{}\n", key("images"), items.join(", "), style.comment));
    } else {
        let (dash, inner) = (" ".repeat(style.indent), " ".repeat(style.indent + 1 + style.gap));
        let gap = " ".repeat(style.gap);
        text.push_str(&format!("{}:\n", key("images")));
        for number in 0..=numbers.end {
            let (one, two) = if number == style.before { (first.clone(), second.clone()) } else { other(number) };
            text.push_str(&format!("{dash}-{gap}{one}{0}\n{1}{inner}{two}{0}\n", style.comment, style.between));
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

fn quoted(text: &str, quote: &str) -> String {
    format!("{quote}{text}{quote}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn one_value_changes_and_no_other_byte(style in styles(), number in 0..10_000_u32, is_number in any::<bool>()) {
        let tag = if is_number { format!("2026{number:04}") } else { format!("main-{number:04}") };
        // What is no text without quotes gets them.
        let quote = if is_number && style.quote.is_empty() { "\"" } else { style.quote };
        let (before, after) = (file(&style, &quoted("v1", style.quote)), file(&style, &quoted(&tag, quote)));
        let edit = Edit::Kustomization(Kustomization { image: "ghost/x".to_owned(), new_name: None, write: Write::Tag });
        let image = Image { tag: tag.parse().unwrap(), digest: DIGEST.parse().unwrap() };
        let edited = edit.apply(before.as_bytes(), &image).map(|edited| String::from_utf8(edited.bytes).unwrap());
        prop_assert_eq!(edited.as_deref(), Ok(after.as_str()), "{}", before);
    }

    #[test]
    fn what_is_added_is_there_and_everything_else_too(style in styles(), write in 0..4_usize) {
        let write = [Write::Tag, Write::Digest, Write::TagAndDigest, Write::TagAtDigest][write];
        let before = file(&style, "v1");
        for name in ["ghost/x", "new/image"] {
            let edit = Edit::Kustomization(Kustomization { image: name.to_owned(), new_name: Some("h/x".to_owned()), write });
            let image = Image { tag: "v2".parse().unwrap(), digest: DIGEST.parse().unwrap() };
            // A refusal is allowed where it says why; nothing else than the change that was meant is.
            let Ok(edited) = edit.apply(before.as_bytes(), &image) else { continue };
            prop_assert_eq!(edited.after.name.as_deref(), Some("h/x"));
            let text = String::from_utf8(edited.bytes.clone()).unwrap();
            // What was there is still there, in its order, but for a line that was changed or removed.
            let mut rest = text.lines();
            let is_lost = |line: &&str| {
                let mut from = rest.clone();
                let is_there = from.any(|other| other == *line);
                if is_there {
                    rest = from;
                }
                !is_there
            };
            let lost = before.lines().filter(|line| !line.is_empty()).filter(is_lost).count();
            prop_assert!(lost <= 1, "{before}\n-----\n{text}");
            prop_assert_eq!(edit.apply(&edited.bytes, &image).unwrap().bytes, edited.bytes);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-a-z:#'\"{}\\[\\]&*|>! \n\t?,%@`\\\\]{0,60}") {
        let edit = Edit::Kustomization(Kustomization { image: "a".to_owned(), new_name: None, write: Write::TagAndDigest });
        let image = Image { tag: "v2".parse().unwrap(), digest: DIGEST.parse().unwrap() };
        for text in [text.clone(), format!("images:\n- name: a\n  newTag: {text}"), format!("images: {text}")] {
            let _ = edit.apply(text.as_bytes(), &image);
        }
    }
}
