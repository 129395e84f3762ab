//! Input: a byte for what is edited, and the file of the `GitOps` repository.

use std::collections::BTreeMap;

use oci::{Digest, Tag};
use promotion::{Application, Container, Edit, Helm, Image, Kustomization, Write};

const IMAGE: &str = "ghost/x";

pub(crate) fn target(data: &[u8]) {
    let Some((choice, file)) = data.split_first() else { return };
    let write = [Write::Tag, Write::Digest, Write::TagAndDigest, Write::TagAtDigest][usize::from(choice >> 4) % 4];
    let new_name = (choice >> 6 != 0).then(|| "host:5000/micro/x".to_owned());
    let edit = place(choice & 15, new_name.clone(), write);
    let image = image();
    let before = edit.read(file);
    match edit.apply(file, &image) {
        Err(refusal) => assert!(refusal.to_string().len() < 2000, "{refusal}"),
        Ok(edited) => {
            assert_eq!(Ok(&edited.before), before.as_ref());
            // What is written is read again, and written once.
            assert_eq!(edit.read(&edited.bytes).as_ref(), Ok(&edited.after));
            assert_eq!(edit.apply(&edited.bytes, &image).map(|again| again.bytes), Ok(edited.bytes.clone()));
            let written = format!("{:?}", edited.after);
            assert_eq!(written.contains(image.tag.as_str()), write != Write::Digest, "{written}");
            assert_eq!(written.contains(image.digest.hex()), write != Write::Tag, "{written}");
            assert!(new_name.is_none_or(|name| edited.after.name.is_none_or(|written| written == name)));
            untouched(file, &edited.bytes);
        }
    }
}

fn image() -> Image {
    let digest = format!("sha256:{}", "5e".repeat(32));
    Image { tag: Tag::parse("20260216").unwrap(), digest: Digest::parse(&digest).unwrap() }
}

fn place(choice: u8, new_name: Option<String>, write: Write) -> Edit {
    let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    match choice {
        0..8 => Edit::Kustomization(Kustomization { image: IMAGE.to_owned(), new_name, write }),
        8 | 9 => Edit::Helm(Helm::Whole { path: path("image"), name: new_name, write }),
        10 | 11 => Edit::Helm(Helm::Parts {
            name: new_name.map(|name| (path("image.repository"), name)),
            tag: path("image.tag"),
            digest: Some(path("image.digest")),
            write,
        }),
        12 | 13 => Edit::Container(Container {
            kind: "Pod".to_owned(),
            name: "x".to_owned(),
            container: "c".to_owned(),
            new_name,
            write,
        }),
        _ => Edit::Application(Application { name: None, image: IMAGE.to_owned(), new_name, write }),
    }
}

/// All lines are still there, as often as they were, but for the four that may change or go.
fn untouched(before: &[u8], after: &[u8]) {
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for line in after.split(|byte| *byte == b'\n') {
        *counts.entry(line).or_default() += 1;
    }
    let mut lost = 0;
    for line in before.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match counts.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => lost += 1,
        }
    }
    assert!(lost <= 4, "{lost} lines are lost");
}
