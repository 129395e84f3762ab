//! A disk that remembers what was done to it, and what of that would survive if the power went away now.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use roadstead_storage::{Disk, LocalDisk};

/// One call that changed the disk.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create { path: PathBuf, inode: u64 },
    Write { inode: u64, offset: u64, bytes: Vec<u8> },
    SetLength { inode: u64, length: u64 },
    Sync { inode: u64 },
    SyncDirectory(PathBuf),
    SyncAll,
    Rename { from: PathBuf, to: PathBuf },
    CreateDirectory(PathBuf),
    Remove(PathBuf),
    RemoveDirectory(PathBuf),
}

/// Does as it is told and writes it down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Step>>>);

impl Recorder {
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Notes a step if the call that it stands for succeeded. Both under the lock, so that the order is that of the disk.
    fn note<T>(&self, call: impl FnOnce() -> io::Result<T>, step: impl FnOnce(&T) -> Option<Step>) -> io::Result<T> {
        let mut steps = self.0.lock().unwrap();
        let result = call()?;
        steps.extend(step(&result));
        Ok(result)
    }
}

fn inode(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}

impl Disk for Recorder {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.note(|| LocalDisk.create(path), |file| Some(Step::Create { path: path.to_owned(), inode: inode(file) }))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<File> {
        let there = path.exists();
        let step = |file: &File| (!there).then(|| Step::Create { path: path.to_owned(), inode: inode(file) });
        self.note(|| LocalDisk.open(path, create), step)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let step = Step::Write { inode: inode(file), offset, bytes: bytes.to_vec() };
        self.note(|| LocalDisk.write_at(file, bytes, offset), |()| Some(step))
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        self.note(|| LocalDisk.set_length(file, length), |()| Some(Step::SetLength { inode: inode(file), length }))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.note(|| Ok(()), |()| Some(Step::Sync { inode: inode(file) }))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        // Whether it is there is the disk's to say, as it is with the real call.
        self.note(|| fs::metadata(path).map(|_| ()), |()| Some(Step::SyncDirectory(path.to_owned())))
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        self.note(|| Ok(()), |()| Some(Step::SyncAll))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let step = Step::Rename { from: from.to_owned(), to: to.to_owned() };
        self.note(|| LocalDisk.rename(from, to), |()| Some(step))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.note(|| LocalDisk.create_directory(path), |()| Some(Step::CreateDirectory(path.to_owned())))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note(|| LocalDisk.remove(path), |()| Some(Step::Remove(path.to_owned())))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.note(|| LocalDisk.remove_directory(path), |()| Some(Step::RemoveDirectory(path.to_owned())))
    }
}

/// What of the unsynced reached the disk when the power went away. A file system may do any of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// Everything did: only the process died.
    Nothing,
    /// Nothing did.
    Everything,
    /// Names did, bytes did not.
    Bytes,
    /// Bytes did, names did not.
    Names,
    /// Some files and directories, by this number.
    Some(u64),
}

impl Loss {
    fn keeps(self, is_directory: bool, node: usize) -> bool {
        match self {
            Self::Nothing => true,
            Self::Everything => false,
            Self::Bytes => is_directory,
            Self::Names => !is_directory,
            Self::Some(seed) => (seed ^ node as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 0,
        }
    }
}

type Entries = BTreeMap<String, usize>;

/// A file or a directory: as the process saw it, and as it was last synced.
enum Node {
    File { now: Vec<u8>, synced: Vec<u8> },
    Directory { now: Entries, synced: Entries },
}

/// A file system after some steps.
struct Model {
    root: PathBuf,
    nodes: Vec<Node>,
    inodes: HashMap<u64, usize>,
}

impl Model {
    fn new(root: &Path) -> Self {
        let root_node = Node::Directory { now: Entries::new(), synced: Entries::new() };
        Self { root: root.to_owned(), nodes: vec![root_node], inodes: HashMap::new() }
    }

    fn entries(&mut self, node: usize) -> &mut Entries {
        match &mut self.nodes[node] {
            Node::Directory { now, .. } => now,
            Node::File { .. } => panic!("a file is used as a directory"),
        }
    }

    /// The directory of a path and its last component; nothing for what lies outside of the root.
    fn place(&mut self, path: &Path) -> Option<(usize, String)> {
        let path = path.strip_prefix(&self.root).ok()?.to_owned();
        let mut names: Vec<String> = path
            .components()
            .map(|component| match component {
                Component::Normal(name) => name.to_str().unwrap().to_owned(),
                other => panic!("{other:?} in a path"),
            })
            .collect();
        let last = names.pop()?;
        let mut node = 0;
        for name in names {
            node = self.entries(node)[&name];
        }
        Some((node, last))
    }

    fn add(&mut self, path: &Path, node: Node) -> usize {
        self.nodes.push(node);
        let number = self.nodes.len() - 1;
        let (directory, name) = self.place(path).unwrap();
        self.entries(directory).insert(name, number);
        number
    }

    fn file(&mut self, inode: u64) -> (&mut Vec<u8>, &mut Vec<u8>) {
        match &mut self.nodes[self.inodes[&inode]] {
            Node::File { now, synced } => (now, synced),
            Node::Directory { .. } => panic!("a directory is used as a file"),
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Create { path, inode } => {
                let number = self.add(path, Node::File { now: Vec::new(), synced: Vec::new() });
                self.inodes.insert(*inode, number);
            }
            Step::Write { inode, offset, bytes } => {
                let (now, _) = self.file(*inode);
                let offset = usize::try_from(*offset).unwrap();
                now.resize(now.len().max(offset + bytes.len()), 0);
                now[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Step::SetLength { inode, length } => self.file(*inode).0.resize(usize::try_from(*length).unwrap(), 0),
            Step::Sync { inode } => {
                let (now, synced) = self.file(*inode);
                synced.clone_from(now);
            }
            Step::SyncAll => self.nodes.iter_mut().for_each(|node| match node {
                Node::File { now, synced } => synced.clone_from(now),
                Node::Directory { now, synced } => synced.clone_from(now),
            }),
            Step::SyncDirectory(path) if *path == self.root => self.sync_entries(0),
            Step::SyncDirectory(path) => {
                let Some((directory, name)) = self.place(path) else { return };
                let node = self.entries(directory)[&name];
                self.sync_entries(node);
            }
            Step::Rename { from, to } => {
                let (directory, name) = self.place(from).unwrap();
                let node = self.entries(directory).remove(&name).unwrap();
                let (directory, name) = self.place(to).unwrap();
                self.entries(directory).insert(name, node);
            }
            Step::CreateDirectory(path) => {
                self.add(path, Node::Directory { now: Entries::new(), synced: Entries::new() });
            }
            Step::Remove(path) | Step::RemoveDirectory(path) => {
                let (directory, name) = self.place(path).unwrap();
                self.entries(directory).remove(&name);
            }
        }
    }

    fn sync_entries(&mut self, node: usize) {
        if let Node::Directory { now, synced } = &mut self.nodes[node] {
            synced.clone_from(now);
        }
    }

    fn lay_out(&self, node: usize, loss: Loss, path: &Path, tree: &mut Tree) {
        let keep = |is_directory| loss.keeps(is_directory, node);
        match &self.nodes[node] {
            Node::File { now, synced } => {
                tree.insert(path.to_owned(), Some(if keep(false) { now } else { synced }.clone()));
            }
            Node::Directory { now, synced } => {
                tree.insert(path.to_owned(), None);
                for (name, child) in if keep(true) { now } else { synced } {
                    self.lay_out(*child, loss, &path.join(name), tree);
                }
            }
        }
    }
}

/// Directories, and files with their bytes, parents first.
pub(crate) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// What a disk with `root` on it would hold after these steps and this loss.
pub(crate) fn after(root: &Path, steps: &[Step], loss: Loss) -> Tree {
    let mut model = Model::new(root);
    for step in steps {
        model.apply(step);
    }
    let mut tree = Tree::new();
    model.lay_out(0, loss, Path::new(""), &mut tree);
    tree
}

/// Makes it so, in an empty folder.
pub(crate) fn write(tree: &Tree, target: &Path) {
    for (path, bytes) in tree {
        match bytes {
            Some(bytes) => fs::write(target.join(path), bytes).unwrap(),
            None if path.as_os_str().is_empty() => {}
            None => fs::create_dir(target.join(path)).unwrap(),
        }
    }
}

/// Fails the n-th call that changes the disk, half way where that is possible.
#[derive(Debug)]
pub(crate) struct Failing {
    left: Mutex<usize>,
    errno: i32,
}

impl Failing {
    /// One that works until it is told otherwise.
    pub(crate) fn new(errno: i32) -> Self {
        Self { left: Mutex::new(0), errno }
    }

    /// The n-th call from now on will fail.
    pub(crate) fn fail(&self, call: usize) {
        *self.left.lock().unwrap() = call;
    }

    /// Has it come to the call that fails?
    pub(crate) fn has_failed(&self) -> bool {
        *self.left.lock().unwrap() == 0
    }

    fn call<T>(&self, half: impl FnOnce(), call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let fails = {
            let mut left = self.left.lock().unwrap();
            let fails = *left == 1;
            *left = left.saturating_sub(1);
            fails
        };
        if fails {
            half();
            return Err(io::Error::from_raw_os_error(self.errno));
        }
        call()
    }
}

impl Disk for Failing {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.call(|| {}, || LocalDisk.create(path))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<File> {
        self.call(|| {}, || LocalDisk.open(path, create))
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let half = || drop(LocalDisk.write_at(file, &bytes[..bytes.len() / 2], offset));
        self.call(half, || LocalDisk.write_at(file, bytes, offset))
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        self.call(|| {}, || LocalDisk.set_length(file, length))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.call(|| {}, || file.metadata().map(drop))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.call(|| {}, || fs::metadata(path).map(drop))
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        self.call(|| {}, || Ok(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|| {}, || LocalDisk.rename(from, to))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.call(|| {}, || LocalDisk.create_directory(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|| {}, || LocalDisk.remove(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.call(|| {}, || LocalDisk.remove_directory(path))
    }
}
