//! The redo log of a folder: what was acknowledged and may not be on disk under its own name yet.
//!
//! To sync each small object and each directory on the way to it costs a handful of waits for the disk. One write to this log costs
//! one, for all requests that wait at the same time. The objects themselves are written without a sync; from time to time the whole
//! file system is synced and the log begins again. After a crash the log is played back, which makes every object what it was.
//!
//! The log is two files that are used in turns, each a run of frames. A frame is what one request has changed:
//!
//! ```text
//! magic 8 | run 8 | number 8 | floor 8 | room 4 | length 4 | check 16 | payload, `length` bytes | rest of `room`
//! ```
//!
//! `number` counts all frames, `run` is drawn anew whenever a file is begun again, so that what is left of an earlier run is never
//! taken for a frame of this one. Frames before `floor` are on disk in their own places. `check` is the beginning of the SHA-256 of
//! all that stands before and after it. A frame that is torn ends its run: nothing after it was acknowledged.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use object_store::path::Path;
use oci::{Algorithm, Hasher};
use uuid::Uuid;

use crate::disk::Disk;

/// The names of the two files.
pub(crate) const FILES: [&str; 2] = ["redo.0", "redo.1"];
/// How many times its size a file may grow while the other one is still needed: to sync a whole file system can take a while.
const PATIENCE: u64 = 32;
const MAGIC: &[u8; 8] = b"RSredo1\n";
const HEADER: usize = 64;
/// A longer run cannot have been written by us.
const LONGEST: u64 = 256 * 1024 * 1024;

/// One object that a request has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has these bytes.
    Put(Path, Bytes),
    /// It is gone.
    Remove(Path),
    /// It is on disk: what the log said of it before is over.
    Settled(Path),
}

impl Change {
    fn key(&self) -> &Path {
        match self {
            Self::Put(key, _) | Self::Remove(key) | Self::Settled(key) => key,
        }
    }
}

/// Where a frame stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    file: usize,
    offset: u64,
    room: u32,
    number: u64,
    run: u64,
}

/// The log, for its only writer.
pub(crate) struct Redo {
    disk: Arc<dyn Disk>,
    /// A file that has grown to this is full, and the other one is begun as soon as it can be.
    size: u64,
    files: [File; 2],
    /// The file that is written to.
    current: usize,
    run: u64,
    end: u64,
    /// The number of the next frame.
    next: u64,
    floor: u64,
}

impl Redo {
    /// Opens the log in a folder; its files shall have about this size. Also gives what it has to say, the last word for each key.
    pub(crate) fn open(root: &FsPath, disk: Arc<dyn Disk>, size: u64) -> io::Result<(Self, Vec<Change>)> {
        let mut frames = Vec::new();
        let mut is_new = false;
        let mut open = |index: usize| {
            let path = root.join(FILES[index]);
            is_new |= !path.exists();
            let file = disk.open(&path, true)?;
            frames.extend(read_run(&file, index)?);
            io::Result::Ok(file)
        };
        let files = [open(0)?, open(1)?];
        if is_new {
            disk.sync_directory(root)?;
        }
        frames.sort_by_key(|frame| frame.number);
        let floor = frames.iter().map(|frame| frame.floor).max().unwrap_or_default();
        let next = frames.last().map_or(1, |frame| frame.number + 1);
        // The one without the last frames is begun again first: those count until others do.
        let current = frames.last().map_or(0, |frame| 1 - frame.file);
        let mut last = HashMap::new();
        for change in frames.into_iter().filter(|frame| frame.number >= floor).flat_map(|frame| frame.changes) {
            last.insert(change.key().clone(), change);
        }
        let redo = Self { disk, size, files, current, run: new_run(), end: 0, next, floor };
        Ok((redo, last.into_values().filter(|change| !matches!(change, Change::Settled(_))).collect()))
    }

    /// Should the other file be begun?
    pub(crate) fn is_full(&self) -> bool {
        self.end >= self.size
    }

    /// Must it be, before anything else is written?
    pub(crate) fn is_overfull(&self) -> bool {
        self.end >= self.size.saturating_mul(PATIENCE)
    }

    /// Is nothing in the current file?
    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// The number of the next frame: all before it have been written.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Begins the other file again, of which nothing is needed any more.
    pub(crate) fn turn(&mut self) {
        self.current = 1 - self.current;
        self.run = new_run();
        self.end = 0;
    }

    /// All frames before `number` are on disk in their own places; the frames from now on say so.
    pub(crate) fn settled(&mut self, number: u64) {
        self.floor = self.floor.max(number);
    }

    /// Writes a frame that only tells of the floor. It may be lost: then a crash plays back what is on disk already.
    pub(crate) fn tell_floor(&mut self) -> io::Result<()> {
        self.write(&[Vec::new()]).map(drop)
    }

    /// Appends a frame for each request, durably. If that fails, none of them counts.
    pub(crate) fn append(&mut self, requests: &[Vec<Change>]) -> io::Result<Vec<Place>> {
        let (end, next) = (self.end, self.next);
        let written = self.write(requests).and_then(|places| self.disk.sync(&self.files[self.current]).map(|()| places));
        written.inspect_err(|_| {
            // The next frame takes their place. Should there be none before a crash, half of them may still be read, which is as
            // good as lost: nobody was told that they are there, and each is whole or not at all.
            (self.end, self.next) = (end, next);
            let _ = self.disk.write_at(&self.files[self.current], &[0; HEADER], end);
        })
    }

    fn write(&mut self, requests: &[Vec<Change>]) -> io::Result<Vec<Place>> {
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        for changes in requests {
            let (file, offset) = (self.current, self.end + bytes.len() as u64);
            let payload = encode(changes);
            let room = u32::try_from((HEADER + payload.len()).next_multiple_of(8)).map_err(io::Error::other)?;
            let place = Place { file, offset, room, number: self.next + places.len() as u64, run: self.run };
            frame(&mut bytes, place, self.floor, &payload);
            places.push(place);
        }
        self.disk.write_at(&self.files[self.current], &bytes, self.end)?;
        self.end += bytes.len() as u64;
        self.next += places.len() as u64;
        Ok(places)
    }

    /// Makes a frame say that only these of its changes were made, durably.
    pub(crate) fn amend(&self, place: Place, changes: &[Change]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame(&mut bytes, place, self.floor, &encode(changes));
        self.disk.write_at(&self.files[place.file], &bytes, place.offset)?;
        self.disk.sync(&self.files[place.file])
    }
}

/// Is there a log in this folder, with something in it?
pub(crate) fn is_there(root: &FsPath) -> bool {
    let begins = |name| {
        let mut magic = [0; MAGIC.len()];
        File::open(root.join(name)).is_ok_and(|file| file.read_exact_at(&mut magic, 0).is_ok() && magic == *MAGIC)
    };
    FILES.into_iter().any(begins)
}

fn new_run() -> u64 {
    Uuid::new_v4().as_u64_pair().0
}

/// A frame as it was read.
struct Frame {
    number: u64,
    floor: u64,
    /// The index of the file that it stands in.
    file: usize,
    changes: Vec<Change>,
}

fn read_run(file: &File, index: usize) -> io::Result<Vec<Frame>> {
    let length = usize::try_from(file.metadata()?.len().min(LONGEST)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(parse_run(&bytes, index))
}

/// The frames at the beginning of `bytes` that are whole and belong together.
fn parse_run(bytes: &[u8], file: usize) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut rest = bytes;
    let mut run = None;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let mut fields = &header[..];
        let mut magic = [0; 8];
        fields.copy_to_slice(&mut magic);
        let (this, number, floor) = (fields.get_u64(), fields.get_u64(), fields.get_u64());
        let (room, length) = (fields.get_u32() as usize, fields.get_u32() as usize);
        let Some(payload) = after.get(..length) else { break };
        let follows = run.is_none_or(|run| run == this) && frames.last().is_none_or(|last| last.number + 1 == number);
        let whole = magic == *MAGIC && follows && room >= HEADER + length && check(&header[..48], payload) == header[48..];
        let Some(changes) = decode(payload).filter(|_| whole) else { break };
        frames.push(Frame { number, floor, file, changes });
        run = Some(this);
        let Some(next) = rest.get(room..) else { break };
        rest = next;
    }
    frames
}

fn frame(out: &mut Vec<u8>, place: Place, floor: u64, payload: &[u8]) {
    let start = out.len();
    out.put_slice(MAGIC);
    out.put_u64(place.run);
    out.put_u64(place.number);
    out.put_u64(floor);
    out.put_u32(place.room);
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.put_bytes(0, 8);
    let check = check(&out[start..], payload);
    out.put_slice(&check);
    out.put_slice(payload);
    out.resize(start + place.room as usize, 0);
}

fn check(header: &[u8], payload: &[u8]) -> [u8; 16] {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(header);
    hasher.update(payload);
    let digest = hasher.finish();
    let mut check = [0; 16];
    let _ = hex::decode_to_slice(&digest.hex()[..32], &mut check);
    check
}

fn encode(changes: &[Change]) -> Vec<u8> {
    let mut out = Vec::new();
    for change in changes {
        let (kind, bytes) = match change {
            Change::Put(_, bytes) => (1, bytes.as_ref()),
            Change::Remove(_) => (2, &[][..]),
            Change::Settled(_) => (3, &[][..]),
        };
        let key = change.key().as_ref().as_bytes();
        out.put_u8(kind);
        out.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
        out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        out.put_slice(key);
        out.put_slice(bytes);
    }
    out
}

fn decode(mut payload: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while !payload.is_empty() {
        let kind = payload.try_get_u8().ok()?;
        let key = payload.try_get_u32().ok()? as usize;
        let bytes = payload.try_get_u32().ok()? as usize;
        let (key, rest) = payload.split_at_checked(key)?;
        let (bytes, rest) = rest.split_at_checked(bytes)?;
        let key = Path::parse(str::from_utf8(key).ok()?).ok()?;
        changes.push(match kind {
            1 => Change::Put(key, Bytes::copy_from_slice(bytes)),
            2 => Change::Remove(key),
            3 => Change::Settled(key),
            _ => return None,
        });
        payload = rest;
    }
    Some(changes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::disk::LocalDisk;

    fn put(key: &str, text: &str) -> Change {
        Change::Put(Path::from(key), Bytes::copy_from_slice(text.as_bytes()))
    }

    fn open(root: &FsPath) -> (Redo, Vec<Change>) {
        let (redo, mut changes) = Redo::open(root, Arc::new(LocalDisk), 1000).unwrap();
        changes.sort_by_key(|change| change.key().clone());
        (redo, changes)
    }

    #[test]
    fn the_last_word_for_each_key_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (mut redo, nothing) = open(folder.path());
        assert_eq!(nothing, []);
        redo.append(&[vec![put("a", "1"), put("b", "1")], vec![put("a", "2")]]).unwrap();
        redo.append(&[vec![Change::Remove(Path::from("b")), put("c/d", "")]]).unwrap();
        redo.turn();
        redo.append(&[vec![put("e", "1")], vec![Change::Settled(Path::from("e"))]]).unwrap();
        let expected = [put("a", "2"), Change::Remove(Path::from("b")), put("c/d", "")];
        assert_eq!(open(folder.path()).1, expected);
        // Opened, but nothing was written since.
        assert_eq!(open(folder.path()).1, expected);
    }

    #[test]
    fn what_is_on_disk_is_not_played_back() {
        let folder = tempfile::tempdir().unwrap();
        let (mut redo, _) = open(folder.path());
        redo.append(&[vec![put("a", "1")]]).unwrap();
        redo.turn();
        redo.settled(redo.next());
        redo.append(&[vec![put("b", "1")]]).unwrap();
        assert_eq!(open(folder.path()).1, [put("b", "1")]);
        let (mut redo, _) = open(folder.path());
        redo.settled(redo.next());
        redo.tell_floor().unwrap();
        assert_eq!(open(folder.path()).1, []);
    }

    #[test]
    fn a_frame_can_be_taken_back_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let (mut redo, _) = open(folder.path());
        let places = redo.append(&[vec![put("a", "1"), put("b", "1")], vec![put("c", "1")]]).unwrap();
        redo.amend(places[0], &[put("a", "1")]).unwrap();
        assert_eq!(open(folder.path()).1, [put("a", "1"), put("c", "1")]);
        redo.amend(places[0], &[]).unwrap();
        assert_eq!(open(folder.path()).1, [put("c", "1")]);
    }

    #[test]
    fn a_torn_log_gives_what_comes_before_the_tear() {
        let folder = tempfile::tempdir().unwrap();
        let (mut redo, _) = open(folder.path());
        redo.append(&[vec![put("a", "1")], vec![put("b", "1")], vec![put("c", "1")]]).unwrap();
        let path = folder.path().join(FILES[0]);
        let whole = std::fs::read(&path).unwrap();
        let frames = |bytes: &[u8]| parse_run(bytes, 0).len();
        assert_eq!(frames(&whole), 3);
        let second = whole.len() / 3;
        for at in 0..whole.len() {
            // The bytes that fill a frame up may be missing.
            assert!(frames(&whole[..at]) <= (at + 7) / second, "cut at {at}");
            let mut torn = whole.clone();
            torn[at] ^= 0x40;
            // Some bytes only fill up.
            assert!([at / second, 3].contains(&frames(&torn)), "changed at {at}");
        }
    }

    #[test]
    fn what_is_left_of_an_earlier_run_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (mut redo, _) = open(folder.path());
        redo.append(&[vec![put("a", "1")], vec![put("b", "1")]]).unwrap();
        redo.turn();
        redo.turn();
        redo.settled(redo.next());
        redo.append(&[vec![put("c", "1")]]).unwrap();
        assert_eq!(open(folder.path()).1, [put("c", "1")]);
    }
}
