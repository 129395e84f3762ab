//! Files in any style that people write: one value changes, or the file is refused.

use proptest::prelude::*;
use roadstead_promotion::{Edit, Image, Kustomization, Write};

use crate::styles::{file, quoted, styles};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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
