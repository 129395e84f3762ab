//! Input: a tar file that may hold an image layout.

use std::fs;

use crate::targets::layout::{Stage, read};

thread_local! {
    static STAGE: Stage = Stage::new();
}

pub(crate) fn target(data: &[u8]) {
    STAGE.with(|stage| {
        let path = stage.folder.path().join("bundle.tar");
        fs::write(&path, data).unwrap();
        stage.runtime.block_on(read(&path));
    });
}
