//! One server per folder: a lock that goes with its process.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Its name in the folder.
const LOCK: &str = "lock";

/// Takes the folder for this process. `WouldBlock` if another one has it. The lock goes with the file handle.
pub(crate) fn take(root: &Path) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(root.join(LOCK))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

/// ` (process N)` of the process that has the folder, as far as it can be told.
pub(crate) fn holder(root: &Path) -> String {
    let mut text = String::new();
    let read = File::open(root.join(LOCK)).and_then(|file| file.take(20).read_to_string(&mut text));
    if read.is_ok() && !text.is_empty() { format!(" (process {})", text.trim()) } else { String::new() }
}
