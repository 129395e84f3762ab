//! A layout as a tar file: found in it without unpacking, and written to it so that the same content gives the same bytes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use oci::{Algorithm, Digest};
use tar::{Archive, Builder, EntryType, Header};
use tempfile::NamedTempFile;

use crate::layout::blobs::{Blobs, Place};
use crate::layout::{Error, INDEX, LARGEST_INDEX, MARK, MOST_ENTRIES, index};

/// The largest header of an entry that is read, in bytes, with the long names and extensions before it.
const LARGEST_HEADER: u64 = 1024 * 1024;
/// How the refusal of a larger one begins.
const TOO_LARGE: &str = "an entry has a header of more than";

/// What was found in a tar file.
pub(crate) struct Scanned {
    pub(crate) blobs: Blobs,
    pub(crate) mark: Vec<u8>,
    pub(crate) index: Vec<u8>,
}

/// What the name of an entry means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Mark,
    Index,
    Blob(Digest),
    /// Not a part of the layout, such as the `manifest.json` of `docker save`.
    Other,
}

/// Finds the parts of a layout in a tar file. Only headers are read, and nothing is unpacked.
pub(crate) fn scan(path: &Path) -> Result<Scanned, Error> {
    let mut file = File::open(path).map_err(Error::read(path))?;
    let end = file.metadata().map_err(Error::read(path))?.len();
    refuse_compressed(path, &mut file)?;
    let mut found = Found::default();
    let read = Cell::new(0);
    let mut archive = Archive::new(Headers { file: &file, read: &read });
    // What the archive cannot make sense of is the fault of its bytes, not of the disk.
    let wrong = |cause: io::Error| {
        // What the reader of tar files says repeats what is in the file, which may be anything.
        let ours = cause.to_string();
        let ours = if ours.starts_with(TOO_LARGE) { format!(": {ours}") } else { String::new() };
        Error::form(path, short(&format!("it is no tar file, or a damaged one{ours}")))
    };
    for (number, entry) in archive.entries_with_seek().map_err(wrong)?.enumerate() {
        if number >= MOST_ENTRIES {
            return Err(Error::form(path, format!("it has more than {MOST_ENTRIES} entries")));
        }
        let entry = entry.map_err(wrong)?;
        read.set(0);
        let name = entry.path_bytes();
        let meaning = meaning(&name);
        if meaning == Meaning::Other {
            continue;
        }
        let shown = short(&String::from_utf8_lossy(&name));
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            return Err(Error::form(path, format!("its entry {shown} is no plain file")));
        }
        let place = Place { start: entry.raw_file_position(), length: entry.size() };
        if place.start.checked_add(place.length).is_none_or(|last| last > end) {
            return Err(cut_off(path, &meaning, &shown));
        }
        if !found.take(meaning, place) {
            return Err(Error::form(path, format!("it has two entries {shown}")));
        }
    }
    let small = |place: Option<Place>, name: &str| small(path, &file, place, name);
    let (mark, index) = (small(found.mark, MARK)?, small(found.index, INDEX)?);
    Ok(Scanned { blobs: Blobs::Tar { path: path.to_owned(), file: Arc::new(file), places: found.blobs }, mark, index })
}

/// A tar file of which only headers are read, and no more of them than an entry has: names of any length stand in entries of their
/// own, which the archive reads whole.
struct Headers<'a> {
    file: &'a File,
    /// Bytes that were read since the last entry.
    read: &'a Cell<u64>,
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        if self.read.get() > LARGEST_HEADER {
            return Err(io::Error::other(format!("{TOO_LARGE} {LARGEST_HEADER} bytes")));
        }
        Ok(read)
    }
}

impl Seek for Headers<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[derive(Default)]
struct Found {
    mark: Option<Place>,
    index: Option<Place>,
    blobs: BTreeMap<Digest, Place>,
}

impl Found {
    /// `false` if it is there already.
    fn take(&mut self, meaning: Meaning, place: Place) -> bool {
        match meaning {
            Meaning::Mark => self.mark.replace(place).is_none(),
            Meaning::Index => self.index.replace(place).is_none(),
            Meaning::Blob(digest) => self.blobs.insert(digest, place).is_none(),
            Meaning::Other => true,
        }
    }
}

/// The beginning of what a stranger wrote.
fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

fn cut_off(path: &Path, meaning: &Meaning, shown: &str) -> Error {
    match meaning {
        Meaning::Blob(digest) => Error::damaged(path, digest, "is cut off: the file ends in it"),
        _ => Error::form(path, format!("it ends in the middle of {shown}")),
    }
}

fn refuse_compressed(path: &Path, file: &mut File) -> Result<(), Error> {
    let mut start = Vec::new();
    file.take(6).read_to_end(&mut start).map_err(Error::read(path))?;
    file.seek(SeekFrom::Start(0)).map_err(Error::read(path))?;
    let known: [(&[u8], &str); 4] =
        [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz")];
    match known.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, name)) => Err(Error::form(path, format!("it is compressed with {name}; decompress it first"))),
        None => Ok(()),
    }
}

fn meaning(name: &[u8]) -> Meaning {
    let Ok(name) = str::from_utf8(name) else { return Meaning::Other };
    let name = name.strip_prefix("./").unwrap_or(name);
    match name {
        MARK => Meaning::Mark,
        INDEX => Meaning::Index,
        _ => blob(name).map_or(Meaning::Other, Meaning::Blob),
    }
}

/// `blobs/<algorithm>/<hex>` and nothing else.
fn blob(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    Digest::from_hex(algorithm.parse().ok()?, hex).ok()
}

fn small(path: &Path, file: &File, place: Option<Place>, name: &str) -> Result<Vec<u8>, Error> {
    let place = place.ok_or_else(|| Error::form(path, format!("it has no {name}")))?;
    if place.length > LARGEST_INDEX {
        return Err(Error::form(path, format!("its {name} has more than {LARGEST_INDEX} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(place.length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, place.start).map_err(Error::read(path))?;
    Ok(bytes)
}

/// Writes a layout as a tar file, which appears at `out` whole or not at all, synced to disk. Entries are in order of their names and
/// say nothing of time or owner, so that the same layout is the same file.
pub(crate) fn write(blobs: &Blobs, index: &[u8], out: &Path) -> Result<(), Error> {
    let folder = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // As any new file: the umask takes from it.
    let made = builder.prefix(".bundle-").permissions(Permissions::from_mode(0o666)).tempfile_in(folder);
    let mut file: NamedTempFile = made.map_err(Error::written(out))?;
    let mut archive = Builder::new(BufWriter::with_capacity(1024 * 1024, file.as_file_mut()));
    entries(&mut archive, blobs, index)?;
    let finished = archive.into_inner().and_then(|mut writer| writer.flush());
    finished.and_then(|()| file.as_file().sync_all()).map_err(Error::written(out))?;
    file.persist(out).map_err(|cause| Error::written(out)(cause.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::written(out))
}

fn entries<W: Write>(archive: &mut Builder<W>, blobs: &Blobs, index: &[u8]) -> Result<(), Error> {
    let path = blobs.path();
    let failed = || Error::written(path);
    let all = blobs.all().map_err(Error::read(path))?;
    append(archive, "blobs/", EntryType::Directory, 0, io::empty()).map_err(failed())?;
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let mut of_algorithm = all.iter().filter(|(digest, _)| digest.algorithm() == algorithm).peekable();
        if of_algorithm.peek().is_some() {
            append(archive, &format!("blobs/{algorithm}/"), EntryType::Directory, 0, io::empty()).map_err(failed())?;
        }
        for (digest, size) in of_algorithm {
            let section = blobs.section(digest).map_err(Error::read(path))?;
            let section = section.ok_or_else(|| Error::damaged(path, digest, "is missing"))?;
            let mut content = section.file.as_ref();
            content.seek(SeekFrom::Start(section.start)).map_err(Error::read(path))?;
            let name = format!("blobs/{algorithm}/{}", digest.hex());
            append(archive, &name, EntryType::Regular, *size, content.take(*size)).map_err(failed())?;
        }
    }
    for (name, content) in [(INDEX, index), (MARK, index::MARK_TEXT)] {
        append(archive, name, EntryType::Regular, content.len() as u64, content).map_err(failed())?;
    }
    Ok(())
}

fn append<W: Write>(archive: &mut Builder<W>, name: &str, kind: EntryType, size: u64, content: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    archive.append_data(&mut header, name, content)
}

/// Makes a layout's folder, with nothing in it.
pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let folder = path.join("blobs").join(algorithm.as_str());
        fs::create_dir_all(&folder).map_err(Error::written(&folder))?;
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use oci::Hasher;

    use super::*;

    fn archive(entries: &[(&str, EntryType, &[u8])]) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        let mut archive = Builder::new(file.as_file_mut());
        for (name, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            if *kind == EntryType::Symlink {
                archive.append_link(&mut header, name, "/etc/passwd").unwrap();
            } else {
                // By hand: the builder refuses names that climb.
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_cksum();
                archive.append(&header, *content).unwrap();
            }
        }
        archive.into_inner().unwrap();
        file
    }

    fn refused(entries: &[(&str, EntryType, &[u8])]) -> String {
        scan(archive(entries).path()).err().unwrap().to_string()
    }

    #[test]
    fn only_names_of_a_layout_mean_anything() {
        let digest = Hasher::digest(Algorithm::Sha512, b"x");
        assert_eq!(meaning(b"./oci-layout"), Meaning::Mark);
        assert_eq!(meaning(format!("blobs/sha512/{}", digest.hex()).as_bytes()), Meaning::Blob(digest.clone()));
        let upper = format!("blobs/sha512/{}", digest.hex().to_uppercase());
        let climbing = format!("blobs/../blobs/sha512/{}", digest.hex());
        for name in
            ["blobs/sha256/x", "/index.json", "../index.json", "x/index.json", "manifest.json", "blobs/", &upper, &climbing]
        {
            assert_eq!(meaning(name.as_bytes()), Meaning::Other, "{name}");
        }
    }

    #[test]
    fn what_is_no_layout_is_refused_and_says_why() {
        let (file, mark) = (EntryType::Regular, (MARK, EntryType::Regular, index::MARK_TEXT));
        assert!(refused(&[]).contains("it has no oci-layout"));
        assert!(refused(&[mark]).contains("it has no index.json"));
        assert!(refused(&[mark, mark]).contains("two entries oci-layout"));
        assert!(refused(&[mark, (INDEX, EntryType::Symlink, b"")]).contains("index.json is no plain file"));
        let name = format!("blobs/sha256/{}", Hasher::digest(Algorithm::Sha256, b"x").hex());
        assert!(refused(&[mark, (&name, EntryType::Symlink, b"")]).contains("is no plain file"));
        assert!(scan(archive(&[mark, (INDEX, file, b"{}"), ("../x", file, b"")]).path()).is_ok());
        let mut gzip = NamedTempFile::new().unwrap();
        gzip.write_all(b"\x1f\x8b\x08\x00").unwrap();
        assert!(scan(gzip.path()).err().unwrap().to_string().contains("compressed with gzip"));
        let mut text = NamedTempFile::new().unwrap();
        text.write_all(&[b'x'; 2000]).unwrap();
        assert!(scan(text.path()).err().unwrap().to_string().contains("no tar file"));
    }

    #[test]
    fn a_name_without_an_end_is_not_read() {
        let mut file = NamedTempFile::new().unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 30);
        header.set_cksum();
        file.write_all(header.as_bytes()).unwrap();
        // Sparse: it takes no place on the disk.
        file.as_file().set_len(1 << 30).unwrap();
        let refused = scan(file.path()).err().unwrap().to_string();
        assert!(refused.contains("a header of more than"), "{refused}");
    }

    #[test]
    fn a_file_that_ends_in_a_blob_names_it() {
        let digest = Hasher::digest(Algorithm::Sha256, &[7; 5000]);
        let name = format!("blobs/sha256/{}", digest.hex());
        let file = archive(&[(&name, EntryType::Regular, &[7; 5000])]);
        file.as_file().set_len(3000).unwrap();
        let refused = scan(file.path()).err().unwrap().to_string();
        assert!(refused.contains(&digest.to_string()) && refused.contains("cut off"), "{refused}");
    }
}
