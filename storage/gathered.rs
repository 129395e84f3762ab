//! Bytes of an upload to a bucket that are too few for a part yet.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::error::Error;
use crate::parts::read_at;

/// So many bytes are gathered in memory; more of them in a scratch file, since many clients may push at the same time.
const IN_MEMORY: usize = 64 * 1024;

/// A short run of bytes, in memory or in a scratch file.
#[derive(Default)]
pub(crate) struct Gathered {
    bytes: BytesMut,
    scratch: Option<Arc<File>>,
    /// Bytes in the scratch file, which holds all of them once it is used.
    spilled: u64,
}

impl Gathered {
    pub(crate) fn length(&self) -> u64 {
        self.spilled + self.bytes.len() as u64
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.spilled == 0 && self.bytes.len() + bytes.len() <= IN_MEMORY {
            self.bytes.extend_from_slice(bytes);
            return Ok(());
        }
        let failed = || Error::file("writing a scratch file");
        let scratch = match &self.scratch {
            Some(scratch) => Arc::clone(scratch),
            None => Arc::clone(self.scratch.insert(Arc::new(tempfile::tempfile().map_err(failed())?))),
        };
        if !self.bytes.is_empty() {
            scratch.write_all_at(&self.bytes, self.spilled).map_err(failed())?;
            self.spilled += self.bytes.len() as u64;
            self.bytes = BytesMut::new();
        }
        scratch.write_all_at(bytes, self.spilled).map_err(failed())?;
        self.spilled += bytes.len() as u64;
        Ok(())
    }

    /// All of the bytes, which stay.
    pub(crate) async fn read(&self) -> Result<Bytes, Error> {
        match &self.scratch {
            Some(scratch) if self.spilled > 0 => read_at(Arc::clone(scratch), 0, self.spilled).await,
            _ => Ok(Bytes::copy_from_slice(&self.bytes)),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.spilled = 0;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_gathered_comes_back_from_memory_and_from_the_scratch_file() {
        let mut gathered = Gathered::default();
        let all: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        for _ in 0..2 {
            for (number, chunk) in all.chunks(30_000).enumerate() {
                gathered.push(chunk).unwrap();
                let length = (all.len()).min((number + 1) * 30_000);
                assert_eq!(gathered.length(), length as u64);
                assert_eq!(gathered.read().await.unwrap(), all[..length]);
            }
            gathered.clear();
            assert_eq!(gathered.length(), 0);
            assert!(gathered.read().await.unwrap().is_empty());
        }
    }
}
